//! Replica sets.

use kedge_meta::field::ErrorList;
use serde_json::Value;

use super::super::validation::{At, Report, template};
use super::deployment::counts;
use crate::strategy::{Context, Strategy};

pub(crate) struct ReplicaSet;

impl Strategy for ReplicaSet {
    fn validate(&self, _ctx: &Context<'_>, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let spec = At::field(object, "spec");
        errors.non_negative(&spec.child("replicas"));
        errors.non_negative(&spec.child("minReadySeconds"));
        // Upstream says deployment here too.
        template::selected(&spec, "deployment", &mut errors);
        template::pod_template(&spec.child("template"), &mut errors);
        template::always_restarting(&spec, "ReplicaSet", &mut errors);
        errors
    }

    fn validate_update(&self, ctx: &Context<'_>, new: &Value, old: &Value) -> ErrorList {
        let mut errors = self.validate(ctx, new);
        let selector = |object| At::field(object, "spec").child("selector");
        errors.immutable(&selector(new), &selector(old));
        errors
    }

    fn validate_status_update(&self, _ctx: &Context<'_>, new: &Value, _old: &Value) -> ErrorList {
        counts(
            new,
            &["replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas", "observedGeneration"],
            &[
                ("fullyLabeledReplicas", "replicas"),
                ("readyReplicas", "replicas"),
                ("availableReplicas", "replicas"),
                ("availableReplicas", "readyReplicas"),
            ],
        )
    }
}
