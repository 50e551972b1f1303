//! Replication controllers.

use kedge_meta::field::ErrorList;
use serde_json::Value;

use super::super::validation::{At, Report, template};
use crate::strategy::{Context, Strategy};

pub(crate) struct ReplicationController;

impl Strategy for ReplicationController {
    fn orphans_by_default(&self) -> bool {
        true
    }

    fn validate(&self, _ctx: &Context<'_>, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let spec = At::field(object, "spec");
        errors.non_negative(&spec.child("minReadySeconds"));
        let selector = spec.child("selector");
        if selector.len() == 0 {
            errors.push(selector.required(""));
        }
        errors.non_negative(&spec.child("replicas"));
        let pods = spec.child("template");
        if !pods.is_set() {
            errors.push(pods.required(""));
            return errors;
        }
        let labels = pods.child("metadata").child("labels");
        if selector.entries().any(|(key, value)| labels.child(key).value != value.value) {
            errors.push(labels.invalid("`selector` does not match template `labels`"));
        }
        template::pod_template(&pods, &mut errors);
        template::always_restarting(&spec, "ReplicationController", &mut errors);
        errors
    }
}
