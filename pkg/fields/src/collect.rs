//! The set of the fields that an object has: its leaves, the items of its lists and the entries of its maps.

use serde_json::Value;

use crate::element::Element;
use crate::items;
use crate::set::Set;
use crate::types::{Form, Items, Type};

/// All fields of an object that fits its type.
pub fn set_of(ty: Type<'_>, value: &Value) -> Set {
    node(ty, value).1
}

/// Whether the place itself is a leaf, and what is below it.
fn node(ty: Type<'_>, value: &Value) -> (bool, Set) {
    match (ty.forms().of(Some(value)).form(), value) {
        (Form::Scalar(_), _) => (true, Set::default()),
        (Form::Map, _) if ty.is_atomic_map() => (true, Set::default()),
        (Form::List, _) if ty.items() == Items::Atomic => (true, Set::default()),
        (Form::Map, Value::Object(map)) => {
            let mut set = Set::default();
            for (name, value) in map {
                let named = ty.named(name);
                let (leaf, below) = node(named.unwrap_or_else(|| ty.field_or_any(name)), value);
                let nothing = value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty);
                set.push(Element::field(name), leaf || nothing || named.is_none(), below);
            }
            (false, set)
        }
        (Form::List, Value::Array(list)) => (false, list_of(ty, list)),
        (Form::Map | Form::List, _) => (false, Set::default()),
    }
}

fn list_of(ty: Type<'_>, list: &[Value]) -> Set {
    let (item, keys) = (ty.item(), ty.keys());
    let with_element = |value| items::element(ty, &keys, value).ok().map(|element| (element, value));
    let mut found: Vec<(Element, &Value)> = list.iter().filter_map(with_element).collect();
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut set = Set::default();
    for same in found.chunk_by(|(a, _), (b, _)| a == b) {
        let below = match same {
            // Nothing below items that there are several of can be told apart.
            [(_, value)] => node(item, value).1,
            _ => Set::default(),
        };
        if let Some((element, _)) = same.first() {
            set.push(element.clone(), true, below);
        }
    }
    set
}
