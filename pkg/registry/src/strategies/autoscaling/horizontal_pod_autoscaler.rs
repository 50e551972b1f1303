//! Horizontal pod autoscalers, in both of their versions.

use kedge_meta::field::{Error, ErrorList, Path};
use kedge_meta::names;
use kedge_schema::ResourceInfo;
use serde_json::Value;

use super::super::validation::scalar::{POSITIVE, quantity};
use super::super::validation::{At, Report};
use crate::strategy::{Context, Strategy};

const MAX_PERIOD: i64 = 1800;
const MAX_WINDOW: i64 = 3600;

pub(crate) struct HorizontalPodAutoscaler;

impl Strategy for HorizontalPodAutoscaler {
    fn has_generation(&self, _: &ResourceInfo) -> bool {
        false
    }

    fn validate(&self, _ctx: &Context<'_>, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let spec = At::field(object, "spec");
        let (least, most) = (spec.child("minReplicas"), spec.child("maxReplicas"));
        if least.int().is_some_and(|count| count < 1) {
            errors.push(least.invalid("must be greater than or equal to 1"));
        }
        if most.int().unwrap_or_default() < 1 {
            errors.push(most.required("must be set and greater than 0"));
        }
        if least.int().is_some_and(|count| most.int().unwrap_or_default() < count) {
            errors.push(most.invalid("must be greater than or equal to `minReplicas`"));
        }
        let target = spec.child("scaleTargetRef");
        errors.need_name(&target.child("kind"), names::is_path_segment_name);
        errors.need_name(&target.child("name"), names::is_path_segment_name);
        let cpu = spec.child("targetCPUUtilizationPercentage");
        if cpu.int().is_some_and(|percent| percent < 1) {
            // It is the first metric of the version that is stored.
            let path = Path::new("spec").child("metrics").index(0).child("resource").child("target");
            let at = At { value: cpu.value, path: path.child("averageUtilization") };
            errors.push(at.invalid("must be greater than 0"));
        }
        spec.child("metrics").items().for_each(|at| metric(&at, &mut errors));
        for direction in ["scaleUp", "scaleDown"] {
            scaling(&spec.child("behavior").child(direction), &mut errors);
        }
        errors
    }

    fn validate_status_update(&self, _ctx: &Context<'_>, new: &Value, _old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        for field in ["currentReplicas", "desiredReplicas"] {
            errors.non_negative(&At::field(new, "status").child(field));
        }
        errors
    }
}

fn metric(at: &At<'_>, errors: &mut ErrorList) {
    const SOURCES: [(&str, &str); 5] = [
        ("ContainerResource", "containerResource"),
        ("External", "external"),
        ("Object", "object"),
        ("Pods", "pods"),
        ("Resource", "resource"),
    ];
    let kind = at.child("type");
    if !errors.need_text(&kind) {
        return;
    }
    let Some((_, field)) = SOURCES.iter().find(|(name, _)| *name == kind.text()) else {
        errors.push(kind.not_supported(&SOURCES.map(|(name, _)| name)));
        return;
    };
    for (_, other) in SOURCES.iter().filter(|(_, other)| other != field) {
        if at.child(other).is_set() {
            let detail = "must populate the given metric source only";
            errors.push(at.child(other).forbidden(detail));
        }
    }
    let source = at.child(field);
    if !source.is_set() {
        errors.push(source.required("must populate information for the given metric source"));
        return;
    }
    match *field {
        "resource" | "containerResource" => {
            errors.need_text(&source.child("name"));
        }
        _ => {
            errors.need_text(&source.child("metric").child("name"));
        }
    }
    let wanted = source.child("target");
    target(&wanted, errors);
    if matches!(*field, "resource" | "containerResource") {
        let (raw, relative) = (wanted.child("averageValue"), wanted.child("averageUtilization"));
        if !raw.is_set() && !relative.is_set() {
            errors.push(relative.required("must set either a target raw value or a target utilization"));
        }
    }
}

fn target(at: &At<'_>, errors: &mut ErrorList) {
    errors.need_one_of(&at.child("type"), &["AverageValue", "Utilization", "Value"]);
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
        errors.one_of(&policy.child("type"), &["Percent", "Pods"]);
        for field in ["value", "periodSeconds"] {
            let number = policy.child(field);
            if number.int().unwrap_or_default() <= 0 {
                errors.push(Error::invalid(&number.path, number.value, POSITIVE));
            }
        }
        let period = policy.child("periodSeconds");
        if period.int().is_some_and(|seconds| seconds > MAX_PERIOD) {
            errors.push(period.invalid(format!("must be less than or equal to {MAX_PERIOD}")));
        }
    }
}
