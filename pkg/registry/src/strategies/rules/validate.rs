//! Rules and the object that they are about.

use kedge_cel::{Activation, Budget, EvalError, Value as Cel};
use kedge_meta::field::{Error, ErrorList, Omitted, Path};
use kedge_schema::structural::At;
use serde_json::Value;

use super::{Rule, Rules};

/// The longest message that an expression may make.
const MAX_MESSAGE: usize = 5 * 1024;
/// Faults that are named.
const MAX_NAMED: usize = 100;

/// Whether what is wrong with a value may stay because nobody changed it.
#[derive(Clone, Copy)]
struct Correlation<'a> {
    /// The value, and what it was.
    current: Option<(&'a Value, &'a Value)>,
    /// What it is in, and what that was.
    parent: Option<(&'a Value, &'a Value)>,
    is_root: bool,
}

impl<'a> Correlation<'a> {
    const NONE: Self = Self { current: None, parent: None, is_root: false };

    fn lets_go(&self) -> bool {
        self.current.or(self.parent).is_some_and(|(new, old)| new == old)
    }

    fn below(self, find: impl FnOnce(&'a Value, &'a Value) -> Option<(&'a Value, &'a Value)>) -> Self {
        match self.current {
            None => self,
            Some((new, old)) => Self { current: find(new, old), parent: self.current, is_root: false },
        }
    }

    fn key(self, name: &str) -> Self {
        if self.is_root && matches!(name, "apiVersion" | "kind") {
            return Self::NONE;
        }
        self.below(|new, old| Some((new.get(name)?, old.get(name)?)))
    }
}

/// The end of all evaluation: the budget is used up, or something is wrong that no other rule can repair.
struct Stop;

/// What rules say of an object.
pub(crate) struct Verdict {
    pub(crate) errors: ErrorList,
    /// What is wrong as well, but was so before.
    pub(crate) let_go: ErrorList,
}

struct Pass<'a> {
    budget: &'a Budget,
    errors: ErrorList,
    let_go: ErrorList,
}

/// What `new` breaks.
pub(super) fn check(rules: &Rules, new: &Value, old: Option<&Value>, budget: &Budget, ratchets: bool) -> Verdict {
    let mut pass = Pass { budget, errors: ErrorList::new(), let_go: ErrorList::new() };
    let current = old.filter(|_| ratchets).map(|old| (new, old));
    // What is left unsaid was not evaluated, which an error says.
    let _ = pass.visit(rules, new, old, Correlation { current, parent: None, is_root: true }, None);
    Verdict { errors: pass.errors, let_go: pass.let_go }
}

fn path(at: Option<&At<'_>>) -> Path {
    at.map_or_else(Path::default, At::path)
}

