//! Pods: born pending, deleted gracefully.

use serde_json::{Value, json};

use crate::strategy::{Context, Strategy};
use crate::value::ValueExt;

pub(crate) struct Pod;

impl Strategy for Pod {
    fn prepare_for_create(&self, _ctx: &Context<'_>, pod: &mut Value) {
        let class = qos_class(pod);
        pod.set("status", json!({ "phase": "Pending", "qosClass": class }));
    }

    /// A pod that runs nowhere, or runs no more, goes at once.
    fn grace_period(&self, pod: &Value, requested: Option<i64>) -> Option<i64> {
        let unscheduled = pod.text(&["spec", "nodeName"]).is_empty();
        let finished = matches!(pod.text(&["status", "phase"]), "Failed" | "Succeeded");
        if unscheduled || finished {
            return Some(0);
        }
        let own = pod.int(&["spec", "terminationGracePeriodSeconds"]).unwrap_or(30);
        // A negative period means the shortest one, as upstream has it.
        let period = requested.unwrap_or(own);
        Some(if period < 0 { 1 } else { period })
    }
}

/// The class by which the node treats the pod when memory runs short.
fn qos_class(pod: &Value) -> &'static str {
    let (mut any, mut guaranteed) = (false, true);
    for container in pod.list(&["spec", "containers"]).iter().chain(pod.list(&["spec", "initContainers"])) {
        for resource in ["cpu", "memory"] {
            let request = container.text(&["resources", "requests", resource]);
            let limit = container.text(&["resources", "limits", resource]);
            let set = |text: &str| !text.is_empty() && text != "0";
            any |= set(request) || set(limit);
            guaranteed &= set(limit) && (request == limit || request.is_empty());
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}
