//! `FieldsV1`: sets of fields as JSON. A step is a member if its object is empty or has the key `.`.
//!
//! Invariant: what is decoded encodes again to the same, but for steps of unknown kinds, which are dropped as upstream drops them.

use serde_json::{Map, Value};

use crate::element::{Element, ElementError};
use crate::set::{Node, Set};

/// JSON that is no set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldsError {
    #[error(transparent)]
    Element(#[from] ElementError),
    #[error("a set of fields is made of objects")]
    NotAnObject,
}

/// The JSON of a set.
pub fn encode(set: &Set) -> Value {
    Value::Object(object(set, false))
}

fn object(set: &Set, member: bool) -> Map<String, Value> {
    let mut out = Map::new();
    if member && !set.is_empty() {
        out.insert(".".to_owned(), Value::Object(Map::new()));
    }
    for node in &set.nodes {
        out.insert(node.element.encode(), Value::Object(object(&node.below, node.member)));
    }
    out
}

/// The text of a set, with the steps in upstream's order.
pub fn encode_text(set: &Set) -> String {
    let mut out = String::from("{");
    write(set, false, &mut out);
    out.push('}');
    out
}

fn write(set: &Set, member: bool, out: &mut String) {
    let mut first = true;
    let mut key = |key: &str, out: &mut String| {
        if !std::mem::take(&mut first) {
            out.push(',');
        }
        out.push_str(&Value::from(key).to_string());
        out.push_str(":{");
    };
    if member && !set.is_empty() {
        key(".", out);
        out.push('}');
    }
    for Node { element, member, below } in &set.nodes {
        key(&element.encode(), out);
        write(below, *member, out);
        out.push('}');
    }
}

/// Reads a set.
///
/// # Errors
/// What of it makes no sense.
pub fn decode(value: &Value) -> Result<Set, FieldsError> {
    Ok(node(value)?.1)
}

/// Whether a step is a member, and what is below it.
fn node(value: &Value) -> Result<(bool, Set), FieldsError> {
    let empty = Map::new();
    let object = match value {
        Value::Object(object) => object,
        Value::Null => &empty,
        _ => return Err(FieldsError::NotAnObject),
    };
    let mut set = Set::default();
    set.nodes.reserve(object.len());
    for (key, value) in object.iter().filter(|(key, _)| *key != ".") {
        let element = match Element::decode(key) {
            Ok(element) => element,
            Err(ElementError::UnknownKind) => continue,
            Err(err) => return Err(err.into()),
        };
        let (member, below) = node(value)?;
        set.nodes.push(Node { element, member, below });
    }
    // The order of JSON's keys is not that of the steps where these are numbers.
    if !set.nodes.is_sorted_by(|a, b| a.element < b.element) {
        set.nodes.sort_by(|a, b| a.element.cmp(&b.element));
        set.nodes.dedup_by(|later, first| {
            let same = later.element == first.element;
            if same {
                first.member |= later.member;
                first.below = std::mem::take(&mut first.below).union(std::mem::take(&mut later.below));
            }
            same
        });
    }
    Ok((object.contains_key(".") || set.is_empty(), set))
}

/// Whether an encoded set has something of another, without reading it.
pub(crate) fn touches(encoded: &Value, set: &Set) -> bool {
    set.nodes.iter().any(|node| match encoded.get(node.element.encode()) {
        Some(Value::Object(object)) => {
            let is_member = object.is_empty() || object.contains_key(".");
            (node.member && is_member) || touches(&encoded[node.element.encode()], &node.below)
        }
        Some(_) => true,
        None => false,
    })
}
