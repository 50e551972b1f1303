//! What an autoscaler measures, and what it aims at.

use kedge_meta::field::{Error, ErrorList};
use kedge_meta::names::{is_dns1123_label, is_path_segment_name};

use super::super::core::limit_range::of_container;
use super::super::validation::scalar::quantity;
use super::super::validation::{At, Report};

/// Types of metrics with the field that describes each, in the order in which upstream looks at them.
const SOURCES: [(&str, &str); 5] = [
    ("Object", "object"),
    ("External", "external"),
    ("Pods", "pods"),
    ("Resource", "resource"),
    ("ContainerResource", "containerResource"),
];
const TYPES: [&str; 5] = ["ContainerResource", "External", "Object", "Pods", "Resource"];

/// What is wrong with the version of what is referred to.
pub(super) fn version_fault(version: &str, may_be_core: bool) -> Option<String> {
    match version.matches('/').count() {
        0 if may_be_core => None,
        0 => Some("apiVersion must specify API group".into()),
        1 if version.starts_with('/') && !may_be_core => Some("apiVersion must specify API group".into()),
        1 => None,
        _ => Some(format!("unexpected GroupVersion string: {version}")),
    }
}

/// One metric; `versions` says that the version of an object is looked at.
pub(super) fn metric(at: &At<'_>, versions: bool, errors: &mut ErrorList) {
    let kind = at.child("type");
    if kind.text().is_empty() {
        errors.push(kind.required("must specify a metric source type"));
    }
    if !TYPES.contains(&kind.text()) {
        errors.push(Error::not_supported_of(&kind.path, kind.text(), &TYPES));
    }
    let present: Vec<At<'_>> = SOURCES.iter().map(|(_, field)| at.child(field)).filter(At::is_set).collect();
    // Of several only the first is looked at.
    if let Some((_, field)) = SOURCES.iter().find(|(_, field)| at.child(field).is_set()) {
        source(field, &at.child(field), versions, errors);
    }
    let expected = SOURCES.iter().find(|(name, _)| *name == kind.text()).map(|(_, field)| at.child(field));
    if let Some(expected) = expected.as_ref().filter(|expected| !expected.is_set()) {
        errors.push(expected.required("must populate information for the given metric source"));
    }
    if present.len() > 1 {
        let others = present.iter().filter(|one| expected.as_ref().is_none_or(|expected| expected.path != one.path));
        errors.extend(others.map(|other| other.forbidden("must populate the given metric source only")));
    }
}

fn source(field: &str, at: &At<'_>, versions: bool, errors: &mut ErrorList) {
    let aim = at.child("target");
    let [value, average, percent] = ["value", "averageValue", "averageUtilization"].map(|field| aim.child(field));
    match field {
        "object" => {
            let object = at.child("describedObject");
            errors.need_name(&object.child("kind"), is_path_segment_name);
            errors.need_name(&object.child("name"), is_path_segment_name);
            let version = object.child("apiVersion");
            if let Some(why) = version_fault(version.text(), true).filter(|_| versions) {
                errors.push(Error::invalid(&version.path, version.text(), why));
            }
            identifier(&at.child("metric"), errors);
            target(&aim, errors);
            if !value.is_set() && !average.is_set() {
                errors.push(average.required("must set either a target value or averageValue"));
            }
        }
        "external" => {
            identifier(&at.child("metric"), errors);
            target(&aim, errors);
            if !value.is_set() && !average.is_set() {
                errors.push(average.required("must set either a target value for metric or a per-pod target"));
            }
            if value.is_set() && average.is_set() {
                errors.push(value.forbidden("may not set both a target value for metric and a per-pod target"));
            }
        }
        "pods" => {
            identifier(&at.child("metric"), errors);
            target(&aim, errors);
            if !average.is_set() {
                errors.push(average.required("must specify a positive target averageValue"));
            }
        }
        _ => {
            resource(field, at, errors);
            target(&aim, errors);
            if !percent.is_set() && !average.is_set() {
                errors.push(percent.required("must set either a target raw value or a target utilization"));
            }
            if percent.is_set() && average.is_set() {
                errors.push(average.forbidden("may not set both a target raw value and a target utilization"));
            }
        }
    }
}

/// A resource of pods, or of one of their containers.
fn resource(field: &str, at: &At<'_>, errors: &mut ErrorList) {
    let (name, container) = (at.child("name"), at.child("container"));
    let of_one = field == "containerResource";
    match name.text() {
        "" => errors.push(name.required("must specify a resource name")),
        text if of_one => of_container(text, &name, errors),
        _ => {}
    }
    match container.text() {
        _ if !of_one => {}
        "" => errors.push(container.required("must specify a container")),
        text => errors.complaints(&container, is_dns1123_label(text)),
    }
}

