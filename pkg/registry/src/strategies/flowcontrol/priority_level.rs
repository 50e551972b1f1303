//! Priority levels.

use kedge_meta::field::ErrorList;
use serde_json::Value;

use super::super::validation::{At, Report};
use crate::strategy::{Context, Strategy};

const MAX_QUEUES: i64 = 10_000_000;

pub(crate) struct PriorityLevel;

impl Strategy for PriorityLevel {
    fn validate(&self, _ctx: &Context<'_>, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let spec = At::field(object, "spec");
        let (limited, exempt) = (spec.child("limited"), spec.child("exempt"));
        errors.need_one_of(&spec.child("type"), &["Exempt", "Limited"]);
        match spec.child("type").text() {
            "Exempt" if limited.is_set() => {
                errors.push(limited.forbidden("must be nil if the type is not Limited"));
            }
            "Limited" if exempt.is_set() => errors.push(exempt.forbidden("must be nil if the type is Limited")),
            "Limited" if !limited.is_set() => errors.push(limited.required("must not be empty when type is Limited")),
            "Limited" => response(&limited, &mut errors),
            _ => {}
        }
        errors
    }
}

fn response(limited: &At<'_>, errors: &mut ErrorList) {
    let shares = limited.child("nominalConcurrencyShares");
    if shares.int().is_some_and(|count| count < 0) {
        errors.push(shares.invalid("must be a non-negative integer"));
    }
    let answer = limited.child("limitResponse");
    errors.need_one_of(&answer.child("type"), &["Queue", "Reject"]);
    let queuing = answer.child("queuing");
    match answer.child("type").text() {
        "Reject" if queuing.is_set() => {
            errors.push(queuing.forbidden("must be nil if limited.limitResponse.type is not Limited"))
        }
        "Queue" if !queuing.is_set() => {
            errors.push(queuing.required("must not be empty if limited.limitResponse.type is Limited"));
        }
        "Queue" => {
            let number = |field: &str| queuing.child(field).int().unwrap_or_default();
            for field in ["queueLengthLimit", "queues", "handSize"] {
                if number(field) <= 0 {
                    errors.push(queuing.child(field).invalid("must be positive"));
                }
            }
            if number("queues") > MAX_QUEUES {
                errors.push(queuing.child("queues").invalid(format!("must not be greater than {MAX_QUEUES}")));
            }
            if number("handSize") > number("queues") {
                let detail = format!("should not be greater than queues ({})", number("queues"));
                errors.push(queuing.child("handSize").invalid(detail));
            }
        }
        _ => {}
    }
}
