//! Starting one container: back-off, image, configuration, the runtime's two calls, and the hook behind them.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};
use kedge_base::random;
use kedge_client::EventType;
use kedge_cri::v1;
use tracing::{info, warn};

use super::duration::go_duration;
use super::environment::variables;
use super::kill::kill_container;
use crate::generate::{
    ContainerParts, ImageUser, container_config, host_and_domain, hosts_file, verify_run_as_non_root,
};
use crate::kubelet::Kubelet;
use crate::lifecycle::run_hook;
use crate::logs;
use crate::pod::PodExt;
use crate::runtime::{PodRuntime, State};
use crate::sync::{Kill, KillReason};
use crate::volumes::{MountPlan, MountedVolume, container_mounts};

const HOSTS: &str = "/etc/hosts";

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
        let (kubelet, pod) = (self.kubelet, self.pod);
        let image = kubelet.images.ensure(kubelet, pod, container, self.sandbox).await.inspect_err(|error| {
            self.event(container, EventType::Warning, "Failed", format!("Error: {}", error.reason));
        })?;
        let config = self
            .config(container, target, image)
            .await
            .map_err(|message| self.fail(container, "CreateContainerConfigError", message))?;
        let log = Path::new(&self.sandbox.log_directory).join(&config.log_path);
        let created = kubelet.runtime.create_container(self.sandbox_id, config, self.sandbox.clone()).await;
        let id = created.map_err(|error| self.fail(container, "CreateContainerError", error.message()))?;
        self.event(container, EventType::Normal, "Created", "Container created");
        if let Err(error) = kubelet.runtime.start_container(&id).await {
            return Err(self.fail(container, "RunContainerError", error.message()));
        }
        self.event(container, EventType::Normal, "Started", "Container started");
        info!(pod = pod.display(), container = container.name, id, "container started");
        self.link_log(container, &id, &log);
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
        let mut mounts = container_mounts(&MountPlan {
            pod,
            container,
            volumes: self.volumes,
            env: &env,
            directories: &kubelet.directories,
            mounter: kubelet.volumes.mounter().as_ref(),
        })?;
        self.own_mounts(container, &mut mounts)?;
        let parts = ContainerParts {
            restart_count: self.restart_count(container),
            image_ref: image,
            image_user,
            env,
            mounts,
            target,
            machine: &kubelet.machine,
            seccomp_root: &kubelet.directories.seccomp().display().to_string(),
        };
        Ok(container_config(pod, container, parts))
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

    /// The files that the kubelet gives to every container: the hosts file and the termination message.
    fn own_mounts(&self, container: &Container, mounts: &mut Vec<v1::Mount>) -> Result<(), String> {
        let (kubelet, pod) = (self.kubelet, self.pod);
        let taken = mounts.iter().any(|m| m.container_path == HOSTS);
        if !taken && (pod.host_network() || !self.ips.is_empty()) {
            let path = kubelet.directories.hosts_file(pod.uid());
            self.write_hosts(&path).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
            mounts.push(v1::Mount {
                container_path: HOSTS.into(),
                host_path: path.display().to_string(),
                ..Default::default()
            });
        }
        let Some(path) = container.termination_message_path.as_deref().filter(|p| !p.is_empty()) else { return Ok(()) };
        let directory = kubelet.directories.container(pod.uid(), &container.name);
        // A name of its own for each attempt, so that the message of the one before can still be read.
        let file = directory.join(format!("{:08x}", random::u64() >> 32));
        let make = || -> std::io::Result<()> {
            fs::create_dir_all(&directory)?;
            fs::File::create(&file)?;
            fs::set_permissions(&file, fs::Permissions::from_mode(0o666))
        };
        make().map_err(|error| format!("error on creating termination-log file {}: {error}", file.display()))?;
        mounts.push(v1::Mount {
            container_path: if path.starts_with('/') { path.to_string() } else { format!("/{path}") },
            host_path: file.display().to_string(),
            ..Default::default()
        });
        Ok(())
    }

    fn write_hosts(&self, path: &Path) -> Result<(), String> {
        let (host, domain) = host_and_domain(self.pod, &self.kubelet.config.cluster_domain)?;
        let text = |error: std::io::Error| error.to_string();
        let node = match self.pod.host_network() {
            true => Some(fs::read_to_string(HOSTS).map_err(text)?),
            false => None,
        };
        let aliases = PodExt::spec(self.pod).host_aliases.as_deref().unwrap_or_default();
        fs::write(path, hosts_file(self.ips, &host, &domain, aliases, node.as_deref())).map_err(text)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o644)).map_err(text)
    }

    /// One more than that of the last attempt; after the runtime lost everything, one more than the last log's.
    fn restart_count(&self, container: &Container) -> i32 {
        if let Some(run) = self.runtime.latest(&container.name) {
            return run.restart_count.saturating_add(1);
        }
        let directory = logs::container_log_dir(Path::new(&self.sandbox.log_directory), &container.name);
        let names = fs::read_dir(directory).into_iter().flatten().flatten();
        let counts = names.filter_map(|e| {
            let name = e.file_name().into_string().ok()?;
            let (count, _) = name.split_once(".log")?;
            count.parse::<i32>().ok()
        });
        counts.max().map_or(0, |count| count.saturating_add(1))
    }

    /// Log collectors look for containers by these names.
    fn link_log(&self, container: &Container, id: &str, log: &Path) {
        let Some(directory) = &self.kubelet.config.container_log_dir else { return };
        let pod = self.pod;
        let link = logs::legacy_symlink(directory, pod.name(), pod.namespace(), &container.name, id);
        if log.exists()
            && let Err(error) = std::os::unix::fs::symlink(log, &link)
        {
            warn!(pod = pod.display(), link = %link.display(), %error, "cannot link the container's log");
        }
    }

    async fn post_start(&self, container: &Container, id: &str) -> Result<(), StartError> {
        let hook = container.lifecycle.as_ref().and_then(|l| l.post_start.as_ref());
        let Some(hook) = hook else { return Ok(()) };
        let Err(message) = run_hook(self.kubelet, self.pod, container, id, hook).await else { return Ok(()) };
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
