//! What queries and definitions select by: labels, fields, paths.

use kedge_meta::{StringMap, fields, labels};
use kedge_registry::printers::JsonPath;
use serde_json::{Value, json};

use crate::input;

/// As many may a query have.
const MAX_REQUIREMENTS: usize = 1_000;

/// A selector of labels in the form of a query, and as JSON.
pub fn label_selector(data: &[u8]) {
    let Some(text) = input::text(data) else { return };
    if let Ok(selector) = labels::Selector::parse(text) {
        reads_back(&selector);
        judged_alike(&selector);
    }
    if let Some(selector) = input::json(data)
        && let Ok(selector) = labels::Selector::from_label_selector(&selector)
        && (1..=MAX_REQUIREMENTS).contains(&selector.requirements().len())
    {
        reads_back(&selector);
        judged_alike(&selector);
    }
}

fn reads_back(selector: &labels::Selector) {
    let shown = selector.to_string();
    match labels::Selector::parse(&shown) {
        Ok(again) => assert_eq!(&again, selector, "{shown:?}"),
        Err(err) => panic!("{shown:?} is not read: {err}"),
    }
}

/// Few requirements are looked up otherwise than many.
fn judged_alike(selector: &labels::Selector) {
    let mut sets = vec![StringMap::new(), [("a", "b"), ("c", "5"), ("app", "web")].into_iter().collect()];
    sets.push(selector.requirements().iter().map(|r| (&*r.key, r.values.first().map_or("", String::as_str))).collect());
    for set in &sets {
        let one_by_one = selector
            .requirements()
            .iter()
            .all(|requirement| labels::Selector::from_requirements(vec![requirement.clone()]).matches(set));
        assert_eq!(selector.matches(set), one_by_one);
    }
}

/// A selector of fields.
pub fn field_selector(data: &[u8]) {
    let Some(text) = input::text(data) else { return };
    let Ok(selector) = fields::Selector::parse(text) else { return };
    let escape = |value: &str| value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=");
    let term = |r: &fields::Requirement| format!("{}{}{}", r.field, if r.equal { "=" } else { "!=" }, escape(&r.value));
    let shown = selector.requirements.iter().map(term).collect::<Vec<_>>().join(",");
    assert_eq!(fields::Selector::parse(&shown).as_ref(), Ok(&selector), "{shown:?}");
    let exact = |field: &str| selector.exact(field).unwrap_or_default().to_owned();
    let one_by_one = |r: &fields::Requirement| (exact(&r.field) == r.value) == r.equal;
    assert_eq!(selector.matches(exact), selector.requirements.iter().all(one_by_one));
}

/// A path and, behind a zero byte, the object that it is followed in.
pub fn json_path(data: &[u8]) {
    let (path, object) = input::halves(data);
    let Some(path) = input::text(path) else { return };
    let Ok(path) = JsonPath::parse(path) else { return };
    let object = input::json(object).unwrap_or_else(|| {
        json!({"a": [{"b": 1}, {"b": [[], [1, {"a": "x"}]]}], "b": {"a": {"b": null}}, "status": {"conditions": [{"type": "Ready"}]}})
    });
    if let Some(found) = path.first(&object) {
        assert!(is_within(&object, found), "what is found is of the object");
    }
}

fn is_within(whole: &Value, part: &Value) -> bool {
    std::ptr::eq(whole, part)
        || match whole {
            Value::Array(items) => items.iter().any(|item| is_within(item, part)),
            Value::Object(map) => map.values().any(|value| is_within(value, part)),
            _ => false,
        }
}
