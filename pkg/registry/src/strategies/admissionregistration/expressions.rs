//! Expressions in what configures admission.

use kedge_cel::admission::{Compiler, Purpose, Refused};
use kedge_meta::field::{Error, ErrorList, Path};
use kedge_meta::names;

use super::super::validation::{At, Report};

const MAX_CONDITIONS: usize = 64;

/// Expressions that were stored before: they may use what new ones may not yet.
pub(super) type Known<'a> = Vec<&'a str>;

/// An expression that does not compile. `shown` is what was compiled.
pub(super) fn refused(path: &Path, shown: &str, why: &Refused) -> Error {
    match why {
        Refused::Invalid(why) => Error::invalid(path, shown, why.clone()),
        Refused::Internal(why) => Error::internal(path, why.clone()),
    }
}

/// The texts of expressions in a list.
pub(super) fn texts<'a>(list: &At<'a>, fields: &[&str]) -> Known<'a> {
    let text = |one: At<'a>| fields.iter().fold(one, |at, field| at.child(field)).text();
    list.items().map(text).filter(|text| !text.is_empty()).collect()
}

/// `matchConditions`.
pub(super) fn conditions(at: &At<'_>, params: bool, known: &Known<'_>, errors: &mut ErrorList) {
    if at.len() > MAX_CONDITIONS {
        errors.push(Error::too_many(&at.path, at.len(), MAX_CONDITIONS));
    }
    let mut compiler = Compiler::plain(params);
    let mut seen: Vec<&str> = Vec::new();
    for condition in at.items() {
        let (name, expression) = (condition.child("name"), condition.child("expression"));
        let text = expression.text().trim();
        if text.is_empty() {
            errors.push(expression.required(""));
        } else if let Err(why) = compiler.compile(text, Purpose::Condition, known.contains(&text)) {
            errors.push(refused(&expression.path, text, &why));
        }
        errors.need_name(&name, names::is_qualified_name);
        if !name.text().is_empty() && seen.contains(&name.text()) {
            errors.push(name.duplicate());
        }
        seen.push(name.text());
    }
}
