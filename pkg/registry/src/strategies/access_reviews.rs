//! What a question about access has to look like: reviews of the group `authorization.k8s.io`.

use kedge_meta::field::{Error, ErrorList, GoText, Path};
use kedge_meta::names;
use kedge_schema::encode::write_json;
use serde_json::{Map, Value};

use super::validation::{At, Report as _};

/// The name of a question about somebody else, within a namespace.
pub const LOCAL: &str = "LocalSubjectAccessReview";
/// The name of a question about oneself.
pub const OWN: &str = "SelfSubjectAccessReview";

/// What is wrong with a review of a kind: one of [`LOCAL`], [`OWN`] and `SubjectAccessReview`.
pub fn validate(kind: &str, review: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let spec = At::field(review, "spec");
    let (resource, path) = (spec.child("resourceAttributes"), spec.child("nonResourceAttributes"));
    match (resource.is_set(), path.is_set()) {
        (true, true) => {
            errors.push(path_error(&path, "cannot be specified in combination with resourceAttributes"));
        }
        (false, false) => {
            let why = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            errors.push(Error::invalid(&resource.path, Value::Null, why));
        }
        _ => {}
    }
    if kind != OWN && spec.child("user").text().is_empty() && spec.child("groups").len() == 0 {
        errors.push(Error::invalid(&spec.child("user").path, "", "at least one of user or group must be specified"));
    }
    selector(&resource.child("fieldSelector"), false, &mut errors);
    selector(&resource.child("labelSelector"), true, &mut errors);
    metadata(kind, review, &mut errors);
    if kind == LOCAL {
        let namespace = review.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or_default();
        let asked = resource.child("namespace");
        if resource.is_set() && asked.text() != namespace {
            errors.push(Error::invalid(&asked.path, asked.text(), "must match metadata.namespace"));
        }
        if path.is_set() {
            errors.push(path_error(&path, "disallowed on this kind of request"));
        }
    }
    errors
}

/// A question about a path, as upstream shows it.
fn path_error(path: &At<'_>, why: &str) -> Error {
    let shown = |name: &str| Value::from(path.child(name).text()).to_string();
    let text = format!("{{\"Path\":{},\"Verb\":{}}}", shown("path"), shown("verb"));
    Error::invalid(&path.path, GoText(text), why)
}

/// A selector that the access is limited by. Operators that nobody knows are those of clients to come, and are let be.
fn selector(at: &At<'_>, of_labels: bool, errors: &mut ErrorList) {
    if !at.is_set() {
        return;
    }
    let (raw, requirements) = (at.child("rawSelector"), at.child("requirements"));
    match (raw.text().is_empty(), requirements.len() == 0) {
        (false, false) => {
            errors.push(Error::invalid(&raw.path, raw.text(), "may not specified at the same time as requirements"));
        }
        (true, true) => {
            let why = format!("when {} is specified, requirements or rawSelector is required", at.path);
            errors.push(requirements.required(&why));
        }
        _ => {}
    }
    for requirement in requirements.items() {
        let (key, values) = (requirement.child("key"), requirement.child("values"));
        if !of_labels && key.text().is_empty() {
            errors.push(key.required("must be specified"));
        }
        match requirement.child("operator").text() {
            "In" | "NotIn" if values.len() == 0 => {
                errors.push(values.required("must be specified when `operator` is 'In' or 'NotIn'"));
            }
            "Exists" | "DoesNotExist" if values.len() > 0 => {
                errors.push(values.forbidden("may not be specified when `operator` is 'Exists' or 'DoesNotExist'"));
            }
            _ => {}
        }
        if of_labels {
            errors.complaints(&key, names::is_qualified_name(key.text()));
            for value in values.items() {
                errors.complaints(&value, names::is_valid_label_value(value.text()));
            }
        }
    }
}

/// What the server would set, and takes off whatever is sent to it.
const OF_THE_SERVER: [&str; 6] =
    ["managedFields", "creationTimestamp", "uid", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"];

/// A review is no object: it has no name and no labels.
fn metadata(kind: &str, review: &Value, errors: &mut ErrorList) {
    let Some(metadata) = review.get("metadata").and_then(Value::as_object) else { return };
    let may_be = |field: &str| OF_THE_SERVER.contains(&field) || (kind == LOCAL && field == "namespace");
    let says = |value: &Value| !value.is_null() && value.as_str() != Some("");
    if metadata.iter().all(|(field, value)| may_be(field) || !says(value)) {
        return;
    }
    let why = if kind == LOCAL { "must be empty except for namespace" } else { "must be empty" };
    errors.push(Error::invalid(&Path::new("metadata"), GoText(shown(metadata)), why));
}

fn shown(metadata: &Map<String, Value>) -> String {
    let mut out = Vec::new();
    let ty = kedge_schema::type_by_name("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta");
    let mut said = metadata.clone();
    said.retain(|_, value| !value.is_null());
    let written = write_json(ty, &Value::Object(said), &mut out);
    written.ok().and_then(|()| String::from_utf8(out).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// They were answered with 400 and one sentence, or not refused at all.
    #[test]
    fn questions_are_refused_as_upstream_refuses_them() {
        let asked = json!({"verb": "get", "resource": "pods", "namespace": "here"});
        let both = json!({"resourceAttributes": asked, "nonResourceAttributes": {"path": "/x", "verb": "get"}});
        let cases = [
            (OWN, json!({"spec": {"resourceAttributes": asked}}), ""),
            (
                OWN,
                json!({"spec": both}),
                "spec.nonResourceAttributes: Invalid value: {\"Path\":\"/x\",\"Verb\":\"get\"}: cannot be specified in \
                 combination with resourceAttributes",
            ),
            (
                OWN,
                json!({"spec": {}}),
                "spec.resourceAttributes: Invalid value: null: exactly one of nonResourceAttributes or \
                 resourceAttributes must be specified",
            ),
            (
                "SubjectAccessReview",
                json!({"spec": {"resourceAttributes": asked}}),
                "spec.user: Invalid value: \"\": at least one of user or group must be specified",
            ),
            (
                LOCAL,
                json!({"metadata": {"namespace": "there"}, "spec": {"user": "u", "resourceAttributes": asked}}),
                "spec.resourceAttributes.namespace: Invalid value: \"here\": must match metadata.namespace",
            ),
            (
                OWN,
                json!({"metadata": {"name": "x", "creationTimestamp": null}, "spec": {"resourceAttributes": asked}}),
                "metadata: Invalid value: {\"name\":\"x\"}: must be empty",
            ),
            (OWN, json!({"metadata": {"uid": "u", "selfLink": "/"}, "spec": {"resourceAttributes": asked}}), ""),
            (
                OWN,
                json!({"spec": {"resourceAttributes": {"fieldSelector": {}}}}),
                "spec.resourceAttributes.fieldSelector.requirements: Required value: when \
                 spec.resourceAttributes.fieldSelector is specified, requirements or rawSelector is required",
            ),
            (
                OWN,
                json!({"spec": {"resourceAttributes": {"labelSelector": {"requirements": [
                    {"key": "a", "operator": "Near"}, {"key": "a", "operator": "In"}]}}}}),
                "spec.resourceAttributes.labelSelector.requirements[1].values: Required value: must be specified when \
                 `operator` is 'In' or 'NotIn'",
            ),
        ];
        for (kind, review, expected) in cases {
            let said: Vec<String> = validate(kind, &review).iter().map(ToString::to_string).collect();
            assert_eq!(said.join("; "), expected, "{review}");
        }
    }
}
