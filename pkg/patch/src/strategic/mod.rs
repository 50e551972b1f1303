//! Strategic merge patch: a merge patch in which lists merge by key where the type says so, and which carries
//! directives (`$patch`, `$retainKeys`, `$setElementOrder/…`, `$deleteFromPrimitiveList/…`).
//!
//! Invariant: the type of the object, never its content, decides how a field merges.

mod cursor;
mod list;
mod order;

use crate::PatchError;
use crate::error::{go_text, go_type};
use cursor::Cursor;
use kedge_schema::TypeId;
use serde_json::{Map, Value};

type Object = Map<String, Value>;

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList";
const ELEMENT_ORDER: &str = "$setElementOrder";

const BAD_RETAIN_KEYS: &str = "invalid patch format of retainKeys";
const BAD_DELETION: &str = "invalid patch format of primitive list";
const BAD_ORDER: &str = "invalid patch format of setElementOrder list";

/// Merges `patch` into an object of type `ty`.
///
/// # Errors
/// [`PatchError`]; malformed directives are [`PatchError::Malformed`], what the type does not allow is
/// [`PatchError::Inconsistent`].
pub fn apply(object: &Value, patch: &Value, ty: TypeId) -> Result<Value, PatchError> {
    let (Value::Object(original), Value::Object(patch)) = (object, patch) else {
        return Err(PatchError::Malformed("invalid JSON document".into()));
    };
    merge_map(original.clone(), patch.clone(), Cursor::object(ty)).map(Value::Object)
}

fn bad_type(expected: &str, found: &Value) -> PatchError {
    PatchError::Inconsistent(format!("expected a {expected}, but received a {}", go_type(found)))
}

/// `patch` is the map that has the directive, which is shown with it.
fn unknown_directive(directive: &Value, patch: &Object) -> PatchError {
    let mut map = patch.clone();
    map.insert(DIRECTIVE.to_owned(), directive.clone());
    let map = go_text(&Value::Object(map));
    PatchError::Inconsistent(format!("unknown patch type: {} in map: {map}", go_text(directive)))
}

fn merge_map(mut original: Object, mut patch: Object, at: Cursor) -> Result<Object, PatchError> {
    if let Some(directive) = patch.remove(DIRECTIVE) {
        return match directive.as_str() {
            Some("replace") => Ok(patch),
            Some("delete") => Ok(Object::new()),
            _ => Err(unknown_directive(&directive, &patch)),
        };
    }
    retain_keys(&mut original, &mut patch)?;
    order::merge_ordered_lists(&mut original, &mut patch, at)?;
    for (key, value) in patch {
        let (key, deletes) = match key.strip_prefix(DELETE_FROM) {
            Some(rest) => {
                let name = rest.strip_prefix('/').ok_or_else(|| PatchError::Malformed(BAD_DELETION.into()))?;
                (name.to_string(), true)
            }
            None => (key, false),
        };
        if value.is_null() {
            original.remove(&key);
            continue;
        }
        let current = original.remove(&key);
        if let Some(merged) = merge_field(&key, current, value, deletes, at)? {
            original.insert(key, merged);
        }
    }
    Ok(original)
}

/// One field; `None` means that it goes (or stays) away.
fn merge_field(
    key: &str,
    current: Option<Value>,
    patch: Value,
    deletes: bool,
    at: Cursor,
) -> Result<Option<Value>, PatchError> {
    match (current, patch) {
        (Some(Value::Object(current)), Value::Object(patch)) if !deletes => {
            let (inner, strategy) = at.field(key)?;
            let merged = if strategy.name == "replace" { patch } else { merge_map(current, patch, inner)? };
            Ok(Some(Value::Object(merged)))
        }
        (Some(Value::Array(current)), Value::Array(patch)) => {
            let (inner, strategy) = at.elements(key)?;
            let merged = if strategy.name == "merge" || deletes {
                list::merge(current, patch, &inner, &strategy, deletes)?
            } else {
                patch
            };
            Ok(Some(Value::Array(merged)))
        }
        // A deletion list does nothing where there is no list.
        (current, _) if deletes => Ok(current),
        (_, patch) => Ok(without_directives(without_nulls(patch))),
    }
}

/// Drops what a patch would have deleted from something that is not there.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.into_iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(key, value)| (key, without_nulls(value)))
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        other => other,
    }
}

/// Drops every object that carries a `$patch` directive; `None` if the value itself does.
fn without_directives(value: Value) -> Option<Value> {
    Some(match value {
        Value::Object(map) => {
            if map.contains_key(DIRECTIVE) {
                return None;
            }
            let kept = map.into_iter().filter_map(|(key, value)| Some((key, without_directives(value)?)));
            Value::Object(kept.collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().filter_map(without_directives).collect()),
        other => other,
    })
}

/// `$retainKeys` names everything that may stay; what the patch sets must be among it.
fn retain_keys(original: &mut Object, patch: &mut Object) -> Result<(), PatchError> {
    let Some(keys) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let bad = || PatchError::Malformed(BAD_RETAIN_KEYS.into());
    let keys = keys.as_array().ok_or_else(bad)?;
    let kept = |key: &str| keys.iter().any(|kept| kept.as_str() == Some(key));
    for (key, value) in patch.iter() {
        let directive = key.starts_with(DELETE_FROM) || key.starts_with(ELEMENT_ORDER);
        if !value.is_null() && !directive && !kept(key) {
            return Err(bad());
        }
    }
    original.retain(|key, _| kept(key));
    Ok(())
}

#[cfg(test)]
mod tests;
