//! Puts a kubelet together and starts its tasks.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kedge_base::{TaskGroup, time};
use kedge_client::{EventRecorder, Informer, ListParams, WorkQueue};
use kedge_cri::{CriClient, Runtime};
use kedge_meta::resources;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::backoff::KeyedBackoff;
use crate::cgroups::{self, Cgroups};
use crate::config::{KubeletConfig, KubeletError};
use crate::csi::Csi;
use crate::eviction;
use crate::files::Files;
use crate::generate::Machine;
use crate::kubelet::{Kubelet, Wakeups};
use crate::logs::Rotator;
use crate::metrics::Metrics;
use crate::node;
use crate::objects::Objects;
use crate::pod::PodExt;
use crate::pods::Pods;
use crate::probes::{ProbeChange, ProbeContext, ProbeKind, Probes};
use crate::runtime::{Counted, Pleg, RuntimeHealth};
use crate::server;
use crate::static_pods;
use crate::status::StatusManager;
use crate::volumes::{Directories, KernelMounter, Refreshing, Tokens, Tools, Volumes, boot_id};
use crate::worker::{ImageGc, Images, Undisturbed, Workers, start_gc, start_image_gc, start_storage_limits};

/// Upstream's delays of containers that end again and again.
const FIRST_RESTART: Duration = Duration::from_secs(10);
const LAST_RESTART: Duration = Duration::from_secs(300);
/// How long the start waits for the runtime's first answer.
const FIRST_CHECK: Duration = Duration::from_secs(2);
/// Upstream's `containerLogMaxSize` and `containerLogMaxFiles`.
const LOG_SIZE: u64 = 10 * 1024 * 1024;
const LOG_FILES: usize = 5;

/// Starts the kubelet and returns. Its tasks end with `tasks`; pods go on running, and the next kubelet finds them.
///
/// # Errors
/// [`KubeletError`] for a configuration that cannot work. A container runtime that does not answer is waited for.
pub async fn run(config: KubeletConfig, tasks: &TaskGroup) -> Result<(), KubeletError> {
    let runtime = CriClient::new(&config.cri_endpoint).map_err(KubeletError::Endpoint)?;
    start(config, Arc::new(runtime), Some(cgroups::detect()), tasks).await
}

/// `groups`: where pods are limited; `None` leaves that to the runtime.
async fn start(
    config: KubeletConfig,
    runtime: Arc<dyn Runtime>,
    groups: Option<Arc<dyn Cgroups>>,
    tasks: &TaskGroup,
) -> Result<(), KubeletError> {
    let config = with_plain_root(config)?;
    let directories = Directories::new(&config.root_dir);
    let pods_dir = directories.pods();
    let needed = [Some(pods_dir.as_path()), Some(&config.pod_log_dir), config.container_log_dir.as_deref()];
    needed.into_iter().flatten().try_for_each(make_directory)?;
    let kubelet = assemble(config, runtime, groups, directories, tasks);

    // A runtime that is there is known before the first pod; one that hangs does not hold up the rest.
    let _ = time::timeout(FIRST_CHECK, kubelet.health.check()).await;
    kubelet.health.start(tasks);
    follow_health(&kubelet, tasks);
    let wakeups = kubelet.wakeups.clone();
    kubelet.pleg.start(tasks, move |uid| wakeups.wake(uid));
    kubelet.volumes.csi().recall().await;
    node::start(&kubelet, tasks);
    if kubelet.config.register_node {
        kubelet.volumes.csi().start(tasks);
    }
    let workers = Workers::start(kubelet.clone(), tasks);
    match kubelet.config.static_pods.clone() {
        Some(path) => static_pods::start(&kubelet, &workers, path, tasks).await,
        None => static_pods::without_files(&kubelet, &workers, tasks),
    }
    start_gc(kubelet.clone(), workers.clone(), tasks);
    start_storage_limits(kubelet.clone(), workers.clone(), tasks);
    eviction::start(kubelet.clone(), workers, tasks);
    start_image_gc(kubelet.clone(), tasks);
    let rotator = Rotator {
        runtime: kubelet.runtime.clone(),
        clock: kubelet.clock.clone(),
        files: kubelet.files.clone(),
        max_size: LOG_SIZE,
        max_files: LOG_FILES,
    };
    rotator.start(tasks);
    if let Some(serving) = &kubelet.config.serving {
        server::start(kubelet.clone(), serving, tasks).await?;
    }
    info!(node = kubelet.config.node_name, "kubelet started");
    Ok(())
}

/// The mount table has paths without links: by another name of its directory the kubelet would find none of its mounts.
fn with_plain_root(mut config: KubeletConfig) -> Result<KubeletConfig, KubeletError> {
    make_directory(&config.root_dir)?;
    let plain = std::fs::canonicalize(&config.root_dir);
    config.root_dir = plain.map_err(|source| KubeletError::Directory { path: config.root_dir.clone(), source })?;
    Ok(config)
}

fn make_directory(path: &Path) -> Result<(), KubeletError> {
    std::fs::create_dir_all(path).map_err(|source| KubeletError::Directory { path: path.to_path_buf(), source })
}

