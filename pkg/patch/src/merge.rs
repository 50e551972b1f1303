//! JSON merge patch, RFC 7386.

use serde_json::{Map, Value};

use crate::PatchError;

/// Merges `patch` into a copy of `object`: null removes, objects merge, everything else replaces.
///
/// # Errors
/// When the patch is no object: a whole API object cannot be replaced by a list or scalar.
pub fn apply(object: &Value, patch: &Value) -> Result<Value, PatchError> {
    if !patch.is_object() {
        return Err(PatchError::Malformed("error decoding patch: a merge patch is an object".into()));
    }
    let mut result = object.clone();
    merge(&mut result, patch);
    Ok(result)
}

pub(crate) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(map) = target else { return };
    for (name, value) in patch {
        if value.is_null() {
            map.remove(name);
        } else {
            merge(map.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn the_rfcs_examples_hold() {
        for (object, patch, want) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": [1]}), json!({"a": {"b": {"c": null}}}), json!({"a": {"b": {}}})),
            (json!({"a": {"b": "c"}}), json!({"a": [1]}), json!({"a": [1]})),
        ] {
            assert_eq!(apply(&object, &patch).unwrap(), want);
        }
        assert!(apply(&json!({}), &json!([1])).is_err());
    }

    proptest! {
        #[test]
        fn applying_twice_is_applying_once(keys in proptest::collection::vec("[a-c]", 1..5), n in 0..5_i64) {
            let mut patch = json!(n);
            for key in keys {
                patch = json!({ key: patch, "z": null });
            }
            let once = apply(&json!({"a": {"z": 1}, "z": 2}), &patch).unwrap();
            prop_assert_eq!(apply(&once, &patch).unwrap(), once);
        }
    }
}
