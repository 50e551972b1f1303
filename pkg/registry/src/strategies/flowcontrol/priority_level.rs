//! Priority levels.

use kedge_meta::field::ErrorList;
use serde_json::{Value, json};

use super::super::validation::{At, Report};
use crate::strategy::{Context, Strategy};
use crate::value::ValueExt as _;

const MAX_QUEUES: i64 = 10_000_000;
/// Of a hash.
const MAX_BITS: i64 = 60;
/// The levels that must always be there.
const EXEMPT: &str = "exempt";
const CATCH_ALL: &str = "catch-all";

pub(crate) struct PriorityLevel;

impl Strategy for PriorityLevel {
    fn validate(&self, _ctx: &Context<'_>, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let spec = At::field(object, "spec");
        let (limited, exempt) = (spec.child("limited"), spec.child("exempt"));
        let (name, kind) = (object.name(), spec.child("type"));
        if (name == EXEMPT) != (kind.text() == "Exempt") {
            errors.push(kind.invalid("must be 'Exempt' if and only if `name` is 'exempt'"));
        }
        errors.need_one_of(&kind, &["Exempt", "Limited"]);
        match kind.text() {
            "Exempt" if limited.is_set() => {
                errors.push(limited.forbidden("must be nil if the type is not Limited"));
            }
            "Limited" if exempt.is_set() => errors.push(exempt.forbidden("must be nil if the type is Limited")),
            "Limited" if !limited.is_set() => errors.push(limited.required("must not be empty when type is Limited")),
            "Limited" => {
                shares(&limited, &mut errors);
                response(&limited, &mut errors);
                percent(&limited, &mut errors);
                let borrowed = limited.child("borrowingLimitPercent");
                if borrowed.int().is_some_and(|percent| percent < 0) {
                    errors.push(borrowed.invalid("if specified, must be a non-negative integer"));
                }
            }
            "Exempt" if exempt.is_set() => {
                shares(&exempt, &mut errors);
                percent(&exempt, &mut errors);
            }
            _ => {}
        }
        fixed(name, &spec, &object["spec"], &mut errors);
        errors
    }
}

/// What levels that must always be there say. How much of itself the one of those who are exempt lends is free.
fn fixed(name: &str, at: &At<'_>, spec: &Value, errors: &mut ErrorList) {
    let is_fixed = match name {
        EXEMPT => spec["type"] == "Exempt" && spec["limited"].is_null(),
        CATCH_ALL => {
            *spec
                == json!({
                    "type": "Limited",
                    "limited": {
                        "nominalConcurrencyShares": 5, "limitResponse": {"type": "Reject"}, "lendablePercent": 0,
                    },
                })
        }
        _ => return,
    };
    if !is_fixed {
        let but = if name == EXEMPT { " except the 'spec.exempt' field" } else { "" };
        errors.push(at.invalid(format!("spec of '{name}'{but} must equal the fixed value")));
    }
}

fn shares(level: &At<'_>, errors: &mut ErrorList) {
    let shares = level.child("nominalConcurrencyShares");
    if shares.int().is_some_and(|count| count < 0) {
        errors.push(shares.invalid("must be a non-negative integer"));
    }
}

fn percent(level: &At<'_>, errors: &mut ErrorList) {
    let lendable = level.child("lendablePercent");
    if lendable.int().is_some_and(|percent| !(0..=100).contains(&percent)) {
        errors.push(lendable.invalid("must be between 0 and 100, inclusive"));
    }
}

/// As upstream estimates them: what picking a hand of queues takes of a hash.
fn entropy_bits(queues: i64, hand: i64) -> i64 {
    ((queues as f64).log2() * hand as f64).ceil() as i64
}

fn response(limited: &At<'_>, errors: &mut ErrorList) {
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
            } else if number("handSize") > 0 && entropy_bits(number("queues"), number("handSize")) > MAX_BITS {
                let (queues, hand) = (number("queues"), number("handSize"));
                errors.push(queuing.child("handSize").invalid(format!(
                    "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {MAX_BITS}"
                )));
            }
        }
        _ => {}
    }
}
