//! What node, pods and containers use, for the metrics API and for whoever scrapes the kubelet.
//!
//! Nothing is measured until somebody asks: containers come from the runtime, pods and the node from their control groups, of either
//! version. CPU time is a sum; [`rates`] makes of two readings how much is used at present.
//! Invariant: what cannot be told is left out, and never shown as nothing.

mod cadvisor;
mod complete;
mod disk;
mod exposition;
mod groups;
mod network;
mod rates;
mod summary;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use jiff::Timestamp;
use kedge_base::BlockingError;
use kedge_cri::v1;

use crate::cgroups::{self, Cgroups, KUBEPODS};
use crate::kubelet::Kubelet;
use crate::runtime::labels;

pub(crate) use cadvisor::cadvisor;
pub(crate) use complete::{Walk, complete, complete_with};
pub(crate) use disk::Disk;
pub(crate) use exposition::exposition;
pub(crate) use groups::AllGroups;
pub(crate) use rates::{CpuRates, Rates};
pub(crate) use summary::summary;

/// Why nothing can be told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StatsError {
    #[error("the runtime does not tell what containers use: {0}")]
    Runtime(#[from] kedge_cri::Error),
    #[error("control groups cannot be read: {0}")]
    Groups(#[from] BlockingError),
}

/// A reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Nanoseconds since 1970.
    pub(crate) time: i64,
    /// Nanoseconds of CPU time so far.
    pub(crate) cpu: u64,
    /// Bytes without what can be reclaimed.
    pub(crate) memory: u64,
}

/// A container that runs.
#[derive(Clone, Debug)]
pub(crate) struct ContainerUsage {
    pub(crate) id: String,
    pub(crate) name: String,
    /// Nanoseconds since 1970.
    pub(crate) started: i64,
    pub(crate) usage: Usage,
}

/// A pod of which containers run.
#[derive(Clone, Debug)]
pub(crate) struct PodUsage {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) started: i64,
    pub(crate) usage: Option<Usage>,
    pub(crate) containers: Vec<ContainerUsage>,
}

/// What all use at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    /// When the machine was started.
    pub(crate) started: i64,
    pub(crate) node: Option<Usage>,
    /// By namespace and name.
    pub(crate) pods: Vec<PodUsage>,
}

impl Snapshot {
    /// Reads everything once.
    ///
    /// # Errors
    /// [`StatsError`].
    pub(crate) async fn read(kubelet: &Kubelet) -> Result<Snapshot, StatsError> {
        let stats = kubelet.runtime.list_container_stats().await?;
        let containers = kubelet.runtime.list_containers(HashMap::new()).await?;
        let sandboxes = kubelet.runtime.list_pod_sandboxes(HashMap::new()).await?;
        let groups = kubelet.cgroups.clone();
        let read = move || groups.map(|groups| Groups::read(groups.as_ref())).unwrap_or_default();
        let groups = kubelet.files.of_node("stats", "read", Path::new(KUBEPODS), read).await?;
        let now = nanos(kubelet.clock.now());
        let started = Started::of(&containers, &sandboxes);
        Ok(Snapshot {
            started: groups.booted,
            node: groups.node.map(|used| used.at(now)),
            pods: pods(&stats, &started, &groups, now),
        })
    }
}

/// Nanoseconds since 1970.
pub(crate) fn nanos(time: Timestamp) -> i64 {
    i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX)
}

/// When containers, and the sandboxes of pods, were made.
struct Started<'a> {
    containers: HashMap<&'a str, i64>,
    pods: HashMap<&'a str, i64>,
}

impl<'a> Started<'a> {
    fn of(containers: &'a [v1::Container], sandboxes: &'a [v1::PodSandbox]) -> Self {
        let mut pods: HashMap<&str, i64> = HashMap::new();
        for sandbox in sandboxes {
            let Some(uid) = sandbox.labels.get(labels::POD_UID) else { continue };
            let newest = pods.entry(uid).or_default();
            *newest = (*newest).max(sandbox.created_at);
        }
        Self { containers: containers.iter().map(|c| (c.id.as_str(), c.created_at)).collect(), pods }
    }
}

/// What control groups tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Used {
    memory: u64,
    cpu: u64,
}

impl Used {
    fn at(self, time: i64) -> Usage {
        Usage { time, cpu: self.cpu, memory: self.memory }
    }
}

#[derive(Default)]
struct Groups {
    /// By the pod's uid.
    pods: HashMap<String, Used>,
    node: Option<Used>,
    booted: i64,
}

impl Groups {
    /// Blocks.
    fn read(cgroups: &dyn Cgroups) -> Groups {
        let used = |path: &str| cgroups.usage(path).map(|(memory, cpu)| Used { memory, cpu });
        let pods = cgroups::pods(cgroups).into_iter().filter_map(|(uid, path)| Some((uid, used(&path)?)));
        let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        Groups { pods: pods.collect(), node: used("/").or_else(|| used(KUBEPODS)), booted: booted(&stat) }
    }
}

/// Of `/proc/stat`, in nanoseconds since 1970.
fn booted(stat: &str) -> i64 {
    let seconds = stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<i64>().ok());
    seconds.unwrap_or_default().saturating_mul(1_000_000_000)
}

