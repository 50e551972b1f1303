//! What a pod asks for: its containers' requests summed as the kubelet will run them.

use serde::Deserialize;

use super::amount::{ResourceList, Resources};

/// What a container without a CPU or memory request is taken to use when nodes are scored (not when they are filtered).
const DEFAULT_MILLI_CPU: i64 = 100;
const DEFAULT_MEMORY: i64 = 200 * 1024 * 1024;

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct RawContainer {
    pub name: String,
    pub image: String,
    pub resources: RawRequirements,
    pub ports: Vec<RawPort>,
    pub restart_policy: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub struct RawRequirements {
    pub requests: Option<ResourceList>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct RawPort {
    pub host_port: u16,
    #[serde(rename = "hostIP")]
    pub host_ip: String,
    pub protocol: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct RawContainerStatus {
    pub name: String,
    pub allocated_resources: Option<ResourceList>,
    pub resources: Option<RawRequirements>,
}

/// Where the parts of a pod's requests stand.
pub struct Parts<'a> {
    pub containers: &'a [RawContainer],
    pub init_containers: &'a [RawContainer],
    pub statuses: &'a [RawContainerStatus],
    pub overhead: &'a ResourceList,
    pub pod_level: Option<&'a ResourceList>,
    /// A resize that the kubelet has declared infeasible counts as not asked for.
    pub resize_infeasible: bool,
}

impl Parts<'_> {
    /// The requests, and what scoring takes them for.
    pub fn total(&self) -> (Resources, Resources) {
        (self.sum(false), self.sum(true))
    }

    fn sum(&self, defaults: bool) -> Resources {
        let mut total = Resources::default();
        for container in self.containers {
            total.add(&self.container(container, defaults));
        }
        let mut sidecars = Resources::default();
        let mut init = Resources::default();
        for container in self.init_containers {
            let mut own = self.container(container, defaults);
            if container.restart_policy == "Always" {
                total.add(&own);
                sidecars.add(&own);
                own = sidecars.clone();
            } else {
                own.add(&sidecars);
            }
            init.max(&own);
        }
        total.max(&init);
        if let Some(list) = self.pod_level {
            let level = Resources::from_list(list);
            let set = |name: &str| list.contains_key(name);
            total.milli_cpu = if set("cpu") { level.milli_cpu } else { total.milli_cpu };
            total.memory = if set("memory") { level.memory } else { total.memory };
            for (name, amount) in level.scalar.iter().filter(|(n, _)| n.starts_with("hugepages-")) {
                total.scalar.retain(|(n, _)| n != name);
                total.add(&Resources { scalar: vec![(name.clone(), *amount)], ..Resources::default() });
            }
        }
        total.add(&Resources::from_list(self.overhead));
        total.scalar.retain(|(_, amount)| *amount != 0);
        total
    }

    fn container(&self, container: &RawContainer, defaults: bool) -> Resources {
        let empty = ResourceList::new();
        let list = container.resources.requests.as_ref().unwrap_or(&empty);
        let mut own = Resources::from_list(list);
        if let Some(status) = self.statuses.iter().find(|s| s.name == container.name) {
            let actual = status.resources.as_ref().and_then(|r| r.requests.as_ref());
            let lists = [actual, status.allocated_resources.as_ref()];
            if self.resize_infeasible && lists.iter().any(Option::is_some) {
                own = Resources::default();
            }
            for list in lists.into_iter().flatten() {
                own.max(&Resources::from_list(list));
            }
        }
        if defaults && !list.contains_key("cpu") {
            own.milli_cpu = DEFAULT_MILLI_CPU;
        }
        if defaults && !list.contains_key("memory") {
            own.memory = DEFAULT_MEMORY;
        }
        own
    }
}
