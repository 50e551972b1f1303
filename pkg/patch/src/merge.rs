//! JSON merge patch (RFC 7386), with one habit of upstream's library: nulls inside what is newly added are dropped,
//! also below lists.

use crate::PatchError;
use serde_json::{Map, Value};

/// Merges `patch` into `object`. A patch that is a list replaces the whole.
///
/// # Errors
/// [`PatchError::Malformed`] for a patch that is neither object nor list.
pub fn apply(object: &Value, patch: &Value) -> Result<Value, PatchError> {
    match (object, patch) {
        (Value::Object(object), Value::Object(patch)) => {
            let mut merged = object.clone();
            merge_maps(&mut merged, patch);
            Ok(Value::Object(merged))
        }
        (_, Value::Object(_) | Value::Array(_)) => Ok(without_nulls(patch)),
        _ => Err(PatchError::Malformed("Invalid JSON Patch".into())),
    }
}

fn merge_maps(object: &mut Map<String, Value>, patch: &Map<String, Value>) {
    for (key, value) in patch {
        if value.is_null() {
            object.remove(key);
            continue;
        }
        match (object.get_mut(key), value) {
            (Some(Value::Object(inner)), Value::Object(value)) => merge_maps(inner, value),
            // Over an object, what is no object stays as it was sent.
            (Some(slot @ Value::Object(_)), value) => *slot = value.clone(),
            (_, value) => {
                object.insert(key.clone(), without_nulls(value));
            }
        }
    }
}

fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(key, value)| (key.clone(), without_nulls(value)))
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.iter().map(without_nulls).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn merges_as_the_standard_says() {
        let object = json!({"a": {"b": 1, "c": 2}, "l": [1], "s": "x"});
        let patch = json!({"a": {"b": null, "d": {"e": null, "f": 1}}, "l": [{"x": null}], "s": {"y": null}});
        assert_eq!(apply(&object, &patch).unwrap(), json!({"a": {"c": 2, "d": {"f": 1}}, "l": [{}], "s": {}}));
        assert_eq!(apply(&object, &json!(null)).unwrap_err().to_string(), "Invalid JSON Patch");
    }

    fn any_object() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![Just(Value::Null), any::<i8>().prop_map(Value::from), "[ab]{0,2}".prop_map(Value::from)];
        let tree = leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::btree_map("[a-c]", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        });
        prop::collection::btree_map("[a-c]", tree, 0..4).prop_map(|map| Value::Object(map.into_iter().collect()))
    }

    fn without_lists(value: Value) -> Value {
        match value {
            Value::Array(_) => json!(1),
            Value::Object(map) => {
                Value::Object(map.into_iter().map(|(key, value)| (key, without_lists(value))).collect())
            }
            other => other,
        }
    }

    /// The patch that makes one object of another, which has no nulls: a patch cannot write any.
    fn difference(from: &Value, to: &Value) -> Value {
        let (Value::Object(old), Value::Object(new)) = (from, to) else { return to.clone() };
        let mut patch: Map<String, Value> =
            old.keys().filter(|name| !new.contains_key(*name)).map(|name| (name.clone(), Value::Null)).collect();
        for (name, value) in new.iter().filter(|(name, value)| old.get(*name) != Some(value)) {
            patch.insert(name.clone(), old.get(name).map_or(value.clone(), |was| difference(was, value)));
        }
        Value::Object(patch)
    }

    proptest! {
        #[test]
        fn the_difference_of_two_objects_makes_one_of_the_other(from in any_object(), to in any_object()) {
            let (from, to) = (without_nulls(&from), without_nulls(&to));
            let patch = difference(&from, &to);
            prop_assert_eq!(apply(&from, &patch).unwrap(), to, "by {}", patch);
        }

        /// What two patches touch that have no key in common is the same in either order.
        #[test]
        fn patches_of_different_fields_go_in_any_order(object in any_object(), one in any_object(), other in any_object()) {
            let (one, other) = (json!({"x": one, "a": null}), json!({"y": other, "b": 1}));
            let both = |first, second| apply(&apply(&object, first).unwrap(), second).unwrap();
            prop_assert_eq!(both(&one, &other), both(&other, &one));
        }

        #[test]
        fn merging_twice_is_merging_once(object in any_object(), patch in any_object()) {
            // Lists over objects keep their nulls only the first time, as upstream's do.
            let patch = without_lists(patch);
            let once = apply(&object, &patch).unwrap();
            prop_assert_eq!(apply(&once, &patch).unwrap(), once);
        }

        #[test]
        fn the_empty_patch_changes_nothing(object in any_object()) {
            prop_assert_eq!(apply(&object, &json!({})).unwrap(), object);
        }
    }
}
