//! The annotation in which `kubectl apply` keeps what it applied, for those who go from it to apply on the server, and back.

use serde_json::{Map, Value};

use crate::collect::set_of;
use crate::compare::compare;
use crate::manager::FieldManager;
use crate::set::Set;
use crate::validate::validate;

/// The annotation.
const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Only for this manager; whoever does not want it has another name.
pub(crate) const MANAGER: &str = "kubectl";
/// Upstream's limit on all annotations of an object together.
const MAX_ANNOTATIONS: usize = 256 << 10;

fn annotations(object: &mut Value) -> Option<&mut Map<String, Value>> {
    object.get_mut("metadata")?.get_mut("annotations")?.as_object_mut()
}

fn text(object: &Value) -> Option<&str> {
    let annotation = object.get("metadata")?.get("annotations")?.get(ANNOTATION)?;
    annotation.as_str().filter(|text| !text.is_empty())
}

/// Brings the annotation of an object that has it up to what was applied.
pub(crate) fn follow(object: &mut Value, applied: &Value) {
    if text(object).is_none() {
        return;
    }
    let mut applied = applied.clone();
    if let Some(annotations) = annotations(&mut applied) {
        annotations.remove(ANNOTATION);
    }
    // Upstream's encoder ends with a new line.
    let text = format!("{applied}\n");
    let Some(annotations) = annotations(object) else { return };
    annotations.remove(ANNOTATION);
    let size = |(name, value): (&String, &Value)| name.len() + value.as_str().map_or(0, str::len);
    let others: usize = annotations.iter().map(size).sum();
    if others + ANNOTATION.len() + text.len() <= MAX_ANNOTATIONS {
        annotations.insert(ANNOTATION.to_owned(), text.into());
    }
}

/// The fields that client-side apply has set and nobody has changed since. None if it never set any, or nobody can tell.
pub(crate) fn owned(manager: &FieldManager<'_>, live: &Value) -> Option<Set> {
    let ty = manager.ty();
    let applied: Value = serde_json::from_str(text(live)?).ok()?;
    if applied.get("apiVersion").and_then(Value::as_str) != Some(manager.api_version) {
        return None;
    }
    validate(ty, live, false).ok()?;
    validate(ty, &applied, false).ok()?;
    let differs = compare(ty, &applied, live).ok()?;
    let set = set_of(ty, &applied);
    Some(set.difference(&differs.modified).difference(&differs.added).difference(&differs.removed))
}
