//! Strategic merge patch: a merge patch that knows which lists are maps by a key, from the schema table.
//!
//! Directives: `$patch` (`replace`, `delete`, `merge`), `$setElementOrder/<list>`, `$deleteFromPrimitiveList/<list>`,
//! `$retainKeys`. They are obeyed and never stored.

use kedge_schema::{FieldDef, FieldType, TypeId};
use serde_json::{Map, Value};

use crate::PatchError;

const PATCH: &str = "$patch";
const ORDER: &str = "$setElementOrder/";
const DELETE_PRIMITIVES: &str = "$deleteFromPrimitiveList/";
const RETAIN: &str = "$retainKeys";

type Result<T> = std::result::Result<T, PatchError>;

fn malformed<T>(what: String) -> Result<T> {
    Err(PatchError::Malformed(what))
}

/// Merges `patch` into a copy of `object`, whose type is `ty`.
///
/// # Errors
/// When the patch is no object, a directive is unknown, or an element of a keyed list lacks its key.
pub fn apply(object: &Value, patch: &Value, ty: TypeId) -> Result<Value> {
    let (Value::Object(target), Value::Object(patch)) = (object, patch) else {
        return malformed("error decoding patch: a strategic merge patch is an object".into());
    };
    let merged = merge_object(target.clone(), patch, Some(ty))?;
    Ok(Value::Object(merged))
}

fn merge_object(
    mut target: Map<String, Value>,
    patch: &Map<String, Value>,
    ty: Option<TypeId>,
) -> Result<Map<String, Value>> {
    match patch.get(PATCH).map(|d| d.as_str().unwrap_or_default()) {
        None | Some("merge") => {}
        Some("replace") => return Ok(plain(patch)),
        Some("delete") => return Ok(Map::new()),
        Some(other) => return malformed(format!("Unknown patch type found: {other:?}")),
    }
    if let Some(retain) = patch.get(RETAIN) {
        let Some(keys) = retain.as_array() else { return malformed(format!("{RETAIN} must be a list of field names")) };
        target.retain(|name, _| keys.iter().any(|key| key == name));
    }
    delete_primitives(&mut target, patch)?;
    for (name, value) in patch.iter().filter(|(name, _)| !name.starts_with('$')) {
        let field = ty.and_then(|ty| ty.def().field(name));
        if value.is_null() {
            target.remove(name);
            continue;
        }
        let order = patch.get(&format!("{ORDER}{name}"));
        let merged = merge_field(target.remove(name), value, field, order)?;
        target.insert(name.clone(), merged);
    }
    order_untouched(&mut target, patch, ty)?;
    Ok(target)
}

/// An order may come for a list that the patch does not change otherwise.
fn order_untouched(target: &mut Map<String, Value>, patch: &Map<String, Value>, ty: Option<TypeId>) -> Result<()> {
    for (directive, order) in patch {
        let Some(name) = directive.strip_prefix(ORDER).filter(|name| !patch.contains_key(*name)) else { continue };
        let field = ty.and_then(|ty| ty.def().field(name));
        if let Some(Value::Array(list)) = target.get_mut(name) {
            reorder(list, order, field.and_then(FieldDef::merge_key))?;
        }
    }
    Ok(())
}

fn delete_primitives(target: &mut Map<String, Value>, patch: &Map<String, Value>) -> Result<()> {
    for (directive, gone) in patch {
        let Some(name) = directive.strip_prefix(DELETE_PRIMITIVES) else { continue };
        let Some(gone) = gone.as_array() else { return malformed(format!("{directive} must be a list")) };
        if let Some(Value::Array(list)) = target.get_mut(name) {
            list.retain(|value| !gone.contains(value));
        }
    }
    Ok(())
}

fn merges(field: &FieldDef) -> bool {
    field.patch_strategies().any(|s| s == "merge")
}

