//! Environment variables and where they come from.

use kedge_meta::field::ErrorList;
use kedge_meta::names;

use super::scalar::env_name;
use super::{At, Report};

const FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// Of what the downward API knows, what can be a file.
pub(crate) const FILE_FIELDS: &[&str] =
    &["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];
/// What the downward API knows at all.
const KNOWN: &[&str] = &[
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.host",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.phase",
    "status.podIP",
    "status.podIPs",
];
const RESOURCES: &[&str] = &[
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

/// The variables of a container.
pub(crate) fn variables(at: &At<'_>, errors: &mut ErrorList) {
    for variable in at.items() {
        errors.need_name(&variable.child("name"), env_name);
        source(&variable, errors);
    }
}

fn source(variable: &At<'_>, errors: &mut ErrorList) {
    let from = variable.child("valueFrom");
    if !from.is_set() {
        return;
    }
    let mut sources = 0;
    let mut when = |name: &str, check: &dyn Fn(&At<'_>, &mut ErrorList), errors: &mut ErrorList| {
        let source = from.child(name);
        if source.is_set() {
            sources += 1;
            check(&source, errors);
        }
    };
    when("fieldRef", &|at, errors| field_ref(at, FIELDS, errors), errors);
    when("resourceFieldRef", &|at, errors| resource_ref(at, false, errors), errors);
    when("configMapKeyRef", &key_ref, errors);
    when("secretKeyRef", &key_ref, errors);
    when("fileKeyRef", &file_ref, errors);
    let told = |detail: &str| kedge_meta::field::Error::invalid(&from.path, "", detail);
    if sources == 0 {
        errors.push(told(
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
        ));
    } else if !variable.child("value").text().is_empty() {
        errors.push(told("may not be specified when `value` is not empty"));
    } else if sources > 1 {
        errors.push(told("may not have more than one field specified at a time"));
    }
}

fn key_ref(at: &At<'_>, errors: &mut ErrorList) {
    errors.need_text(&at.child("name"));
    errors.need_name(&at.child("key"), names::is_config_map_key);
}

fn file_ref(at: &At<'_>, errors: &mut ErrorList) {
    for field in ["volumeName", "path", "key"] {
        errors.need_text(&at.child(field));
    }
}

/// A field of the pod itself, possibly with a subscript.
pub(crate) fn field_ref(at: &At<'_>, valid: &[&str], errors: &mut ErrorList) {
    let field = at.child("fieldPath");
    if !errors.need_text(&at.child("apiVersion")) || !errors.need_text(&field) {
        return;
    }
    let text = field.text();
    let (path, subscript) = match text.strip_suffix("']").and_then(|rest| rest.split_once("['")) {
        Some((path, subscript)) => (path, Some(subscript)),
        None => (text, None),
    };
    if !KNOWN.contains(&path) {
        errors.push(field.invalid(format!("error converting fieldPath: field label not supported: {path}")));
        return;
    }
    match (path, subscript) {
        ("metadata.annotations", Some(key)) => errors.complaints(at, names::is_qualified_name(&key.to_lowercase())),
        ("metadata.labels", Some(key)) => errors.complaints(at, names::is_qualified_name(key)),
        (path, Some(_)) => {
            errors.push(kedge_meta::field::Error::invalid(&at.path, path, "does not support subscript"));
        }
        (path, None) if !valid.contains(&path) => errors.push(field.not_supported(valid)),
        _ => {}
    }
}

/// A request or limit of a container.
pub(crate) fn resource_ref(at: &At<'_>, in_volume: bool, errors: &mut ErrorList) {
    let resource = at.child("resource");
    let huge = |text: &str| text.starts_with("limits.hugepages-") || text.starts_with("requests.hugepages-");
    if in_volume && at.child("containerName").text().is_empty() {
        errors.push(at.child("containerName").required(""));
    } else if errors.need_text(&resource) && !RESOURCES.contains(&resource.text()) && !huge(resource.text()) {
        errors.push(resource.not_supported(RESOURCES));
    }
}

/// Whole config maps or secrets as variables.
pub(crate) fn sources(at: &At<'_>, errors: &mut ErrorList) {
    for source in at.items() {
        errors.name(&source.child("prefix"), env_name);
        let set: Vec<_> =
            ["configMapRef", "secretRef"].map(|name| source.child(name)).into_iter().filter(At::is_set).collect();
        set.iter().for_each(|reference| {
            errors.need_text(&reference.child("name"));
        });
        let told = |detail: &str| kedge_meta::field::Error::invalid(&at.path, "", detail);
        match set.len() {
            0 => errors.push(told("must specify one of: `configMapRef` or `secretRef`")),
            1 => {}
            _ => errors.push(told("may not have more than one field specified at a time")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_variable_has_one_source() {
        let object = json!({"env": [
            {"name": "A", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.labels['app']"}}},
            {"name": "", "valueFrom": {}},
            {"name": "B", "value": "x", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
            {"name": "C", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.phase"}}},
            {"name": "D", "valueFrom": {"resourceFieldRef": {"resource": "limits.x"}}}]});
        let mut errors = ErrorList::new();
        variables(&At::field(&object, "env"), &mut errors);
        let paths: Vec<_> =
            errors.iter().map(|error| error.to_string().split(": ").next().map(str::to_owned)).collect();
        let path = |text: &str| Some(text.to_owned());
        assert_eq!(
            paths,
            [
                path("env[1].name"),
                path("env[1].valueFrom"),
                path("env[2].valueFrom"),
                path("env[3].valueFrom.fieldRef.fieldPath"),
                path("env[4].valueFrom.resourceFieldRef.resource")
            ]
        );
    }
}
