//! Disruption budgets: whether an eviction is allowed now, and that it is counted.

use std::sync::Arc;

use kedge_base::time;
use kedge_meta::{GroupResource, Reason, Status, StatusCause, StatusDetails, labels};
use kedge_storage::Matcher;
use serde_json::{Value, json};

use crate::convert;
use crate::ownership::Writer;
use crate::registry::Registry;
use crate::served::Served;
use crate::value::ValueExt as _;
use crate::value::set_condition;
use crate::verbs::{self, Request, UpdateOptions};

/// Evictions that the budget's controller has not confirmed yet, at most.
const MAX_DISRUPTED: usize = 2_000;
const REFUSAL: &str = "Cannot evict pod as it would violate the pod's disruption budget.";

/// What a budget does about the eviction of a pod.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Guard {
    /// It must allow the disruption, and counts it.
    Stands,
    /// The pod is not healthy and does not count.
    Yields,
}

/// Whether the pod has ended, or is about to.
pub(super) fn is_over(pod: &Value) -> bool {
    let deleted = !pod.text(&["metadata", "deletionTimestamp"]).is_empty();
    deleted || matches!(pod.text(&["status", "phase"]), "Succeeded" | "Failed")
}

/// Whether no budget counts the pod: it disrupts nothing when it goes.
pub(super) fn may_be_ignored(pod: &Value) -> bool {
    is_over(pod) || pod.text(&["status", "phase"]) == "Pending"
}

/// The budgets' resource.
fn served(registry: &Registry) -> Result<&Arc<Served>, Status> {
    registry.builtin("policy", "v1", "poddisruptionbudgets").ok_or_else(Status::unknown_path)
}

/// The budget of a pod, if there is one.
///
/// # Errors
/// 500 when there are several.
pub(super) fn of(registry: &Registry, pod: &Value) -> Result<Option<Value>, Status> {
    let served = served(registry)?;
    let scope = served.scope(pod.namespace());
    let all = served.store.list(&scope, &Matcher::default(), 0).map_err(verbs::store_failure)?;
    let mut found = None;
    for (_, object) in all.objects {
        let budget = convert::read(served, &object)?;
        if !selects(&budget, pod) {
            continue;
        }
        if found.is_some() {
            // Upstream puts this into an answer whose head says 201; its body says 500.
            let message =
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
            return Err(Status::failure(500, Reason::Unknown, message));
        }
        found = Some(budget);
    }
    Ok(found)
}

/// A selector that is none selects nothing.
fn selects(budget: &Value, pod: &Value) -> bool {
    let Some(selector) = budget.at(&["spec", "selector"]).filter(|selector| !selector.is_null()) else { return false };
    let labels = pod.map(&["metadata", "labels"]);
    let label = |key: &str| labels.and_then(|l| l.get(key)).and_then(Value::as_str);
    labels::Selector::from_label_selector(selector).is_ok_and(|selector| selector.matches_with(label))
}

/// What a budget does about a pod.
pub(super) fn guard(budget: &Value, pod: &Value) -> Guard {
    let ready = |c: &Value| c.text(&["type"]) == "Ready" && c.text(&["status"]) == "True";
    if pod.list(&["status", "conditions"]).iter().any(ready) {
        return Guard::Stands;
    }
    let count = |field: &str| budget.int(&["status", field]).unwrap_or_default();
    let (current, desired) = (count("currentHealthy"), count("desiredHealthy"));
    let always = budget.text(&["spec", "unhealthyPodEvictionPolicy"]) == "AlwaysAllow";
    if always || (current >= desired && desired > 0) { Guard::Yields } else { Guard::Stands }
}

