//! [`Runtime`] over gRPC on a unix socket. The channel connects lazily and again after a loss, so a restarting
//! containerd only costs failed calls.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Request, Response};

use crate::runtime::{ContainerEvents, Exec, ExecOutput, Runtime, Streams};
use crate::v1::image_service_client::ImageServiceClient;
use crate::v1::runtime_service_client::RuntimeServiceClient;
use crate::{Error, containerd_events, v1};

/// Upstream's limit for one CRI message.
const MAX_MESSAGE: usize = 16 * 1024 * 1024;
/// Upstream's default `--runtime-request-timeout`.
const CALL: Duration = Duration::from_secs(120);
/// Creating a sandbox includes CNI, which may wait for its own agents.
const SANDBOX: Duration = Duration::from_secs(240);
/// A pull is bounded by progress in containerd; this is only the last resort.
const PULL: Duration = Duration::from_secs(60 * 60);

/// A client of one CRI endpoint. Cheap to clone.
#[derive(Clone)]
pub struct CriClient {
    channel: Channel,
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
}

impl CriClient {
    /// `endpoint` is `unix:///run/containerd/containerd.sock` or a bare path. Nothing is dialed yet.
    ///
    /// # Errors
    /// [`Error::Endpoint`] for any other scheme.
    pub fn new(endpoint: &str) -> Result<CriClient, Error> {
        let path = socket_path(endpoint)?;
        let channel =
            Endpoint::from_static("http://localhost").connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
                let path = path.clone();
                async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
            }));
        Ok(CriClient {
            runtime: RuntimeServiceClient::new(channel.clone()).max_decoding_message_size(MAX_MESSAGE),
            images: ImageServiceClient::new(channel.clone()).max_decoding_message_size(MAX_MESSAGE),
            channel,
        })
    }

    fn rpc(&self) -> RuntimeServiceClient<Channel> {
        self.runtime.clone()
    }

    fn images(&self) -> ImageServiceClient<Channel> {
        self.images.clone()
    }
}

fn socket_path(endpoint: &str) -> Result<PathBuf, Error> {
    let path = endpoint.strip_prefix("unix://").unwrap_or(endpoint);
    if path.starts_with('/') {
        return Ok(PathBuf::from(path));
    }
    Err(Error::Endpoint { endpoint: endpoint.to_string(), reason: "only unix sockets are supported".to_string() })
}

fn within<T>(timeout: Duration, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(timeout);
    request
}

fn call<T>(message: T) -> Request<T> {
    within(CALL, message)
}

fn missing<T>(value: Option<T>, call: &'static str, field: &'static str) -> Result<T, Error> {
    value.ok_or(Error::Incomplete { call, field })
}

#[async_trait]
impl Runtime for CriClient {
    async fn version(&self) -> Result<v1::VersionResponse, Error> {
        let request = call(v1::VersionRequest { version: "v1".into() });
        Ok(self.rpc().version(request).await?.into_inner())
    }

    async fn status(&self, verbose: bool) -> Result<v1::StatusResponse, Error> {
        Ok(self.rpc().status(call(v1::StatusRequest { verbose })).await?.into_inner())
    }

    async fn runtime_config(&self) -> Result<v1::RuntimeConfigResponse, Error> {
        Ok(self.rpc().runtime_config(call(v1::RuntimeConfigRequest {})).await?.into_inner())
    }

    async fn update_runtime_config(&self, pod_cidr: &str) -> Result<(), Error> {
        let network_config = Some(v1::NetworkConfig { pod_cidr: pod_cidr.to_string() });
        let runtime_config = Some(v1::RuntimeConfig { network_config });
        self.rpc().update_runtime_config(call(v1::UpdateRuntimeConfigRequest { runtime_config })).await?;
        Ok(())
    }

    async fn run_pod_sandbox(&self, config: v1::PodSandboxConfig, handler: &str) -> Result<String, Error> {
        let message = v1::RunPodSandboxRequest { config: Some(config), runtime_handler: handler.to_string() };
        Ok(self.rpc().run_pod_sandbox(within(SANDBOX, message)).await?.into_inner().pod_sandbox_id)
    }

    async fn stop_pod_sandbox(&self, id: &str) -> Result<(), Error> {
        self.rpc().stop_pod_sandbox(call(v1::StopPodSandboxRequest { pod_sandbox_id: id.to_string() })).await?;
        Ok(())
    }

