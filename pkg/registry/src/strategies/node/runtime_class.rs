//! Runtime classes.

use kedge_meta::field::ErrorList;
use kedge_meta::names;
use serde_json::Value;

use super::super::validation::{At, Report, scalar, scheduling, selector};
use crate::strategy::{Context, Strategy};

pub(crate) struct RuntimeClass;

impl Strategy for RuntimeClass {
    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn validate(&self, _ctx: &Context<'_>, class: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let handler = At::field(class, "handler");
        errors.complaints(&handler, names::is_dns1123_label(handler.text()));
        for (_, amount) in At::field(class, "overhead").child("podFixed").entries() {
            scalar::non_negative_quantity(&amount, &mut errors);
        }
        let placement = At::field(class, "scheduling");
        selector::labels(&placement.child("nodeSelector"), &mut errors);
        scheduling::tolerations(&placement.child("tolerations"), &mut errors);
        errors
    }

    fn validate_update(&self, _ctx: &Context<'_>, new: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        errors.immutable(&At::field(new, "handler"), &At::field(old, "handler"));
        errors
    }
}