/// Takes one of the disruptions that a budget allows, and notes the pod of the eviction for its controller.
///
/// # Errors
/// 429 when none is allowed.
pub(super) async fn take(eviction: &Request<'_>, budget: &Value) -> Result<(), Status> {
    let request = Request {
        served: served(eviction.registry)?,
        namespace: budget.namespace(),
        name: budget.name(),
        subresource: "status",
        // As upstream, whose server asks itself: what an eviction takes is not the one's who evicts.
        writer: Writer::Manager("kube-apiserver".into()),
        ..eviction.clone()
    };
    let now = time::rfc3339(eviction.registry.clock.now());
    // Done again on the newest version whenever somebody else was first: two evictions never take the same one.
    let transform = |old: Option<&Value>| decremented(old.cloned().unwrap_or_default(), eviction.name, &now);
    verbs::update(&request, &transform, UpdateOptions::default()).await.map(drop)
}

fn decremented(mut budget: Value, pod: &str, now: &str) -> Result<Value, Status> {
    let count = |field: &str| budget.int(&["status", field]).unwrap_or_default();
    let observed = count("observedGeneration");
    if observed < budget.int(&["metadata", "generation"]).unwrap_or_default() {
        return Err(not_now(budget.name()));
    }
    let forbidden =
        |why: &str| Err(Status::forbidden(&GroupResource::new("policy", "poddisruptionbudget"), budget.name(), why));
    let allowed = count("disruptionsAllowed");
    if allowed < 0 {
        return forbidden("pdb disruptions allowed is negative");
    }
    if budget.map(&["status", "disruptedPods"]).is_some_and(|pods| pods.len() > MAX_DISRUPTED) {
        return forbidden("DisruptedPods map too big - too many evictions not confirmed by PDB controller");
    }
    if allowed == 0 {
        return Err(refused(&why(&budget), 0));
    }
    let status = budget.entry("status");
    status.insert("disruptionsAllowed".into(), (allowed - 1).into());
    if let Value::Object(pods) = status.entry("disruptedPods").or_insert_with(|| json!({})) {
        pods.insert(pod.to_owned(), now.into());
    }
    if allowed == 1 {
        set_exhausted(&mut budget, observed, now);
    }
    Ok(budget)
}

/// Why a budget allows nothing.
fn why(budget: &Value) -> String {
    let name = budget.name();
    let count = |field: &str| budget.int(&["status", field]).unwrap_or_default();
    let (current, desired) = (count("currentHealthy"), count("desiredHealthy"));
    let conditions = budget.list(&["status", "conditions"]);
    let condition = conditions.iter().find(|c| c.text(&["type"]) == "DisruptionAllowed");
    let condition = condition.filter(|c| c.text(&["status"]) == "False" && !c.text(&["message"]).is_empty());
    let said = condition.map(|c| (c.text(&["reason"]), c.text(&["message"])));
    match said {
        Some(("SyncFailed", message)) => format!(
            "The disruption budget {name} does not allow evicting pods currently because it failed sync: {message}"
        ),
        _ if current <= desired => {
            format!("The disruption budget {name} needs {desired} healthy pods and has {current} currently")
        }
        Some((reason, message)) => {
            format!("The disruption budget {name} does not allow evicting pods currently ({reason}): {message}")
        }
        None => format!("The disruption budget {name} does not allow evicting pods currently"),
    }
}

/// 429: the budget's controller has not caught up.
pub(super) fn not_now(name: &str) -> Status {
    refused(&format!("The disruption budget {name} is still being processed by the server."), 10)
}

fn refused(why: &str, retry_after_seconds: i32) -> Status {
    let cause = StatusCause { reason: "DisruptionBudget".into(), message: why.to_owned(), ..StatusCause::default() };
    let mut status = Status::too_many_requests(REFUSAL, retry_after_seconds);
    status.details =
        Some(Box::new(StatusDetails { retry_after_seconds, causes: vec![cause], ..StatusDetails::default() }));
    status
}

