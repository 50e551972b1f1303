//! The formats of patches: laws that hold for any object and any patch.

use kedge_patch::{json, merge, strategic};
use serde_json::{Map, Value, json};

use crate::input;

/// What a server decodes is no deeper; nor may be what it stores.
const MAX_DEPTH: usize = 120;

/// `[object, patch]`.
pub fn json_patch(data: &[u8]) {
    let Some([object, patch]) = input::several(data) else { return };
    let before = object.clone();
    let patched = json::apply(&object, &patch);
    assert_eq!(object, before);
    assert_eq!(json::apply(&object, &json!([])).ok().as_ref(), Some(&object), "the empty patch changes nothing");
    if let Ok(new) = patched {
        assert!(input::depth(&new) <= MAX_DEPTH, "too deep to be stored");
        // What it has become can be asked for and be made of anything.
        let is_so = json!([{"op": "test", "path": "", "value": new}]);
        assert_eq!(json::apply(&new, &is_so).ok().as_ref(), Some(&new));
        if new.is_object() || new.is_array() {
            let replace = json!([{"op": "replace", "path": "", "value": new}]);
            assert_eq!(json::apply(&object, &replace).ok(), Some(new));
        }
    }
}

/// `[object, patch]`.
pub fn merge_patch(data: &[u8]) {
    let Some([object, patch]) = input::several(data) else { return };
    if !object.is_object() {
        return;
    }
    assert_eq!(merge::apply(&object, &json!({})).ok().as_ref(), Some(&object), "the empty patch changes nothing");
    let Ok(new) = merge::apply(&object, &patch) else { return };
    assert!(input::depth(&new) <= MAX_DEPTH.max(input::depth(&object)));
    if patch.is_object() {
        // A list that takes the place of a map keeps its nulls the first time, as upstream's does.
        let twice = merge::apply(&new, &patch).expect("what applied once applies again");
        assert_eq!(without_nulls(&twice), without_nulls(&new), "applying twice is applying once");
    }
    let (from, to) = (without_nulls(&object), without_nulls(&patch));
    if to.is_object() {
        let difference = difference(&from, &to);
        assert_eq!(merge::apply(&from, &difference).ok(), Some(to), "by {difference}");
    }
}

/// The merge patch that makes one object of another.
fn difference(from: &Value, to: &Value) -> Value {
    let (Value::Object(old), Value::Object(new)) = (from, to) else { return to.clone() };
    let gone = old.keys().filter(|name| !new.contains_key(*name)).map(|name| (name.clone(), Value::Null));
    let other = new.iter().filter(|(name, value)| old.get(*name) != Some(value));
    let changed =
        other.map(|(name, value)| (name.clone(), old.get(name).map_or(value.clone(), |was| difference(was, value))));
    Value::Object(gone.chain(changed).collect::<Map<_, _>>())
}

fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(name, value)| (name.clone(), without_nulls(value))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(without_nulls).collect()),
        other => other.clone(),
    }
}

/// `[object, patch]`, of the built-in kind that the object says it is of, or else a pod.
pub fn strategic_merge_patch(data: &[u8]) {
    let Some([object, patch]) = input::several(data) else { return };
    let own = kedge_schema::encode::own_type(&object);
    let Some(ty) = own.or_else(|| kedge_schema::kind("", "v1", "Pod")) else { return };
    if object.is_object() {
        assert_eq!(strategic::apply(&object, &json!({}), ty).ok().as_ref(), Some(&object));
    }
    let Ok(new) = strategic::apply(&object, &patch, ty) else { return };
    assert!(input::depth(&new) <= MAX_DEPTH);
    // What a patch makes of nothing is a patch without directives: on the object that it has made it changes nothing.
    if let Ok(made) = strategic::apply(&json!({}), &patch, ty)
        && let Ok(once) = strategic::apply(&json!({}), &made, ty)
    {
        assert_eq!(strategic::apply(&json!({}), &once, ty).ok(), Some(once));
    }
}
