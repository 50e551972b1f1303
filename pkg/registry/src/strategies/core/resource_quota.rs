//! Resource quotas.

use kedge_meta::field::ErrorList;
use kedge_meta::names;
use kedge_schema::ResourceInfo;
use serde_json::Value;

use super::super::validation::{At, Report, scalar};
use crate::strategy::{Context, Strategy};

const SCOPES: &[&str] = &[
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
    "VolumeAttributesClass",
];

pub(crate) struct ResourceQuota;

impl Strategy for ResourceQuota {
    fn has_generation(&self, _: &ResourceInfo) -> bool {
        false
    }

    fn validate(&self, _ctx: &Context<'_>, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let spec = At::field(object, "spec");
        amounts(&spec.child("hard"), &mut errors);
        for scope in spec.child("scopes").items() {
            errors.one_of(&scope, SCOPES);
        }
        errors
    }

    fn validate_update(&self, ctx: &Context<'_>, new: &Value, old: &Value) -> ErrorList {
        let mut errors = self.validate(ctx, new);
        let (spec, was) = (At::field(new, "spec"), At::field(old, "spec"));
        errors.immutable(&spec.child("scopes"), &was.child("scopes"));
        errors
    }

    fn validate_status_update(&self, _ctx: &Context<'_>, new: &Value, _old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let status = At::field(new, "status");
        amounts(&status.child("hard"), &mut errors);
        amounts(&status.child("used"), &mut errors);
        errors
    }
}

fn amounts(at: &At<'_>, errors: &mut ErrorList) {
    for (name, amount) in at.entries() {
        for complaint in names::is_qualified_name(name) {
            errors.push(kedge_meta::field::Error::invalid(&amount.path, name, complaint));
        }
        scalar::non_negative_quantity(&amount, errors);
    }
}
