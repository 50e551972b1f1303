//! What `/stats/summary` says beyond CPU and memory: disks, networks, processes, and memory in detail.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use kedge_base::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tracing::debug;

use super::StatsError;
use super::disk::Disk;
use super::groups::{AllGroups, Group};
use super::network::Interface;
use crate::cgroups::Memory;
use crate::kubelet::Kubelet;
use crate::logs;

/// Volumes whose files are counted; the rest are on disks that are measured as a whole.
const COUNTED: [&str; 5] = [
    "kubernetes.io~empty-dir",
    "kubernetes.io~configmap",
    "kubernetes.io~downward-api",
    "kubernetes.io~secret",
    "kubernetes.io~projected",
];
/// Files that are counted in one directory: what is beyond says little more, and takes its time.
const MOST: u64 = 100_000;
/// Pods whose files are counted at a time, whoever asks: the places are shared with the pods' own work.
static WALKS: Semaphore = Semaphore::const_new(4);

/// The pods whose files are counted.
#[derive(Clone, Copy)]
pub(crate) enum Walk<'a> {
    /// Of none.
    Nothing,
    /// Of all pods.
    All,
    /// Of the pods with these uids; without `volumes` only their logs, which are few.
    Of { uids: &'a HashSet<String>, volumes: bool },
}

impl Walk<'_> {
    fn wants(&self, uid: &str) -> bool {
        match self {
            Walk::Nothing => false,
            Walk::All => true,
            Walk::Of { uids, .. } => uids.contains(uid),
        }
    }

    fn volumes(&self) -> bool {
        matches!(self, Walk::All | Walk::Of { volumes: true, .. })
    }
}

/// What is below a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counted {
    bytes: u64,
    files: u64,
    /// Whether there was no more than that.
    whole: bool,
}

/// A volume with what is in it.
struct OfVolume {
    name: String,
    counted: Counted,
    /// One that is mounted, such as those in memory, is not on the disk of pods.
    on_disk: bool,
}

/// What there is of one pod's logs, by container, and volumes, unless those were not looked at.
struct OfPod {
    logs: HashMap<String, Counted>,
    volumes: Option<Vec<OfVolume>>,
}

impl OfPod {
    fn is_whole(&self) -> bool {
        let volumes = self.volumes.iter().flatten().map(|volume| &volume.counted);
        self.logs.values().chain(volumes).all(|counted| counted.whole)
    }
}

/// Where a pod has its files.
struct Places {
    uid: String,
    logs: PathBuf,
    volumes: PathBuf,
}

/// Adds it all to a summary.
///
/// # Errors
/// [`StatsError`].
pub(crate) async fn complete(kubelet: &Kubelet, summary: &mut Value) -> Result<(), StatsError> {
    complete_with(kubelet, summary, Walk::All).await.map(|_| ())
}

/// Adds it to a summary with the files of some pods. Returns the uids of those that have more than was counted: their disk hangs or is
/// slow, or there are too many files.
///
/// # Errors
/// [`StatsError`].
pub(crate) async fn complete_with(
    kubelet: &Kubelet,
    summary: &mut Value,
    walk: Walk<'_>,
) -> Result<HashSet<String>, StatsError> {
    let all = AllGroups::read(kubelet).await?;
    let images = kubelet.runtime.image_fs_info().await?.image_filesystems.into_iter().next().unwrap_or_default();
    let place = images.fs_id.map(|id| PathBuf::from(id.mountpoint));
    let (root, measured) = (kubelet.config.root_dir.clone(), place.clone());
    let disks = move || (Disk::of(&root), measured.as_deref().and_then(Disk::of));
    let (node_disk, image_disk) = kubelet.files.of_node("stats", "measure", Path::new("/"), disks).await?;
    let time = summary["node"]["cpu"]["time"].clone();
    let node = &mut summary["node"];
    node["systemContainers"] = json!([]);
    if let Some(group) = all.groups.iter().find(|group| group.id == "/") {
        detail(node, group, &time);
        networks(node, &group.network, &time);
    }
    if let Some(disk) = node_disk {
        node["fs"] = filesystem(&disk, disk.used, Some(disk.inodes_used()), &time);
    }
    if let Some(disk) = image_disk {
        let used = images.used_bytes.map_or(disk.used, |value| value.value);
        let inodes = images.inodes_used.map(|value| value.value);
        node["runtime"] = json!({"imageFs": filesystem(&disk, used, inodes, &time),
            "containerFs": filesystem(&disk, disk.used, Some(disk.inodes_used()), &time)});
    }
    node["rlimit"] = processes(&time);
    let (on_disk, uncounted) = files(kubelet, walk).await;
    for pod in summary["pods"].as_array_mut().into_iter().flatten() {
        let found = on_disk.get(pod["podRef"]["uid"].as_str().unwrap_or_default());
        of_pod(pod, &all.groups, found, node_disk, &time);
    }
    Ok(uncounted)
}

