//! All control groups of pods with what they use, for the metrics that cAdvisor invented.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use kedge_cri::v1;

use super::disk::{self, Disk};
use super::network::{self, Interface};
use super::{StatsError, nanos};
use crate::cgroups::{self, Cgroups, Detail, KUBEPODS};
use crate::kubelet::Kubelet;
use crate::runtime::labels;

/// A control group and whose it is; empty where it is nobody's.
#[derive(Clone, Debug, Default)]
pub(crate) struct Group {
    /// Its path.
    pub(crate) id: String,
    /// The runtime's id of the container or sandbox.
    pub(crate) name: String,
    pub(crate) image: String,
    pub(crate) container: String,
    pub(crate) namespace: String,
    pub(crate) pod: String,
    /// Nanoseconds since 1970; 0 where nobody knows.
    pub(crate) started: i64,
    pub(crate) detail: Detail,
    pub(crate) network: Vec<Interface>,
    /// File systems, by the names of their devices.
    pub(crate) disks: Vec<(String, Disk)>,
}

/// Everything at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct AllGroups {
    pub(crate) groups: Vec<Group>,
    /// Milliseconds since 1970.
    pub(crate) time: i64,
}

/// What the runtime knows of one id.
#[derive(Clone, Default)]
struct Known {
    image: String,
    container: String,
    namespace: String,
    pod: String,
    started: i64,
    is_sandbox: bool,
    /// Bytes and files of the layer that it writes to.
    layer: Option<(u64, u64, String)>,
}

impl AllGroups {
    /// Reads everything once.
    ///
    /// # Errors
    /// [`StatsError`].
    pub(crate) async fn read(kubelet: &Kubelet) -> Result<AllGroups, StatsError> {
        let known = known(kubelet).await?;
        let names: HashMap<String, (String, String)> =
            kubelet.pleg.pods().into_iter().map(|(uid, pod)| (uid, (pod.key.namespace, pod.key.name))).collect();
        let (groups, root) = (kubelet.cgroups.clone(), kubelet.config.root_dir.clone());
        let read = move || groups.map(|groups| all(groups.as_ref(), &known, &names, root)).unwrap_or_default();
        let groups = kubelet.files.of_node("cadvisor", "read", Path::new(KUBEPODS), read).await?;
        Ok(AllGroups { groups, time: nanos(kubelet.clock.now()) / 1_000_000 })
    }
}

async fn known(kubelet: &Kubelet) -> Result<HashMap<String, Known>, StatsError> {
    let stats = kubelet.runtime.list_container_stats().await?;
    let containers = kubelet.runtime.list_containers(HashMap::new()).await?;
    let sandboxes = kubelet.runtime.list_pod_sandboxes(HashMap::new()).await?;
    let label = |labels: &HashMap<String, String>, key: &str| labels.get(key).cloned().unwrap_or_default();
    let mut known: HashMap<String, Known> = HashMap::new();
    for sandbox in sandboxes {
        let of = Known {
            namespace: label(&sandbox.labels, labels::POD_NAMESPACE),
            pod: label(&sandbox.labels, labels::POD_NAME),
            started: sandbox.created_at,
            is_sandbox: true,
            ..Known::default()
        };
        known.insert(sandbox.id, of);
    }
    let mut layers: HashMap<String, (u64, u64, String)> = stats.into_iter().filter_map(layer).collect();
    for container in containers {
        let of = Known {
            image: container.image.map(|image| image.image).unwrap_or_default(),
            container: label(&container.labels, labels::CONTAINER_NAME),
            namespace: label(&container.labels, labels::POD_NAMESPACE),
            pod: label(&container.labels, labels::POD_NAME),
            started: container.created_at,
            is_sandbox: false,
            layer: layers.remove(&container.id),
        };
        known.insert(container.id, of);
    }
    Ok(known)
}

fn layer(stats: v1::ContainerStats) -> Option<(String, (u64, u64, String))> {
    let (id, layer) = (stats.attributes?.id, stats.writable_layer?);
    let number = |value: Option<v1::UInt64Value>| value.map(|v| v.value).unwrap_or_default();
    let place = layer.fs_id.map(|id| id.mountpoint).unwrap_or_default();
    Some((id, (number(layer.used_bytes), number(layer.inodes_used), place)))
}

/// Blocks.
fn all(
    cgroups: &dyn Cgroups,
    known: &HashMap<String, Known>,
    names: &HashMap<String, (String, String)>,
    root: PathBuf,
) -> Vec<Group> {
    let plain = |id: &str| Some(Group { id: id.to_owned(), detail: cgroups.detail(id)?, ..Group::default() });
    let machine = plain("/").map(|group| Group {
        network: network::of_machine(),
        disks: Disk::of(&root).map(|disk| (disk::device_of(&root), disk)).into_iter().collect(),
        ..group
    });
    let mut all: Vec<Group> = machine.into_iter().collect();
    all.extend(
        [KUBEPODS.to_owned(), format!("{KUBEPODS}/burstable"), format!("{KUBEPODS}/besteffort")]
            .iter()
            .filter_map(|id| plain(id)),
    );
    for (uid, path) in cgroups::pods(cgroups) {
        let (namespace, pod) = names.get(&uid).cloned().unwrap_or_default();
        all.extend(plain(&path).map(|group| Group { namespace, pod, ..group }));
        for id in cgroups.children(&path) {
            if let Some(known) = known.get(&id) {
                all.extend(of_container(cgroups, &format!("{path}/{id}"), &id, known));
            }
        }
    }
    all
}

fn of_container(cgroups: &dyn Cgroups, path: &str, id: &str, known: &Known) -> Option<Group> {
    let network = match cgroups.process(path).filter(|_| known.is_sandbox) {
        Some(pid) => network::of_process(pid),
        None => Vec::new(),
    };
    let disk = |(used, inodes, place): &(u64, u64, String)| {
        let whole = Disk::of(Path::new(place)).unwrap_or_default();
        let disk = Disk { used: *used, inodes_free: whole.inodes.saturating_sub(*inodes), ..whole };
        (disk::device_of(Path::new(place)), disk)
    };
    Some(Group {
        id: path.to_owned(),
        name: id.to_owned(),
        image: known.image.clone(),
        container: known.container.clone(),
        namespace: known.namespace.clone(),
        pod: known.pod.clone(),
        started: known.started,
        detail: cgroups.detail(path)?,
        network,
        disks: known.layer.iter().map(disk).collect(),
    })
}