impl Pass<'_> {
    fn visit(
        &mut self,
        rules: &Rules,
        value: &Value,
        old: Option<&Value>,
        correlation: Correlation<'_>,
        at: Option<&At<'_>>,
    ) -> Result<(), Stop> {
        if value.is_null() || self.errors.len() >= MAX_NAMED {
            return Ok(());
        }
        self.own(rules, value, old.filter(|old| !old.is_null()), correlation, at)?;
        for rules in &rules.all_of {
            let correlation = Correlation { current: None, parent: correlation.parent, is_root: false };
            self.visit(rules, value, old, correlation, at)?;
        }
        match value {
            Value::Array(items) => self.items(rules, items, old, correlation, at),
            Value::Object(fields) => {
                for (name, value) in fields {
                    let (rules, step) = match (rules.properties.get(name.as_str()), &rules.additional) {
                        (Some(rules), _) => (rules, At::field(at, name)),
                        (None, Some(rules)) => (&**rules, At::key(at, name)),
                        (None, None) => continue,
                    };
                    let old = old.and_then(|old| old.get(name));
                    self.visit(rules, value, old, correlation.key(name), Some(&step))?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn items(
        &mut self,
        rules: &Rules,
        items: &[Value],
        old: Option<&Value>,
        correlation: Correlation<'_>,
        at: Option<&At<'_>>,
    ) -> Result<(), Stop> {
        let Some(of_items) = &rules.items else { return Ok(()) };
        let key = |item: &Value| -> String {
            let keys = rules.map_keys.iter().flatten();
            keys.map(|name| item.get(&**name).map_or(String::new(), Value::to_string)).collect::<Vec<_>>().join("\0")
        };
        let before = old.and_then(Value::as_array).filter(|_| rules.map_keys.is_some());
        let before: std::collections::HashMap<String, &Value> =
            before.into_iter().flatten().map(|item| (key(item), item)).collect();
        for (index, item) in items.iter().enumerate() {
            let old = if before.is_empty() { None } else { before.get(&key(item)).copied() };
            let correlation = correlation.below(|_, _| old.map(|old| (item, old)));
            self.visit(of_items, item, old, correlation, Some(&At::index(at, index)))?;
        }
        Ok(())
    }

    fn own(
        &mut self,
        rules: &Rules,
        value: &Value,
        old: Option<&Value>,
        correlation: Correlation<'_>,
        at: Option<&At<'_>>,
    ) -> Result<(), Stop> {
        let invalid = |text: String| Error::invalid(&path(at), &*rules.type_name, text);
        let own = match &rules.own {
            Ok(own) if own.is_empty() => return Ok(()),
            Ok(own) => own,
            Err(why) => {
                self.errors.push(invalid(format!("rule compiler initialization error: {why}")));
                return Ok(());
            }
        };
        let Some(decl) = &rules.decl else { return Ok(()) };
        for rule in own {
            let program = match &rule.program {
                Ok(program) => program,
                Err(why) => {
                    self.errors.push(invalid(format!("rule compile error: {why}")));
                    continue;
                }
            };
            if rule.uses_old_self && old.is_none() && !rule.optional_old_self {
                continue;
            }
            let typed = |value| Cel::typed(value, decl);
            let this = typed(value);
            let before = old.map(typed).transpose();
            let mut variables = vec![];
            match (this, before) {
                (Ok(this), Ok(before)) => {
                    variables.push(("self", this));
                    match (rule.optional_old_self, before) {
                        (true, before) => variables.push(("oldSelf", Cel::Optional(before.map(std::sync::Arc::new)))),
                        (false, Some(before)) => variables.push(("oldSelf", before)),
                        (false, None) => {}
                    }
                }
                (Err(err), _) | (_, Err(err)) => {
                    self.errors.push(invalid(format!("{err} evaluating rule: {}", rule.shown())));
                    continue;
                }
            }
            let failed = match program.evaluate(&variables, self.budget) {
                Ok(Cel::Bool(true)) => continue,
                Ok(_) => None,
                Err(err) => Some(err),
            };
            match failed {
                None => self.broken(rules, rule, value, &variables, correlation, at)?,
                Some(err) => {
                    let (text, stops) = evaluation_error(&err, rule);
                    self.errors.push(invalid(text));
                    if stops {
                        return Err(Stop);
                    }
                }
            }
        }
        Ok(())
    }

    /// An object breaks a rule.
    fn broken(
        &mut self,
        rules: &Rules,
        rule: &Rule,
        value: &Value,
        variables: &dyn Activation,
        correlation: Correlation<'_>,
        at: Option<&At<'_>>,
    ) -> Result<(), Stop> {
        let here = path(at);
        let place = if rule.field_path.is_empty() { here } else { here.child(&rule.field_path) };
        let lets_go = !rule.uses_old_self && correlation.lets_go();
        let message = match &rule.message_expression {
            None => None,
            Some(expression) => match expression.evaluate(variables, self.budget) {
                Ok(Cel::String(text)) => usable(&text),
                Ok(_) | Err(EvalError::Message(_)) => None,
                Err(err) => {
                    let why = match err {
                        EvalError::CostLimit => {
                            "no further validation rules will be run due to call cost exceeds limit for messageExpression"
                        }
                        _ => {
                            "messageExpression evaluation failed due to running out of cost budget, no further \
                             validation rules will be run"
                        }
                    };
                    self.errors.push(Error::invalid(&place, &*rules.type_name, why));
                    return Err(Stop);
                }
            },
        };
        let detail = message.unwrap_or_else(|| match rule.message.is_empty() {
            true => format!("failed rule: {}", rule.shown()),
            false => rule.message.trim().to_owned(),
        });
        let shown = match &*rules.type_name {
            "object" | "array" => serde_json::to_value(Omitted).unwrap_or_default(),
            _ => value.clone(),
        };
        let error = match &*rule.reason {
            "FieldValueForbidden" => Error::forbidden(&place, detail),
            "FieldValueRequired" => Error::required(&place, detail),
            "FieldValueDuplicate" => Error { detail, ..Error::duplicate(&place, shown) },
            _ => Error::invalid(&place, shown, detail),
        };
        match lets_go {
            true if self.let_go.len() < MAX_NAMED => self.let_go.push(error),
            true => {}
            false => self.errors.push(error),
        }
        Ok(())
    }
}

/// A message that an expression made, if it is one.
fn usable(text: &str) -> Option<String> {
    let text = text.trim();
    (!text.is_empty() && text.len() <= MAX_MESSAGE && !text.contains('\n')).then(|| text.to_owned())
}

/// What is said of a rule that has no answer, and whether no other is asked after it.
fn evaluation_error(err: &EvalError, rule: &Rule) -> (String, bool) {
    let shown = rule.shown();
    match err {
        EvalError::BudgetExhausted | EvalError::Interrupted => {
            let text = "validation failed due to running out of cost budget, no further validation rules will be run";
            (text.to_owned(), true)
        }
        EvalError::CostLimit => {
            let why = "no further validation rules will be run due to call cost exceeds limit for rule";
            (format!("'{err}': {why}: {shown}"), true)
        }
        err if err.to_string().starts_with("no such overload") => {
            let why = "call arguments did not match a supported operator, function or macro signature for rule";
            (format!("'{err}': {why}: {shown}"), false)
        }
        err => (format!("{err} evaluating rule: {shown}"), false),
    }
}