    async fn remove_pod_sandbox(&self, id: &str) -> Result<(), Error> {
        self.rpc().remove_pod_sandbox(call(v1::RemovePodSandboxRequest { pod_sandbox_id: id.to_string() })).await?;
        Ok(())
    }

    async fn pod_sandbox_status(&self, id: &str, verbose: bool) -> Result<v1::PodSandboxStatusResponse, Error> {
        let message = v1::PodSandboxStatusRequest { pod_sandbox_id: id.to_string(), verbose };
        Ok(self.rpc().pod_sandbox_status(call(message)).await?.into_inner())
    }

    async fn list_pod_sandboxes(&self, labels: HashMap<String, String>) -> Result<Vec<v1::PodSandbox>, Error> {
        let filter = v1::PodSandboxFilter { label_selector: labels, ..Default::default() };
        let message = v1::ListPodSandboxRequest { filter: Some(filter) };
        Ok(self.rpc().list_pod_sandbox(call(message)).await?.into_inner().items)
    }

    async fn create_container(
        &self,
        sandbox_id: &str,
        config: v1::ContainerConfig,
        sandbox: v1::PodSandboxConfig,
    ) -> Result<String, Error> {
        let message = v1::CreateContainerRequest {
            pod_sandbox_id: sandbox_id.to_string(),
            config: Some(config),
            sandbox_config: Some(sandbox),
        };
        Ok(self.rpc().create_container(call(message)).await?.into_inner().container_id)
    }

    async fn start_container(&self, id: &str) -> Result<(), Error> {
        self.rpc().start_container(call(v1::StartContainerRequest { container_id: id.to_string() })).await?;
        Ok(())
    }

    async fn stop_container(&self, id: &str, grace: Duration) -> Result<(), Error> {
        // The runtime answers only after the grace period: the deadline starts behind it.
        let timeout = i64::try_from(grace.as_secs()).unwrap_or(i64::MAX);
        let message = v1::StopContainerRequest { container_id: id.to_string(), timeout };
        self.rpc().stop_container(within(CALL.saturating_add(grace), message)).await?;
        Ok(())
    }

    async fn remove_container(&self, id: &str) -> Result<(), Error> {
        self.rpc().remove_container(call(v1::RemoveContainerRequest { container_id: id.to_string() })).await?;
        Ok(())
    }

    async fn container_status(&self, id: &str, verbose: bool) -> Result<v1::ContainerStatusResponse, Error> {
        let message = v1::ContainerStatusRequest { container_id: id.to_string(), verbose };
        Ok(self.rpc().container_status(call(message)).await?.into_inner())
    }

    async fn list_containers(&self, labels: HashMap<String, String>) -> Result<Vec<v1::Container>, Error> {
        let filter = v1::ContainerFilter { label_selector: labels, ..Default::default() };
        let message = v1::ListContainersRequest { filter: Some(filter) };
        Ok(self.rpc().list_containers(call(message)).await?.into_inner().containers)
    }

    async fn update_container_resources(&self, id: &str, linux: v1::LinuxContainerResources) -> Result<(), Error> {
        let message = v1::UpdateContainerResourcesRequest {
            container_id: id.to_string(),
            linux: Some(linux),
            ..Default::default()
        };
        self.rpc().update_container_resources(call(message)).await?;
        Ok(())
    }

    async fn checkpoint_container(&self, id: &str, location: &str, timeout: Duration) -> Result<(), Error> {
        let message = v1::CheckpointContainerRequest {
            container_id: id.to_string(),
            location: location.to_string(),
            timeout: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        };
        let limit = if timeout.is_zero() { CALL } else { timeout };
        self.rpc().checkpoint_container(within(limit, message)).await?;
        Ok(())
    }

    async fn reopen_container_log(&self, id: &str) -> Result<(), Error> {
        self.rpc().reopen_container_log(call(v1::ReopenContainerLogRequest { container_id: id.to_string() })).await?;
        Ok(())
    }

    async fn exec_sync(&self, id: &str, command: Vec<String>, timeout: Duration) -> Result<ExecOutput, Error> {
        let message = v1::ExecSyncRequest {
            container_id: id.to_string(),
            cmd: command,
            timeout: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        };
        // The runtime watches the command's own timeout; ours only guards against a hung runtime.
        let limit = if timeout.is_zero() { CALL } else { CALL.saturating_add(timeout) };
        let answer = self.rpc().exec_sync(within(limit, message)).await?.into_inner();
        Ok(ExecOutput { stdout: answer.stdout, stderr: answer.stderr, exit_code: answer.exit_code })
    }

