//! Times are no change.

use serde_json::Value;

use crate::manager::entries;

/// Puts the times of `old` back into `new` if nothing else differs between the two, so that nothing is written for the sake of a time.
pub fn keep_times(new: &mut Value, old: &Value) {
    let (Some(Value::Array(is)), Some(Value::Array(was))) = (entries(new), entries(old)) else { return };
    let time = |entry: &Value| entry.get("time").cloned();
    let same_times = is.iter().zip(was).all(|(is, was)| time(is) == time(was));
    if is.len() != was.len() || same_times || !is.iter().zip(was).all(|(is, was)| same_but(is, was, "time")) {
        return;
    }
    let list = Value::Array(was.clone());
    let others = match (new.get("metadata"), old.get("metadata")) {
        (Some(is), Some(was)) => same_but(is, was, "managedFields"),
        _ => false,
    };
    if others && same_but(new, old, "metadata") {
        crate::manager::put_entries(new, list);
    }
}

fn same_but(a: &Value, b: &Value, field: &str) -> bool {
    let (Value::Object(a), Value::Object(b)) = (a, b) else { return false };
    let others = |map: &serde_json::Map<String, Value>| map.len() - usize::from(map.contains_key(field));
    others(a) == others(b)
        && a.iter().filter(|(name, _)| *name != field).all(|(name, value)| b.get(name) == Some(value))
}
