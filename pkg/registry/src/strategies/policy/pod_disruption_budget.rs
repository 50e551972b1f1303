//! Pod disruption budgets.

use kedge_meta::field::ErrorList;
use kedge_meta::names;
use serde_json::Value;

use super::super::validation::scalar::{at_most_all, number_or_percent};
use super::super::validation::selector::label_selector;
use super::super::validation::{At, Report};
use crate::strategy::{Context, Strategy};

pub(crate) struct PodDisruptionBudget;

impl Strategy for PodDisruptionBudget {
    fn validate_name(&self, name: &str, _prefix: bool) -> Vec<String> {
        names::is_path_segment_name(name)
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn validate(&self, _ctx: &Context<'_>, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let spec = At::field(object, "spec");
        let limits = ["minAvailable", "maxUnavailable"].map(|field| spec.child(field));
        if limits.iter().all(At::is_set) {
            errors.push(spec.invalid("minAvailable and maxUnavailable cannot be both set"));
        }
        for limit in limits.iter().filter(|limit| limit.is_set()) {
            number_or_percent(limit, &mut errors);
            at_most_all(limit, &mut errors);
        }
        label_selector(&spec.child("selector"), &mut errors);
        errors.one_of(&spec.child("unhealthyPodEvictionPolicy"), &["AlwaysAllow", "IfHealthyBudget"]);
        errors
    }

    fn validate_status_update(&self, _ctx: &Context<'_>, new: &Value, _old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let status = At::field(new, "status");
        for field in ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"] {
            errors.non_negative(&status.child(field));
        }
        errors
    }
}
