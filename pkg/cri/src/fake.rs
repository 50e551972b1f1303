//! A runtime in memory: sandboxes and containers are rows in a table, time is a counter. For unit tests only.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::runtime::{ContainerEvents, Exec, ExecOutput, Runtime, Streams};
use crate::{Error, v1};

#[derive(Default)]
struct State {
    next: u64,
    sandboxes: BTreeMap<String, v1::PodSandboxStatus>,
    containers: BTreeMap<String, (String, v1::ContainerStatus)>,
    images: BTreeMap<String, v1::Image>,
    calls: Vec<String>,
    fail: HashMap<&'static str, String>,
    /// Calls whose next one panics.
    panic: Vec<&'static str>,
}

/// The test double. Every call is recorded as `Call(object)`.
#[derive(Default)]
pub struct FakeRuntime {
    state: Mutex<State>,
    /// The container that ended last.
    ended: watch::Sender<String>,
}

impl FakeRuntime {
    /// Makes an image present.
    pub fn add_image(&self, name: &str) {
        let image = v1::Image {
            id: format!("sha256:{name}"),
            repo_tags: vec![name.to_string()],
            size: 1,
            ..Default::default()
        };
        self.state.lock().images.insert(name.to_string(), image);
    }

    /// Lets every later `call` fail with `message`.
    pub fn fail(&self, call: &'static str, message: &str) {
        self.state.lock().fail.insert(call, message.to_string());
    }

    /// Lets the next `call` panic.
    pub fn panic_next(&self, call: &'static str) {
        self.state.lock().panic.push(call);
    }

    /// Ends a running container with an exit code.
    pub fn exit(&self, id: &str, exit_code: i32) {
        let mut state = self.state.lock();
        let now = state.tick();
        if let Some((_, status)) = state.containers.get_mut(id) {
            status.state = v1::ContainerState::ContainerExited as i32;
            status.exit_code = exit_code;
            status.reason = if exit_code == 0 { "Completed" } else { "Error" }.to_string();
            status.finished_at = now;
        }
        drop(state);
        self.ended.send_replace(id.to_string());
    }

    /// Sets the time, in seconds since 1970; every call that takes note of it moves it on by one.
    pub fn set_time(&self, seconds: u64) {
        self.state.lock().next = seconds;
    }

    /// The calls so far.
    pub fn calls(&self) -> Vec<String> {
        self.state.lock().calls.clone()
    }
}

impl State {
    fn tick(&mut self) -> i64 {
        self.next += 1;
        i64::try_from(self.next).unwrap_or(i64::MAX).saturating_mul(1_000_000_000)
    }

    fn enter(&mut self, call: &'static str, object: &str) -> Result<(), Error> {
        self.calls.push(format!("{call}({object})"));
        if let Some(at) = self.panic.iter().position(|panics| *panics == call) {
            self.panic.remove(at);
            panic!("{call} panics, as the test asked");
        }
        self.refused(call)
    }

    fn refused(&self, call: &'static str) -> Result<(), Error> {
        match self.fail.get(call) {
            Some(message) => Err(tonic::Status::unknown(message.clone()).into()),
            None => Ok(()),
        }
    }
}

fn not_found(id: &str) -> Error {
    tonic::Status::not_found(format!("{id} not found")).into()
}

fn unsupported(call: &str) -> Error {
    tonic::Status::unimplemented(format!("{call} is not part of the test double")).into()
}

fn matches(labels: &HashMap<String, String>, wanted: &HashMap<String, String>) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}

#[async_trait]
impl Runtime for FakeRuntime {
    async fn version(&self) -> Result<v1::VersionResponse, Error> {
        self.state.lock().refused("version")?;
        Ok(v1::VersionResponse {
            version: "0.1.0".into(),
            runtime_name: "fake".into(),
            runtime_version: "1.0.0".into(),
            runtime_api_version: "v1".into(),
        })
    }

    async fn status(&self, _verbose: bool) -> Result<v1::StatusResponse, Error> {
        let condition =
            |r#type: &str| v1::RuntimeCondition { r#type: r#type.to_string(), status: true, ..Default::default() };
        let conditions = vec![condition("RuntimeReady"), condition("NetworkReady")];
        Ok(v1::StatusResponse { status: Some(v1::RuntimeStatus { conditions }), ..Default::default() })
    }

