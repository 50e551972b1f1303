//! JSON patch (RFC 6902), with the leniencies of the library that upstream uses: negative indices count from the end,
//! `replace` of an absent object key sets it, `add` without a value sets null.

use crate::PatchError;
use serde_json::Value;

/// Upstream's limit on operations.
pub const MAX_OPERATIONS: usize = 10_000;
/// Upstream's limit on what `copy` may add up to, in bytes of JSON.
pub const MAX_COPIED_BYTES: usize = 3 * 1024 * 1024;

const MISSING: &str = "missing value";
const INVALID_INDEX: &str = "invalid index detected";

/// Applies the operations of `patch`, a list, to `object`.
///
/// # Errors
/// [`PatchError::Malformed`], [`PatchError::TooManyOperations`], [`PatchError::DoesNotApply`], [`PatchError::TestFailed`].
pub fn apply(object: &Value, patch: &Value) -> Result<Value, PatchError> {
    let Value::Array(operations) = patch else {
        let text = format!("json: cannot unmarshal {} into Go value of type jsonpatch.Patch", json_kind(patch));
        return Err(PatchError::Malformed(text));
    };
    if let Some(wrong) = operations.iter().find(|operation| !operation.is_object() && !operation.is_null()) {
        let text = format!("json: cannot unmarshal {} into Go value of type jsonpatch.Operation", json_kind(wrong));
        return Err(PatchError::Malformed(text));
    }
    if operations.len() > MAX_OPERATIONS {
        return Err(PatchError::TooManyOperations { limit: MAX_OPERATIONS, count: operations.len() });
    }
    let mut document = object.clone();
    let mut copied = 0;
    for operation in operations {
        let operation = Operation(operation);
        step(&mut document, &operation, &mut copied).map_err(|why| match operation.kind() {
            "test" if why.ends_with(TEST_FAILED) => PatchError::TestFailed(why),
            _ => PatchError::DoesNotApply(why),
        })?;
    }
    Ok(document)
}

/// What Go's decoder calls a kind of value.
pub fn json_kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

struct Operation<'a>(&'a Value);

impl<'a> Operation<'a> {
    fn kind(&self) -> &'a str {
        self.0.get("op").and_then(Value::as_str).unwrap_or("unknown")
    }

    fn path(&self, cause: &str) -> Result<&'a str, String> {
        self.0
            .get("path")
            .and_then(Value::as_str)
            .ok_or_else(|| format!("{} operation failed to decode path: {cause}", self.kind()))
    }

    fn from(&self) -> Result<&'a str, String> {
        let cause = format!("operation, missing from field: {MISSING}");
        self.0
            .get("from")
            .and_then(Value::as_str)
            .ok_or_else(|| format!("{} operation failed to decode from: {cause}", self.kind()))
    }

    fn value(&self) -> Value {
        self.0.get("value").cloned().unwrap_or(Value::Null)
    }
}

const TEST_FAILED: &str = "failed: test failed";
const NO_PATH: &str = "operation missing path field: missing value";

fn step(document: &mut Value, operation: &Operation<'_>, copied: &mut usize) -> Result<(), String> {
    match operation.kind() {
        "add" => {
            let path = operation.path(MISSING)?;
            let (parent, key) = find(document, path)
                .ok_or_else(|| format!("add operation does not apply: doc is missing path: \"{path}\": {MISSING}"))?;
            add(parent, &key, operation.value()).map_err(|cause| format!("error in add for path: '{path}': {cause}"))
        }
        "remove" => {
            let path = operation.path(MISSING)?;
            let (parent, key) = find(document, path).ok_or_else(|| {
                format!("remove operation does not apply: doc is missing path: \"{path}\": {MISSING}")
            })?;
            let removed = remove(parent, &key);
            removed.map(drop).map_err(|cause| format!("error in remove for path: '{path}': {cause}"))
        }
        "replace" => replace(document, operation),
        "move" => relocate(document, operation),
        "copy" => copy(document, operation, copied),
        "test" => test(document, operation),
        other => Err(format!("Unexpected kind: {other}")),
    }
}