fn assemble(
    config: KubeletConfig,
    runtime: Arc<dyn Runtime>,
    groups: Option<Arc<dyn Cgroups>>,
    directories: Directories,
    tasks: &TaskGroup,
) -> Arc<Kubelet> {
    let (client, clock) = (config.client.clone(), config.clock.clone());
    let metrics = Arc::new(Metrics::default());
    let runtime: Arc<dyn Runtime> = Arc::new(Counted::new(runtime, metrics.clone(), clock.clone()));
    let recorder = EventRecorder::new(&client, clock.clone(), tasks, "kubelet", &config.node_name);
    let mine = ListParams::fields(format!("spec.nodeName={}", config.node_name));
    let pods = Pods::new(Informer::start(&client, tasks, &resources::PODS, mine));
    let services = Informer::start(&client, tasks, &resources::SERVICES, ListParams::default());
    let statuses = StatusManager::start(client.clone(), clock.clone(), pods.clone(), tasks);
    let machine = Arc::new(node::machine(groups.as_deref(), &config.args.eviction_hard));
    let wakeups = Arc::new(Wakeups::default());
    let waker = wakeups.clone();
    let changed: Arc<dyn Fn(&str) + Send + Sync> = Arc::new(move |uid: &str| waker.wake(uid));
    let config_maps = Arc::new(Objects::config_maps(client.clone(), tasks, changed.clone()));
    let secrets = Arc::new(Objects::secrets(client.clone(), tasks, changed));
    let files = Files::new(clock.clone(), tasks.ledger());
    let (node, reports) = (config.node_name.clone(), config.register_node);
    let tokens = Arc::new(Tokens::new(client.clone(), clock.clone()));
    let csi = Csi::new(
        client.clone(),
        clock.clone(),
        files.clone(),
        directories.clone(),
        node,
        reports,
        tokens.clone(),
        tasks.clone(),
    );
    let volumes = Arc::new(Volumes::new(Tools {
        client,
        clock: clock.clone(),
        directories: directories.clone(),
        mounter: Arc::new(KernelMounter),
        files: files.clone(),
        config_maps: config_maps.clone(),
        secrets: secrets.clone(),
        machine: machine.clone(),
        tokens,
        csi: Arc::new(csi),
        boot: boot_id(),
    }));
    let status = statuses.clone();
    let context = ProbeContext {
        clock: clock.clone(),
        runtime: runtime.clone(),
        recorder: recorder.clone(),
        status: Arc::new(move |uid: &str| status.get(uid)),
        changed: on_probe(statuses.clone(), wakeups.clone()),
    };
    Arc::new(Kubelet {
        health: RuntimeHealth::new(runtime.clone(), clock.clone(), config.runtime_problem.clone()),
        pleg: Pleg::new(runtime.clone(), clock.clone(), metrics.clone()),
        probes: Probes::new(context, tasks),
        cgroups: groups.and_then(|groups| usable(groups, &machine)),
        images: Images::new(config.args.parallel_pulls),
        restarts: KeyedBackoff::new(FIRST_RESTART, LAST_RESTART),
        metrics,
        config,
        runtime,
        recorder,
        mirrors: WorkQueue::new(clock.clone(), tasks),
        pods,
        services,
        statuses,
        config_maps,
        secrets,
        files,
        refreshing: Arc::new(Refreshing::new(volumes.clone(), clock.clone(), tasks.clone())),
        volumes,
        directories,
        machine,
        wakeups,
        clock,
        calls: Undisturbed::default(),
        pressure: watch::Sender::default(),
        image_gc: ImageGc::default(),
    })
}

/// Groups of pods, if this process may make them.
fn usable(cgroups: Arc<dyn Cgroups>, machine: &Machine) -> Option<Arc<dyn Cgroups>> {
    match cgroups::ensure_classes(cgroups.as_ref(), machine.allocatable_cpu_millis) {
        Ok(()) => Some(cgroups),
        Err(error) => {
            warn!(%error, "cannot make cgroups for pods; containers are left in the runtime's own place");
            None
        }
    }
}

/// A verdict shows in the status at once, and the worker acts on it.
fn on_probe(statuses: Arc<StatusManager>, wakeups: Arc<Wakeups>) -> Arc<dyn Fn(&ProbeChange) + Send + Sync> {
    Arc::new(move |change: &ProbeChange| {
        let (id, success) = (&change.container_id, change.success);
        match change.kind {
            ProbeKind::Readiness => statuses.set_probed(&change.pod, id, |status| status.ready = success),
            ProbeKind::Startup => statuses.set_probed(&change.pod, id, |status| status.started = Some(success)),
            ProbeKind::Liveness => {}
        }
        wakeups.wake(change.pod.uid());
    })
}

/// When the runtime or its network comes back, all pods are looked at.
fn follow_health(kubelet: &Arc<Kubelet>, tasks: &TaskGroup) {
    let kubelet = kubelet.clone();
    tasks.spawn_worker("runtime-health-wakeups", move || {
        let (mut changes, wakeups) = (kubelet.health.subscribe(), kubelet.wakeups.clone());
        async move {
            while changes.changed().await.is_ok() {
                wakeups.wake_all();
            }
        }
    });
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "static_run_tests.rs"]
mod static_tests;
