//! The rules for `metadata`, the same for every kind.

use jiff::Timestamp;
use kedge_base::{random, time};
use kedge_meta::field::{Error, ErrorList, GoText, Path};
use kedge_meta::{Status, names};
use serde_json::{Map, Value, json};

use crate::strategy::Strategy;
use crate::value::ValueExt;

/// Upstream's limit on all annotations of an object together.
const MAX_ANNOTATIONS: usize = 256 << 10;
/// Longest base of a generated name, so that the suffix still fits.
const MAX_GENERATE_BASE: usize = 63 - 5;

/// Fills in what the server decides at creation.
///
/// # Errors
/// 400 when the namespace in the object is not the one of the request.
pub(crate) fn fill(object: &mut Value, namespace: &str, now: Timestamp) -> Result<(), Status> {
    let metadata = object.entry("metadata");
    check_namespace(metadata, namespace)?;
    for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "resourceVersion"] {
        metadata.remove(field);
    }
    metadata.insert("uid".into(), random::uuid().into());
    metadata.insert("creationTimestamp".into(), time::rfc3339(now).into());
    generate_name(metadata);
    Ok(())
}

/// What a creator cannot say, before anybody sees the object.
pub(crate) fn wipe(metadata: &mut Map<String, Value>) {
    for field in ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"] {
        metadata.remove(field);
    }
}

/// Gives an object without a name one from its `generateName`.
pub(crate) fn generate_name(metadata: &mut Map<String, Value>) {
    let text = |field: &str| metadata.get(field).and_then(Value::as_str).unwrap_or_default();
    if !text("name").is_empty() || text("generateName").is_empty() {
        return;
    }
    let mut base = text("generateName").to_owned();
    if base.len() > MAX_GENERATE_BASE {
        let end = (0..=MAX_GENERATE_BASE).rev().find(|i| base.is_char_boundary(*i)).unwrap_or_default();
        base.truncate(end);
    }
    metadata.insert("name".into(), format!("{base}{}", random::name_suffix(5)).into());
}

/// The namespace in the object must be that of the request, or absent. Where there are none it is dropped.
pub(crate) fn check_namespace(metadata: &mut Map<String, Value>, namespace: &str) -> Result<(), Status> {
    if namespace.is_empty() {
        metadata.remove("namespace");
        return Ok(());
    }
    let written = metadata.get("namespace").and_then(Value::as_str).unwrap_or_default();
    if !written.is_empty() && written != namespace {
        let message = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(Status::bad_request(message));
    }
    metadata.insert("namespace".into(), namespace.into());
    Ok(())
}

/// The name in an object that is written must be that of the request.
///
/// # Errors
/// 400 when it is another, or none.
pub fn check_name(object: &Value, name: &str) -> Result<(), Status> {
    let message = match object.name() {
        is if is == name => return Ok(()),
        "" => format!("the name of the object ({name} based on URL) was undeterminable: name must be provided"),
        is => format!("the name of the object ({is}) does not match the name on the URL ({name})"),
    };
    Err(Status::bad_request(message))
}

/// Puts back what an update may not change. What it may not set is left, so that validation names it.
pub(crate) fn carry_over(new: &mut Value, old: &Value) {
    let metadata = new.entry("metadata");
    metadata.remove("generation");
    for field in ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"] {
        let Some(was) = old.at(&["metadata", field]).filter(|was| !was.is_null()) else { continue };
        let unset = metadata.get(field).is_none_or(|v| v.is_null() || v == "");
        if unset || matches!(field, "creationTimestamp" | "deletionTimestamp") {
            metadata.insert(field.into(), was.clone());
        }
    }
    for field in ["deletionTimestamp", "deletionGracePeriodSeconds"] {
        if metadata.get(field).is_some_and(Value::is_null) {
            metadata.remove(field);
        }
    }
    metadata.remove("selfLink");
}

/// What is wrong with the metadata of a new object.
pub(crate) fn validate(object: &Value, strategy: &dyn Strategy) -> ErrorList {
    let path = Path::new("metadata");
    let mut errors = ErrorList::new();
    let (name, base) = (object.name(), object.text(&["metadata", "generateName"]));
    if !base.is_empty() {
        for message in strategy.validate_name_of(object, base, true) {
            errors.push(Error::invalid(&path.child("generateName"), base, message));
        }
    }
    if name.is_empty() {
        errors.push(Error::required(&path.child("name"), "name or generateName is required"));
    } else {
        for message in strategy.validate_name_of(object, name, false) {
            errors.push(Error::invalid(&path.child("name"), name, message));
        }
    }
    let namespace = object.namespace();
    if !namespace.is_empty() {
        for message in names::is_dns1123_label(namespace) {
            errors.push(Error::invalid(&path.child("namespace"), namespace, message));
        }
    }
    errors.extend(validate_labels(object.map(&["metadata", "labels"]), &path.child("labels")));
    errors.extend(validate_annotations(object.map(&["metadata", "annotations"]), &path.child("annotations")));
    errors.extend(validate_owners(object.list(&["metadata", "ownerReferences"]), &path.child("ownerReferences")));
    errors.extend(validate_finalizers(object, &path.child("finalizers")));
    errors
}

