//! Starting one container: back-off, image, configuration, the runtime's two calls, and the hook behind them.

use std::collections::HashMap;
use std::path::Path;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};
use kedge_base::exposition::written;
use kedge_base::random;
use kedge_client::EventType;
use kedge_cri::v1;
use tracing::{info, warn};

use super::duration::go_duration;
use super::environment::variables;
use super::kill::kill_container;
use super::own_files::{Attempt, HOSTS, Hosts, OwnFiles};
use crate::generate::{ContainerParts, ImageUser, container_config, host_and_domain, verify_run_as_non_root};
use crate::kubelet::Kubelet;
use crate::lifecycle::{NO_LIMIT, run_hook};
use crate::logs;
use crate::metrics::label;
use crate::pod::PodExt;
use crate::runtime::{PodRuntime, State};
use crate::sync::{Kill, KillReason};
use crate::volumes::{MountPlan, MountedVolume, SubPath, container_devices, container_mounts};

/// Why a container was not started: its waiting state.
#[derive(Debug)]
pub(super) struct StartError {
    pub(super) reason: &'static str,
    pub(super) message: String,
    /// When a delay is over, if that is all there is to wait for.
    pub(super) until: Option<Timestamp>,
}

impl StartError {
    pub(super) fn new(reason: &'static str, message: impl Into<String>) -> StartError {
        StartError { reason, message: message.into(), until: None }
    }
}

/// What all containers of a pod have in common when they start.
pub(super) struct Starter<'a> {
    pub(super) kubelet: &'a Kubelet,
    pub(super) pod: &'a Pod,
    pub(super) runtime: &'a PodRuntime,
    pub(super) volumes: &'a HashMap<String, MountedVolume>,
    pub(super) sandbox_id: &'a str,
    pub(super) sandbox: &'a v1::PodSandboxConfig,
    pub(super) ips: &'a [String],
}

