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
        validate(class)
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

fn validate(class: &Value) -> ErrorList {
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
            Some((name, _)) if class.flag(&["globalDefault"]) == Some(true) => {
                Some(format!("globalDefault of {name} PriorityClass must be false"))
            }
            Some(_) => None,
        };
        if let Some(detail) = detail {
            let detail =
                format!("priority class names with 'system-' prefix are reserved for system use only. error: {detail}");
            errors.push(Error::forbidden(&Path::new("metadata").child("name"), detail));
        }
    } else if number > HIGHEST {
        let detail = format!("maximum allowed value of a user defined priority is {HIGHEST}");
        errors.push(value.forbidden(detail));
    }
    errors.one_of(&At::field(class, "preemptionPolicy"), &["PreemptLowerPriority", "Never"]);
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_systems_names_are_for_the_systems_classes() {
        let said = |name: &str, value: i64, default: bool| {
            let class = json!({"metadata": {"name": name}, "value": value, "globalDefault": default});
            validate(&class).iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
        };
        assert_eq!(said("system-node-critical", 2_000_001_000, false), "");
        for (name, value, default, why) in [
            ("system-x", 1, false, "system-x is not a known system priority class"),
            ("system-node-critical", 1, false, "value of system-node-critical PriorityClass must be 2000001000"),
            (
                "system-cluster-critical",
                2_000_000_000,
                true,
                "globalDefault of system-cluster-critical PriorityClass must be false",
            ),
        ] {
            let reserved = "priority class names with 'system-' prefix are reserved for system use only. error: ";
            assert_eq!(said(name, value, default), format!("metadata.name: Forbidden: {reserved}{why}"));
        }
        assert!(said("mine", 2_000_000_000, false).starts_with("value: Forbidden: maximum allowed value"));
    }
}
