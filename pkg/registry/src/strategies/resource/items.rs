//! Lists with limits. What is longer than its limit is not looked at.

use kedge_meta::field::{Error, ErrorList};
use serde_json::Value;

use super::super::validation::At;

/// Each element of a list.
pub(super) fn list(at: &At<'_>, most: usize, errors: &mut ErrorList, each: impl FnMut(At<'_>, &mut ErrorList)) -> bool {
    let mut each = each;
    let fits = at.len() <= most;
    match fits {
        true => at.items().for_each(|item| each(item, errors)),
        false => errors.push(Error::too_many(&at.path, at.len(), most)),
    }
    fits
}

/// Each element of a list in which no key is there twice.
pub(super) fn set(
    at: &At<'_>,
    most: usize,
    errors: &mut ErrorList,
    key: impl Fn(&At<'_>) -> Value,
    each: impl FnMut(At<'_>, &mut ErrorList),
) {
    if !list(at, most, errors, each) {
        return;
    }
    let mut seen = std::collections::HashSet::new();
    for item in at.items() {
        let key = key(&item);
        if !seen.insert(key.to_string()) {
            errors.push(Error::duplicate(&item.path, key));
        }
    }
}

/// A field of an element as its key.
pub(super) fn by(field: &'static str) -> impl Fn(&At<'_>) -> Value {
    move |item| item.child(field).text().into()
}

/// An element as its own key.
pub(super) fn itself(item: &At<'_>) -> Value {
    item.text().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_too_long_is_not_looked_at() {
        let object = json!({"a": ["x", "y", "x"]});
        let (at, mut errors, mut looks) = (At::field(&object, "a"), ErrorList::new(), 0);
        set(&at, 2, &mut errors, itself, |_, _| looks += 1);
        assert_eq!((looks, errors[0].to_string().as_str()), (0, "a: Too many: 3: must have at most 2 items"));
        errors.clear();
        set(&at, 3, &mut errors, itself, |_, _| looks += 1);
        assert_eq!((looks, errors[0].to_string().as_str()), (3, "a[2]: Duplicate value: \"x\""));
    }
}