fn pods(stats: &[v1::ContainerStats], started: &Started<'_>, groups: &Groups, now: i64) -> Vec<PodUsage> {
    let mut pods: BTreeMap<(&str, &str, &str), Vec<ContainerUsage>> = BTreeMap::new();
    for one in stats {
        let Some(attributes) = &one.attributes else { continue };
        let label = |key: &str| attributes.labels.get(key).map(String::as_str);
        let (Some(uid), Some(usage)) = (label(labels::POD_UID), usage(one, now)) else { continue };
        let pod = (label(labels::POD_NAMESPACE).unwrap_or_default(), label(labels::POD_NAME).unwrap_or_default(), uid);
        pods.entry(pod).or_default().push(ContainerUsage {
            started: started.containers.get(attributes.id.as_str()).copied().unwrap_or_default(),
            id: attributes.id.clone(),
            name: label(labels::CONTAINER_NAME).unwrap_or_default().to_owned(),
            usage,
        });
    }
    let pod = |((namespace, name, uid), mut containers): ((&str, &str, &str), Vec<ContainerUsage>)| {
        containers.sort_by(|a, b| (&a.name, b.started).cmp(&(&b.name, a.started)));
        // Of a container that has just been replaced the runtime may still have the one before.
        containers.dedup_by(|older, newer| older.name == newer.name);
        let first = containers.iter().map(|c| c.started).min().unwrap_or_default();
        PodUsage {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: uid.to_owned(),
            started: started.pods.get(uid).copied().unwrap_or(first),
            usage: groups.pods.get(uid).map(|used| used.at(now)),
            containers,
        }
    };
    pods.into_iter().map(pod).collect()
}

/// None for one that has ended, or has not begun.
fn usage(stats: &v1::ContainerStats, now: i64) -> Option<Usage> {
    let cpu = stats.cpu.as_ref()?;
    let memory = stats.memory.as_ref()?;
    // Runtimes that leave out the working set tell the whole.
    let memory = memory.working_set_bytes.as_ref().or(memory.usage_bytes.as_ref())?.value;
    let time = if cpu.timestamp > 0 { cpu.timestamp } else { now };
    Some(Usage { time, cpu: cpu.usage_core_nano_seconds.as_ref()?.value, memory })
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn stats(id: &str, name: &str, cpu: Option<u64>) -> v1::ContainerStats {
        let labels = [
            (labels::POD_UID, "u"),
            (labels::POD_NAME, "web"),
            (labels::POD_NAMESPACE, "shop"),
            (labels::CONTAINER_NAME, name),
        ];
        let value = |value| Some(v1::UInt64Value { value });
        v1::ContainerStats {
            attributes: Some(v1::ContainerAttributes {
                id: id.into(),
                labels: labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
                ..Default::default()
            }),
            cpu: cpu.map(|cpu| v1::CpuUsage {
                timestamp: 5,
                usage_core_nano_seconds: value(cpu),
                ..Default::default()
            }),
            memory: cpu.map(|_| v1::MemoryUsage { working_set_bytes: value(4096), ..Default::default() }),
            ..Default::default()
        }
    }

    fn made(id: &str, created_at: i64) -> v1::Container {
        v1::Container { id: id.into(), created_at, ..Default::default() }
    }

    #[test]
    fn containers_that_run_are_told_by_pod_and_others_are_not() {
        let all =
            [stats("old", "b", Some(1)), stats("new", "b", Some(7)), stats("a1", "a", Some(3)), stats("x", "x", None)];
        let containers = [made("old", 10), made("new", 20), made("a1", 15)];
        let groups = Groups { pods: [("u".to_owned(), Used { memory: 9, cpu: 8 })].into(), ..Groups::default() };
        let pods = pods(&all, &Started::of(&containers, &[]), &groups, 100);
        assert_eq!(pods.len(), 1);
        let pod = &pods[0];
        assert_eq!((pod.namespace.as_str(), pod.name.as_str(), pod.started), ("shop", "web", 15));
        assert_eq!(pod.usage, Some(Usage { time: 100, cpu: 8, memory: 9 }));
        let told: Vec<_> = pod.containers.iter().map(|c| (c.name.as_str(), c.id.as_str(), c.usage.cpu)).collect();
        assert_eq!(told, [("a", "a1", 3), ("b", "new", 7)]);
        assert_eq!(pod.containers[0].usage.time, 5, "the runtime says when it looked");
    }

    #[test]
    fn the_kernel_says_when_it_started() {
        assert_eq!(booted("cpu  1 2 3\nbtime 1700000000\n"), 1_700_000_000_000_000_000);
        assert_eq!(booted(""), 0);
    }

    pub(crate) fn snapshot(time: i64, cpu: u64, containers: &[(&str, i64, u64)]) -> Snapshot {
        let usage = |cpu| Usage { time, cpu, memory: 8192 };
        let container = |(id, started, cpu): &(&str, i64, u64)| ContainerUsage {
            id: (*id).to_owned(),
            name: format!("name-of-{id}"),
            started: *started,
            usage: usage(*cpu),
        };
        let pod = PodUsage {
            namespace: "shop".into(),
            name: "web".into(),
            uid: "u".into(),
            started: 0,
            usage: None,
            containers: containers.iter().map(container).collect(),
        };
        Snapshot { started: 0, node: Some(usage(cpu)), pods: vec![pod] }
    }
}