fn identifier(at: &At<'_>, errors: &mut ErrorList) {
    let name = at.child("name");
    match name.text() {
        "" => errors.push(name.required("must specify a metric name")),
        text => errors.complaints(&name, is_path_segment_name(text)),
    }
}

fn target(at: &At<'_>, errors: &mut ErrorList) {
    let kind = at.child("type");
    if kind.text().is_empty() {
        errors.push(kind.required("must specify a metric target type"));
    }
    if !matches!(kind.text(), "Utilization" | "Value" | "AverageValue") {
        let why = "must be either Utilization, Value, or AverageValue";
        errors.push(Error::invalid(&kind.path, kind.text(), why));
    }
    for field in ["value", "averageValue"] {
        let amount = at.child(field);
        if quantity(&amount).is_some_and(|amount| amount.is_zero() || amount.is_negative()) {
            errors.push(amount.invalid("must be positive"));
        }
    }
    let utilization = at.child("averageUtilization");
    if utilization.int().is_some_and(|percent| percent < 1) {
        errors.push(utilization.invalid("must be greater than 0"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn said(of: Value) -> Vec<String> {
        let (object, mut errors) = (json!({ "m": of }), ErrorList::new());
        metric(&At::field(&object, "m"), true, &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_metric_is_what_it_says_it_is() {
        let cpu = json!({"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}});
        assert!(said(json!({"type": "Resource", "resource": cpu})).is_empty());
        let types = "supported values: \"ContainerResource\", \"External\", \"Object\", \"Pods\", \"Resource\"";
        assert_eq!(
            said(json!({})),
            [
                "m.type: Required value: must specify a metric source type".to_owned(),
                format!("m.type: Unsupported value: \"\": {types}")
            ]
        );
        assert_eq!(
            said(json!({"type": "Pods", "resource": cpu, "external": {}})),
            [
                "m.external.metric.name: Required value: must specify a metric name",
                "m.external.target.type: Required value: must specify a metric target type",
                "m.external.target.type: Invalid value: \"\": must be either Utilization, Value, or AverageValue",
                "m.external.target.averageValue: Required value: must set either a target value for metric or a per-pod target",
                "m.pods: Required value: must populate information for the given metric source",
                "m.external: Forbidden: must populate the given metric source only",
                "m.resource: Forbidden: must populate the given metric source only",
            ]
        );
    }

    #[test]
    fn targets_are_one_number() {
        let both = json!({"type": "Value", "value": "0", "averageValue": "1", "averageUtilization": 0});
        let of = |kind: &str, field: &str, mut source: Value| {
            source["target"] = both.clone();
            said(json!({"type": kind, field: source}))
        };
        let name = json!({"name": "m"});
        let low = [
            "target.value: Invalid value: \"0\": must be positive",
            "target.averageUtilization: Invalid value: 0: must be greater than 0",
        ];
        let at = |field: &str, more: &str| {
            low.iter().copied().chain([more]).map(|text| format!("m.{field}.{text}")).collect::<Vec<_>>()
        };
        assert_eq!(
            of("External", "external", json!({ "metric": name })),
            at("external", "target.value: Forbidden: may not set both a target value for metric and a per-pod target")
        );
        assert_eq!(
            of("ContainerResource", "containerResource", json!({"name": "cpu", "container": "c"})),
            at(
                "containerResource",
                "target.averageValue: Forbidden: may not set both a target raw value and a target utilization"
            )
        );
        let container = of("ContainerResource", "containerResource", json!({"name": "pods"}));
        assert_eq!(
            container[..2],
            [
                "m.containerResource.name: Invalid value: \"pods\": must be a standard resource for containers",
                "m.containerResource.container: Required value: must specify a container"
            ]
        );
    }

    #[test]
    fn objects_are_named() {
        let aim = json!({"type": "Value", "value": "1"});
        let of = |object: Value| {
            said(
                json!({"type": "Object", "object": {"describedObject": object, "metric": {"name": "m"}, "target": aim}}),
            )
        };
        assert!(of(json!({"kind": "Service", "name": "a"})).is_empty());
        assert_eq!(
            of(json!({"kind": "a/b", "apiVersion": "a/b/c"})),
            [
                "m.object.describedObject.kind: Invalid value: \"a/b\": may not contain '/'",
                "m.object.describedObject.name: Required value",
                "m.object.describedObject.apiVersion: Invalid value: \"a/b/c\": unexpected GroupVersion string: a/b/c",
            ]
        );
    }
}
