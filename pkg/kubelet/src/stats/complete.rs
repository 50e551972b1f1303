//! What `/stats/summary` says beyond CPU and memory: disks, networks, processes, and memory in detail.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::StatsError;
use super::disk::Disk;
use super::groups::{AllGroups, Group};
use super::network::Interface;
use crate::cgroups::Memory;
use crate::kubelet::Kubelet;
use crate::logs;

/// Volumes whose files are counted; the rest are on disks that are measured as a whole.
const COUNTED: [&str; 4] =
    ["kubernetes.io~empty-dir", "kubernetes.io~configmap", "kubernetes.io~secret", "kubernetes.io~projected"];
/// Files that are counted in one directory: what is beyond says little more, and takes its time.
const MOST: usize = 100_000;

/// What is on disk of one pod: (bytes, files) of its logs and volumes, by name.
#[derive(Default)]
struct OfPod {
    logs: HashMap<String, (u64, u64)>,
    volumes: Vec<(String, u64, u64)>,
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
    let mut on_disk = files(kubelet).await;
    for pod in summary["pods"].as_array_mut().into_iter().flatten() {
        let uid = pod["podRef"]["uid"].as_str().unwrap_or_default().to_owned();
        of_pod(pod, &all.groups, &on_disk.remove(&uid).unwrap_or_default(), node_disk, &time);
    }
    Ok(())
}

fn of_pod(pod: &mut Value, groups: &[Group], on_disk: &OfPod, disk: Option<Disk>, time: &Value) {
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
        let (size, files) = on_disk.logs.get(&name).copied().unwrap_or_default();
        container["logs"] = filesystem(&disk, size, Some(files), time);
        (bytes, inodes) = (bytes.saturating_add(size), inodes.saturating_add(files));
    }
    let mut volumes = Vec::new();
    for (name, size, files) in &on_disk.volumes {
        let mut volume = filesystem(&disk, *size, Some(*files), time);
        volume["name"] = json!(name);
        volumes.push(volume);
        (bytes, inodes) = (bytes.saturating_add(*size), inodes.saturating_add(*files));
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

/// What is on disk of each pod, by uid; of one whose disk hangs nothing is known.
async fn files(kubelet: &Kubelet) -> HashMap<String, OfPod> {
    let mut all = HashMap::new();
    for raw in kubelet.pods.list() {
        let (uid, metadata) = (&raw.metadata.uid, &raw.metadata);
        let logs = logs::pod_log_dir(&kubelet.config.pod_log_dir, &metadata.namespace, &metadata.name, uid);
        let places = Places { uid: uid.clone(), logs, volumes: kubelet.directories.volumes(uid) };
        let path = places.volumes.clone();
        if let Ok(found) = kubelet.files.of_pod(&places.uid.clone(), "measure", &path, move || read(&places)).await {
            all.insert(uid.clone(), found);
        }
    }
    all
}

fn read(places: &Places) -> OfPod {
    let below = |directory: &Path| {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path())).collect::<Vec<_>>()
    };
    let logs = below(&places.logs).into_iter().map(|(name, path)| (name, usage(&path))).collect();
    let mut volumes = Vec::new();
    for (_, plugin) in below(&places.volumes).into_iter().filter(|(name, _)| COUNTED.contains(&name.as_str())) {
        volumes.extend(below(&plugin).into_iter().map(|(name, path)| {
            let (bytes, files) = usage(&path);
            (name, bytes, files)
        }));
    }
    volumes.sort();
    OfPod { logs, volumes }
}

/// (bytes, files) below a directory on its own file system.
pub(crate) fn usage(root: &Path) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(top) = std::fs::symlink_metadata(root) else { return (0, 0) };
    let (mut bytes, mut files) = (top.blocks().saturating_mul(512), 1);
    let mut waiting = vec![root.to_path_buf()];
    while let Some(directory) = waiting.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.dev() != top.dev() || files >= MOST as u64 {
                continue;
            }
            files += 1;
            bytes = bytes.saturating_add(metadata.blocks().saturating_mul(512));
            if metadata.is_dir() {
                waiting.push(entry.path());
            }
        }
    }
    (bytes, files)
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
        let on_disk = OfPod { logs: HashMap::from([("web".to_owned(), (5, 1))]), volumes: vec![("v".into(), 11, 2)] };
        of_pod(&mut pod, &groups, &on_disk, Some(Disk { capacity: 1000, ..Disk::default() }), &json!("now"));
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
        assert_eq!(pod["ephemeral-storage"]["usedBytes"], 46);
    }

    #[test]
    fn files_below_are_counted() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("a"), vec![1; 10_000]).unwrap();
        let (bytes, files) = usage(directory.path());
        assert!(bytes >= 10_000 && files == 2, "{bytes} {files}");
    }
}