/// The condition of a budget that has just been used up, as its controller would set it.
fn set_exhausted(budget: &mut Value, observed: i64, now: &str) {
    let condition = json!({"type": "DisruptionAllowed", "status": "False", "reason": "InsufficientPods", "message": "",
        "observedGeneration": observed});
    set_condition(budget, condition, now);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn budget(status: Value) -> Value {
        json!({"metadata": {"name": "b", "namespace": "a", "generation": 2}, "spec": {"selector": {}}, "status": status})
    }

    #[test]
    fn a_disruption_is_taken_once_and_noted() {
        let one =
            budget(json!({"observedGeneration": 2, "disruptionsAllowed": 1, "currentHealthy": 2, "desiredHealthy": 1}));
        let taken = decremented(one, "p", "2026-01-01T00:00:00Z").unwrap();
        let status = &taken["status"];
        assert_eq!(
            (&status["disruptionsAllowed"], &status["disruptedPods"]),
            (&json!(0), &json!({"p": "2026-01-01T00:00:00Z"}))
        );
        assert_eq!(
            (&status["conditions"][0]["status"], &status["conditions"][0]["reason"]),
            (&json!("False"), &json!("InsufficientPods"))
        );
        assert_eq!(decremented(taken, "q", "").unwrap_err().code, 429);
    }

    #[test]
    fn refusals_say_why_and_when_to_come_back() {
        for (status, retry, said) in [
            (
                json!({"observedGeneration": 1, "disruptionsAllowed": 1}),
                10,
                "The disruption budget b is still being processed by the server.",
            ),
            (
                json!({"observedGeneration": 2, "currentHealthy": 2, "desiredHealthy": 2}),
                0,
                "The disruption budget b needs 2 healthy pods and has 2 currently",
            ),
            (
                json!({"observedGeneration": 2, "currentHealthy": 3, "desiredHealthy": 2}),
                0,
                "The disruption budget b does not allow evicting pods currently",
            ),
            (
                json!({"observedGeneration": 2, "conditions": [{"type": "DisruptionAllowed", "status": "False", "reason": "SyncFailed", "message": "m"}]}),
                0,
                "The disruption budget b does not allow evicting pods currently because it failed sync: m",
            ),
        ] {
            let refused = decremented(budget(status), "p", "").unwrap_err();
            assert_eq!((refused.code, refused.message.as_str()), (429, REFUSAL));
            let details = refused.details.unwrap();
            assert_eq!((details.retry_after_seconds, details.causes[0].reason.as_str()), (retry, "DisruptionBudget"));
            assert_eq!(details.causes[0].message, said);
        }
        let negative =
            decremented(budget(json!({"observedGeneration": 2, "disruptionsAllowed": -1})), "p", "").unwrap_err();
        assert_eq!(negative.code, 403);
    }

    #[test]
    fn a_pod_that_is_not_ready_does_not_count() {
        let pod =
            |ready: &str| json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]}});
        let met = budget(json!({"currentHealthy": 2, "desiredHealthy": 2}));
        let unmet = budget(json!({"currentHealthy": 1, "desiredHealthy": 2}));
        assert_eq!(guard(&met, &pod("True")), Guard::Stands);
        assert_eq!((guard(&met, &pod("False")), guard(&unmet, &pod("False"))), (Guard::Yields, Guard::Stands));
        let mut always = unmet.clone();
        always["spec"]["unhealthyPodEvictionPolicy"] = "AlwaysAllow".into();
        assert_eq!((guard(&always, &pod("False")), guard(&always, &pod("True"))), (Guard::Yields, Guard::Stands));
        let nothing_wanted = budget(json!({"currentHealthy": 0, "desiredHealthy": 0}));
        assert_eq!(guard(&nothing_wanted, &pod("False")), Guard::Stands);
        assert!(may_be_ignored(&json!({"status": {"phase": "Pending"}})) && !may_be_ignored(&pod("False")));
    }

    #[test]
    fn a_budget_without_a_selector_selects_nothing() {
        let pod = json!({"metadata": {"labels": {"a": "b"}}});
        assert!(selects(&budget(json!({})), &pod));
        assert!(!selects(&json!({"spec": {}}), &pod));
    }
}
