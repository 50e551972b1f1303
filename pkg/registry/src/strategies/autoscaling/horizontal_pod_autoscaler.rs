//! Horizontal pod autoscalers, in both of their versions.

use kedge_meta::field::{Error, ErrorList, Path};
use kedge_meta::names;
use kedge_schema::ResourceInfo;
use serde_json::Value;

use super::super::validation::scalar::{POSITIVE, quantity};
use super::super::validation::{At, Report};
use super::metrics::{metric, version_fault};
use crate::strategy::{Context, Strategy};
use crate::value::ValueExt;

const MAX_PERIOD: i64 = 1800;
const MAX_WINDOW: i64 = 3600;
/// What the older version does not know of metrics is in here.
const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";

pub(crate) struct HorizontalPodAutoscaler;

impl Strategy for HorizontalPodAutoscaler {
    fn has_generation(&self, _: &ResourceInfo) -> bool {
        false
    }

    fn validate(&self, _ctx: &Context<'_>, object: &Value) -> ErrorList {
        validate(object, None)
    }

    fn validate_update(&self, _ctx: &Context<'_>, new: &Value, old: &Value) -> ErrorList {
        validate(new, Some(old))
    }

    fn validate_status_update(&self, _ctx: &Context<'_>, new: &Value, _old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        for field in ["currentReplicas", "desiredReplicas"] {
            errors.non_negative(&At::field(new, "status").child(field));
        }
        errors
    }
}

fn validate(object: &Value, old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::new();
    let spec = At::field(object, "spec");
    let (least, most) = (spec.child("minReplicas"), spec.child("maxReplicas"));
    // Who could go down to nothing may still.
    let lowest = if old.and_then(|old| old.int(&["spec", "minReplicas"])) == Some(0) { 0 } else { 1 };
    if least.int().is_some_and(|count| count < lowest) {
        errors.push(least.invalid(format!("must be greater than or equal to {lowest}")));
    }
    match most.int().unwrap_or_default() {
        0 => errors.push(most.required("must be set and greater than 0")),
        count if count < 0 => errors.push(most.invalid("must be greater than or equal to 1")),
        _ => {}
    }
    if least.int().is_some_and(|count| most.int().unwrap_or_default() < count) {
        let shown = most.int().unwrap_or_default();
        errors.push(Error::invalid(&most.path, shown, "must be greater than or equal to `minReplicas`"));
    }
    target(&spec.child("scaleTargetRef"), old, &mut errors);
    let cpu = spec.child("targetCPUUtilizationPercentage");
    if cpu.int().is_some_and(|percent| percent < 1) {
        // It is the first metric of the version that is stored.
        let path = Path::new("spec").child("metrics").index(0).child("resource").child("target");
        let at = At { value: cpu.value, path: path.child("averageUtilization") };
        errors.push(at.invalid("must be greater than 0"));
    }
    let metrics = spec.child("metrics");
    let was_wrong = old.is_some_and(|old| old.list(&["spec", "metrics"]).iter().any(describes_none));
    metrics.items().for_each(|at| metric(&at, !was_wrong, &mut errors));
    if least.int() == Some(0) && !scales_from_nothing(object) {
        let why = "must specify at least one Object or External metric to support scaling to zero replicas";
        errors.push(metrics.forbidden(why));
    }
    for direction in ["scaleUp", "scaleDown"] {
        scaling(&spec.child("behavior").child(direction), &mut errors);
    }
    errors
}

/// What is scaled. Its version is looked at when it is another.
fn target(at: &At<'_>, old: Option<&Value>, errors: &mut ErrorList) {
    let (kind, version) = (at.child("kind"), at.child("apiVersion"));
    errors.need_name(&kind, names::is_path_segment_name);
    errors.need_name(&at.child("name"), names::is_path_segment_name);
    let was = |field: &str| old.map(|old| old.text(&["spec", "scaleTargetRef", field]));
    if was("kind") == Some(kind.text()) && was("apiVersion") == Some(version.text()) {
        return;
    }
    if let Some(why) = version_fault(version.text(), kind.text() == "ReplicationController") {
        errors.push(Error::invalid(&version.path, version.text(), why));
    }
}

/// Whether a stored metric is about an object of a version that is none.
fn describes_none(metric: &Value) -> bool {
    metric.text(&["type"]) == "Object"
        && metric.get("object").is_some()
        && version_fault(metric.text(&["object", "describedObject", "apiVersion"]), true).is_some()
}

/// Whether there is a metric where there are no pods.
fn scales_from_nothing(object: &Value) -> bool {
    let more = object.text(&["metadata", "annotations", METRICS]);
    let more: Vec<Value> = serde_json::from_str(more).unwrap_or_default();
    let metrics = object.list(&["spec", "metrics"]).iter().chain(&more);
    metrics.into_iter().any(|metric| matches!(metric.text(&["type"]), "Object" | "External"))
}

