//! The order of merged lists: what the patch names comes in the patch's order, what only the server has keeps its
//! place relative to that.

use super::cursor::Cursor;
use super::list::{identity, key_of, merge};
use super::{BAD_ORDER, DIRECTIVE, ELEMENT_ORDER, Object, bad_type, without_directives};
use crate::PatchError;
use crate::error::go_text;
use serde_json::Value;
use std::collections::{HashMap, HashSet};

/// What identifies an element: itself, or its merge key's value.
fn name_of(element: &Value, key: &str) -> String {
    let value = if key.is_empty() { Some(element) } else { element.get(key) };
    identity(value.unwrap_or(&Value::Null))
}

fn places(list: &[Value], key: &str) -> HashMap<String, usize> {
    let mut places = HashMap::new();
    for (at, element) in list.iter().enumerate() {
        places.entry(name_of(element, key)).or_insert(at);
    }
    places
}

/// Splits `merged` into what `by` names and the rest.
///
/// # Errors
/// An element without the merge key.
pub fn partition(merged: Vec<Value>, by: &[Value], key: &str) -> Result<(Vec<Value>, Vec<Value>), PatchError> {
    let names: HashSet<String> = by.iter().map(|element| name_of(element, key)).collect();
    if !key.is_empty() {
        merged.iter().try_for_each(|element| key_of(element, key).map(drop))?;
    }
    Ok(merged.into_iter().partition(|element| names.contains(&name_of(element, key))))
}

/// Brings both parts into their order and weaves them together by the server's order.
///
/// # Errors
/// An element without the merge key.
pub fn arrange(
    mut listed: Vec<Value>,
    mut others: Vec<Value>,
    patch_order: &[Value],
    server_order: &[Value],
    key: &str,
) -> Result<Vec<Value>, PatchError> {
    let (wanted, served) = (places(patch_order, key), places(server_order, key));
    listed.sort_by_key(|element| wanted.get(&name_of(element, key)).copied());
    others.sort_by_key(|element| served.get(&name_of(element, key)).copied());
    let mut woven = Vec::with_capacity(listed.len() + others.len());
    let mut listed = listed.into_iter().peekable();
    let mut others = others.into_iter().peekable();
    loop {
        let first = match (others.peek(), listed.peek()) {
            (Some(other), Some(item)) => {
                let place = |element: &Value| served.get(&name_of(element, key)).copied();
                matches!((place(other), place(item)), (Some(other), Some(item)) if other < item)
            }
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (None, None) => return Ok(woven),
        };
        woven.extend(if first { others.next() } else { listed.next() });
    }
}

/// Carries out every `$setElementOrder/<field>` of a patch, together with the list of that field.
pub fn merge_ordered_lists(original: &mut Object, patch: &mut Object, at: Cursor) -> Result<(), PatchError> {
    let directives: Vec<String> = patch.keys().filter(|key| key.starts_with(ELEMENT_ORDER)).cloned().collect();
    for directive in directives {
        let Some(order) = patch.remove(&directive) else { continue };
        let Value::Array(order) = order else { return Err(bad_type("[]interface {}", &order)) };
        let name = directive
            .strip_prefix(ELEMENT_ORDER)
            .and_then(|rest| rest.strip_prefix('/'))
            .ok_or_else(|| PatchError::Malformed(BAD_ORDER.into()))?;
        let current = list_in(original, name)?;
        let changes = list_in(patch, name)?;
        let (inner, strategy) = at.elements(name)?;
        check_order(changes.as_deref().unwrap_or_default(), &order, strategy.key)?;
        let merged = match (current.clone(), changes) {
            (None, None) => continue,
            (Some(current), None) => current,
            (None, Some(changes)) => match without_directives(Value::Array(changes)) {
                Some(Value::Array(kept)) => kept,
                _ => continue,
            },
            (Some(current), Some(changes)) if strategy.name == "merge" => {
                merge(current, changes, &inner, &strategy, false)?
            }
            (Some(_), Some(changes)) => changes,
        };
        let (listed, others) = partition(merged, &order, strategy.key)?;
        let arranged = arrange(listed, others, &order, current.as_deref().unwrap_or_default(), strategy.key)?;
        original.insert(name.to_string(), Value::Array(arranged));
        patch.remove(name);
    }
    Ok(())
}

fn list_in(object: &Object, name: &str) -> Result<Option<Vec<Value>>, PatchError> {
    match object.get(name) {
        Some(Value::Array(items)) => Ok(Some(items.clone())),
        // A list that upstream encodes as null has no elements.
        None | Some(Value::Null) => Ok(None),
        Some(other) => Err(bad_type("[]interface {}", other)),
    }
}

/// The elements that a patch sets must come in the order that it asks for.
fn check_order(patch: &[Value], order: &[Value], key: &str) -> Result<(), PatchError> {
    if patch.is_empty() || order.is_empty() {
        return Ok(());
    }
    let mut wanted = order.iter();
    for element in patch.iter().filter(|element| element.get(DIRECTIVE).is_none()) {
        let name = if key.is_empty() { element } else { key_of(element, key)? };
        let mut found = false;
        for candidate in wanted.by_ref() {
            let candidate = if key.is_empty() { candidate } else { key_of(candidate, key)? };
            if candidate == name {
                found = true;
                break;
            }
        }
        if !found {
            let (patch, order) = (go_text(&Value::Array(patch.to_vec())), go_text(&Value::Array(order.to_vec())));
            return Err(PatchError::Inconsistent(format!(
                "The order in patch list:\n{patch}\n doesn't match {ELEMENT_ORDER} list:\n{order}\n"
            )));
        }
    }
    Ok(())
}