impl Starter<'_> {
    fn event(&self, container: &Container, kind: EventType, reason: &str, message: impl Into<String>) {
        self.kubelet.event(&self.pod.container_reference(&container.name), kind, reason, message);
    }

    /// Fails with an event that says the same.
    fn fail(&self, container: &Container, reason: &'static str, message: String) -> StartError {
        self.event(container, EventType::Warning, "Failed", format!("Error: {message}"));
        StartError::new(reason, message)
    }

    /// Starts one container. `target` names the container whose processes an ephemeral one shares.
    ///
    /// # Errors
    /// [`StartError`]; events are already written.
    pub(super) async fn start(&self, container: &Container, target: Option<&str>) -> Result<(), StartError> {
        self.back_off(container)?;
        let kind = if target.is_some() { "ephemeral_container" } else { self.kind(container) };
        self.kubelet.metrics.started_containers.add(label("container_type", kind));
        let started = self.start_now(container, target).await;
        if let Err(error) = &started {
            let labels = [("code", error.reason), ("container_type", kind)];
            self.kubelet.metrics.failed_containers.add(written(&labels));
        }
        started
    }

    /// The word in metrics.
    fn kind(&self, container: &Container) -> &'static str {
        let is = |list: &[Container]| list.iter().any(|c| c.name == container.name);
        match () {
            () if is(&PodExt::spec(self.pod).containers) => "container",
            () if is(self.pod.init_containers()) => "init_container",
            () => "ephemeral_container",
        }
    }

    async fn start_now(&self, container: &Container, target: Option<&str>) -> Result<(), StartError> {
        let (kubelet, pod) = (self.kubelet, self.pod);
        let image = kubelet.images.ensure(kubelet, pod, container, self.sandbox).await.inspect_err(|error| {
            self.event(container, EventType::Warning, "Failed", format!("Error: {}", error.reason));
        })?;
        let volumes = self.image_volumes(container).await?;
        let config = self
            .config(container, target, image, &volumes)
            .await
            .map_err(|message| self.fail(container, "CreateContainerConfigError", message))?;
        let log = Path::new(&self.sandbox.log_directory).join(&config.log_path);
        let call = kubelet.calls.of(pod.uid());
        let undisturbed = call.lock().await;
        let created = kubelet.runtime.create_container(self.sandbox_id, config, self.sandbox.clone()).await;
        let id = created.map_err(|error| self.fail(container, "CreateContainerError", error.message()))?;
        self.event(container, EventType::Normal, "Created", "Container created");
        if let Err(error) = kubelet.runtime.start_container(&id).await {
            return Err(self.fail(container, "RunContainerError", error.message()));
        }
        drop(undisturbed);
        self.event(container, EventType::Normal, "Started", "Container started");
        info!(pod = pod.display(), container = container.name, id, "container started");
        self.link_log(container, &id, &log).await;
        self.post_start(container, &id).await
    }

    /// A container that ended a short while ago is not started yet.
    fn back_off(&self, container: &Container) -> Result<(), StartError> {
        let (kubelet, pod) = (self.kubelet, self.pod);
        let exited = |r: &&crate::runtime::ContainerRun| r.name == container.name && r.state == State::Exited;
        let Some(last) = self.runtime.containers.iter().find(exited) else { return Ok(()) };
        let now = kubelet.clock.now();
        let ended = last.finished_at.unwrap_or(last.created_at);
        let key = format!("{}_{}_{}", pod.uid(), container.name, container.image.as_deref().unwrap_or_default());
        let Some(until) = kubelet.restarts.until(&key, ended, now) else {
            kubelet.restarts.next(&key, ended, now);
            return Ok(());
        };
        let name = &container.name;
        let message = format!("Back-off restarting failed container {name} in pod {}", pod.display());
        self.event(container, EventType::Warning, "BackOff", message);
        let delay = go_duration(kubelet.restarts.get(&key));
        let message = format!("back-off {delay} restarting failed container={name} pod={}", pod.display());
        Err(StartError { until: Some(until), ..StartError::new("CrashLoopBackOff", message) })
    }

    async fn config(
        &self,
        container: &Container,
        target: Option<&str>,
        image: String,
        image_volumes: &HashMap<String, String>,
    ) -> Result<v1::ContainerConfig, String> {
        let (kubelet, pod) = (self.kubelet, self.pod);
        let target = match target.filter(|name| !name.is_empty()) {
            None => None,
            Some(name) => {
                let run = self.runtime.latest(name);
                Some(run.map(|r| r.id.clone()).ok_or_else(|| format!("unable to find target container {name}"))?)
            }
        };
        let image_user = self.image_user(&image).await?;
        verify_run_as_non_root(pod, container, &image_user)?;
        let env = variables(kubelet, pod, container, self.ips).await?;
        let (mut mounts, sub_paths) = container_mounts(&MountPlan {
            pod,
            container,
            volumes: self.volumes,
            env: &env,
            directories: &kubelet.directories,
        })?;
        for spec in mounts.iter_mut().filter_map(|mount| mount.image.as_mut()) {
            if let Some(id) = image_volumes.get(&spec.image) {
                spec.user_specified_image = std::mem::replace(&mut spec.image, id.clone());
            }
        }
        let devices = container_devices(container, self.volumes)?;
        self.prepare_sub_paths(sub_paths).await?;
        let own = self.own_files(container, &mounts)?;
        mounts.extend(own.mounts());
        let restart_count = self.write(own).await?;
        let parts = ContainerParts {
            restart_count,
            image_ref: image,
            image_user,
            env,
            mounts,
            devices,
            target,
            machine: &kubelet.machine,
            seccomp_root: &kubelet.directories.seccomp().display().to_string(),
        };
        container_config(pod, container, parts)
    }

    /// The images that the container has as volumes, by what the pod calls them, as the runtime knows them.
    async fn image_volumes(&self, container: &Container) -> Result<HashMap<String, String>, StartError> {
        let mut ids = HashMap::new();
        for volume in self.pod.volumes() {
            let is_mounted = container.volume_mounts.iter().flatten().any(|mount| mount.name == volume.name);
            let Some(source) = volume.image.as_ref().filter(|_| is_mounted) else { continue };
            let images = &self.kubelet.images;
            let id = images.ensure_volume(self.kubelet, self.pod, source, self.sandbox).await.inspect_err(|error| {
                self.event(container, EventType::Warning, "Failed", format!("Error: {}", error.reason));
            })?;
            ids.insert(source.reference.clone().unwrap_or_default(), id);
        }
        Ok(ids)
    }

    async fn image_user(&self, image: &str) -> Result<ImageUser, String> {
        let spec = v1::ImageSpec { image: image.to_string(), ..Default::default() };
        let found = self.kubelet.runtime.image_status(spec).await.map_err(|error| error.to_string())?;
        let found = found.ok_or_else(|| format!("image {image:?} not found"))?;
        // Root is what an image without a word about it runs as.
        let nobody_said = found.uid.is_none() && found.username.is_empty();
        let uid = found.uid.map(|u| u.value).or(nobody_said.then_some(0));
        Ok(ImageUser { uid, name: found.username })
    }

    async fn prepare_sub_paths(&self, sub_paths: Vec<SubPath>) -> Result<(), String> {
        let Some(volume) = sub_paths.first().map(|first| first.volume.clone()) else { return Ok(()) };
        let mounter = self.kubelet.volumes.mounter().clone();
        let prepare = move || sub_paths.iter().try_for_each(|sub| sub.prepare(mounter.as_ref()));
        let prepared = self.kubelet.files.of_pod(self.pod.uid(), "open the sub-paths of", &volume, prepare).await;
        prepared
            .inspect_err(|error| self.kubelet.pod_warning(self.pod, "FailedMount", error.to_string()))
            .map_err(|error| error.to_string())?
    }

    /// The files that the kubelet gives to every container: the hosts file and the termination message.
    fn own_files(&self, container: &Container, mounts: &[v1::Mount]) -> Result<OwnFiles, String> {
        let (kubelet, pod) = (self.kubelet, self.pod);
        let taken = mounts.iter().any(|m| m.container_path == HOSTS);
        let hosts = if !taken && (pod.host_network() || !self.ips.is_empty()) {
            let (host, domain) = host_and_domain(pod, &kubelet.config.cluster_domain)?;
            let aliases = PodExt::spec(pod).host_aliases.clone().unwrap_or_default();
            let path = kubelet.directories.hosts_file(pod.uid());
            Some(Hosts { path, ips: self.ips.to_vec(), host, domain, aliases, of_node: pod.host_network() })
        } else {
            None
        };
        let path = container.termination_message_path.as_deref().filter(|p| !p.is_empty());
        let termination = path.map(|path| {
            let directory = kubelet.directories.container(pod.uid(), &container.name);
            // A name of its own for each attempt, so that the message of the one before can still be read.
            let file = directory.join(format!("{:08x}", random::u64() >> 32));
            (if path.starts_with('/') { path.to_string() } else { format!("/{path}") }, file)
        });
        // One more than that of the last attempt; after the runtime lost everything, one more than the last log's.
        let restart_count = match self.runtime.latest(&container.name) {
            Some(run) => Attempt::Known(run.restart_count.saturating_add(1)),
            None => {
                let logs = logs::container_log_dir(Path::new(&self.sandbox.log_directory), &container.name);
                Attempt::AfterLogsIn(logs)
            }
        };
        Ok(OwnFiles { hosts, termination, restart_count })
    }

    /// Writes them, and says which attempt the container is.
    async fn write(&self, own: OwnFiles) -> Result<i32, String> {
        let path = self.kubelet.directories.pod(self.pod.uid());
        let written = self.kubelet.files.of_pod(self.pod.uid(), "write to", &path, move || own.write()).await;
        written.map_err(|error| error.to_string())?
    }

    /// Log collectors look for containers by these names.
    async fn link_log(&self, container: &Container, id: &str, log: &Path) {
        let Some(directory) = &self.kubelet.config.container_log_dir else { return };
        let pod = self.pod;
        let link = logs::legacy_symlink(directory, pod.name(), pod.namespace(), &container.name, id);
        let (log, made) = (log.to_path_buf(), link.clone());
        let make = move || if log.exists() { std::os::unix::fs::symlink(&log, &made) } else { Ok(()) };
        let linked = match self.kubelet.files.of_pod(pod.uid(), "link", &link, make).await {
            Ok(linked) => linked.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = linked {
            warn!(pod = pod.display(), link = %link.display(), error, "cannot link the container's log");
        }
    }

    async fn post_start(&self, container: &Container, id: &str) -> Result<(), StartError> {
        let hook = container.lifecycle.as_ref().and_then(|l| l.post_start.as_ref());
        let Some(hook) = hook else { return Ok(()) };
        let Err(message) = run_hook(self.kubelet, self.pod, container, id, hook, NO_LIMIT).await else { return Ok(()) };
        warn!(pod = self.pod.display(), container = container.name, message, "postStart hook failed");
        self.event(container, EventType::Warning, "FailedPostStartHook", "PostStartHook failed");
        let kill = Kill {
            id: id.to_string(),
            name: container.name.clone(),
            message: "FailedPostStartHook".into(),
            reason: KillReason::Other,
        };
        if let Err(error) = kill_container(self.kubelet, self.pod, &kill).await {
            warn!(pod = self.pod.display(), container = container.name, %error, "cannot kill the container");
        }
        Err(StartError::new("PostStartHookError", message))
    }
}
