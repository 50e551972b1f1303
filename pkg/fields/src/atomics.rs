//! Maps and lists in an object that are one value each.

use serde_json::Value;

use crate::element::Element;
use crate::types::{Items, Type};

/// Where an object has maps and lists of which nothing can be set without setting all.
pub fn atomics(ty: Type<'_>, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    walk(ty, value, &mut String::new(), &mut found);
    found
}

fn walk(ty: Type<'_>, value: &Value, path: &mut String, found: &mut Vec<String>) {
    let here = path.len();
    match value {
        Value::Object(map) if ty.forms().map => {
            if ty.is_atomic_map() {
                found.push(path.clone());
            }
            for (name, value) in map {
                // As upstream: what is in maps of any keys is not looked at.
                let Some(field) = ty.named(name) else { continue };
                path.push_str(&Element::field(name).to_string());
                walk(field, value, path, found);
                path.truncate(here);
            }
        }
        Value::Array(list) if ty.forms().list => {
            if ty.items() == Items::Atomic {
                found.push(path.clone());
            }
            for (at, value) in list.iter().enumerate() {
                path.push_str(&format!("[{at}]"));
                walk(ty.item(), value, path, found);
                path.truncate(here);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_one_value_is_named() {
        let schema = kedge_schema::resource("apps", "v1", "deployments").unwrap().schema.clone();
        let of = |value: Value| atomics(Type::of(&schema), &value);
        assert_eq!(of(json!({"metadata": {"labels": {"a": "b"}}, "spec": {"replicas": 1}})), [""; 0]);
        assert_eq!(of(json!({"spec": {"selector": {"matchLabels": {"a": "b"}}}})), [".spec.selector"]);
        let containers = json!([{"name": "c", "env": [{"name": "a"}]}, {"name": "d", "args": ["x"]}]);
        let found = of(json!({"spec": {"template": {"spec": {"containers": containers}}}}));
        assert_eq!(found, [".spec.template.spec.containers[1].args"]);
    }
}