/// Of a pod whose files were not counted nothing is said of its logs, its volumes and their sum.
fn of_pod(pod: &mut Value, groups: &[Group], on_disk: Option<&OfPod>, disk: Option<Disk>, time: &Value) {
    let end = format!("/pod{}", pod["podRef"]["uid"].as_str().unwrap_or_default());
    let own = groups.iter().find(|group| group.id.ends_with(&end));
    let within = |group: &&Group| group.id.rsplit_once('/').is_some_and(|(above, _)| above.ends_with(&end));
    let inner: Vec<&Group> = groups.iter().filter(within).collect();
    if let Some(group) = own {
        detail(pod, group, time);
        let count: u64 = inner.iter().filter_map(|group| Some(group.detail.pids?.processes)).sum();
        pod["process_stats"] = json!({ "process_count": count });
    }
    let network: Vec<Interface> = inner.iter().flat_map(|group| group.network.clone()).collect();
    networks(pod, &network, time);
    let disk = disk.unwrap_or_default();
    let (mut bytes, mut inodes) = (0_u64, 0_u64);
    for container in pod["containers"].as_array_mut().into_iter().flatten() {
        let name = container["name"].as_str().unwrap_or_default().to_owned();
        // Of a container that was just replaced the one before may still be there.
        let newest = inner.iter().filter(|group| group.container == name).max_by_key(|group| group.started);
        if let Some(group) = newest {
            detail(container, group, time);
            container["swap"] = json!({"time": time, "swapUsageBytes": group.detail.memory.map_or(0, |m| m.swap)});
            if let Some((_, layer)) = group.disks.first() {
                container["rootfs"] = filesystem(layer, layer.used, Some(layer.inodes_used()), time);
                (bytes, inodes) = (bytes.saturating_add(layer.used), inodes.saturating_add(layer.inodes_used()));
            }
        }
        let Some(on_disk) = on_disk else { continue };
        let (size, files) = on_disk.logs.get(&name).map_or((0, 0), |counted| (counted.bytes, counted.files));
        container["logs"] = filesystem(&disk, size, Some(files), time);
        (bytes, inodes) = (bytes.saturating_add(size), inodes.saturating_add(files));
    }
    let Some(all) = on_disk.and_then(|on_disk| on_disk.volumes.as_ref()) else { return };
    let mut volumes = Vec::new();
    for OfVolume { name, counted, on_disk } in all {
        let mut volume = filesystem(&disk, counted.bytes, Some(counted.files), time);
        volume["name"] = json!(name);
        volumes.push(volume);
        if *on_disk {
            (bytes, inodes) = (bytes.saturating_add(counted.bytes), inodes.saturating_add(counted.files));
        }
    }
    if !volumes.is_empty() {
        pod["volume"] = json!(volumes);
    }
    pod["ephemeral-storage"] = filesystem(&disk, bytes, Some(inodes), time);
}

fn filesystem(disk: &Disk, used: u64, inodes_used: Option<u64>, time: &Value) -> Value {
    let mut value = json!({
        "time": time, "availableBytes": disk.available, "capacityBytes": disk.capacity, "usedBytes": used,
        "inodesFree": disk.inodes_free, "inodes": disk.inodes});
    if let Some(inodes) = inodes_used {
        value["inodesUsed"] = json!(inodes);
    }
    value
}

/// What the group says of its memory, beside the working set that is there.
fn detail(out: &mut Value, group: &Group, time: &Value) {
    let Some(Memory { usage, working_set, rss, page_faults, major_page_faults, limit, .. }) = group.detail.memory
    else {
        return;
    };
    let memory = &mut out["memory"];
    if memory.is_null() {
        *memory = json!({"time": time, "workingSetBytes": working_set});
    }
    memory["usageBytes"] = json!(usage);
    memory["rssBytes"] = json!(rss);
    memory["pageFaults"] = json!(page_faults);
    memory["majorPageFaults"] = json!(major_page_faults);
    if let Some(limit) = limit {
        memory["availableBytes"] = json!(limit.saturating_sub(working_set));
    }
}

