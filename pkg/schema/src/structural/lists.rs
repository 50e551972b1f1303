//! Lists that are sets, and lists whose items have keys: nothing is twice in them.

use std::collections::HashMap;

use kedge_meta::field::{Error, ErrorList};
use serde_json::{Map, Value};

use super::Node;
use super::at::{At, MAX_NAMED, below, path};
use crate::table::ListType;

/// What is twice where it may be once.
pub fn check_lists(node: &Node, object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    walk(node, object, None, &mut errors);
    errors
}

fn walk(node: &Node, value: &Value, at: Option<&At<'_>>, errors: &mut ErrorList) {
    if errors.len() >= MAX_NAMED {
        return;
    }
    if let Value::Array(items) = value {
        match node.list_type {
            ListType::Set => errors.extend(
                twice(items).into_iter().map(|index| Error::duplicate(&At::index(at, index).path(), &items[index])),
            ),
            ListType::Map => keyed(node, items, at, errors),
            ListType::Atomic => {}
        }
    }
    below(node, value, at, &mut |node, value, at| walk(node, value, at, errors));
}

fn keyed(node: &Node, items: &[Value], at: Option<&At<'_>>, errors: &mut ErrorList) {
    if let Some(index) = items.iter().position(|item| !item.is_object() && !item.is_null()) {
        let path = path(at).index(index);
        errors.push(Error::invalid(&path, &items[index], "must be an object for an array of list-type map"));
        return;
    }
    let key = |item: &Value| {
        let fields = node.map_keys.iter().filter_map(|name| Some((name.to_string(), item.get(&**name)?.clone())));
        Value::Object(fields.collect::<Map<_, _>>())
    };
    let keys: Vec<Value> = items.iter().map(key).collect();
    errors.extend(twice(&keys).into_iter().map(|index| Error::duplicate(&At::index(at, index).path(), &keys[index])));
}

/// The places of the second of each value that comes more than once.
fn twice(items: &[Value]) -> Vec<usize> {
    let mut seen: HashMap<String, usize> = HashMap::with_capacity(items.len());
    let mut places = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let times = seen.entry(item.to_string()).or_default();
        *times += 1;
        if *times == 2 {
            places.push(index);
        }
    }
    places
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::structural::Structural;
    use serde_json::json;

    #[test]
    fn what_is_twice_is_named_once() {
        let schema = json!({"type": "object", "properties": {
            "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            "map": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["a", "b"], "items": {
                "type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer"}}}},
        }});
        let schema = Structural::parse("x".into(), &schema).unwrap();
        let errors = |object: Value| -> Vec<String> {
            check_lists(schema.root(), &object).iter().map(ToString::to_string).collect()
        };
        assert_eq!(errors(json!({"set": ["a", "b", "a", "a"]})), [r#"set[2]: Duplicate value: "a""#]);
        let map = json!([{"a": "x", "b": 1}, {"a": "x"}, {"a": "x", "b": 1, "c": 2}, {"a": "x"}]);
        let wanted = [r#"map[2]: Duplicate value: {"a":"x","b":1}"#, r#"map[3]: Duplicate value: {"a":"x"}"#];
        assert_eq!(errors(json!({ "map": map })), wanted);
        assert_eq!(errors(json!({"map": [1]})).len(), 1);
        assert!(errors(json!({"set": ["a", "b"], "map": [{"a": "x", "b": 1}, {"a": "x", "b": 2}]})).is_empty());
    }
}
