//! JSON patch (RFC 6902), with the leniencies of the library that upstream uses: negative indices count from the end,
//! `replace` of an absent object key sets it, `add` without a value sets null.
//!
//! Invariant: what comes out is no deeper than what a decoder takes, however often it is put into itself.

use crate::PatchError;
use kedge_schema::decode::{MAX_DEPTH, is_deeper_than};
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
            let added = add(parent, &key, operation.value(), path);
            added.map_err(|cause| format!("error in add for path: '{path}': {cause}"))
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
    let value = operation.value();
    fits(&value, path)?;
    match parent {
        Value::Array(items) => {
            let at = existing(items.len(), &key)
                .map_err(|_| format!("replace operation does not apply: doc is missing key: {path}: {MISSING}"))?;
            if let Some(item) = items.get_mut(at) {
                *item = value;
            }
        }
        Value::Object(map) => {
            map.insert(key, value);
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
    add(parent, &key, value, path).map_err(|cause| format!("error in move for path: '{path}': {cause}"))
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
    add(parent, &key, value, path).map_err(|cause| format!("error while adding value during copy: {cause}"))
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

/// Whether a value may come to `path`. Operations that put things into one another would otherwise make of a small object one that is so deep
/// that nothing can walk through it any more.
fn fits(value: &Value, path: &str) -> Result<(), String> {
    let above = path.bytes().filter(|byte| *byte == b'/').count();
    let is_container = value.is_array() || value.is_object();
    match MAX_DEPTH.checked_sub(above) {
        Some(left) if !is_deeper_than(value, left) => Ok(()),
        None if !is_container => Ok(()),
        _ => Err("exceeded max depth".to_owned()),
    }
}

fn add(container: &mut Value, key: &str, value: Value, path: &str) -> Result<(), String> {
    fits(&value, path)?;
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
    use proptest::prelude::*;
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

    /// An object that was copied into itself was twice as deep each time. Twenty operations made one of half a million levels, and the first
    /// thing that walked through it ran out of stack, which ended the server.
    #[test]
    fn what_is_put_into_itself_stays_shallow() {
        let mut operations = Vec::new();
        for doublings in 0..18 {
            let path = "/a".repeat((1 << doublings) + 1);
            operations.push(json!({"op": "copy", "from": "/a", "path": path}));
        }
        let doubled = patched(json!({"a": {}}), Value::Array(operations));
        assert!(doubled.unwrap_err().ends_with("exceeded max depth"));
        let nested = |levels: usize| (0..levels).fold(json!(1), |inner, _| json!([inner]));
        let added = |levels: usize, path: &str| {
            patched(json!({"a": {"b": []}}), json!([{"op": "add", "path": path, "value": nested(levels)}]))
        };
        for (path, above) in [("/a", 1), ("/a/b", 2), ("/a/b/-", 3)] {
            assert!(added(MAX_DEPTH - above, path).is_ok(), "{path}");
            assert!(added(MAX_DEPTH - above + 1, path).is_err(), "{path}");
        }
        let moved = json!([{"op": "add", "path": "/b", "value": nested(MAX_DEPTH - 1)}, {"op": "move", "from": "/b", "path": "/a/b"}]);
        assert!(patched(json!({"a": {}}), moved).is_err());
        let replaced = json!([{"op": "replace", "path": "/a/b", "value": nested(MAX_DEPTH - 1)}]);
        assert!(patched(json!({"a": {"b": 1}}), replaced).is_err());
    }

    /// CVE-2019-1002100: a patch of many operations, or of few that copy what they have copied, once kept the server busy for as long as one liked.
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

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf =
            prop_oneof![Just(Value::Null), any::<i8>().prop_map(Value::from), "[ab/~]{0,2}".prop_map(Value::from)];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::btree_map("[a-c/~]{0,2}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    fn any_object() -> impl Strategy<Value = Value> {
        prop::collection::btree_map("[a-c/~]{0,2}", any_value(), 0..4)
            .prop_map(|map| Value::Object(map.into_iter().collect()))
    }

    fn escaped(key: &str) -> String {
        key.replace('~', "~0").replace('/', "~1")
    }

    /// The operations that make one value of another, which stands at `path`.
    fn difference(from: &Value, to: &Value, path: &str, out: &mut Vec<Value>) {
        match (from, to) {
            (Value::Object(old), Value::Object(new)) => {
                for key in old.keys().filter(|key| !new.contains_key(*key)) {
                    out.push(json!({"op": "remove", "path": format!("{path}/{}", escaped(key))}));
                }
                for (key, value) in new {
                    let path = format!("{path}/{}", escaped(key));
                    match old.get(key) {
                        Some(was) => difference(was, value, &path, out),
                        None => out.push(json!({"op": "add", "path": path, "value": value})),
                    }
                }
            }
            (Value::Array(old), Value::Array(new)) => {
                for (at, (was, value)) in old.iter().zip(new).enumerate() {
                    difference(was, value, &format!("{path}/{at}"), out);
                }
                for _ in new.len()..old.len() {
                    out.push(json!({"op": "remove", "path": format!("{path}/-1")}));
                }
                for value in new.iter().skip(old.len()) {
                    out.push(json!({"op": "add", "path": format!("{path}/-"), "value": value}));
                }
            }
            (was, value) if was == value => {}
            (_, value) => out.push(json!({"op": "replace", "path": path, "value": value})),
        }
    }

    fn any_operation() -> impl Strategy<Value = Value> {
        let path = || "(/([a-c]|~[01]|-|-?[0-2]|)){0,3}";
        let kind = prop::sample::select(vec!["add", "remove", "replace", "move", "copy", "test"]);
        (kind, path(), path(), any_value())
            .prop_map(|(op, from, path, value)| json!({"op": op, "from": from, "path": path, "value": value}))
    }

    proptest! {
        #[test]
        fn no_operations_change_nothing(object in any_object()) {
            prop_assert_eq!(apply(&object, &json!([])).unwrap(), object);
        }

        #[test]
        fn the_difference_of_two_objects_makes_one_of_the_other(from in any_object(), to in any_object()) {
            let mut operations = Vec::new();
            difference(&from, &to, "", &mut operations);
            let patch = Value::Array(operations);
            prop_assert_eq!(apply(&from, &patch).unwrap(), to, "by {}", patch);
        }

        /// One operation after the other is what all of them together are.
        #[test]
        fn a_patch_is_its_operations(object in any_object(), operations in prop::collection::vec(any_operation(), 0..5)) {
            let whole = apply(&object, &Value::Array(operations.clone()));
            let mut one_by_one = Ok(object);
            for operation in operations {
                one_by_one = one_by_one.and_then(|object| apply(&object, &json!([operation])));
            }
            prop_assert_eq!(whole, one_by_one);
        }

        #[test]
        fn what_was_added_can_be_tested_copied_and_removed(object in any_object(), key in "[a-z/~]{1,3}", value in any_value()) {
            let mut without = object;
            without.as_object_mut().map(|map| map.remove(&key));
            let at = format!("/{}", escaped(&key));
            let added = apply(&without, &json!([{"op": "add", "path": at, "value": value}])).unwrap();
            prop_assert_eq!(&added[&key], &value);
            let same = json!([{"op": "copy", "from": at, "path": "/~1copy"}, {"op": "test", "path": "/~1copy", "value": value},
                {"op": "move", "from": "/~1copy", "path": at}]);
            prop_assert_eq!(&apply(&added, &same).unwrap(), &added);
            prop_assert_eq!(apply(&added, &json!([{"op": "remove", "path": at}])).unwrap(), without);
        }
    }
}
