//! `/stats/summary`: what node, pods and containers use, for the metrics API.

use std::collections::BTreeMap;
use std::path::Path;

use http::StatusCode;
use kedge_base::time;
use kedge_cri::v1;
use serde_json::{Value, json};

use super::Server;
use super::reply::{self, Reply};
use crate::cgroups::{self, Cgroups, KUBEPODS};
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
    let groups = kubelet.cgroups.clone();
    let read = move || groups.map(|groups| Usage::read(groups.as_ref())).unwrap_or_default();
    let used = match kubelet.files.of_node("stats", "read", Path::new(KUBEPODS), read).await {
        Ok(used) => used,
        Err(error) => return reply::text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    };
    let pods: Vec<Value> = pods
        .into_iter()
        .map(|(uid, (reference, containers))| {
            let mut pod = json!({"podRef": reference, "startTime": now, "containers": containers});
            if let Some((memory, cpu)) = used.pods.get(&uid) {
                pod["cpu"] = json!({"time": now, "usageCoreNanoSeconds": cpu});
                pod["memory"] = json!({"time": now, "workingSetBytes": memory});
            }
            pod
        })
        .collect();
    let mut node = json!({"nodeName": kubelet.config.node_name, "startTime": now});
    if let Some((memory, cpu)) = used.node {
        node["cpu"] = json!({"time": now, "usageCoreNanoSeconds": cpu});
        node["memory"] = json!({"time": now, "workingSetBytes": memory});
    }
    reply::json(json!({"node": node, "pods": pods}).to_string())
}

/// What groups use: (memory, CPU time).
#[derive(Default)]
struct Usage {
    /// By the pod's uid.
    pods: BTreeMap<String, (u64, u64)>,
    node: Option<(u64, u64)>,
}

impl Usage {
    fn read(cgroups: &dyn Cgroups) -> Usage {
        let pods = cgroups::pods(cgroups);
        let pods = pods.into_iter().filter_map(|(uid, path)| Some((uid, cgroups.usage(&path)?))).collect();
        Usage { pods, node: cgroups.usage("/").or_else(|| cgroups.usage(KUBEPODS)) }
    }
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
