//! Leases.

use kedge_meta::field::{Error, ErrorList, Path};
use serde_json::Value;

use crate::strategy::{Context, Strategy};
use crate::value::ValueExt;

pub(crate) struct Lease;

impl Strategy for Lease {
    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn validate(&self, _ctx: &Context<'_>, lease: &Value) -> ErrorList {
        let spec = Path::new("spec");
        let mut errors = ErrorList::new();
        if let Some(seconds) = lease.int(&["spec", "leaseDurationSeconds"]).filter(|s| *s <= 0) {
            errors.push(Error::invalid(&spec.child("leaseDurationSeconds"), seconds, "must be greater than 0"));
        }
        if let Some(count) = lease.int(&["spec", "leaseTransitions"]).filter(|t| *t < 0) {
            errors.push(Error::invalid(&spec.child("leaseTransitions"), count, "must be greater than or equal to 0"));
        }
        errors
    }
}
