//! Deployments.

use kedge_meta::field::ErrorList;
use serde_json::Value;

use super::super::validation::scalar::{at_most_all, number_or_percent, percent};
use super::super::validation::{At, Report, template};
use crate::strategy::{Context, Strategy};

pub(crate) struct Deployment;

impl Strategy for Deployment {
    fn counted_metadata(&self) -> &'static [&'static str] {
        &["annotations"]
    }

    fn validate(&self, _ctx: &Context<'_>, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let spec = At::field(object, "spec");
        errors.non_negative(&spec.child("replicas"));
        template::selected(&spec, "deployment", &mut errors);
        template::pod_template(&spec.child("template"), &mut errors);
        template::always_restarting(&spec, "ReplicaSet", &mut errors);
        strategy(&spec.child("strategy"), &mut errors);
        errors.non_negative(&spec.child("minReadySeconds"));
        errors.non_negative(&spec.child("revisionHistoryLimit"));
        let deadline = spec.child("progressDeadlineSeconds");
        errors.non_negative(&deadline);
        let ready = spec.child("minReadySeconds").int().unwrap_or_default();
        if deadline.int().is_some_and(|seconds| seconds <= ready) {
            errors.push(deadline.invalid("must be greater than minReadySeconds"));
        }
        errors
    }

    fn validate_update(&self, ctx: &Context<'_>, new: &Value, old: &Value) -> ErrorList {
        let mut errors = self.validate(ctx, new);
        let selector = |object| At::field(object, "spec").child("selector");
        errors.immutable(&selector(new), &selector(old));
        errors
    }

    fn validate_status_update(&self, _ctx: &Context<'_>, new: &Value, _old: &Value) -> ErrorList {
        counts(
            new,
            &[
                "observedGeneration",
                "replicas",
                "updatedReplicas",
                "readyReplicas",
                "availableReplicas",
                "unavailableReplicas",
            ],
            &[
                ("updatedReplicas", "replicas"),
                ("readyReplicas", "replicas"),
                ("availableReplicas", "replicas"),
                ("availableReplicas", "readyReplicas"),
            ],
        )
    }
}

/// Counts of a status: none negative, and none larger than the one it is a part of.
pub(super) fn counts(object: &Value, fields: &[&str], parts: &[(&str, &str)]) -> ErrorList {
    let mut errors = ErrorList::new();
    let status = At::field(object, "status");
    fields.iter().for_each(|field| errors.non_negative(&status.child(field)));
    for (part, whole) in parts {
        let count = |field: &str| status.child(field).int().unwrap_or_default();
        if count(part) > count(whole) {
            errors.push(status.child(part).invalid(match *whole {
                "replicas" => "cannot be greater than status.replicas",
                _ => "cannot be greater than readyReplicas",
            }));
        }
    }
    errors
}

fn strategy(at: &At<'_>, errors: &mut ErrorList) {
    let rolling = at.child("rollingUpdate");
    match at.child("type").text() {
        "Recreate" if rolling.is_set() => {
            errors.push(rolling.forbidden("may not be specified when strategy `type` is 'Recreate'"));
        }
        "Recreate" => {}
        "RollingUpdate" if !rolling.is_set() => {
            errors.push(rolling.required("this should be defaulted and never be nil"));
        }
        "RollingUpdate" => {
            let (unavailable, surge) = (rolling.child("maxUnavailable"), rolling.child("maxSurge"));
            number_or_percent(&unavailable, errors);
            number_or_percent(&surge, errors);
            if is_zero(&unavailable) && is_zero(&surge) {
                errors.push(unavailable.invalid("may not be 0 when `maxSurge` is 0"));
            }
            at_most_all(&unavailable, errors);
        }
        _ => errors.push(at.not_supported(&["Recreate", "RollingUpdate"])),
    }
}

/// Whether a number or percentage comes to nothing.
pub(super) fn is_zero(at: &At<'_>) -> bool {
    at.int().unwrap_or_default() == 0 && percent(at).unwrap_or_default() == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_rolling_update_moves() {
        let check = |object: Value| {
            let mut errors = ErrorList::new();
            strategy(&At::field(&object, "strategy"), &mut errors);
            errors.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let rolling = |unavailable: Value, surge: Value| json!({"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": unavailable, "maxSurge": surge}}});
        assert!(check(rolling(json!("25%"), json!(1))).is_empty());
        assert_eq!(
            check(rolling(json!(0), json!("0%"))),
            ["strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0"]
        );
        assert_eq!(
            check(rolling(json!("101%"), json!(0))),
            ["strategy.rollingUpdate.maxUnavailable: Invalid value: \"101%\": must not be greater than 100%"]
        );
        assert_eq!(check(json!({"strategy": {"type": "Recreate", "rollingUpdate": {}}})).len(), 1);
    }
}
