//! Leases.

use kedge_meta::field::ErrorList;
use serde_json::Value;

use super::super::validation::{At, Report};
use crate::strategy::{Context, Strategy};

pub(crate) struct Lease;

impl Strategy for Lease {
    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn validate(&self, _ctx: &Context<'_>, lease: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let spec = At::field(lease, "spec");
        let seconds = spec.child("leaseDurationSeconds");
        if seconds.int().is_some_and(|seconds| seconds <= 0) {
            errors.push(seconds.invalid("must be greater than 0"));
        }
        let count = spec.child("leaseTransitions");
        if count.int().is_some_and(|count| count < 0) {
            errors.push(count.invalid("must be greater than or equal to 0"));
        }
        let strategy = spec.child("strategy");
        if strategy.is_set() && !strategy.text().contains('.') {
            errors.one_of(&strategy, &["OldestEmulationVersion"]);
        }
        let preferred = spec.child("preferredHolder");
        if !preferred.text().is_empty() && strategy.text().is_empty() {
            errors.push(preferred.forbidden("may only be specified when `strategy` is defined"));
        }
        errors
    }
}