fn replace(document: &mut Value, operation: &Operation<'_>) -> Result<(), String> {
    let path = operation.path(NO_PATH)?;
    if path.is_empty() {
        let value = operation.value();
        if !value.is_object() && !value.is_array() {
            return Err("replace operation value must be object or array: %!w(<nil>)".into());
        }
        *document = value;
        return Ok(());
    }
    let (parent, key) = find(document, path)
        .ok_or_else(|| format!("replace operation does not apply: doc is missing path: {path}: {MISSING}"))?;
    match parent {
        Value::Array(items) => {
            let at = existing(items.len(), &key)
                .map_err(|_| format!("replace operation does not apply: doc is missing key: {path}: {MISSING}"))?;
            if let Some(item) = items.get_mut(at) {
                *item = operation.value();
            }
        }
        Value::Object(map) => {
            map.insert(key, operation.value());
        }
        _ => {}
    }
    Ok(())
}

fn relocate(document: &mut Value, operation: &Operation<'_>) -> Result<(), String> {
    let from = operation.from()?;
    let (parent, key) = find(document, from)
        .ok_or_else(|| format!("move operation does not apply: doc is missing from path: {from}: {MISSING}"))?;
    let value = remove(parent, &key).map_err(|cause| format!("error in move for path: '{key}': {cause}"))?;
    let path = operation.path(NO_PATH)?;
    let (parent, key) = find(document, path)
        .ok_or_else(|| format!("move operation does not apply: doc is missing destination path: {path}: {MISSING}"))?;
    add(parent, &key, value).map_err(|cause| format!("error in move for path: '{path}': {cause}"))
}

fn copy(document: &mut Value, operation: &Operation<'_>, copied: &mut usize) -> Result<(), String> {
    let from = operation.from()?;
    let (parent, key) = find(document, from)
        .ok_or_else(|| format!("copy operation does not apply: doc is missing from path: {from}: {MISSING}"))?;
    let value = get(parent, &key).map_err(|cause| format!("error in copy for from: '{from}': {cause}"))?;
    let value = value.cloned().unwrap_or(Value::Null);
    let path = operation.path(MISSING)?;
    let (parent, key) = find(document, path)
        .ok_or_else(|| format!("copy operation does not apply: doc is missing destination path: {path}: {MISSING}"))?;
    *copied += value.to_string().len();
    if *copied > MAX_COPIED_BYTES {
        return Err(format!(
            "Unable to complete the copy, the accumulated size increase of copy is {copied}, exceeding the limit {MAX_COPIED_BYTES}"
        ));
    }
    add(parent, &key, value).map_err(|cause| format!("error while adding value during copy: {cause}"))
}

fn test(document: &mut Value, operation: &Operation<'_>) -> Result<(), String> {
    let path = operation.path(NO_PATH)?;
    let expected = operation.value();
    let failed = || format!("testing value {path} {TEST_FAILED}");
    if path.is_empty() {
        return if *document == expected { Ok(()) } else { Err(failed()) };
    }
    let (parent, key) = find(document, path)
        .ok_or_else(|| format!("test operation does not apply: is missing path: {path}: {MISSING}"))?;
    let value = get(parent, &key).map_err(|cause| format!("error in test for path: '{path}': {cause}"))?;
    // An absent key equals null.
    if *value.unwrap_or(&Value::Null) == expected { Ok(()) } else { Err(failed()) }
}

/// The container that a pointer leads into, and the last key. `None` where there is no such container.
fn find<'v>(document: &'v mut Value, path: &str) -> Option<(&'v mut Value, String)> {
    let mut parts = path.split('/');
    parts.next();
    let mut key = unescape(parts.next()?);
    let mut container = document;
    for part in parts {
        container = match container {
            Value::Object(map) => map.get_mut(&key)?,
            Value::Array(items) => {
                let at = existing(items.len(), &key).ok()?;
                items.get_mut(at)?
            }
            _ => return None,
        };
        key = unescape(part);
    }
    if container.is_object() || container.is_array() { Some((container, key)) } else { None }
}

/// Upstream replaces in one pass, so that `~01` is `~1`.
fn unescape(part: &str) -> String {
    let mut text = String::with_capacity(part.len());
    let mut rest = part;
    while let Some(at) = rest.find('~') {
        text.push_str(&rest[..at]);
        let (character, length) = match rest.as_bytes().get(at + 1) {
            Some(b'1') => ('/', 2),
            Some(b'0') => ('~', 2),
            _ => ('~', 1),
        };
        text.push(character);
        rest = &rest[at + length..];
    }
    text.push_str(rest);
    text
}

fn number(key: &str) -> Result<i64, String> {
    key.parse().map_err(|_| format!("strconv.Atoi: parsing {key:?}: invalid syntax"))
}

