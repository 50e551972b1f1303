//! Priority classes.

use kedge_meta::field::{Error, ErrorList, Path};
use kedge_schema::ResourceInfo;
use serde_json::Value;

use super::super::validation::{At, Report};
use crate::strategy::{Context, Strategy};
use crate::value::ValueExt;

/// Above this is the system's own.
const HIGHEST: i64 = 1_000_000_000;
const SYSTEM: [(&str, i64); 2] = [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];

pub(crate) struct PriorityClass;

impl Strategy for PriorityClass {
    fn has_generation(&self, _: &ResourceInfo) -> bool {
        true
    }

    /// What counts cannot change.
    fn counts_changes(&self, _: &ResourceInfo) -> bool {
        false
    }

    fn validate(&self, _ctx: &Context<'_>, class: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let value = At::field(class, "value");
        let number = value.int().unwrap_or_default();
        if class.name().starts_with("system-") {
            let known = SYSTEM.iter().find(|(name, _)| *name == class.name());
            let detail = match known {
                None => Some(format!("{} is not a known system priority class", class.name())),
                Some((name, wanted)) if number != *wanted => {
                    Some(format!("value of {name} PriorityClass must be {wanted}"))
                }
                Some(_) => None,
            };
            if let Some(detail) = detail {
                let detail = format!(
                    "priority class names with 'system-' prefix are reserved for system use only. error: {detail}"
                );
                errors.push(Error::forbidden(&Path::new("metadata").child("name"), detail));
            }
        } else if number > HIGHEST {
            let detail = format!("maximum allowed value of a user defined priority is {HIGHEST}");
            errors.push(value.forbidden(detail));
        }
        errors.one_of(&At::field(class, "preemptionPolicy"), &["PreemptLowerPriority", "Never"]);
        errors
    }

    fn validate_update(&self, _ctx: &Context<'_>, new: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let value = At::field(new, "value");
        if value.value != At::field(old, "value").value {
            errors.push(value.forbidden("may not be changed in an update."));
        }
        errors.immutable(&At::field(new, "preemptionPolicy"), &At::field(old, "preemptionPolicy"));
        errors
    }
}
