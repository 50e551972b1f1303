//! Flow schemas.

use kedge_meta::field::ErrorList;
use kedge_meta::names;
use serde_json::Value;

use super::super::validation::{At, Report};
use crate::strategy::{Context, Strategy};

const MAX_PRECEDENCE: i64 = 10_000;

pub(crate) struct FlowSchema;

impl Strategy for FlowSchema {
    fn validate(&self, _ctx: &Context<'_>, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let spec = At::field(object, "spec");
        let precedence = spec.child("matchingPrecedence");
        match precedence.int().unwrap_or_default() {
            number if number <= 0 => errors.push(precedence.invalid("must be a positive value")),
            number if number > MAX_PRECEDENCE => {
                errors.push(precedence.invalid(format!("must not be greater than {MAX_PRECEDENCE}")));
            }
            _ => {}
        }
        errors.one_of(&spec.child("distinguisherMethod").child("type"), &["ByNamespace", "ByUser"]);
        let level = spec.child("priorityLevelConfiguration").child("name");
        if level.text().is_empty() {
            errors.push(level.required("must reference a priority level"));
        }
        errors.name(&level, names::is_dns1123_subdomain);
        for rule in spec.child("rules").items() {
            if rule.child("subjects").len() == 0 {
                errors.push(rule.child("subjects").required("subjects must contain at least one value"));
            }
            for subject in rule.child("subjects").items() {
                errors.need_one_of(&subject.child("kind"), &["Group", "ServiceAccount", "User"]);
            }
            if rule.child("resourceRules").len() + rule.child("nonResourceRules").len() == 0 {
                errors.push(rule.required("at least one of resourceRules and nonResourceRules has to be non-empty"));
            }
        }
        errors
    }
}