fn merge_field(
    current: Option<Value>,
    patch: &Value,
    field: Option<&FieldDef>,
    order: Option<&Value>,
) -> Result<Value> {
    let ty = field.and_then(|f| f.ty.object());
    match (patch, current) {
        (Value::Object(patch), current) => {
            let replaces = field.is_some_and(|f| f.patch_strategies().any(|s| s == "replace"));
            let current = match current {
                Some(Value::Object(map)) if !replaces => map,
                _ => Map::new(),
            };
            match field.map(|f| f.ty) {
                Some(FieldType::Map(inner)) => Ok(Value::Object(merge_map(current, patch, inner.object())?)),
                _ => Ok(Value::Object(merge_object(current, patch, ty)?)),
            }
        }
        (Value::Array(patch), current) => {
            let current = match current {
                Some(Value::Array(list)) => list,
                _ => Vec::new(),
            };
            merge_list(current, patch, field, order).map(Value::Array)
        }
        (scalar, _) => Ok(scalar.clone()),
    }
}

/// A map of any keys to values of one type.
fn merge_map(
    current: Map<String, Value>,
    patch: &Map<String, Value>,
    ty: Option<TypeId>,
) -> Result<Map<String, Value>> {
    let Some(ty) = ty else { return merge_object(current, patch, None) };
    let mut target = if patch.get(PATCH).is_some_and(|d| d == "replace") { Map::new() } else { current };
    for (key, value) in patch.iter().filter(|(key, _)| !key.starts_with('$')) {
        match (value, target.remove(key)) {
            (Value::Null, _) => {}
            (Value::Object(value), Some(Value::Object(was))) => {
                target.insert(key.clone(), Value::Object(merge_object(was, value, Some(ty))?));
            }
            (value, _) => {
                target.insert(key.clone(), without_directives(value));
            }
        }
    }
    Ok(target)
}

fn merge_list(
    current: Vec<Value>,
    patch: &[Value],
    field: Option<&FieldDef>,
    order: Option<&Value>,
) -> Result<Vec<Value>> {
    let Some(field) = field.filter(|f| merges(f)) else {
        return Ok(patch.iter().map(without_directives).collect());
    };
    let element = match field.ty {
        FieldType::List(inner) => inner.object(),
        _ => None,
    };
    let mut merged = match (field.merge_key(), element) {
        (Some(key), Some(element)) => merge_keyed(current, patch, key, element)?,
        _ => {
            let mut list = current;
            for value in patch {
                if !list.contains(value) {
                    list.push(value.clone());
                }
            }
            list
        }
    };
    if let Some(order) = order {
        reorder(&mut merged, order, field.merge_key())?;
    }
    Ok(merged)
}

fn merge_keyed(current: Vec<Value>, patch: &[Value], key: &str, element: TypeId) -> Result<Vec<Value>> {
    if patch.iter().any(|e| e.get(PATCH).is_some_and(|d| d == "replace")) {
        let kept = patch.iter().filter(|e| e.get(PATCH).is_none());
        return Ok(kept.map(without_directives).collect());
    }
    let mut list = current;
    for change in patch {
        let Value::Object(fields) = change else {
            return malformed(format!("expected an object with the merge key {key:?}"));
        };
        let Some(wanted) = fields.get(key) else {
            return malformed(format!("map: {change} does not contain declared merge key: {key}"));
        };
        let at = list.iter().position(|e| e.get(key) == Some(wanted));
        if fields.get(PATCH).is_some_and(|d| d == "delete") {
            list.retain(|e| e.get(key) != Some(wanted));
            continue;
        }
        match at {
            Some(at) => {
                let was = match list[at].take() {
                    Value::Object(map) => map,
                    _ => Map::new(),
                };
                list[at] = Value::Object(merge_object(was, fields, Some(element))?);
            }
            None => list.push(Value::Object(merge_object(Map::new(), fields, Some(element))?)),
        }
    }
    Ok(list)
}