/// What is wrong with a map of labels.
pub fn validate_labels(labels: Option<&Map<String, Value>>, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    for (key, value) in labels.into_iter().flatten() {
        for message in names::is_qualified_name(key) {
            errors.push(Error::invalid(path, key, message));
        }
        let value = value.as_str().unwrap_or_default();
        for message in names::is_valid_label_value(value) {
            errors.push(Error::invalid(path, value, message));
        }
    }
    errors
}

pub(crate) fn validate_annotations(annotations: Option<&Map<String, Value>>, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    let mut size = 0;
    for (key, value) in annotations.into_iter().flatten() {
        for message in names::is_qualified_name(&key.to_lowercase()) {
            errors.push(Error::invalid(path, key, message));
        }
        size += key.len() + value.as_str().map_or(0, str::len);
    }
    if size > MAX_ANNOTATIONS {
        errors.push(Error::too_long(path, MAX_ANNOTATIONS));
    }
    errors
}

fn validate_owners(owners: &[Value], path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    for owner in owners {
        let (version, kind) = (owner.text(&["apiVersion"]), owner.text(&["kind"]));
        if version.is_empty() {
            errors.push(Error::invalid(&path.child("apiVersion"), version, "version must not be empty"));
        }
        for field in ["kind", "name", "uid"] {
            let value = owner.text(&[field]);
            if value.is_empty() {
                errors.push(Error::invalid(&path.child(field), value, "must not be empty"));
            }
        }
        // Events come and go in masses: whatever they own would go with them.
        if (version, kind) == ("v1", "Event") {
            let message = format!("/{version}, Kind={kind} is disallowed from being an owner");
            errors.push(Error::invalid(path, GoText(owner_text(owner)), message));
        }
    }
    let mut controllers = owners.iter().filter(|owner| owner.flag(&["controller"]) == Some(true));
    if let Some(first) = controllers.next() {
        let all = owners.iter().map(owner_text).collect::<Vec<_>>().join(",");
        for other in controllers {
            let message = format!(
                "Only one reference can have Controller set to true. Found \"true\" in references for {}/{} and {}/{}",
                first.text(&["kind"]),
                first.text(&["name"]),
                other.text(&["kind"]),
                other.text(&["name"])
            );
            errors.push(Error::invalid(path, GoText(format!("[{all}]")), message));
        }
    }
    errors
}

/// A reference as Go writes it.
fn owner_text(owner: &Value) -> String {
    let fields = ["apiVersion", "kind", "name", "uid", "controller", "blockOwnerDeletion"];
    let shown = fields.iter().filter_map(|field| owner.get(field).map(|value| format!("\"{field}\":{value}")));
    format!("{{{}}}", shown.collect::<Vec<_>>().join(","))
}

fn validate_finalizers(object: &Value, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    let finalizers = object.list(&["metadata", "finalizers"]);
    let has = |name: &str| finalizers.iter().any(|f| f == name);
    for finalizer in finalizers.iter().filter_map(Value::as_str) {
        for message in names::is_qualified_name(finalizer) {
            errors.push(Error::invalid(path, finalizer, message));
        }
    }
    if has("orphan") && has("foregroundDeletion") {
        let message = "finalizer orphan and foregroundDeletion cannot be both set";
        errors.push(Error::invalid(path, finalizers, message));
    }
    if qualifies_finalizers(object) {
        for (i, finalizer) in finalizers.iter().enumerate() {
            let name = finalizer.as_str().unwrap_or_default();
            let standard = matches!(name, "orphan" | "foregroundDeletion" | "kubernetes");
            if !standard && !name.contains('/') {
                let message = "name is neither a standard finalizer name nor is it fully qualified";
                errors.push(Error::invalid(&path.index(i), name, message));
            }
        }
    }
    errors
}

/// Whether finalizers of the kind need a domain: upstream asks for one where it validates metadata as it did first. Writers of custom resources
/// are only warned.
fn qualifies_finalizers(object: &Value) -> bool {
    let (group, version) = object.text(&["apiVersion"]).split_once('/').unwrap_or(("", object.text(&["apiVersion"])));
    if kedge_schema::kind(group, version, object.text(&["kind"])).is_none() {
        return false;
    }
    let free = matches!(group, "apiregistration.k8s.io" | "apiextensions.k8s.io" | "admissionregistration.k8s.io");
    !free && !matches!(object.text(&["kind"]), "Event" | "Lease" | "PodDisruptionBudget" | "RuntimeClass")
}

