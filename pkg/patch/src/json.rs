//! JSON patch, RFC 6902.

use serde_json::Value;

use crate::PatchError;

/// Upstream's limit.
const MAX_OPERATIONS: usize = 10_000;
/// Copies can double an object with each operation; they may add this many bytes altogether.
const MAX_COPIED: usize = 3 << 20;

/// Applies a list of operations, all or none.
///
/// # Errors
/// [`PatchError`] for the first operation that cannot be done.
pub fn apply(object: &Value, patch: &Value) -> Result<Value, PatchError> {
    let Some(operations) = patch.as_array() else {
        return Err(PatchError::Malformed("error decoding patch: a JSON patch is a list of operations".into()));
    };
    if operations.len() > MAX_OPERATIONS {
        return Err(PatchError::TooMany { limit: MAX_OPERATIONS, got: operations.len() });
    }
    let mut result = object.clone();
    let mut copied = 0;
    for operation in operations {
        apply_one(&mut result, operation, &mut copied)?;
    }
    Ok(result)
}

fn apply_one(target: &mut Value, operation: &Value, copied: &mut usize) -> Result<(), PatchError> {
    let text = |field: &str| operation.get(field).and_then(Value::as_str);
    let Some(op) = text("op") else { return Err(malformed("an operation has no op")) };
    let Some(path) = text("path") else { return Err(malformed("an operation has no path")) };
    let value = || operation.get("value").cloned().ok_or_else(|| malformed("an operation has no value"));
    let from = || text("from").ok_or_else(|| malformed("an operation has no from"));
    match op {
        "add" => add(target, path, value()?),
        "remove" => remove(target, path, op).map(drop),
        "replace" => {
            if path.is_empty() {
                *target = value()?;
                return Ok(());
            }
            *find(target, path).ok_or_else(|| missing(op, path))? = value()?;
            Ok(())
        }
        "move" => {
            let from = from()?;
            if path.strip_prefix(from).is_some_and(|rest| rest.starts_with('/')) {
                return Err(unapplicable(format!("move operation: cannot move {from} into itself")));
            }
            let moved = remove(target, from, op)?;
            add(target, path, moved)
        }
        "copy" => {
            let from = from()?;
            let found = find(target, from).ok_or_else(|| missing(op, from))?.clone();
            *copied += found.to_string().len();
            if *copied > MAX_COPIED {
                return Err(unapplicable(format!("copy operations add more than {MAX_COPIED} bytes")));
            }
            add(target, path, found)
        }
        "test" => {
            let found = find(target, path).cloned().unwrap_or(Value::Null);
            let wanted = operation.get("value").cloned().unwrap_or(Value::Null);
            if found == wanted {
                return Ok(());
            }
            Err(unapplicable(format!("testing value {path} failed: test failed")))
        }
        other => Err(malformed(&format!("unexpected kind: {other}"))),
    }
}

fn malformed(what: &str) -> PatchError {
    PatchError::Malformed(format!("error decoding patch: {what}"))
}

fn unapplicable(what: String) -> PatchError {
    PatchError::Unapplicable(what)
}

fn missing(op: &str, path: &str) -> PatchError {
    unapplicable(format!("{op} operation does not apply: doc is missing path: {path}: missing value"))
}

fn segments(path: &str) -> Option<Vec<String>> {
    if path.is_empty() {
        return Some(Vec::new());
    }
    let rest = path.strip_prefix('/')?;
    Some(rest.split('/').map(|s| s.replace("~1", "/").replace("~0", "~")).collect())
}

/// A place in a list: no sign, no leading zero.
fn index(text: &str, len: usize) -> Option<usize> {
    if text.len() > 1 && text.starts_with('0') || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|i| *i < len)
}

fn find<'a>(target: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    segments(path)?.iter().try_fold(target, |value, segment| match value {
        Value::Object(map) => map.get_mut(segment),
        Value::Array(list) => {
            let at = index(segment, list.len())?;
            list.get_mut(at)
        }
        _ => None,
    })
}

