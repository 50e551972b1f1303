//! Workloads.

use super::Hook::{self, After, Before};
use super::object::{Object, children, if_absent, if_empty, is_empty, make, text};
use serde_json::Value;

pub(super) const HOOKS: &[Hook] = &[
    Before("api.apps.v1.Deployment", deployment),
    Before("api.apps.v1.DaemonSet", daemon_set),
    Before("api.apps.v1.StatefulSet", stateful_set),
    After("api.apps.v1.StatefulSetSpec", claim_templates),
    Before("api.apps.v1.ReplicaSet", replica_set),
];

fn rolling_update(spec: &mut Object, strategy: &str, unavailable: impl Into<Value>, surge: impl Into<Value>) {
    let Some(strategy) = make(spec, strategy) else { return };
    if_empty(strategy, "type", "RollingUpdate");
    if text(strategy, "type") == "RollingUpdate"
        && let Some(update) = make(strategy, "rollingUpdate")
    {
        if_absent(update, "maxUnavailable", unavailable);
        if_absent(update, "maxSurge", surge);
    }
}

fn deployment(object: &mut Object) {
    let Some(spec) = make(object, "spec") else { return };
    if_absent(spec, "replicas", 1);
    rolling_update(spec, "strategy", "25%", "25%");
    if_absent(spec, "revisionHistoryLimit", 10);
    if_absent(spec, "progressDeadlineSeconds", 600);
}

fn daemon_set(object: &mut Object) {
    let Some(spec) = make(object, "spec") else { return };
    rolling_update(spec, "updateStrategy", 1, 0);
    if_absent(spec, "revisionHistoryLimit", 10);
}

fn stateful_set(object: &mut Object) {
    let Some(spec) = make(object, "spec") else { return };
    if_empty(spec, "podManagementPolicy", "OrderedReady");
    if let Some(strategy) = make(spec, "updateStrategy") {
        if is_empty(strategy, "type") {
            strategy.insert("type".into(), "RollingUpdate".into());
            make(strategy, "rollingUpdate");
        }
        if text(strategy, "type") == "RollingUpdate"
            && let Some(update) = super::object::child(strategy, "rollingUpdate")
        {
            if_absent(update, "partition", 0);
        }
    }
    if let Some(policy) = make(spec, "persistentVolumeClaimRetentionPolicy") {
        if_empty(policy, "whenDeleted", "Retain");
        if_empty(policy, "whenScaled", "Retain");
    }
    if_absent(spec, "replicas", 1);
    if_absent(spec, "revisionHistoryLimit", 10);
}

/// Claims inside a template carry their kind.
fn claim_templates(spec: &mut Object) {
    for claim in children(spec, "volumeClaimTemplates") {
        claim.insert("apiVersion".into(), "v1".into());
        claim.insert("kind".into(), "PersistentVolumeClaim".into());
    }
}

fn replica_set(object: &mut Object) {
    if let Some(spec) = make(object, "spec") {
        if_absent(spec, "replicas", 1);
    }
}

#[cfg(test)]
mod tests {
    use super::super::apply;
    use serde_json::{Value, json};

    fn spec(kind: &str, spec: Value) -> Value {
        let mut value = json!({"spec": spec});
        apply("apps", "v1", kind, &mut value);
        value["spec"].take()
    }

    #[test]
    fn a_deployment_rolls() {
        assert_eq!(
            spec("Deployment", json!({"strategy": {}})),
            json!({"replicas": 1, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600, "strategy":
                {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}}})
        );
        let recreate = spec("Deployment", json!({"replicas": 0, "strategy": {"type": "Recreate"}}));
        assert_eq!((&recreate["replicas"], &recreate["strategy"]), (&json!(0), &json!({"type": "Recreate"})));
    }

    #[test]
    fn a_stateful_set_keeps_its_claims() {
        let set = spec("StatefulSet", json!({"volumeClaimTemplates": [{"metadata": {"name": "d"}}]}));
        assert_eq!(
            set["persistentVolumeClaimRetentionPolicy"],
            json!({"whenDeleted": "Retain", "whenScaled": "Retain"})
        );
        assert_eq!(set["updateStrategy"], json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}));
        assert_eq!(set["volumeClaimTemplates"][0]["kind"], "PersistentVolumeClaim");
        assert_eq!(set["volumeClaimTemplates"][0]["status"]["phase"], "Pending");
        let given = spec("StatefulSet", json!({"updateStrategy": {"type": "RollingUpdate"}}));
        assert_eq!(given["updateStrategy"], json!({"type": "RollingUpdate"}));
    }

    #[test]
    fn a_daemon_set_surges_by_nothing() {
        let update = spec("DaemonSet", json!({}))["updateStrategy"].take();
        assert_eq!(update, json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}}));
    }
}
