//! Takes fields and items out of an object.

use serde_json::{Map, Value};

use crate::element::Element;
use crate::items;
use crate::set::Set;
use crate::types::{Form, Items, Type};

/// The object without the members of a set. What held them stays, empty.
pub fn remove(ty: Type<'_>, value: Value, set: &Set) -> Value {
    if set.is_empty() {
        return value;
    }
    let form = ty.forms().of(Some(&value)).form();
    match (form, value) {
        (Form::Scalar(_), value) => value,
        (Form::Map, Value::Object(map)) if !map.is_empty() && !ty.is_atomic_map() => fields(ty, map, set),
        (Form::List, Value::Array(list)) if !list.is_empty() && ty.items() != Items::Atomic => {
            list_items(ty, list, set)
        }
        (Form::Map | Form::List, _) => Value::Null,
    }
}

/// What is left of a value of which something below is taken out: never nothing.
fn kept(ty: Type<'_>, value: Value, set: &Set) -> Value {
    let empty = match &value {
        Value::Object(_) => Value::Object(Map::new()),
        Value::Array(_) => Value::Array(Vec::new()),
        _ => Value::Null,
    };
    match remove(ty, value, set) {
        Value::Null => empty,
        left => left,
    }
}

fn fields(ty: Type<'_>, map: Map<String, Value>, set: &Set) -> Value {
    let mut out = Map::new();
    let mut matched = false;
    for (name, value) in map {
        match set.get(&Element::field(&name)) {
            Some(node) if node.member => {}
            Some(node) => {
                matched = true;
                let left = kept(ty.field_or_any(&name), value, &node.below);
                out.insert(name, left);
            }
            None => {
                out.insert(name, value);
            }
        }
    }
    if out.is_empty() && !matched { Value::Null } else { Value::Object(out) }
}

fn list_items(ty: Type<'_>, list: Vec<Value>, set: &Set) -> Value {
    let (item, keys) = (ty.item(), ty.keys());
    let mut out = Vec::with_capacity(list.len());
    let mut matched = false;
    for value in list {
        let node = items::element(ty, &keys, &value).ok().and_then(|element| set.get(&element));
        match node {
            Some(node) if node.member => {}
            Some(node) => {
                matched = true;
                out.push(kept(item, value, &node.below));
            }
            None => out.push(value),
        }
    }
    if out.is_empty() && !matched { Value::Null } else { Value::Array(out) }
}
