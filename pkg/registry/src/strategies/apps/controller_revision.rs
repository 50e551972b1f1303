//! Controller revisions: their data never changes.

use kedge_meta::field::ErrorList;
use serde_json::Value;

use super::super::validation::{At, Report};
use crate::strategy::{Context, Strategy};

pub(crate) struct ControllerRevision;

impl Strategy for ControllerRevision {
    fn validate(&self, _ctx: &Context<'_>, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let data = At::field(object, "data");
        if !data.is_set() {
            errors.push(data.required("data is mandatory"));
        }
        errors.non_negative(&At::field(object, "revision"));
        errors
    }

    fn validate_update(&self, ctx: &Context<'_>, new: &Value, old: &Value) -> ErrorList {
        let mut errors = self.validate(ctx, new);
        errors.immutable(&At::field(new, "data"), &At::field(old, "data"));
        errors
    }
}
