//! `/stats/summary`: what node, pods and containers use, for the metrics API.

use std::collections::BTreeMap;

use http::StatusCode;
use kedge_base::time;
use kedge_cri::v1;
use serde_json::{Value, json};

use super::Server;
use super::reply::{self, Reply};
use crate::cgroups::{self, KUBEPODS};
use crate::runtime::labels;

/// The summary, with CPU and memory.
pub(super) async fn summary(server: &Server) -> Reply {
    let kubelet = &server.kubelet;
    let stats = match kubelet.runtime.list_container_stats().await {
        Ok(stats) => stats,
        Err(error) => return reply::text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    };
    let now = time::rfc3339(kubelet.clock.now());
    let mut pods: BTreeMap<String, (Value, Vec<Value>)> = BTreeMap::new();
    for one in &stats {
        let Some(attributes) = &one.attributes else { continue };
        // One that has ended uses nothing.
        if one.cpu.is_none() && one.memory.is_none() {
            continue;
        }
        let label = |key: &str| attributes.labels.get(key).cloned();
        let Some(uid) = label(labels::POD_UID) else { continue };
        let reference = json!({"name": label(labels::POD_NAME), "namespace": label(labels::POD_NAMESPACE), "uid": uid});
        let name = label(labels::CONTAINER_NAME).unwrap_or_default();
        pods.entry(uid).or_insert_with(|| (reference, Vec::new())).1.push(container(&name, one, &now));
    }
    let groups: BTreeMap<String, String> = match &kubelet.cgroups {
        Some(cgroups) => cgroups::pods(cgroups.as_ref()).into_iter().collect(),
        None => BTreeMap::new(),
    };
    let usage = |path: &str| kubelet.cgroups.as_ref().and_then(|c| c.usage(path));
    let pods: Vec<Value> = pods
        .into_iter()
        .map(|(uid, (reference, containers))| {
            let mut pod = json!({"podRef": reference, "startTime": now, "containers": containers});
            if let Some((memory, cpu)) = groups.get(&uid).and_then(|path| usage(path)) {
                pod["cpu"] = json!({"time": now, "usageCoreNanoSeconds": cpu});
                pod["memory"] = json!({"time": now, "workingSetBytes": memory});
            }
            pod
        })
        .collect();
    let mut node = json!({"nodeName": kubelet.config.node_name, "startTime": now});
    if let Some((memory, cpu)) = usage("/").or_else(|| usage(KUBEPODS)) {
        node["cpu"] = json!({"time": now, "usageCoreNanoSeconds": cpu});
        node["memory"] = json!({"time": now, "workingSetBytes": memory});
    }
    reply::json(json!({"node": node, "pods": pods}).to_string())
}

fn container(name: &str, stats: &v1::ContainerStats, now: &str) -> Value {
    let cpu = stats.cpu.as_ref().and_then(|c| c.usage_core_nano_seconds.as_ref()).map(|v| v.value);
    let rate = stats.cpu.as_ref().and_then(|c| c.usage_nano_cores.as_ref()).map(|v| v.value);
    let memory = stats.memory.as_ref().and_then(|m| m.working_set_bytes.as_ref()).map(|v| v.value);
    let mut out = json!({
        "name": name,
        "startTime": now,
        "cpu": {"time": now, "usageCoreNanoSeconds": cpu},
        "memory": {"time": now, "workingSetBytes": memory},
    });
    if let Some(rate) = rate {
        out["cpu"]["usageNanoCores"] = json!(rate);
    }
    out
}
