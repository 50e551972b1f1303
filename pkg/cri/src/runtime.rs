//! The runtime as the kubelet sees it: one method a CRI call, ids and messages in and out, no policy.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;

use crate::Error;
use crate::v1;

/// Wake-ups by the runtime: ids of containers or sandboxes that changed state.
pub type ContainerEvents = BoxStream<'static, Result<String, Error>>;

/// The output of a command that ran to its end inside a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecOutput {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub exit_code: i32,
}

/// Which streams an exec or attach session carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Streams {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
}

/// A command to run through the runtime's streaming server.
#[derive(Clone, Debug, Default)]
pub struct Exec {
    pub container_id: String,
    pub command: Vec<String>,
    pub streams: Streams,
}

/// The container runtime. Errors are the runtime's own, see [`Error`]; removing or stopping what is gone is no error
/// for the runtimes that follow CRI, but a caller should still accept [`Error::is_not_found`].
#[async_trait]
pub trait Runtime: Send + Sync + 'static {
    async fn version(&self) -> Result<v1::VersionResponse, Error>;
    /// Conditions, and with `verbose` the runtime's own configuration as JSON strings.
    async fn status(&self, verbose: bool) -> Result<v1::StatusResponse, Error>;
    /// What the runtime decides about its host: the cgroup driver. Unimplemented before containerd 2.0.
    async fn runtime_config(&self) -> Result<v1::RuntimeConfigResponse, Error>;
    /// Tells the runtime the node's pod CIDR; containerd only uses it for a CNI template.
    async fn update_runtime_config(&self, pod_cidr: &str) -> Result<(), Error>;

    /// Creates and starts a sandbox; returns its id.
    async fn run_pod_sandbox(&self, config: v1::PodSandboxConfig, handler: &str) -> Result<String, Error>;
    async fn stop_pod_sandbox(&self, id: &str) -> Result<(), Error>;
    async fn remove_pod_sandbox(&self, id: &str) -> Result<(), Error>;
    async fn pod_sandbox_status(&self, id: &str, verbose: bool) -> Result<v1::PodSandboxStatusResponse, Error>;
    /// Sandboxes that carry all of `labels`.
    async fn list_pod_sandboxes(&self, labels: HashMap<String, String>) -> Result<Vec<v1::PodSandbox>, Error>;

    /// Creates a container in a sandbox; returns its id.
    async fn create_container(
        &self,
        sandbox_id: &str,
        config: v1::ContainerConfig,
        sandbox: v1::PodSandboxConfig,
    ) -> Result<String, Error>;
    async fn start_container(&self, id: &str) -> Result<(), Error>;
    /// Asks the container to stop, and kills it after `grace`.
    async fn stop_container(&self, id: &str, grace: Duration) -> Result<(), Error>;
    async fn remove_container(&self, id: &str) -> Result<(), Error>;
    async fn container_status(&self, id: &str, verbose: bool) -> Result<v1::ContainerStatusResponse, Error>;
    /// Containers in any state that carry all of `labels`.
    async fn list_containers(&self, labels: HashMap<String, String>) -> Result<Vec<v1::Container>, Error>;
    async fn update_container_resources(&self, id: &str, linux: v1::LinuxContainerResources) -> Result<(), Error>;
    /// Writes what a container is at the moment to `location`; many runtimes cannot.
    async fn checkpoint_container(&self, id: &str, location: &str, timeout: Duration) -> Result<(), Error>;
    async fn reopen_container_log(&self, id: &str) -> Result<(), Error>;

    /// Runs a command in a container and waits for its end, at most `timeout` (zero: the client's own limit).
    async fn exec_sync(&self, id: &str, command: Vec<String>, timeout: Duration) -> Result<ExecOutput, Error>;
    /// The URL of the runtime's streaming server for this exec session.
    async fn exec_url(&self, exec: Exec) -> Result<String, Error>;
    async fn attach_url(&self, id: &str, streams: Streams) -> Result<String, Error>;
    async fn port_forward_url(&self, sandbox_id: &str, ports: Vec<i32>) -> Result<String, Error>;

    async fn container_stats(&self, id: &str) -> Result<v1::ContainerStats, Error>;
    async fn list_container_stats(&self) -> Result<Vec<v1::ContainerStats>, Error>;
    async fn list_pod_sandbox_stats(&self) -> Result<Vec<v1::PodSandboxStats>, Error>;

    async fn list_images(&self) -> Result<Vec<v1::Image>, Error>;
    /// The image, or `None` when the runtime does not have it.
    async fn image_status(&self, image: v1::ImageSpec) -> Result<Option<v1::Image>, Error>;
    /// Pulls an image; returns the reference to use for it from now on.
    async fn pull_image(
        &self,
        image: v1::ImageSpec,
        auth: Option<v1::AuthConfig>,
        sandbox: v1::PodSandboxConfig,
    ) -> Result<String, Error>;
    async fn remove_image(&self, image: v1::ImageSpec) -> Result<(), Error>;
    async fn image_fs_info(&self) -> Result<v1::ImageFsInfoResponse, Error>;

    /// A stream of wake-ups and the name of its source, for the log.
    ///
    /// # Errors
    /// [`Error::is_unimplemented`] when the runtime has no such stream: then only listing tells of changes.
    async fn events(&self) -> Result<(ContainerEvents, &'static str), Error>;
}
