//! What the items of a list are known by.

use serde_json::Value;

use crate::element::Element;
use crate::types::{Items, Type};

/// The map that a value is. Neither null nor anything else is one.
pub(crate) fn as_map(value: Option<&Value>) -> Option<&serde_json::Map<String, Value>> {
    value.and_then(Value::as_object)
}

/// The list that a value is.
pub(crate) fn as_list(value: Option<&Value>) -> Option<&[Value]> {
    value.and_then(Value::as_array).map(Vec::as_slice)
}

/// The step to an item of a list that is a set or keyed.
///
/// # Errors
/// Why it has none.
pub(crate) fn element(list: Type<'_>, keys: &[&str], item: &Value) -> Result<Element, String> {
    if list.items() == Items::Keyed {
        return keyed(list.item(), keys, item);
    }
    match item {
        Value::Object(_) => Err("associative list without keys has an element that's a map type".into()),
        Value::Array(_) => Err("not supported: associative list with lists as elements".into()),
        Value::Null => Err("associative list without keys has an element that's an explicit null".into()),
        value => Ok(Element::Item(value.clone())),
    }
}

fn keyed(item_type: Type<'_>, keys: &[&str], item: &Value) -> Result<Element, String> {
    let fields = match item {
        Value::Object(fields) => fields,
        Value::Null => return Err("associative list with keys may not have a null element".into()),
        _ => return Err("associative list with keys may not have non-map elements".into()),
    };
    // A key that is left out counts as its default; without one it is no part of the key.
    let value = |key: &str| fields.get(key).cloned().or_else(|| item_type.default_of(key));
    let mut found: Vec<(Box<str>, Value)> = keys.iter().filter_map(|key| Some(((*key).into(), value(key)?))).collect();
    if found.is_empty() {
        let names: Vec<String> = keys.iter().map(|key| format!("{key:?}")).collect();
        return Err(format!(
            "associative list with keys has an element that omits all key fields [{}] (and doesn't have default values for any key fields)",
            names.join(" ")
        ));
    }
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(Element::Key(found.into()))
}

/// The items of a list, each with its step, in the order of the list.
///
/// # Errors
/// Why an item has none.
pub(crate) fn index<'v>(list: Type<'_>, items: Option<&'v [Value]>) -> Result<Vec<(Element, &'v Value)>, String> {
    let keys = list.keys();
    let items = items.unwrap_or_default().iter().enumerate();
    items
        .map(|(at, item)| match element(list, &keys, item) {
            Ok(element) => Ok((element, item)),
            Err(why) => Err(format!("element {at}: {why}")),
        })
        .collect()
}
