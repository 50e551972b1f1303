//! The runtime, with every call counted and timed by the names that upstream gives them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kedge_base::SharedClock;
use kedge_cri::{ContainerEvents, Error, Exec, ExecOutput, Runtime, Streams, v1};

use crate::metrics::{Metrics, label};

/// Passes everything on.
pub(crate) struct Counted {
    inner: Arc<dyn Runtime>,
    metrics: Arc<Metrics>,
    clock: SharedClock,
}

impl Counted {
    pub(crate) fn new(inner: Arc<dyn Runtime>, metrics: Arc<Metrics>, clock: SharedClock) -> Counted {
        Counted { inner, metrics, clock }
    }

    async fn count<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let begun = self.clock.monotonic();
        let result = call.await;
        let took = self.clock.monotonic().saturating_sub(begun);
        let labels = label("operation_type", operation);
        self.metrics.runtime_operations.add(labels.clone());
        if result.is_err() {
            self.metrics.runtime_errors.add(labels.clone());
        }
        self.metrics.runtime_durations.observe(labels, took.as_secs_f64());
        result
    }
}

#[async_trait]
impl Runtime for Counted {
    async fn version(&self) -> Result<v1::VersionResponse, Error> {
        self.count("version", self.inner.version()).await
    }

    async fn status(&self, verbose: bool) -> Result<v1::StatusResponse, Error> {
        self.count("status", self.inner.status(verbose)).await
    }

    async fn runtime_config(&self) -> Result<v1::RuntimeConfigResponse, Error> {
        self.count("runtime_config", self.inner.runtime_config()).await
    }

    async fn update_runtime_config(&self, pod_cidr: &str) -> Result<(), Error> {
        self.count("update_runtime_config", self.inner.update_runtime_config(pod_cidr)).await
    }

    async fn run_pod_sandbox(&self, config: v1::PodSandboxConfig, handler: &str) -> Result<String, Error> {
        self.count("run_podsandbox", self.inner.run_pod_sandbox(config, handler)).await
    }

    async fn stop_pod_sandbox(&self, id: &str) -> Result<(), Error> {
        self.count("stop_podsandbox", self.inner.stop_pod_sandbox(id)).await
    }

    async fn remove_pod_sandbox(&self, id: &str) -> Result<(), Error> {
        self.count("remove_podsandbox", self.inner.remove_pod_sandbox(id)).await
    }

    async fn pod_sandbox_status(&self, id: &str, verbose: bool) -> Result<v1::PodSandboxStatusResponse, Error> {
        self.count("podsandbox_status", self.inner.pod_sandbox_status(id, verbose)).await
    }

    async fn list_pod_sandboxes(&self, labels: HashMap<String, String>) -> Result<Vec<v1::PodSandbox>, Error> {
        self.count("list_podsandbox", self.inner.list_pod_sandboxes(labels)).await
    }

    async fn create_container(
        &self,
        sandbox_id: &str,
        config: v1::ContainerConfig,
        sandbox: v1::PodSandboxConfig,
    ) -> Result<String, Error> {
        self.count("create_container", self.inner.create_container(sandbox_id, config, sandbox)).await
    }

    async fn start_container(&self, id: &str) -> Result<(), Error> {
        self.count("start_container", self.inner.start_container(id)).await
    }

    async fn stop_container(&self, id: &str, grace: Duration) -> Result<(), Error> {
        self.count("stop_container", self.inner.stop_container(id, grace)).await
    }

    async fn remove_container(&self, id: &str) -> Result<(), Error> {
        self.count("remove_container", self.inner.remove_container(id)).await
    }

    async fn container_status(&self, id: &str, verbose: bool) -> Result<v1::ContainerStatusResponse, Error> {
        self.count("container_status", self.inner.container_status(id, verbose)).await
    }

    async fn list_containers(&self, labels: HashMap<String, String>) -> Result<Vec<v1::Container>, Error> {
        self.count("list_containers", self.inner.list_containers(labels)).await
    }

    async fn update_container_resources(&self, id: &str, linux: v1::LinuxContainerResources) -> Result<(), Error> {
        self.count("update_container", self.inner.update_container_resources(id, linux)).await
    }

    async fn checkpoint_container(&self, id: &str, location: &str, timeout: Duration) -> Result<(), Error> {
        self.count("checkpoint_container", self.inner.checkpoint_container(id, location, timeout)).await
    }

    async fn reopen_container_log(&self, id: &str) -> Result<(), Error> {
        self.count("reopen_container_log", self.inner.reopen_container_log(id)).await
    }

    async fn exec_sync(&self, id: &str, command: Vec<String>, timeout: Duration) -> Result<ExecOutput, Error> {
        self.count("exec_sync", self.inner.exec_sync(id, command, timeout)).await
    }

    async fn exec_url(&self, exec: Exec) -> Result<String, Error> {
        self.count("exec", self.inner.exec_url(exec)).await
    }

    async fn attach_url(&self, id: &str, streams: Streams) -> Result<String, Error> {
        self.count("attach", self.inner.attach_url(id, streams)).await
    }

    async fn port_forward_url(&self, sandbox_id: &str, ports: Vec<i32>) -> Result<String, Error> {
        self.count("port_forward", self.inner.port_forward_url(sandbox_id, ports)).await
    }

    async fn container_stats(&self, id: &str) -> Result<v1::ContainerStats, Error> {
        self.count("container_stats", self.inner.container_stats(id)).await
    }

    async fn list_container_stats(&self) -> Result<Vec<v1::ContainerStats>, Error> {
        self.count("list_container_stats", self.inner.list_container_stats()).await
    }

    async fn list_pod_sandbox_stats(&self) -> Result<Vec<v1::PodSandboxStats>, Error> {
        self.count("list_podsandbox_stats", self.inner.list_pod_sandbox_stats()).await
    }

    async fn list_images(&self) -> Result<Vec<v1::Image>, Error> {
        self.count("list_images", self.inner.list_images()).await
    }

    async fn image_status(&self, image: v1::ImageSpec) -> Result<Option<v1::Image>, Error> {
        self.count("image_status", self.inner.image_status(image)).await
    }

    async fn pull_image(
        &self,
        image: v1::ImageSpec,
        auth: Option<v1::AuthConfig>,
        sandbox: v1::PodSandboxConfig,
    ) -> Result<String, Error> {
        self.count("pull_image", self.inner.pull_image(image, auth, sandbox)).await
    }

    async fn remove_image(&self, image: v1::ImageSpec) -> Result<(), Error> {
        self.count("remove_image", self.inner.remove_image(image)).await
    }

    async fn image_fs_info(&self) -> Result<v1::ImageFsInfoResponse, Error> {
        self.count("image_fs_info", self.inner.image_fs_info()).await
    }

    async fn events(&self) -> Result<(ContainerEvents, &'static str), Error> {
        // A stream has no duration.
        self.inner.events().await
    }
}