/// Puts the elements that the order names into its sequence; the others stay behind the one they followed.
fn reorder(list: &mut Vec<Value>, order: &Value, key: Option<&str>) -> Result<()> {
    let Some(order) = order.as_array() else { return malformed("an element order must be a list".into()) };
    let same = |element: &Value, place: &Value| match key {
        Some(key) => element.get(key).is_some() && element.get(key) == place.get(key),
        None => element == place,
    };
    let rank = |element: &Value| order.iter().position(|place| same(element, place));
    let mut named: Vec<(usize, Value)> = Vec::new();
    // What is not named goes with the named element before it, as in the live list.
    let mut loose: Vec<(Option<usize>, Value)> = Vec::new();
    let mut before = None;
    for element in std::mem::take(list) {
        match rank(&element) {
            Some(rank) => {
                before = Some(rank);
                named.push((rank, element));
            }
            None => loose.push((before, element)),
        }
    }
    named.sort_by_key(|(rank, _)| *rank);
    let mut take = |after: Option<usize>, list: &mut Vec<Value>| {
        let (here, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut loose).into_iter().partition(|(b, _)| *b == after);
        loose = rest;
        list.extend(here.into_iter().map(|(_, element)| element));
    };
    take(None, list);
    for (rank, element) in named {
        list.push(element);
        take(Some(rank), list);
    }
    Ok(())
}

fn plain(map: &Map<String, Value>) -> Map<String, Value> {
    let kept = map.iter().filter(|(name, value)| !name.starts_with('$') && !value.is_null());
    kept.map(|(name, value)| (name.clone(), without_directives(value))).collect()
}

fn without_directives(value: &Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(plain(map)),
        Value::Array(list) => Value::Array(list.iter().map(without_directives).collect()),
        scalar => scalar.clone(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn patched(object: Value, patch: Value) -> Value {
        let ty = kedge_schema::kind("apps", "v1", "Deployment").unwrap();
        apply(&object, &patch, ty).unwrap()
    }

    fn template(containers: Value) -> Value {
        json!({"spec": {"template": {"spec": {"containers": containers}}}})
    }

    #[test]
    fn containers_merge_by_name() {
        let object = template(json!([{"name": "a", "image": "1", "tty": true}, {"name": "b", "image": "1"}]));
        let patch = template(json!([{"name": "b", "image": "2"}, {"name": "c", "image": "3"}]));
        let want = template(
            json!([{"name": "a", "image": "1", "tty": true}, {"name": "b", "image": "2"}, {"name": "c", "image": "3"}]),
        );
        assert_eq!(patched(object, patch), want);
    }

    #[test]
    fn elements_are_deleted_replaced_and_ordered() {
        let object = template(json!([{"name": "a"}, {"name": "b"}, {"name": "c"}]));
        let delete = template(json!([{"name": "b", "$patch": "delete"}]));
        assert_eq!(patched(object.clone(), delete), template(json!([{"name": "a"}, {"name": "c"}])));
        let replace = template(json!([{"$patch": "replace"}, {"name": "z"}]));
        assert_eq!(patched(object.clone(), replace), template(json!([{"name": "z"}])));
        let order = json!({"spec": {"template": {"spec": {"$setElementOrder/containers": [{"name": "c"}, {"name": "a"}, {"name": "b"}]}}}});
        assert_eq!(patched(object, order), template(json!([{"name": "c"}, {"name": "a"}, {"name": "b"}])));
    }

    #[test]
    fn primitive_lists_and_retained_keys() {
        let object = json!({"metadata": {"finalizers": ["a", "b"]}, "spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {}}}});
        let patch = json!({
            "metadata": {"$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["c"]},
            "spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}},
        });
        let want = json!({"metadata": {"finalizers": ["b", "c"]}, "spec": {"strategy": {"type": "Recreate"}}});
        assert_eq!(patched(object, patch), want);
    }

    #[test]
    fn atomic_lists_are_replaced_and_null_removes() {
        let object = template(json!([{"name": "a", "args": ["1"], "tty": true}]));
        let patch = template(json!([{"name": "a", "args": ["2"], "tty": null}]));
        assert_eq!(patched(object, patch), template(json!([{"name": "a", "args": ["2"]}])));
    }

    #[test]
    fn an_element_without_its_key_is_refused() {
        let ty = kedge_schema::kind("apps", "v1", "Deployment").unwrap();
        let patch = template(json!([{"image": "2"}]));
        assert!(apply(&template(json!([])), &patch, ty).is_err());
    }
}
