//! `/metrics` and `/metrics/probes`: what was counted, and how things are at the moment.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use kedge_base::exposition::{Exposition, written};
use kedge_base::process;
use kedge_cri::v1;
use tracing::{debug, warn};

use super::Server;
use super::reply::{self, Reply};
use crate::kubelet::Kubelet;
use crate::pod::PodExt;
use crate::stats::Disk;

/// `/metrics`.
pub(super) async fn own(server: &Server) -> Reply {
    let kubelet = &server.kubelet;
    let mut out = Exposition::default();
    let name = [("node", kubelet.config.node_name.as_str())];
    out.family("kubelet_node_name", "gauge", "The node's name. The count is always 1.");
    out.sample("kubelet_node_name", &name, 1.0);
    let version = kubelet.config.version.as_str();
    out.family("kubernetes_build_info", "gauge", "A metric with a constant '1' value labeled by version.");
    out.sample("kubernetes_build_info", &[("git_version", version), ("platform", std::env::consts::OS)], 1.0);
    pods(kubelet, &mut out);
    if let Some(groups) = &kubelet.cgroups {
        let version = if groups.version() == "v2" { 2.0 } else { 1.0 };
        out.single("kubelet_cgroup_version", "gauge", "cgroup version on the hosts.", version);
    }
    if let Some(age) = kubelet.pleg.age() {
        let seen = kubelet.clock.now().as_second() as f64 - age.as_secs_f64();
        let help = "Timestamp in seconds when PLEG was last seen active.";
        out.single("kubelet_pleg_last_seen_seconds", "gauge", help, seen.floor());
    }
    kubelet.metrics.show(&mut out);
    volumes(kubelet, &mut out).await;
    figures(&mut out);
    reply::metrics(out.into_text())
}

/// `/metrics/probes`.
pub(super) fn probes(server: &Server) -> Reply {
    let mut out = Exposition::default();
    server.kubelet.probes.show(&mut out);
    if let Ok(figures) = process::figures() {
        let help = "Start time of the process since unix epoch in seconds.";
        out.single("process_start_time_seconds", "gauge", help, figures.started);
    }
    reply::metrics(out.into_text())
}

