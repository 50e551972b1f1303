//! Merging of two lists: objects by their key, scalars as sets. Work is linear in the lists (positions are looked up in
//! maps), so that long lists cannot be used to burn time.

use super::cursor::{Cursor, Strategy};
use super::order::{arrange, partition};
use super::{DIRECTIVE, Object, bad_type, merge_map, unknown_directive};
use crate::PatchError;
use crate::error::{go_text, go_type};
use serde_json::Value;
use std::collections::{HashMap, HashSet};

/// A value as a map key.
pub(super) fn identity(value: &Value) -> String {
    value.to_string()
}

fn no_merge_key(map: &Object, key: &str) -> PatchError {
    let map = go_text(&Value::Object(map.clone()));
    PatchError::Inconsistent(format!("map: {map} does not contain declared merge key: {key}"))
}

/// The merge key's value of one element.
pub(super) fn key_of<'v>(element: &'v Value, key: &str) -> Result<&'v Value, PatchError> {
    let Value::Object(map) = element else { return Err(bad_type("map[string]interface {}", element)) };
    map.get(key).ok_or_else(|| no_merge_key(map, key))
}

/// Whether the elements of the lists are objects; lists of lists and mixed lists are refused.
fn elements_are_objects(lists: [&[Value]; 2]) -> Result<bool, PatchError> {
    let mut found: Option<&'static str> = None;
    for element in lists.iter().copied().flatten() {
        if element.is_array() {
            return Err(PatchError::DoesNotApply("lists of lists are not supported".into()));
        }
        let ty = go_type(element);
        if found.is_some_and(|found| found != ty) || element.is_null() {
            let texts: Vec<String> = lists.iter().map(|list| go_text(&Value::Array(list.to_vec()))).collect();
            let text = format!("list element types are not identical: [{}]", texts.join(" "));
            return Err(PatchError::Inconsistent(text));
        }
        found = Some(ty);
    }
    Ok(found == Some("map[string]interface {}"))
}

/// Merges `patch` into `original`, elements of type `inner`. With `deletes`, scalars of `patch` are taken out instead.
pub fn merge(
    original: Vec<Value>,
    patch: Vec<Value>,
    inner: &Cursor,
    strategy: &Strategy,
    deletes: bool,
) -> Result<Vec<Value>, PatchError> {
    if original.is_empty() && patch.is_empty() {
        return Ok(original);
    }
    if !elements_are_objects([&original, &patch])? {
        if deletes {
            let gone: HashSet<String> = patch.iter().map(identity).collect();
            return Ok(original.into_iter().filter(|item| !gone.contains(&identity(item))).collect());
        }
        let mut seen = HashSet::new();
        let merged: Vec<Value> =
            original.iter().chain(&patch).filter(|item| seen.insert(identity(item))).cloned().collect();
        let (listed, others) = partition(merged, &patch, "")?;
        return arrange(listed, others, &patch, &original, "");
    }
    if strategy.key.is_empty() {
        return Err(PatchError::Inconsistent(format!("cannot merge lists without merge key for {}", inner.name())));
    }
    let (original, patch) = apply_element_directives(original, patch, strategy.key)?;
    let merged = merge_elements(original.clone(), &patch, strategy.key, *inner)?;
    let (listed, others) = partition(merged, &patch, strategy.key)?;
    arrange(listed, others, &patch, &original, strategy.key)
}

/// Carries out `$patch: delete` and `$patch: replace` among the elements; gives what is left of both lists.
fn apply_element_directives(
    mut original: Vec<Value>,
    patch: Vec<Value>,
    key: &str,
) -> Result<(Vec<Value>, Vec<Value>), PatchError> {
    let mut plain = Vec::new();
    let mut replace = false;
    let mut gone: HashSet<String> = HashSet::new();
    for element in patch {
        let Value::Object(map) = &element else { return Err(bad_type("map[string]interface {}", &element)) };
        let Some(directive) = map.get(DIRECTIVE) else {
            plain.push(element);
            continue;
        };
        match directive.as_str() {
            Some("delete") => {
                gone.insert(identity(map.get(key).ok_or_else(|| no_merge_key(map, key))?));
            }
            Some("replace") => replace = true,
            Some("merge") => {
                return Err(PatchError::Inconsistent("merging lists cannot yet be specified in the patch".into()));
            }
            _ => return Err(unknown_directive(directive, map)),
        }
    }
    if !gone.is_empty() {
        original.retain(|element| element.get(key).is_none_or(|value| !gone.contains(&identity(value))));
    }
    if replace { Ok((plain, Vec::new())) } else { Ok((original, plain)) }
}

fn merge_elements(
    mut original: Vec<Value>,
    patch: &[Value],
    key: &str,
    inner: Cursor,
) -> Result<Vec<Value>, PatchError> {
    let mut places: HashMap<String, usize> = HashMap::new();
    for (at, element) in original.iter().enumerate() {
        if let Some(value) = element.get(key) {
            places.entry(identity(value)).or_insert(at);
        }
    }
    for element in patch {
        let name = identity(key_of(element, key)?);
        let Value::Object(patch) = element else { continue };
        match places.get(&name).and_then(|at| original.get_mut(*at)) {
            Some(slot) => {
                if let Value::Object(current) = slot.take() {
                    *slot = Value::Object(merge_map(current, patch.clone(), inner)?);
                }
            }
            None => {
                places.insert(name, original.len());
                original.push(element.clone());
            }
        }
    }
    Ok(original)
}