/// The interface of the default route comes first, which is the first there is.
fn networks(out: &mut Value, interfaces: &[Interface], time: &Value) {
    let one = |interface: &Interface| {
        json!({
            "name": interface.name,
            "rxBytes": interface.received.bytes, "rxErrors": interface.received.errors,
            "txBytes": interface.sent.bytes, "txErrors": interface.sent.errors})
    };
    let Some(first) = interfaces.iter().find(|i| i.name == "eth0").or_else(|| interfaces.first()) else { return };
    let mut network = one(first);
    network["time"] = time.clone();
    network["interfaces"] = interfaces.iter().map(one).collect();
    out["network"] = network;
}

fn processes(time: &Value) -> Value {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let most: u64 = read("/proc/sys/kernel/pid_max").trim().parse().unwrap_or_default();
    let load = read("/proc/loadavg");
    let now = load.split_whitespace().nth(3).and_then(|field| field.split_once('/')?.1.parse::<u64>().ok());
    json!({"time": time, "maxpid": most, "curproc": now.unwrap_or_default()})
}

/// What there is of each pod's files, by uid, and the pods of which that is not all; of one whose disk hangs nothing is known.
async fn files(kubelet: &Kubelet, walk: Walk<'_>) -> (HashMap<String, OfPod>, HashSet<String>) {
    let mut waiting = Vec::new();
    for raw in kubelet.pods.list() {
        let metadata = &raw.metadata;
        if walk.wants(&metadata.uid) {
            let (root, uid) = (&kubelet.config.pod_log_dir, metadata.uid.clone());
            let logs = logs::pod_log_dir(root, &metadata.namespace, &metadata.name, &uid);
            let places = Places { logs, volumes: kubelet.directories.volumes(&uid), uid };
            let counting: BoxFuture<'_, (String, Option<OfPod>)> = Box::pin(count(kubelet, places, walk.volumes()));
            waiting.push(counting);
        }
    }
    let (mut all, mut uncounted) = (HashMap::new(), HashSet::new());
    for (uid, found) in futures::future::join_all(waiting).await {
        if found.as_ref().is_none_or(|found| !found.is_whole()) {
            uncounted.insert(uid.clone());
        }
        if let Some(found) = found {
            all.insert(uid, found);
        }
    }
    (all, uncounted)
}

/// Under a key of its own: what the pod's worker has to do with the same directories does not wait for it.
async fn count(kubelet: &Kubelet, places: Places, volumes: bool) -> (String, Option<OfPod>) {
    // It is never closed.
    let _place = WALKS.acquire().await;
    let (uid, path) = (places.uid.clone(), places.volumes.clone());
    let key = format!("measure {uid}");
    let found = kubelet.files.of_pod(&key, "measure", &path, move || read(&places, volumes)).await;
    let found = found.inspect_err(|error| debug!(uid, %error, "the pod's files are not counted"));
    (uid, found.ok())
}

fn read(places: &Places, volumes: bool) -> OfPod {
    let below = |directory: &Path| {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path())).collect::<Vec<_>>()
    };
    let logs = below(&places.logs).into_iter().map(|(name, path)| (name, usage(&path, MOST))).collect();
    if !volumes {
        return OfPod { logs, volumes: None };
    }
    let (own, mut found) = (device(&places.volumes), Vec::new());
    for (_, plugin) in below(&places.volumes).into_iter().filter(|(name, _)| COUNTED.contains(&name.as_str())) {
        found.extend(below(&plugin).into_iter().map(|(name, path)| {
            let on_disk = device(&path) == own;
            OfVolume { name, counted: usage(&path, MOST), on_disk }
        }));
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    OfPod { logs, volumes: Some(found) }
}

/// The number of the device that a path is on: volumes in memory have one of their own.
fn device(path: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::symlink_metadata(path).map(|metadata| metadata.dev()).ok()
}