    async fn runtime_config(&self) -> Result<v1::RuntimeConfigResponse, Error> {
        Err(unsupported("RuntimeConfig"))
    }

    async fn update_runtime_config(&self, _pod_cidr: &str) -> Result<(), Error> {
        Ok(())
    }

    async fn run_pod_sandbox(&self, config: v1::PodSandboxConfig, handler: &str) -> Result<String, Error> {
        let mut state = self.state.lock();
        let name = config.metadata.as_ref().map(|m| m.name.clone()).unwrap_or_default();
        state.enter("RunPodSandbox", &name)?;
        let created_at = state.tick();
        let id = format!("sandbox-{}", state.next);
        let ip = format!("10.0.0.{}", state.next % 250);
        let status = v1::PodSandboxStatus {
            id: id.clone(),
            metadata: config.metadata,
            created_at,
            network: Some(v1::PodSandboxNetworkStatus { ip, additional_ips: Vec::new() }),
            labels: config.labels,
            annotations: config.annotations,
            runtime_handler: handler.to_string(),
            ..Default::default()
        };
        state.sandboxes.insert(id.clone(), status);
        Ok(id)
    }

    async fn stop_pod_sandbox(&self, id: &str) -> Result<(), Error> {
        let mut state = self.state.lock();
        state.enter("StopPodSandbox", id)?;
        if let Some(sandbox) = state.sandboxes.get_mut(id) {
            sandbox.state = v1::PodSandboxState::SandboxNotready as i32;
        }
        Ok(())
    }

    async fn remove_pod_sandbox(&self, id: &str) -> Result<(), Error> {
        let mut state = self.state.lock();
        state.enter("RemovePodSandbox", id)?;
        state.sandboxes.remove(id);
        state.containers.retain(|_, (sandbox, _)| sandbox != id);
        Ok(())
    }

    async fn pod_sandbox_status(&self, id: &str, _verbose: bool) -> Result<v1::PodSandboxStatusResponse, Error> {
        let status = self.state.lock().sandboxes.get(id).cloned().ok_or_else(|| not_found(id))?;
        Ok(v1::PodSandboxStatusResponse { status: Some(status), ..Default::default() })
    }

    async fn list_pod_sandboxes(&self, labels: HashMap<String, String>) -> Result<Vec<v1::PodSandbox>, Error> {
        let state = self.state.lock();
        let rows = state.sandboxes.values().filter(|s| matches(&s.labels, &labels)).cloned();
        Ok(rows
            .map(|s| v1::PodSandbox {
                id: s.id,
                metadata: s.metadata,
                state: s.state,
                created_at: s.created_at,
                labels: s.labels,
                annotations: s.annotations,
                runtime_handler: s.runtime_handler,
            })
            .collect())
    }

    async fn create_container(
        &self,
        sandbox_id: &str,
        config: v1::ContainerConfig,
        _sandbox: v1::PodSandboxConfig,
    ) -> Result<String, Error> {
        let mut state = self.state.lock();
        let name = config.metadata.as_ref().map(|m| m.name.clone()).unwrap_or_default();
        state.enter("CreateContainer", &name)?;
        let created_at = state.tick();
        let id = format!("container-{}", state.next);
        let status = v1::ContainerStatus {
            id: id.clone(),
            metadata: config.metadata,
            state: v1::ContainerState::ContainerCreated as i32,
            created_at,
            image: config.image.clone(),
            image_ref: config.image.map(|image| image.image).unwrap_or_default(),
            labels: config.labels,
            annotations: config.annotations,
            log_path: config.log_path,
            ..Default::default()
        };
        state.containers.insert(id.clone(), (sandbox_id.to_string(), status));
        Ok(id)
    }

    async fn start_container(&self, id: &str) -> Result<(), Error> {
        let mut state = self.state.lock();
        state.enter("StartContainer", id)?;
        let now = state.tick();
        let (_, status) = state.containers.get_mut(id).ok_or_else(|| not_found(id))?;
        status.state = v1::ContainerState::ContainerRunning as i32;
        status.started_at = now;
        Ok(())
    }

    async fn stop_container(&self, id: &str, _grace: Duration) -> Result<(), Error> {
        self.state.lock().enter("StopContainer", id)?;
        self.exit(id, 137);
        Ok(())
    }

    async fn remove_container(&self, id: &str) -> Result<(), Error> {
        let mut state = self.state.lock();
        state.enter("RemoveContainer", id)?;
        state.containers.remove(id);
        Ok(())
    }

