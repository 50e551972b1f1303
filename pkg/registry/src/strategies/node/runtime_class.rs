//! Runtime classes.

use kedge_meta::field::ErrorList;
use kedge_meta::names;
use serde_json::Value;

use super::super::validation::{At, Report, resources, scheduling, selector};
use crate::strategy::{Context, Strategy};

pub(crate) struct RuntimeClass;

impl Strategy for RuntimeClass {
    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn validate(&self, _ctx: &Context<'_>, class: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let handler = At::field(class, "handler");
        errors.complaints(&handler, names::is_dns1123_label(handler.text()));
        let overhead = At::field(class, "overhead");
        // Judged as limits of a container, and called so.
        let limits = serde_json::json!({"limits": overhead.child("podFixed").value});
        resources::requirements(&At { value: &limits, path: overhead.path }, &[], &mut errors);
        let placement = At::field(class, "scheduling");
        selector::labels(&placement.child("nodeSelector"), &mut errors);
        scheduling::tolerations(&placement.child("tolerations"), &mut errors);
        errors
    }

    fn validate_update(&self, ctx: &Context<'_>, new: &Value, old: &Value) -> ErrorList {
        let mut errors = self.validate(ctx, new);
        errors.immutable(&At::field(new, "handler"), &At::field(old, "handler"));
        errors
    }
}