    async fn exec_url(&self, exec: Exec) -> Result<String, Error> {
        let message = v1::ExecRequest {
            container_id: exec.container_id,
            cmd: exec.command,
            tty: exec.streams.tty,
            stdin: exec.streams.stdin,
            stdout: exec.streams.stdout,
            stderr: exec.streams.stderr,
        };
        Ok(self.rpc().exec(call(message)).await?.into_inner().url)
    }

    async fn attach_url(&self, id: &str, streams: Streams) -> Result<String, Error> {
        let message = v1::AttachRequest {
            container_id: id.to_string(),
            stdin: streams.stdin,
            tty: streams.tty,
            stdout: streams.stdout,
            stderr: streams.stderr,
        };
        Ok(self.rpc().attach(call(message)).await?.into_inner().url)
    }

    async fn port_forward_url(&self, sandbox_id: &str, ports: Vec<i32>) -> Result<String, Error> {
        let message = v1::PortForwardRequest { pod_sandbox_id: sandbox_id.to_string(), port: ports };
        Ok(self.rpc().port_forward(call(message)).await?.into_inner().url)
    }

    async fn container_stats(&self, id: &str) -> Result<v1::ContainerStats, Error> {
        let message = v1::ContainerStatsRequest { container_id: id.to_string() };
        let stats = self.rpc().container_stats(call(message)).await?.into_inner().stats;
        missing(stats, "ContainerStats", "stats")
    }

    async fn list_container_stats(&self) -> Result<Vec<v1::ContainerStats>, Error> {
        let message = v1::ListContainerStatsRequest { filter: None };
        Ok(self.rpc().list_container_stats(call(message)).await?.into_inner().stats)
    }

    async fn list_pod_sandbox_stats(&self) -> Result<Vec<v1::PodSandboxStats>, Error> {
        let message = v1::ListPodSandboxStatsRequest { filter: None };
        Ok(self.rpc().list_pod_sandbox_stats(call(message)).await?.into_inner().stats)
    }

    async fn list_images(&self) -> Result<Vec<v1::Image>, Error> {
        let message = v1::ListImagesRequest { filter: None };
        Ok(self.images().list_images(call(message)).await?.into_inner().images)
    }

    async fn image_status(&self, image: v1::ImageSpec) -> Result<Option<v1::Image>, Error> {
        let message = v1::ImageStatusRequest { image: Some(image), verbose: false };
        Ok(self.images().image_status(call(message)).await?.into_inner().image)
    }

    async fn pull_image(
        &self,
        image: v1::ImageSpec,
        auth: Option<v1::AuthConfig>,
        sandbox: v1::PodSandboxConfig,
    ) -> Result<String, Error> {
        let message = v1::PullImageRequest { image: Some(image), auth, sandbox_config: Some(sandbox) };
        Ok(self.images().pull_image(within(PULL, message)).await?.into_inner().image_ref)
    }

    async fn remove_image(&self, image: v1::ImageSpec) -> Result<(), Error> {
        self.images().remove_image(call(v1::RemoveImageRequest { image: Some(image) })).await?;
        Ok(())
    }

    async fn image_fs_info(&self) -> Result<v1::ImageFsInfoResponse, Error> {
        Ok(self.images().image_fs_info(call(v1::ImageFsInfoRequest {})).await?.into_inner())
    }

    async fn events(&self) -> Result<(ContainerEvents, &'static str), Error> {
        // A runtime that lacks the call refuses at once; one that has it may only answer with its first event.
        let asked = self.rpc().get_container_events(Request::new(v1::GetEventsRequest {})).await;
        match asked.map(Response::into_inner) {
            Ok(stream) => {
                let ids = stream.map(|event| event.map(|event| event.container_id).map_err(Error::from));
                Ok((ids.boxed(), "CRI GetContainerEvents"))
            }
            Err(status) if status.code() == tonic::Code::Unimplemented => {
                Ok((containerd_events::subscribe(self.channel.clone()).await?, "containerd events"))
            }
            Err(status) => Err(status.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_unix_sockets() {
        assert_eq!(socket_path("unix:///run/c.sock").unwrap(), PathBuf::from("/run/c.sock"));
        assert_eq!(socket_path("/run/c.sock").unwrap(), PathBuf::from("/run/c.sock"));
        assert!(socket_path("tcp://127.0.0.1:1").is_err());
    }
}