/// An index into `length` elements; negative ones count from the end.
fn existing(length: usize, key: &str) -> Result<usize, String> {
    let index = number(key)?;
    let invalid = || format!("Unable to access invalid index: {index}: {INVALID_INDEX}");
    let length = i64::try_from(length).map_err(|_| invalid())?;
    let at = if index < 0 { index + length } else { index };
    if at < 0 || at >= length {
        return Err(invalid());
    }
    usize::try_from(at).map_err(|_| invalid())
}

fn get<'v>(container: &'v Value, key: &str) -> Result<Option<&'v Value>, String> {
    match container {
        Value::Object(map) => Ok(map.get(key)),
        Value::Array(items) => existing(items.len(), key).map(|at| items.get(at)),
        _ => Ok(None),
    }
}

fn add(container: &mut Value, key: &str, value: Value) -> Result<(), String> {
    match container {
        Value::Object(map) => {
            map.insert(key.to_string(), value);
        }
        Value::Array(items) if key == "-" => items.push(value),
        Value::Array(items) => {
            let cause = |cause| format!("value was not a proper array index: '{key}': {cause}");
            number(key).map_err(cause)?;
            let at = existing(items.len() + 1, key)?;
            items.insert(at, value);
        }
        _ => {}
    }
    Ok(())
}

fn remove(container: &mut Value, key: &str) -> Result<Value, String> {
    match container {
        Value::Object(map) => {
            map.remove(key).ok_or_else(|| format!("Unable to remove nonexistent key: {key}: {MISSING}"))
        }
        Value::Array(items) => existing(items.len(), key).map(|at| items.remove(at)),
        _ => Ok(Value::Null),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn patched(object: Value, patch: Value) -> Result<Value, String> {
        apply(&object, &patch).map_err(|error| error.to_string())
    }

    #[test]
    fn operations_do_what_the_standard_says() {
        let object = json!({"a": {"b": [1, 2]}, "x/y": 1});
        let patch = json!([
            {"op": "add", "path": "/a/b/1", "value": 9}, {"op": "add", "path": "/a/b/-", "value": 3},
            {"op": "test", "path": "/a/b/1", "value": 9}, {"op": "remove", "path": "/x~1y"},
            {"op": "copy", "from": "/a/b/0", "path": "/c"}, {"op": "move", "from": "/a/b", "path": "/d"},
            {"op": "replace", "path": "/c", "value": null}, {"op": "test", "path": "/nothing", "value": null},
            {"op": "replace", "path": "/d/-1", "value": 7}, {"op": "replace", "path": "/new", "value": 1}]);
        assert_eq!(patched(object, patch).unwrap(), json!({"a": {}, "c": null, "d": [1, 9, 2, 7], "new": 1}));
    }

    #[test]
    fn complaints_read_like_upstreams() {
        let object = || json!({"a": [1], "s": "x"});
        let error = |patch| patched(object(), json!([patch])).unwrap_err();
        assert_eq!(
            error(json!({"op": "remove", "path": "/b"})),
            "error in remove for path: '/b': Unable to remove nonexistent key: b: missing value"
        );
        assert_eq!(
            error(json!({"op": "add", "path": "/b/c", "value": 1})),
            "add operation does not apply: doc is missing path: \"/b/c\": missing value"
        );
        assert_eq!(
            error(json!({"op": "replace", "path": "/a/4", "value": 1})),
            "replace operation does not apply: doc is missing key: /a/4: missing value"
        );
        assert_eq!(error(json!({"op": "test", "path": "/s", "value": "y"})), "testing value /s failed: test failed");
        assert_eq!(error(json!({"op": "what"})), "Unexpected kind: what");
        assert_eq!(
            error(json!({"op": "add", "path": "/a/x", "value": 1})),
            "error in add for path: '/a/x': value was not a proper array index: 'x': strconv.Atoi: parsing \"x\": invalid syntax"
        );
        assert_eq!(
            patched(object(), json!({})).unwrap_err(),
            "json: cannot unmarshal object into Go value of type jsonpatch.Patch"
        );
    }

    #[test]
    fn limits_hold() {
        let many = Value::Array(vec![json!({"op": "test", "path": "/a", "value": null}); MAX_OPERATIONS + 1]);
        assert_eq!(apply(&json!({}), &many).unwrap_err().status_code(), 413);
        let grow = json!({"op": "copy", "from": "/a", "path": "/a/-"});
        let doubling = Value::Array(vec![grow; 60]);
        assert!(
            patched(json!({"a": ["x".repeat(1000)]}), doubling).unwrap_err().starts_with("Unable to complete the copy")
        );
    }
}
