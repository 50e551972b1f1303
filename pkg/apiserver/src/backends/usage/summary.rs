//! A kubelet's summary, and what of it the metrics API shows.

use std::collections::HashMap;

use jiff::Timestamp;
use serde::Deserialize;

/// The time that rates of upstream's kubelets are about, in nanoseconds: they look about so often and do not say when.
const WINDOW: u64 = 15_000_000_000;

/// What somebody uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sample {
    pub time: Timestamp,
    /// Billionths of a CPU.
    pub cpu: u64,
    /// Bytes.
    pub memory: u64,
}

/// The pods of a namespace by name, each with its containers.
type Pods = HashMap<Box<str>, Vec<(Box<str>, Sample)>>;

/// What a node and its pods use.
#[derive(Debug, Default)]
pub(crate) struct NodeUsage {
    /// The time that is looked at, in nanoseconds.
    pub window: u64,
    pub node: Option<Sample>,
    /// By namespace. A pod is there if all is known of it.
    pods: HashMap<Box<str>, Pods>,
}

impl NodeUsage {
    /// # Errors
    /// When it is no summary.
    pub(super) fn parse(json: &[u8], window: Option<u64>) -> Result<Self, serde_json::Error> {
        let summary: Summary = serde_json::from_slice(json)?;
        let mut usage = Self {
            window: window.filter(|window| *window > 0).unwrap_or(WINDOW),
            node: sample(summary.node.cpu.as_ref(), summary.node.memory.as_ref()),
            pods: HashMap::new(),
        };
        for pod in summary.pods.unwrap_or_default() {
            let containers = pod.containers.unwrap_or_default();
            let each = |c: Container| Some((c.name, sample(c.cpu.as_ref(), c.memory.as_ref())?));
            let all: Option<Vec<_>> = containers.into_iter().map(each).collect();
            if let Some(all) = all.filter(|all| !all.is_empty()) {
                usage.pods.entry(pod.pod_ref.namespace).or_default().insert(pod.pod_ref.name, all);
            }
        }
        Ok(usage)
    }

    /// The containers of a pod.
    pub(crate) fn pod(&self, namespace: &str, name: &str) -> Option<&[(Box<str>, Sample)]> {
        self.pods.get(namespace)?.get(name).map(Vec::as_slice)
    }
}

/// As for metrics-server, who never used anything is not looked at yet.
fn sample(cpu: Option<&Cpu>, memory: Option<&Memory>) -> Option<Sample> {
    let (cpu, memory) = (cpu?, memory?.working_set_bytes?);
    let known = cpu.usage_core_nano_seconds.is_none_or(|sum| sum > 0) && memory > 0;
    known.then_some(Sample { time: cpu.time, cpu: cpu.usage_nano_cores?, memory })
}

#[derive(Deserialize)]
struct Summary {
    node: Node,
    pods: Option<Vec<Pod>>,
}

#[derive(Deserialize)]
struct Node {
    cpu: Option<Cpu>,
    memory: Option<Memory>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Pod {
    pod_ref: Reference,
    containers: Option<Vec<Container>>,
}

#[derive(Deserialize)]
struct Reference {
    namespace: Box<str>,
    name: Box<str>,
}

#[derive(Deserialize)]
struct Container {
    name: Box<str>,
    cpu: Option<Cpu>,
    memory: Option<Memory>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Cpu {
    time: Timestamp,
    usage_nano_cores: Option<u64>,
    usage_core_nano_seconds: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Memory {
    working_set_bytes: Option<u64>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::{Value, json};

    fn container(name: &str, rate: Value) -> Value {
        let time = "2026-01-02T03:04:05Z";
        json!({"name": name, "startTime": time, "rootfs": {"time": time}, "memory": {"workingSetBytes": 4096},
            "cpu": {"time": time, "usageNanoCores": rate, "usageCoreNanoSeconds": 9}})
    }

    fn parse(summary: &Value, window: Option<u64>) -> NodeUsage {
        NodeUsage::parse(&serde_json::to_vec(summary).unwrap(), window).unwrap()
    }

    #[test]
    fn pods_are_shown_when_all_is_known_of_them() {
        let pod = |name: &str, containers: Value| json!({"podRef": {"namespace": "shop", "name": name, "uid": "u"}, "containers": containers});
        let summary = json!({
            "node": {"nodeName": "n", "cpu": {"time": "2026-01-02T03:04:05Z", "usageNanoCores": 7, "usageCoreNanoSeconds": 8}, "memory": {"workingSetBytes": 1024}},
            "pods": [
                pod("web", json!([container("a", json!(0)), container("b", json!(5))])),
                pod("new", json!([container("a", json!(1)), container("b", Value::Null)])),
                pod("none", Value::Null),
            ],
        });
        let usage = parse(&summary, Some(1_002_000_000));
        let node = usage.node.unwrap();
        assert_eq!((node.cpu, node.memory, usage.window), (7, 1024, 1_002_000_000));
        let web = usage.pod("shop", "web").unwrap();
        assert_eq!(web.iter().map(|(name, used)| (&**name, used.cpu)).collect::<Vec<_>>(), [("a", 0), ("b", 5)]);
        assert!(usage.pod("shop", "new").is_none() && usage.pod("shop", "none").is_none());
        assert!(usage.pod("other", "web").is_none());
    }

    #[test]
    fn what_upstreams_kubelets_leave_out_is_no_error() {
        let usage = parse(&json!({"node": {"nodeName": "n"}}), None);
        assert!(usage.node.is_none());
        assert_eq!(usage.window, WINDOW);
        assert!(NodeUsage::parse(b"404 page not found", None).is_err());
    }
}