/// What is below a directory on its own file system, up to so many files.
fn usage(root: &Path, most: u64) -> Counted {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(top) = std::fs::symlink_metadata(root) else { return Counted { bytes: 0, files: 0, whole: true } };
    let (mut bytes, mut files) = (top.blocks().saturating_mul(512), 1);
    let mut waiting = vec![root.to_path_buf()];
    while let Some(directory) = waiting.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            if files >= most {
                return Counted { bytes, files, whole: false };
            }
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.dev() != top.dev() {
                continue;
            }
            files += 1;
            bytes = bytes.saturating_add(metadata.blocks().saturating_mul(512));
            if metadata.is_dir() {
                waiting.push(entry.path());
            }
        }
    }
    Counted { bytes, files, whole: true }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cgroups::Detail;
    use crate::stats::network::Direction;

    #[test]
    fn a_pod_is_completed_from_its_groups_and_files() {
        let memory = |usage| Some(Memory { usage, rss: 7, limit: Some(100), working_set: 40, ..Memory::default() });
        let group = |id: &str, container: &str, network: Vec<Interface>| Group {
            id: id.into(),
            container: container.into(),
            detail: Detail { memory: memory(50), ..Detail::default() },
            network,
            disks: vec![("d".into(), Disk { used: 30, ..Disk::default() })],
            ..Group::default()
        };
        let eth0 = Interface {
            name: "eth0".into(),
            received: Direction { bytes: 9, ..Direction::default() },
            ..Interface::default()
        };
        let groups = [
            group("/kubepods/podu", "", Vec::new()),
            group("/kubepods/podu/s", "", vec![eth0]),
            group("/kubepods/podu/c", "web", Vec::new()),
            group("/kubepods/podother/c", "web", Vec::new()),
        ];
        let mut pod =
            json!({"podRef": {"uid": "u"}, "containers": [{"name": "web", "memory": {"workingSetBytes": 40}}]});
        let counted = |bytes, files| Counted { bytes, files, whole: true };
        let volume = |name: &str, bytes, on_disk| OfVolume { name: name.into(), counted: counted(bytes, 2), on_disk };
        let logs = || HashMap::from([("web".to_owned(), counted(5, 1))]);
        let disk = Some(Disk { capacity: 1000, ..Disk::default() });
        // What was not counted is not there.
        let mut unknown = pod.clone();
        of_pod(&mut unknown, &groups, None, disk, &json!("now"));
        let container = &unknown["containers"][0];
        assert!(unknown.get("ephemeral-storage").is_none() && container.get("logs").is_none(), "{unknown}");
        assert_eq!(container["rootfs"]["usedBytes"], 30);
        let mut partly = pod.clone();
        of_pod(&mut partly, &groups, Some(&OfPod { logs: logs(), volumes: None }), disk, &json!("now"));
        assert_eq!(partly["containers"][0]["logs"]["usedBytes"], 5);
        assert!(partly.get("ephemeral-storage").is_none() && partly.get("volume").is_none(), "{partly}");
        // What is in memory takes nothing of the disk.
        let volumes = Some(vec![volume("v", 11, true), volume("w", 700, false)]);
        of_pod(&mut pod, &groups, Some(&OfPod { logs: logs(), volumes }), disk, &json!("now"));
        assert_eq!(pod["network"]["rxBytes"], 9);
        assert_eq!(pod["memory"]["usageBytes"], 50);
        assert_eq!(pod["containers"][0]["memory"]["availableBytes"], 60);
        assert_eq!(pod["containers"][0]["rootfs"]["usedBytes"], 30);
        assert_eq!(pod["containers"][0]["logs"]["usedBytes"], 5);
        assert_eq!(
            pod["volume"][0],
            json!({"name": "v", "time": "now", "usedBytes": 11, "inodesUsed": 2,
            "availableBytes": 0, "capacityBytes": 1000, "inodesFree": 0, "inodes": 0})
        );
        assert_eq!(pod["volume"][1]["usedBytes"], 700);
        assert_eq!(pod["ephemeral-storage"]["usedBytes"], 46);
    }

    #[test]
    fn files_below_are_counted() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("a"), vec![1; 10_000]).unwrap();
        let found = usage(directory.path(), MOST);
        assert!(found.bytes >= 10_000 && found.files == 2 && found.whole, "{found:?}");
        for name in ["b", "c", "d"] {
            std::fs::write(directory.path().join(name), vec![1; 10_000]).unwrap();
        }
        let found = usage(directory.path(), 3);
        assert!(found.bytes >= 20_000 && found.files == 3 && !found.whole, "what was seen counts: {found:?}");
    }

    #[test]
    fn volumes_are_read_when_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let places =
            Places { uid: "u".into(), logs: directory.path().join("logs"), volumes: directory.path().join("volumes") };
        for path in ["logs/web", "volumes/kubernetes.io~empty-dir/v", "volumes/kubernetes.io~nfs/far"] {
            std::fs::create_dir_all(directory.path().join(path)).unwrap();
        }
        let found = read(&places, true);
        let names: Vec<_> = found.volumes.iter().flatten().map(|v| (v.name.as_str(), v.on_disk)).collect();
        assert_eq!(names, [("v", true)]);
        assert!(found.is_whole() && found.logs.contains_key("web"));
        assert!(read(&places, false).volumes.is_none());
        assert!(device(Path::new("/proc")) != device(directory.path()), "what is mounted is elsewhere");
        let uids = HashSet::from(["a".to_owned()]);
        let some = Walk::Of { uids: &uids, volumes: false };
        assert!(some.wants("a") && !some.wants("b") && !some.volumes());
        assert!(Walk::All.wants("b") && Walk::All.volumes() && !Walk::Nothing.wants("a"));
    }
}
