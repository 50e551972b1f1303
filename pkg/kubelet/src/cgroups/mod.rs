//! Control groups of pods, with the plain file-system driver: `/kubepods[/burstable|/besteffort]/pod<uid>`.
//!
//! The runtime makes the groups of containers below; here their parents are made, limited and removed.

mod detail;
mod hierarchy;
mod v1;
mod v2;

use std::io;
use std::path::Path;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use tracing::info;

#[cfg(test)]
pub(crate) use detail::Pids;
pub(crate) use detail::{Cpu, Detail, Io, Memory};

use crate::generate::pod_resources;
use crate::pod::{PodExt, qos_class};

const ROOT: &str = "/sys/fs/cgroup";
/// All pods together.
pub(crate) const KUBEPODS: &str = "/kubepods";

/// What a group is limited to; 0 leaves a value as it is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) cpu_shares: i64,
    /// Microseconds in each 100 ms.
    pub(crate) cpu_quota: i64,
    pub(crate) memory: i64,
}

/// Control groups by their path below the hierarchy's root.
pub(crate) trait Cgroups: Send + Sync {
    /// `v1` or `v2`.
    fn version(&self) -> &'static str;
    fn exists(&self, path: &str) -> bool;
    /// Makes a group and all above it, and sets its limits.
    fn ensure(&self, path: &str, limits: &Limits) -> io::Result<()>;
    /// Removes a group and all below it; one with processes in it stays and is an error.
    fn remove(&self, path: &str) -> io::Result<()>;
    /// The names of the groups directly below.
    fn children(&self, path: &str) -> Vec<String>;
    /// (memory in use without reclaimable cache, CPU time in nanoseconds), where the group exists.
    fn usage(&self, path: &str) -> Option<(u64, u64)>;
    /// Everything that the group tells, where it exists.
    fn detail(&self, path: &str) -> Option<Detail>;
    /// A process of the group, if there is one.
    fn process(&self, path: &str) -> Option<u32>;
}

/// Finds out which version the machine runs, and says so.
pub(crate) fn detect() -> Arc<dyn Cgroups> {
    let root = Path::new(ROOT);
    let cgroups: Arc<dyn Cgroups> = if root.join("cgroup.controllers").exists() {
        Arc::new(v2::Unified::new(root))
    } else {
        Arc::new(v1::Legacy::new(root))
    };
    info!(version = cgroups.version(), "cgroups detected");
    cgroups
}

/// The parent of all groups of one class.
fn class_path(class: &str) -> String {
    match class {
        "Guaranteed" => KUBEPODS.to_string(),
        class => format!("{KUBEPODS}/{}", class.to_lowercase()),
    }
}

/// The group of a pod.
pub(crate) fn pod_path(pod: &Pod) -> String {
    format!("{}/pod{}", class_path(qos_class(pod)), pod.uid())
}

/// The limits of a pod's group.
pub(crate) fn pod_limits(pod: &Pod) -> Limits {
    let of = pod_resources(pod);
    Limits { cpu_shares: of.cpu_shares, cpu_quota: of.cpu_quota, memory: of.memory_limit_in_bytes }
}

/// Makes the groups that hold all pods: those that ask for nothing get the least CPU.
pub(crate) fn ensure_classes(cgroups: &dyn Cgroups, cpu_millis: i64) -> io::Result<()> {
    let shares = cpu_millis.saturating_mul(1024) / 1000;
    cgroups.ensure(KUBEPODS, &Limits { cpu_shares: shares, ..Limits::default() })?;
    cgroups.ensure(&class_path("Burstable"), &Limits::default())?;
    cgroups.ensure(&class_path("BestEffort"), &Limits { cpu_shares: 2, ..Limits::default() })
}

/// The pods that have groups: (uid, path).
pub(crate) fn pods(cgroups: &dyn Cgroups) -> Vec<(String, String)> {
    let classes = ["Guaranteed", "Burstable", "BestEffort"].map(class_path);
    let mut all = Vec::new();
    for class in classes {
        for name in cgroups.children(&class) {
            if let Some(uid) = name.strip_prefix("pod") {
                all.push((uid.to_string(), format!("{class}/{name}")));
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::testing::pod;
    use serde_json::json;

    #[test]
    fn paths_follow_the_class() {
        let best_effort = pod(json!({"containers": [{"name": "a"}]}));
        assert_eq!(pod_path(&best_effort), "/kubepods/besteffort/podu");
        let one = json!({"cpu": "1", "memory": "1Mi"});
        let limits = json!({"limits": one, "requests": one});
        let guaranteed = pod(json!({"containers": [{"name": "a", "resources": limits}]}));
        assert_eq!(pod_path(&guaranteed), "/kubepods/podu");
        let limits = pod_limits(&guaranteed);
        assert_eq!(limits, Limits { cpu_shares: 1024, cpu_quota: 100_000, memory: 1 << 20 });
    }

    #[test]
    #[allow(clippy::unwrap_used)]
    fn kernel_a_group_comes_and_goes() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("not root: left out");
            return;
        }
        let cgroups = detect();
        let parent = format!("/kedge-test-{}", std::process::id());
        let path = format!("{parent}/burstable/podx");
        let limits = Limits { cpu_shares: 512, cpu_quota: 50_000, memory: 64 << 20 };
        cgroups.ensure(&path, &limits).unwrap();
        cgroups.ensure(&path, &limits).unwrap();
        assert!(cgroups.exists(&path));
        assert_eq!(cgroups.children(&format!("{parent}/burstable")), ["podx"]);
        cgroups.remove(&parent).unwrap();
        assert!(!cgroups.exists(&parent));
    }
}
