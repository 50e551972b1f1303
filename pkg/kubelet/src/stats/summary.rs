//! `/stats/summary`: upstream's document, with CPU and memory; [`super::complete`] adds the rest.

use serde_json::{Value, json};

use super::rates::CpuRates;
use super::{ContainerUsage, PodUsage, Snapshot, Usage};

/// What all use, and how much CPU at present.
pub(crate) fn summary(node: &str, snapshot: &Snapshot, rates: &CpuRates) -> Value {
    let mut own = json!({ "nodeName": node, "startTime": time(snapshot.started) });
    if let Some(usage) = &snapshot.node {
        put(&mut own, usage, rates.node());
    }
    let pods: Vec<Value> = snapshot.pods.iter().map(|one| pod(one, rates)).collect();
    json!({ "node": own, "pods": pods })
}

fn pod(pod: &PodUsage, rates: &CpuRates) -> Value {
    let containers: Vec<Value> = pod.containers.iter().map(|one| container(one, rates)).collect();
    let reference = json!({ "name": pod.name, "namespace": pod.namespace, "uid": pod.uid });
    let mut out = json!({ "podRef": reference, "startTime": time(pod.started), "containers": containers });
    if let Some(usage) = &pod.usage {
        put(&mut out, usage, rates.pod(&pod.uid));
    }
    out
}

fn container(container: &ContainerUsage, rates: &CpuRates) -> Value {
    let mut out = json!({ "name": container.name, "startTime": time(container.started) });
    put(&mut out, &container.usage, rates.container(&container.id));
    out
}

fn put(out: &mut Value, usage: &Usage, rate: Option<u64>) {
    let time = time(usage.time);
    out["cpu"] = json!({ "time": time, "usageCoreNanoSeconds": usage.cpu });
    if let Some(rate) = rate {
        out["cpu"]["usageNanoCores"] = json!(rate);
    }
    out["memory"] = json!({ "time": time, "workingSetBytes": usage.memory });
}

fn time(nanos: i64) -> String {
    let time = jiff::Timestamp::from_nanosecond(nanos.into()).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    kedge_base::time::rfc3339(time)
}

#[cfg(test)]
mod tests {
    use super::super::tests::snapshot;
    use super::*;

    #[test]
    fn what_is_not_known_is_left_out() {
        let second = 1_000_000_000;
        let all = summary("n", &snapshot(10 * second, 7, &[("c", 3 * second, 5)]), &CpuRates::default());
        assert_eq!(all["node"]["cpu"], json!({"time": "1970-01-01T00:00:10Z", "usageCoreNanoSeconds": 7}));
        let pod = &all["pods"][0];
        assert_eq!(pod["podRef"], json!({"name": "web", "namespace": "shop", "uid": "u"}));
        assert!(pod.get("cpu").is_none());
        assert_eq!(pod["containers"][0]["startTime"], "1970-01-01T00:00:03Z");
        assert_eq!(pod["containers"][0]["memory"]["workingSetBytes"], 8192);
    }
}
