//! What a kubelet may report of a pod.

use kedge_meta::field::ErrorList;
use kedge_meta::names;
use serde_json::Value;

use super::super::validation::{At, Report, container, scalar};
use crate::value::ValueExt;

/// Writers that know nothing of `observedGeneration` do not take back what others have observed.
pub(super) fn keep_observed_generation(new: &mut Value, old: &Value) {
    const FIELD: &str = "observedGeneration";
    let unknown = |value: &Value| value.int(&[FIELD]).unwrap_or_default() == 0;
    if let Some(status) = new.get_mut("status").filter(|status| unknown(status)) {
        status.set_or_remove(FIELD, old.at(&["status", FIELD]).cloned());
    }
    // One type may occur more than once; its conditions are taken in their order.
    let mut before: Vec<&Value> = old.list(&["status", "conditions"]).iter().collect();
    let conditions = new.get_mut("status").and_then(|status| status.get_mut("conditions"));
    for condition in conditions.and_then(Value::as_array_mut).into_iter().flatten() {
        let same = before.iter().position(|other| other.text(&["type"]) == condition.text(&["type"]));
        let was = same.map(|at| before.remove(at));
        if unknown(condition) {
            condition.set_or_remove(FIELD, was.and_then(|was| was.get(FIELD)).cloned());
        }
    }
}

/// A change of status.
pub(super) fn validate(new: &Value, old: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let (status, was) = (At::field(new, "status"), At::field(old, "status"));
    for condition in status.child("conditions").items() {
        let kind = condition.child("type");
        if kind.text().contains('/') {
            errors.complaints(&kind, names::is_qualified_name(kind.text()));
        }
    }
    let nominated = status.child("nominatedNodeName");
    if nominated.value != was.child("nominatedNodeName").value {
        errors.name(&nominated, names::is_dns1123_subdomain);
        let bound = !At::field(old, "spec").child("nodeName").text().is_empty();
        if bound && !nominated.text().is_empty() {
            errors.push(nominated.forbidden("may not be set on pods that are already bound to a node"));
        }
    }
    if status.child("observedGeneration").int().is_some_and(|generation| generation < 0) {
        errors.push(status.child("observedGeneration").invalid("must be a non-negative integer"));
    }
    errors.immutable(&status.child("qosClass"), &was.child("qosClass"));
    let spec = At::field(old, "spec");
    for (list, specs) in
        [("containerStatuses", spec.child("containers")), ("initContainerStatuses", spec.child("initContainers"))]
    {
        transitions(&status.child(list), &was.child(list), &specs, spec.child("restartPolicy").text(), &mut errors);
    }
    let ips = status.child("podIPs");
    for ip in ips.items() {
        scalar::ip(&At { value: ip.child("ip").value, path: ip.path.clone() }, &mut errors);
    }
    let families = |v6: bool| ips.items().filter(|ip| ip.child("ip").text().contains(':') == v6).count();
    if families(true) > 1 || families(false) > 1 {
        errors.push(ips.invalid("may specify no more than one IP for each IP family"));
    }
    errors
}

/// A container that ended for good does not run again.
fn transitions(now: &At<'_>, was: &At<'_>, specs: &At<'_>, policy: &str, errors: &mut ErrorList) {
    for (at, old) in was.items().enumerate() {
        let ended = old.child("state").child("terminated");
        let name = old.child("name").text();
        let Some(new) = now.items().find(|status| status.child("name").text() == name) else { continue };
        if !ended.is_set() || new.child("state").child("terminated").is_set() {
            continue;
        }
        let spec = specs.items().find(|spec| spec.child("name").text() == name);
        let own = spec.as_ref().map(|spec| spec.child("restartPolicy"));
        let rules = spec.as_ref().is_some_and(|spec| spec.child("restartPolicyRules").len() > 0);
        let sidecar = spec.as_ref().is_some_and(|spec| container::is_sidecar(spec.value));
        let policy = own.filter(At::is_set).map_or(policy, |own| own.text());
        let failed = ended.child("exitCode").int().unwrap_or_default() != 0;
        // Init containers of a pod whose policy is Always are retried as on failure.
        if sidecar || rules || policy == "Always" || (policy == "OnFailure" && failed) {
            continue;
        }
        let path = now.path.index(at).child("state");
        let detail = "may not be transitioned to non-terminated state";
        errors.push(kedge_meta::field::Error::forbidden(&path, detail));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_was_observed_stays_known() {
        let old = json!({"status": {"observedGeneration": 3, "conditions": [{"type": "A", "observedGeneration": 2},
            {"type": "B", "observedGeneration": 1}]}});
        let mut new =
            json!({"status": {"conditions": [{"type": "B"}, {"type": "A", "observedGeneration": 3}, {"type": "C"}]}});
        keep_observed_generation(&mut new, &old);
        let conditions =
            json!([{"type": "B", "observedGeneration": 1}, {"type": "A", "observedGeneration": 3}, {"type": "C"}]);
        assert_eq!(new, json!({"status": {"observedGeneration": 3, "conditions": conditions}}));
    }

    #[test]
    fn what_has_ended_stays_ended() {
        let pod = |policy: &str, state: Value| {
            json!({"spec": {"restartPolicy": policy, "containers": [{"name": "c"}]},
                "status": {"qosClass": "Burstable", "containerStatuses": [{"name": "c", "state": state}]}})
        };
        let ended = |code: i64| json!({"terminated": {"exitCode": code}});
        let running = json!({"running": {}});
        let check = |policy: &str, code| validate(&pod(policy, running.clone()), &pod(policy, ended(code))).len();
        assert_eq!((check("Never", 1), check("OnFailure", 0)), (1, 1));
        assert_eq!((check("OnFailure", 1), check("Always", 0)), (0, 0));
    }
}