fn split_last(path: &str) -> Option<(&str, String)> {
    let at = path.rfind('/')?;
    Some((&path[..at], path[at + 1..].replace("~1", "/").replace("~0", "~")))
}

fn add(target: &mut Value, path: &str, value: Value) -> Result<(), PatchError> {
    if path.is_empty() {
        *target = value;
        return Ok(());
    }
    let absent = || missing("add", path);
    let (parent, last) = split_last(path).ok_or_else(absent)?;
    match find(target, parent).ok_or_else(absent)? {
        Value::Object(map) => {
            map.insert(last, value);
        }
        Value::Array(list) if last == "-" => list.push(value),
        Value::Array(list) => {
            let at = index(&last, list.len() + 1);
            let at = at.ok_or_else(|| unapplicable(format!("add operation does not apply: invalid index {last}")))?;
            list.insert(at, value);
        }
        _ => return Err(absent()),
    }
    Ok(())
}

fn remove(target: &mut Value, path: &str, op: &str) -> Result<Value, PatchError> {
    let absent = || missing(op, path);
    let (parent, last) = split_last(path).ok_or_else(absent)?;
    match find(target, parent).ok_or_else(absent)? {
        Value::Object(map) => map.remove(&last).ok_or_else(absent),
        Value::Array(list) => index(&last, list.len()).map(|at| list.remove(at)).ok_or_else(absent),
        _ => Err(absent()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn operations_do_what_the_rfc_says() {
        let object = json!({"a": {"b~/c": 1}, "l": [1, 2]});
        let cases = [
            (json!([{"op": "add", "path": "/l/-", "value": 3}]), json!({"a": {"b~/c": 1}, "l": [1, 2, 3]})),
            (json!([{"op": "add", "path": "/l/0", "value": 0}]), json!({"a": {"b~/c": 1}, "l": [0, 1, 2]})),
            (json!([{"op": "remove", "path": "/a/b~0~1c"}]), json!({"a": {}, "l": [1, 2]})),
            (json!([{"op": "move", "from": "/l/0", "path": "/x"}]), json!({"a": {"b~/c": 1}, "l": [2], "x": 1})),
            (
                json!([{"op": "test", "path": "/l/1", "value": 2}, {"op": "replace", "path": "/l", "value": null}]),
                json!({"a": {"b~/c": 1}, "l": null}),
            ),
        ];
        for (patch, want) in cases {
            assert_eq!(apply(&object, &patch).unwrap(), want, "{patch}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let object = json!({"l": [1]});
        for patch in [
            json!([{"op": "remove", "path": "/none"}]),
            json!([{"op": "replace", "path": "/none/x", "value": 1}]),
            json!([{"op": "add", "path": "/l/5", "value": 1}]),
            json!([{"op": "add", "path": "/l/01", "value": 1}]),
            json!([{"op": "test", "path": "/l/0", "value": 2}]),
            json!([{"op": "move", "from": "/l", "path": "/l/0"}]),
            json!([{"op": "jump", "path": "/l"}]),
            json!({"op": "add"}),
        ] {
            assert!(apply(&object, &patch).is_err(), "{patch}");
        }
    }

    #[test]
    fn copies_cannot_grow_without_bound() {
        let mut operations = vec![json!({"op": "add", "path": "/a", "value": "x".repeat(1 << 16)})];
        operations.extend((0..200).map(|i| json!({"op": "copy", "from": "/a", "path": format!("/b{i}")})));
        assert!(apply(&json!({}), &Value::Array(operations)).is_err());
    }

    proptest! {
        #[test]
        fn no_path_makes_it_panic(path in ".{0,20}", from in ".{0,20}") {
            for op in ["add", "remove", "replace", "move", "copy", "test"] {
                let patch = json!([{"op": op, "path": path, "from": from, "value": 1}]);
                let _ = apply(&json!({"a": [1, {"b": 2}]}), &patch);
            }
        }
    }
}