/// What is wrong with a change of metadata.
pub(crate) fn validate_update(new: &Value, old: &Value) -> ErrorList {
    let path = Path::new("metadata");
    let mut errors = ErrorList::new();
    for field in ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        let at = ["metadata", field];
        let (now, was) = (new.at(&at), old.at(&at));
        if now != was {
            errors.push(Error::invalid(&path.child(field), now.unwrap_or(&json!("")), "field is immutable"));
        }
    }
    if !old.text(&["metadata", "deletionTimestamp"]).is_empty() {
        let was = old.list(&["metadata", "finalizers"]);
        let added: Vec<_> =
            new.list(&["metadata", "finalizers"]).iter().filter(|f| !was.contains(f)).cloned().collect();
        if !added.is_empty() {
            let names: Vec<_> = added.iter().filter_map(Value::as_str).map(|n| format!("{n:?}")).collect();
            let message = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                names.join(", ")
            );
            errors.push(Error::forbidden(&path.child("finalizers"), message));
        }
    }
    errors.extend(validate_labels(new.map(&["metadata", "labels"]), &path.child("labels")));
    errors.extend(validate_annotations(new.map(&["metadata", "annotations"]), &path.child("annotations")));
    errors.extend(validate_owners(new.list(&["metadata", "ownerReferences"]), &path.child("ownerReferences")));
    errors.extend(validate_finalizers(new, &path.child("finalizers")));
    errors
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::strategy::Plain;

    #[test]
    fn a_name_is_generated_and_the_server_fills_in() {
        let mut object = json!({"metadata": {"generateName": "web-", "resourceVersion": "5", "uid": "mine"}});
        fill(&mut object, "a", Timestamp::UNIX_EPOCH).unwrap();
        assert!(object.name().starts_with("web-") && object.name().len() == 9);
        assert_eq!(object.namespace(), "a");
        assert_ne!(object.text(&["metadata", "uid"]), "mine");
        assert!(validate(&object, &Plain).is_empty());
        let other = fill(&mut json!({"metadata": {"namespace": "b"}}), "a", Timestamp::UNIX_EPOCH).unwrap_err();
        assert_eq!(other.code, 400);
        let mut node = json!({"metadata": {"name": "n", "namespace": "b"}});
        fill(&mut node, "", Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(node["metadata"].get("namespace"), None, "where there are no namespaces one is dropped");
    }

    #[test]
    fn an_update_cannot_change_the_identity() {
        let old = json!({"metadata": {"name": "a", "uid": "1", "generation": 3}});
        let mut new = json!({"metadata": {"name": "a", "generation": 9}});
        carry_over(&mut new, &old);
        assert_eq!(new, old);
        let other = json!({"metadata": {"name": "a", "uid": "2", "generation": 3}});
        assert_eq!(
            validate_update(&other, &old)[0].to_string(),
            "metadata.uid: Invalid value: \"2\": field is immutable"
        );
        assert_eq!(check_name(&other, "b").unwrap_err().code, 400);
        let unnamed = check_name(&json!({"metadata": {}}), "b").unwrap_err();
        assert!(unnamed.message.ends_with("was undeterminable: name must be provided"), "{}", unnamed.message);
    }

    #[test]
    fn an_update_cannot_begin_a_deletion() {
        let old = json!({"metadata": {"name": "a", "uid": "1", "creationTimestamp": "2026-01-01T00:00:00Z"}});
        let marks = json!({"deletionTimestamp": "2026-02-02T00:00:00Z", "deletionGracePeriodSeconds": 5});
        for (field, mark) in marks.as_object().unwrap() {
            let mut new = json!({"metadata": {"name": "a", "creationTimestamp": "2000-01-01T00:00:00Z", field: mark}});
            carry_over(&mut new, &old);
            let errors = validate_update(&new, &old);
            assert_eq!(errors.len(), 1, "{errors:?}");
            assert_eq!(errors[0].to_string(), format!("metadata.{field}: Invalid value: {mark}: field is immutable"));
        }
        let mut deleted = old.clone();
        deleted["metadata"]["deletionTimestamp"] = "2026-02-02T00:00:00Z".into();
        let mut new = json!({"metadata": {"name": "a", "deletionTimestamp": "2027-01-01T00:00:00Z"}});
        carry_over(&mut new, &deleted);
        assert_eq!(new, deleted, "nor move one");
    }
}
