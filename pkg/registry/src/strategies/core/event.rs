//! Events go by themselves after an hour.

use kedge_meta::field::{Error, ErrorList, Path};
use kedge_schema::ResourceInfo;
use kedge_storage::Durability;
use serde_json::Value;

use super::super::validation::{At, Report};
use crate::strategy::{Context, Strategy};
use crate::value::ValueExt;

const SECONDS: u64 = 3_600;
const DEFAULT_NAMESPACE: &str = "default";

pub(crate) struct Event;

impl Strategy for Event {
    fn has_generation(&self, _: &ResourceInfo) -> bool {
        false
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn validate(&self, ctx: &Context<'_>, event: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let new_form = ctx.resource.group == "events.k8s.io";
        // Upstream judges the stored form, so this is how the field is called in both versions.
        let about = if new_form { "regarding" } else { "involvedObject" };
        let object = event.text(&[about, "namespace"]);
        let namespace = event.namespace();
        // Components with a namespace of their own file events on what has none there.
        let fits = match object {
            "" => matches!(namespace, "" | DEFAULT_NAMESPACE | "kube-system"),
            object => object == namespace,
        };
        if !fits {
            let path = Path::new("involvedObject").child("namespace");
            errors.push(Error::invalid(&path, object, "does not match event.namespace"));
        }
        if new_form {
            series_form(event, &mut errors);
        }
        errors
    }

    /// Who updates an event counts it; the rules for new ones do not apply.
    fn validate_update(&self, _ctx: &Context<'_>, _new: &Value, _old: &Value) -> ErrorList {
        ErrorList::new()
    }

    fn time_to_live(&self) -> Option<u64> {
        Some(SECONDS)
    }

    fn durability(&self, _old: Option<&Value>, _new: Option<&Value>) -> Durability {
        Durability::Relaxed
    }
}

/// What `events.k8s.io/v1` demands of a new event.
fn series_form(event: &Value, errors: &mut ErrorList) {
    for field in ["eventTime", "reportingController", "reportingInstance", "action", "reason"] {
        errors.need_text(&At::field(event, field));
    }
    let kind = At::field(event, "type");
    if !matches!(kind.text(), "Normal" | "Warning") {
        errors.push(kind.invalid("has invalid value: must be Normal or Warning"));
    }
    if At::field(event, "note").text().len() > 1024 {
        errors.push(Error::invalid(&Path::new("message"), "", "can have at most 1024 characters"));
    }
}
