//! What a pod is told that has to go, in upstream's words.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use kedge_meta::quantity::Quantity;

use super::plan::Threshold;
use super::rank::{Used, offenders};
use super::signals::{Observation, Signal};

/// The message.
pub(super) fn message(
    pod: &Pod,
    used: &Used<'_>,
    reclaimed: Signal,
    met: &[Threshold],
    seen: &BTreeMap<Signal, Observation>,
) -> String {
    let resource = reclaimed.resource();
    let mut text = format!("The node was low on resource: {resource}. ");
    let first = met.iter().find(|threshold| threshold.signal.resource() == resource);
    if let Some((threshold, seen)) = first.and_then(|threshold| Some((threshold, seen.get(&threshold.signal)?))) {
        let quantity = amount(threshold.quantity(seen.capacity), resource);
        text += &format!("Threshold quantity: {quantity}, available: {}. ", available(seen.available, resource));
    }
    for (name, used, request) in offenders(pod, used, resource) {
        let used = available(used, resource);
        text +=
            &format!("Container {name} was using {used}, request is {request}, has larger consumption of {resource}. ");
    }
    text
}

/// A limit as it was given.
fn amount(number: i64, resource: &str) -> String {
    if matches!(resource, "inodes" | "pids") { number.to_string() } else { Quantity::from_bytes(number).to_string() }
}

/// What was measured: the kernel counts in kilobytes.
fn available(number: i64, resource: &str) -> String {
    match resource {
        "inodes" | "pids" => number.to_string(),
        _ if number >= 1024 => format!("{}Ki", number / 1024),
        _ => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eviction::Limit;
    use crate::pod::testing::pod;
    use serde_json::json;

    #[test]
    fn the_words_are_upstreams() {
        let pod = pod(json!({"containers": [
            {"name": "greedy", "resources": {"requests": {"memory": "1Mi"}}},
            {"name": "modest", "resources": {"requests": {"memory": "1Gi"}}}]}));
        let memory = |name: &str| json!({"name": name, "memory": {"workingSetBytes": 3 << 20}});
        let stats = json!({"containers": [memory("greedy"), memory("modest")]});
        let signal = Signal::MemoryAvailable;
        let met = [Threshold { signal, limit: Limit::Amount(100 << 20), grace: None, reclaim: None }];
        let seen = BTreeMap::from([(signal, Observation { capacity: 1 << 30, available: 50_000 << 10 })]);
        assert_eq!(
            message(&pod, &Used { stats: Some(&stats), uncounted: false }, signal, &met, &seen),
            "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50000Ki. \
             Container greedy was using 3072Ki, request is 1Mi, has larger consumption of memory. "
        );
    }
}
