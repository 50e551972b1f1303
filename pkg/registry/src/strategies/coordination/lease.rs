//! Leases.

use kedge_meta::field::ErrorList;
use kedge_storage::Durability;
use serde_json::Value;

use super::super::validation::At;
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

    fn prepare_for_create(&self, _ctx: &Context<'_>, lease: &mut Value) {
        drop_coordination(lease);
    }

    fn prepare_for_update(&self, _ctx: &Context<'_>, new: &mut Value, _old: &Value) {
        drop_coordination(new);
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
        errors
    }

    /// A renewal is soon followed by the next one. Whatever else changes (who holds it, above all) decides something.
    fn durability(&self, old: Option<&Value>, new: Option<&Value>) -> Durability {
        match (old, new) {
            (Some(old), Some(new)) if without_renewal(old) == without_renewal(new) => Durability::Deferred,
            _ => Durability::Synced,
        }
    }
}

/// Coordinated election is off, as upstream has it: its fields are dropped.
fn drop_coordination(lease: &mut Value) {
    for field in ["strategy", "preferredHolder"] {
        lease["spec"].set_or_remove(field, None);
    }
}

/// The lease without what a renewal changes.
fn without_renewal(lease: &Value) -> Value {
    let mut rest = lease.clone();
    rest["spec"].set_or_remove("renewTime", None);
    for field in ["managedFields", "resourceVersion"] {
        rest["metadata"].set_or_remove(field, None);
    }
    rest
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_a_renewal_may_be_lost() {
        let lease = |holder: &str, renewed: &str, version: &str| {
            json!({"metadata": {"name": "l", "resourceVersion": version},
                "spec": {"holderIdentity": holder, "leaseDurationSeconds": 40, "renewTime": renewed}})
        };
        let held = lease("a", "2026-01-01T00:00:00.000000Z", "1");
        let renewed = lease("a", "2026-01-01T00:00:10.000000Z", "2");
        let taken = lease("b", "2026-01-01T00:00:10.000000Z", "2");
        assert_eq!(Lease.durability(Some(&held), Some(&renewed)), Durability::Deferred);
        for (old, new) in [(Some(&held), Some(&taken)), (None, Some(&held)), (Some(&held), None)] {
            assert_eq!(Lease.durability(old, new), Durability::Synced, "{old:?} {new:?}");
        }
    }
}
