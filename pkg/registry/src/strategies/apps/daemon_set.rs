//! Daemon sets. How often the template changed is counted in an annotation, as old clients expect.

use kedge_meta::field::ErrorList;
use kedge_schema::ResourceInfo;
use serde_json::{Value, json};

use super::super::validation::scalar::{at_most_all, number_or_percent};
use super::super::validation::{At, Report, selector, template};
use super::deployment::is_zero;
use crate::strategy::{Context, Strategy};
use crate::value::ValueExt;

const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

pub(crate) struct DaemonSet;

impl Strategy for DaemonSet {
    fn set_defaults(&self, resource: &ResourceInfo, object: &mut Value) {
        resource.schema.default(object);
        // Upstream makes the annotation of a field, so that whoever writes a daemon set owns it.
        if object.at(&["metadata", "annotations", TEMPLATE_GENERATION]).is_none() {
            count(object, 0);
        }
    }

    fn prepare_for_create(&self, _ctx: &Context<'_>, object: &mut Value) {
        count(object, 1);
    }

    fn prepare_for_update(&self, ctx: &Context<'_>, new: &mut Value, old: &Value) {
        if ctx.subresource == "status" {
            return;
        }
        let was: i64 = old.text(&["metadata", "annotations", TEMPLATE_GENERATION]).parse().unwrap_or(1);
        let changed = new.at(&["spec", "template"]) != old.at(&["spec", "template"]);
        count(new, if changed { was.saturating_add(1) } else { was });
    }

    fn validate(&self, _ctx: &Context<'_>, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let spec = At::field(object, "spec");
        let chosen = spec.child("selector");
        selector::label_selector(&chosen, &mut errors);
        let labels = spec.child("template").child("metadata").child("labels");
        if !selector::matches(chosen.value, labels.value.as_object()) {
            errors.push(labels.invalid("`selector` does not match template `labels`"));
        }
        if chosen.is_set() && selector::is_empty(&chosen) {
            errors.push(chosen.invalid("empty selector is invalid for daemonset"));
        }
        template::pod_template(&spec.child("template"), &mut errors);
        template::always_restarting(&spec, "DaemonSet", &mut errors);
        errors.non_negative(&spec.child("minReadySeconds"));
        update_strategy(&spec.child("updateStrategy"), &mut errors);
        errors.non_negative(&spec.child("revisionHistoryLimit"));
        errors
    }

    fn validate_update(&self, ctx: &Context<'_>, new: &Value, old: &Value) -> ErrorList {
        let chosen = |object| At::field(object, "spec").child("selector");
        let mut errors = ErrorList::new();
        errors.immutable(&chosen(new), &chosen(old));
        errors.extend(self.validate(ctx, new));
        errors
    }

    fn validate_status_update(&self, _ctx: &Context<'_>, new: &Value, _old: &Value) -> ErrorList {
        let fields = [
            "currentNumberScheduled",
            "numberMisscheduled",
            "desiredNumberScheduled",
            "numberReady",
            "observedGeneration",
            "updatedNumberScheduled",
            "numberAvailable",
            "numberUnavailable",
        ];
        super::deployment::counts(new, &fields, &[])
    }
}

fn count(object: &mut Value, generation: i64) {
    let annotations = object.entry("metadata").entry("annotations").or_insert_with(|| json!({}));
    if annotations.is_null() {
        *annotations = json!({});
    }
    annotations.set(TEMPLATE_GENERATION, generation.to_string());
}

fn update_strategy(at: &At<'_>, errors: &mut ErrorList) {
    let rolling = at.child("rollingUpdate");
    match at.child("type").text() {
        "OnDelete" => {}
        "RollingUpdate" if !rolling.is_set() => errors.push(rolling.required("")),
        "RollingUpdate" => {
            let (unavailable, surge) = (rolling.child("maxUnavailable"), rolling.child("maxSurge"));
            number_or_percent(&unavailable, errors);
            number_or_percent(&surge, errors);
            at_most_all(&unavailable, errors);
            at_most_all(&surge, errors);
            match (is_zero(&unavailable), is_zero(&surge)) {
                (false, false) => errors.push(surge.invalid("may not be set when maxUnavailable is non-zero")),
                (true, true) => errors.push(unavailable.required("cannot be 0 when maxSurge is 0")),
                _ => {}
            }
        }
        // Upstream shows the strategy as a whole.
        _ => errors.push(at.not_supported(&["RollingUpdate", "OnDelete"])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_surge_or_less() {
        let check = |unavailable: Value, surge: Value| {
            let object = json!({"s": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": unavailable, "maxSurge": surge}}});
            let mut errors = ErrorList::new();
            update_strategy(&At::field(&object, "s"), &mut errors);
            errors.len()
        };
        assert_eq!((check(json!(1), json!(0)), check(json!(0), json!("10%"))), (0, 0));
        assert_eq!((check(json!(1), json!(1)), check(json!(0), json!(0))), (1, 1));
    }
}