fn scaling(at: &At<'_>, errors: &mut ErrorList) {
    if !at.is_set() {
        return;
    }
    let window = at.child("stabilizationWindowSeconds");
    if window.int().is_some_and(|seconds| seconds < 0) {
        errors.push(window.invalid("must be greater than or equal to zero"));
    }
    if window.int().is_some_and(|seconds| seconds > MAX_WINDOW) {
        errors.push(window.invalid(format!("must be less than or equal to {MAX_WINDOW}")));
    }
    errors.one_of(&at.child("selectPolicy"), &["Disabled", "Max", "Min"]);
    let policies = at.child("policies");
    if policies.len() == 0 {
        errors.push(policies.required("must specify at least one Policy"));
    }
    for policy in policies.items() {
        let kind = policy.child("type");
        if !matches!(kind.text(), "Percent" | "Pods") {
            errors.push(Error::not_supported_of(&kind.path, kind.text(), &["Percent", "Pods"]));
        }
        for field in ["value", "periodSeconds"] {
            let number = policy.child(field);
            if number.int().unwrap_or_default() <= 0 {
                errors.push(Error::invalid(&number.path, number.int().unwrap_or_default(), POSITIVE));
            }
        }
        let period = policy.child("periodSeconds");
        if period.int().is_some_and(|seconds| seconds > MAX_PERIOD) {
            errors.push(period.invalid(format!("must be less than or equal to {MAX_PERIOD}")));
        }
    }
    let tolerance = at.child("tolerance");
    if quantity(&tolerance).is_some_and(|amount| amount.is_negative()) {
        errors.push(tolerance.invalid("must be greater than or equal to 0"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(fields: Value) -> Value {
        let target = json!({"kind": "Deployment", "name": "web", "apiVersion": "apps/v1"});
        let mut spec = json!({"maxReplicas": 5, "scaleTargetRef": target});
        for (name, value) in fields.as_object().into_iter().flatten() {
            spec.set(name, value.clone());
        }
        json!({ "spec": spec })
    }

    fn said(fields: Value) -> Vec<String> {
        validate(&object(fields), None).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn nothing_is_scaled_to_nothing_without_a_metric_for_it() {
        assert_eq!(
            said(json!({"minReplicas": 0})),
            [
                "spec.minReplicas: Invalid value: 0: must be greater than or equal to 1",
                "spec.metrics: Forbidden: must specify at least one Object or External metric to support scaling to zero replicas"
            ]
        );
        let external = json!([{"type": "External", "external": {"metric": {"name": "m"}, "target": {"type": "Value", "value": "1"}}}]);
        let old = object(json!({"minReplicas": 0, "metrics": external}));
        assert!(validate(&old, Some(&old)).is_empty(), "what was stored with nothing may go on");
        assert_eq!(
            said(json!({"maxReplicas": -1}))[0],
            "spec.maxReplicas: Invalid value: -1: must be greater than or equal to 1"
        );
        let mut v1 = object(json!({"minReplicas": 0}));
        v1.set("metadata", json!({"annotations": {METRICS: "[{\"type\":\"Object\"}]"}}));
        assert_eq!(validate(&v1, None).len(), 1);
    }

    #[test]
    fn what_is_scaled_is_of_a_group() {
        let of = |kind: &str, version: &str| {
            said(json!({"scaleTargetRef": {"kind": kind, "name": "a", "apiVersion": version}}))
        };
        assert!(of("ReplicationController", "v1").is_empty());
        assert_eq!(
            of("Pod", "v1"),
            ["spec.scaleTargetRef.apiVersion: Invalid value: \"v1\": apiVersion must specify API group"]
        );
        assert_eq!(
            of("Pod", "a/b/c"),
            ["spec.scaleTargetRef.apiVersion: Invalid value: \"a/b/c\": unexpected GroupVersion string: a/b/c"]
        );
        let stored = object(json!({"scaleTargetRef": {"kind": "Pod", "name": "a"}}));
        assert!(validate(&stored, Some(&stored)).is_empty());
    }

    #[test]
    fn policies_say_how_fast() {
        let texts = said(
            json!({"behavior": {"scaleUp": {"selectPolicy": "Max", "tolerance": "-1"}, "scaleDown": {"policies": [{}]}}}),
        );
        assert_eq!(
            texts,
            [
                "spec.behavior.scaleUp.policies: Required value: must specify at least one Policy",
                "spec.behavior.scaleUp.tolerance: Invalid value: \"-1\": must be greater than or equal to 0",
                "spec.behavior.scaleDown.policies[0].type: Unsupported value: \"\": supported values: \"Percent\", \"Pods\"",
                "spec.behavior.scaleDown.policies[0].value: Invalid value: 0: must be greater than zero",
                "spec.behavior.scaleDown.policies[0].periodSeconds: Invalid value: 0: must be greater than zero",
            ]
        );
    }
}