fn pods(kubelet: &Kubelet, out: &mut Exposition) {
    let listed = kubelet.pleg.pods();
    let ready = v1::PodSandboxState::SandboxReady as i32;
    let running = listed.values().filter(|pod| pod.sandboxes.values().any(|state| *state == ready)).count();
    out.single("kubelet_running_pods", "gauge", "Number of pods that have a running pod sandbox", running as f64);
    let mut states: HashMap<&str, usize> = HashMap::from([("running", 0), ("exited", 0)]);
    for state in listed.values().flat_map(|pod| pod.containers.values()) {
        let name = match v1::ContainerState::try_from(*state) {
            Ok(v1::ContainerState::ContainerRunning) => "running",
            Ok(v1::ContainerState::ContainerExited) => "exited",
            Ok(v1::ContainerState::ContainerCreated) => "created",
            _ => "unknown",
        };
        *states.entry(name).or_default() += 1;
    }
    out.family("kubelet_running_containers", "gauge", "Number of containers currently running");
    let mut states: Vec<_> = states.into_iter().collect();
    states.sort_unstable();
    for (state, count) in states {
        out.sample("kubelet_running_containers", &[("container_state", state)], count as f64);
    }
    let wanted = kubelet.pods.list();
    let count = |is_static: bool, active: bool| {
        let ended = |uid: &str| {
            let status = kubelet.statuses.get(uid);
            status.is_some_and(|status| matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")))
        };
        let of = wanted.iter().filter(|pod| pod.is_static() == is_static);
        of.filter(|pod| !active || !ended(&pod.metadata.uid)).count() as f64
    };
    for (name, active, help) in [
        (
            "kubelet_desired_pods",
            false,
            "The number of pods the kubelet is being instructed to run. static is true if the pod is not from the apiserver.",
        ),
        (
            "kubelet_active_pods",
            true,
            "The number of pods the kubelet considers active and which are being considered when admitting new pods. static is true if the pod is not from the apiserver.",
        ),
    ] {
        out.family(name, "gauge", help);
        for is_static in [false, true] {
            let value = if is_static { "true" } else { "" };
            out.sample(name, &[("static", value)], count(is_static, active));
        }
    }
    let mirrors = wanted.iter().filter(|pod| pod.is_static() && kubelet.pods.mirror(&pod.metadata.key()).is_some());
    let help = "The number of mirror pods the kubelet will try to create (one per admitted static pod)";
    out.single("kubelet_mirror_pods", "gauge", help, mirrors.count() as f64);
}

/// How full the claims of pods are: asked where a container that runs has one.
async fn volumes(kubelet: &Kubelet, out: &mut Exposition) {
    let mut places: HashMap<(String, String), PathBuf> = HashMap::new();
    for raw in kubelet
        .pods
        .list()
        .iter()
        .filter(|raw| raw.json().contains("persistentVolumeClaim") || raw.json().contains("\"ephemeral\""))
    {
        let Ok(pod) = raw.decode() else { continue };
        if let Err(error) = claims(kubelet, &pod, &mut places).await {
            debug!(pod = pod.display(), %error, "the volumes of a pod are not measured");
        }
    }
    let mut measured: Vec<((String, String), Disk)> = Vec::new();
    for (claim, path) in places {
        let at = path.clone();
        match kubelet.files.of_path("measure", &path, move || Disk::of(&at)).await {
            Ok(disk) => measured.extend(disk.map(|disk| (claim, disk))),
            Err(error) => warn!(%error, "a volume is not measured"),
        }
    }
    measured.sort_by(|a, b| a.0.cmp(&b.0));
    type Of = fn(&Disk) -> u64;
    let all: [(&str, &str, Of); 6] = [
        ("kubelet_volume_stats_available_bytes", "Number of available bytes in the volume", |d| d.available),
        ("kubelet_volume_stats_capacity_bytes", "Capacity in bytes of the volume", |d| d.capacity),
        ("kubelet_volume_stats_inodes", "Maximum number of inodes in the volume", |d| d.inodes),
        ("kubelet_volume_stats_inodes_free", "Number of free inodes in the volume", |d| d.inodes_free),
        ("kubelet_volume_stats_inodes_used", "Number of used inodes in the volume", Disk::inodes_used),
        ("kubelet_volume_stats_used_bytes", "Number of used bytes in the volume", |d| d.used),
    ];
    for (name, help, of) in all.into_iter().filter(|_| !measured.is_empty()) {
        out.family(name, "gauge", help);
        for ((namespace, claim), disk) in &measured {
            out.line(name, &written(&[("namespace", namespace), ("persistentvolumeclaim", claim)]), of(disk) as f64);
        }
    }
}

/// Where a pod's claims are on the node, as the runtime mounts them.
async fn claims(
    kubelet: &Kubelet,
    pod: &k8s_openapi::api::core::v1::Pod,
    places: &mut HashMap<(String, String), PathBuf>,
) -> Result<(), kedge_cri::Error> {
    let claim_of = |name: &str| {
        let volume = pod.volumes().iter().find(|volume| volume.name == name)?;
        let own = || volume.ephemeral.as_ref().map(|_| format!("{}-{name}", pod.name()));
        volume.persistent_volume_claim.as_ref().map(|source| source.claim_name.clone()).or_else(own)
    };
    for run in kubelet.observe(pod.uid()).await?.running() {
        let Some(container) = pod.container(&run.name) else { continue };
        let mounted: Vec<_> =
            container.volume_mounts.iter().flatten().filter_map(|m| Some((m, claim_of(&m.name)?))).collect();
        if mounted.is_empty() {
            continue;
        }
        let status = kubelet.runtime.container_status(&run.id, false).await?.status.unwrap_or_default();
        for (mount, claim) in mounted {
            let found = status.mounts.iter().find(|m| Path::new(&m.container_path) == Path::new(&mount.mount_path));
            if let Some(found) = found.filter(|found| !found.host_path.is_empty()) {
                places.entry((pod.namespace().to_owned(), claim)).or_insert_with(|| PathBuf::from(&found.host_path));
            }
        }
    }
    Ok(())
}

fn figures(out: &mut Exposition) {
    let figures = match process::figures() {
        Ok(figures) => figures,
        Err(error) => return warn!(%error, "cannot read the figures of this process"),
    };
    let gauges = [
        ("process_resident_memory_bytes", "Resident memory size in bytes.", figures.resident as f64),
        ("process_virtual_memory_bytes", "Virtual memory size in bytes.", figures.virtual_memory as f64),
        ("process_open_fds", "Number of open file descriptors.", figures.open_fds as f64),
        ("process_max_fds", "Maximum number of open file descriptors.", figures.max_fds as f64),
        ("process_start_time_seconds", "Start time of the process since unix epoch in seconds.", figures.started),
    ];
    for (name, help, value) in gauges {
        out.single(name, "gauge", help, value);
    }
    let help = "Total user and system CPU time spent in seconds.";
    out.single("process_cpu_seconds_total", "counter", help, figures.cpu_seconds);
}