    async fn container_status(&self, id: &str, _verbose: bool) -> Result<v1::ContainerStatusResponse, Error> {
        let status = self.state.lock().containers.get(id).map(|row| row.1.clone()).ok_or_else(|| not_found(id))?;
        Ok(v1::ContainerStatusResponse { status: Some(status), ..Default::default() })
    }

    async fn list_containers(&self, labels: HashMap<String, String>) -> Result<Vec<v1::Container>, Error> {
        let state = self.state.lock();
        let rows = state.containers.values().filter(|(_, c)| matches(&c.labels, &labels)).cloned();
        Ok(rows
            .map(|(pod_sandbox_id, c)| v1::Container {
                id: c.id,
                pod_sandbox_id,
                metadata: c.metadata,
                image: c.image,
                image_ref: c.image_ref,
                state: c.state,
                created_at: c.created_at,
                labels: c.labels,
                annotations: c.annotations,
                image_id: c.image_id,
            })
            .collect())
    }

    async fn update_container_resources(&self, id: &str, _linux: v1::LinuxContainerResources) -> Result<(), Error> {
        self.state.lock().enter("UpdateContainerResources", id)
    }

    async fn checkpoint_container(&self, _id: &str, _location: &str, _timeout: Duration) -> Result<(), Error> {
        Err(unsupported("CheckpointContainer"))
    }

    async fn reopen_container_log(&self, id: &str) -> Result<(), Error> {
        self.state.lock().enter("ReopenContainerLog", id)
    }

    async fn exec_sync(&self, id: &str, command: Vec<String>, timeout: Duration) -> Result<ExecOutput, Error> {
        let called = format!("{id} {} {}s", command.join(" "), timeout.as_secs());
        self.state.lock().enter("ExecSync", &called)?;
        Ok(ExecOutput::default())
    }

    async fn exec_url(&self, _exec: Exec) -> Result<String, Error> {
        Err(unsupported("Exec"))
    }

    async fn attach_url(&self, _id: &str, _streams: Streams) -> Result<String, Error> {
        Err(unsupported("Attach"))
    }

    async fn port_forward_url(&self, _sandbox_id: &str, _ports: Vec<i32>) -> Result<String, Error> {
        Err(unsupported("PortForward"))
    }

    async fn container_stats(&self, _id: &str) -> Result<v1::ContainerStats, Error> {
        Err(unsupported("ContainerStats"))
    }

    async fn list_container_stats(&self) -> Result<Vec<v1::ContainerStats>, Error> {
        Ok(Vec::new())
    }

    async fn list_pod_sandbox_stats(&self) -> Result<Vec<v1::PodSandboxStats>, Error> {
        Ok(Vec::new())
    }

    async fn list_images(&self) -> Result<Vec<v1::Image>, Error> {
        Ok(self.state.lock().images.values().cloned().collect())
    }

    async fn image_status(&self, image: v1::ImageSpec) -> Result<Option<v1::Image>, Error> {
        let state = self.state.lock();
        let by_id = || state.images.values().find(|i| i.id == image.image);
        Ok(state.images.get(&image.image).or_else(by_id).cloned())
    }

    async fn pull_image(
        &self,
        image: v1::ImageSpec,
        _auth: Option<v1::AuthConfig>,
        _sandbox: v1::PodSandboxConfig,
    ) -> Result<String, Error> {
        self.state.lock().enter("PullImage", &image.image)?;
        self.add_image(&image.image);
        Ok(image.image)
    }

    async fn remove_image(&self, image: v1::ImageSpec) -> Result<(), Error> {
        let mut state = self.state.lock();
        state.enter("RemoveImage", &image.image)?;
        state.images.remove(&image.image);
        Ok(())
    }

    async fn image_fs_info(&self) -> Result<v1::ImageFsInfoResponse, Error> {
        Ok(v1::ImageFsInfoResponse::default())
    }

    async fn events(&self) -> Result<(ContainerEvents, &'static str), Error> {
        let ended = self.ended.subscribe();
        let ids = futures::stream::unfold(ended, |mut ended| async {
            ended.changed().await.ok()?;
            let id = ended.borrow_and_update().clone();
            Some((Ok(id), ended))
        });
        Ok((ids.boxed(), "the test double"))
    }
}
