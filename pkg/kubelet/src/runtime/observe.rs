//! Reads one pod's sandboxes and containers out of the runtime.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use kedge_cri::v1;
use kedge_cri::{Error, Runtime};

use super::labels;
use super::{ContainerRun, PodRuntime, Sandbox, State};
use crate::files::Files;
use crate::logs;

/// Upstream's limit for a termination message file, in bytes.
const MAX_TERMINATION_MESSAGE: u64 = 4096;
/// Upstream's limits when the end of the log stands in for the message.
const MAX_LOG_MESSAGE_LINES: usize = 80;
const MAX_LOG_MESSAGE: u64 = 2048;

/// The ids of one pod's sandboxes and containers.
pub(crate) async fn list_pod(
    runtime: &dyn Runtime,
    uid: &str,
) -> Result<(Vec<v1::PodSandbox>, Vec<v1::Container>), Error> {
    let by_uid = HashMap::from([(labels::POD_UID.to_string(), uid.to_string())]);
    let sandboxes = runtime.list_pod_sandboxes(by_uid.clone()).await?;
    let containers = runtime.list_containers(by_uid).await?;
    Ok((sandboxes, containers))
}

/// Everything the runtime has of one pod.
///
/// # Errors
/// The runtime's. Objects that vanish between listing and reading are left out.
pub(crate) async fn observe(
    runtime: &dyn Runtime,
    runtime_name: &str,
    uid: &str,
    files: &Files,
) -> Result<PodRuntime, Error> {
    let (sandboxes, containers) = list_pod(runtime, uid).await?;
    let mut pod = PodRuntime::default();
    for sandbox in sandboxes {
        match runtime.pod_sandbox_status(&sandbox.id, false).await {
            Ok(answer) => pod.sandboxes.extend(answer.status.map(sandbox_of)),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    for container in containers {
        match runtime.container_status(&container.id, false).await {
            Ok(answer) => {
                let Some(status) = answer.status else { continue };
                let message = message_of(&status, uid, files).await;
                pod.containers.push(run_of(status, &container.pod_sandbox_id, runtime_name, message));
            }
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    pod.sandboxes.sort_by_key(|s| std::cmp::Reverse((s.created_at, s.attempt)));
    pod.containers.sort_by_key(|c| std::cmp::Reverse((c.created_at, c.restart_count)));
    Ok(pod)
}

fn sandbox_of(status: v1::PodSandboxStatus) -> Sandbox {
    let options = status.linux.and_then(|l| l.namespaces).and_then(|n| n.options);
    let host = options.is_some_and(|o| o.network == v1::NamespaceMode::Node as i32);
    let ips = status.network.map(|network| {
        let more = network.additional_ips.into_iter().map(|ip| ip.ip);
        std::iter::once(network.ip).chain(more).filter(|ip| !ip.is_empty()).collect()
    });
    Sandbox {
        id: status.id,
        attempt: status.metadata.map(|m| m.attempt).unwrap_or_default(),
        ready: status.state == v1::PodSandboxState::SandboxReady as i32,
        created_at: status.created_at,
        host_network: host,
        ips,
    }
}

fn time(nanos: i64) -> Option<Timestamp> {
    if nanos <= 0 {
        return None;
    }
    Timestamp::from_nanosecond(i128::from(nanos)).ok()
}

fn state_of(state: i32) -> State {
    match v1::ContainerState::try_from(state) {
        Ok(v1::ContainerState::ContainerCreated) => State::Created,
        Ok(v1::ContainerState::ContainerRunning) => State::Running,
        Ok(v1::ContainerState::ContainerExited) => State::Exited,
        Ok(v1::ContainerState::ContainerUnknown) | Err(_) => State::Unknown,
    }
}

fn run_of(status: v1::ContainerStatus, sandbox_id: &str, runtime_name: &str, message: String) -> ContainerRun {
    let state = state_of(status.state);
    let exited = state == State::Exited;
    let annotation = |key: &str| status.annotations.get(key).cloned().unwrap_or_default();
    let signal = v1::Signal::try_from(status.stop_signal).unwrap_or(v1::Signal::RuntimeDefault);
    let stop_signal =
        (signal != v1::Signal::RuntimeDefault).then(|| signal.as_str_name().replace("PLUS", "+").replace("MINUS", "-"));
    ContainerRun {
        sandbox_id: sandbox_id.to_string(),
        name: status.labels.get(labels::CONTAINER_NAME).cloned().unwrap_or_default(),
        runtime: runtime_name.to_string(),
        state,
        created_at: time(status.created_at).unwrap_or(Timestamp::UNIX_EPOCH),
        started_at: time(status.started_at).filter(|_| state != State::Created),
        finished_at: time(status.finished_at).filter(|_| exited),
        exit_code: if exited { status.exit_code } else { 0 },
        reason: if exited { status.reason.clone() } else { String::new() },
        message,
        image: status.image.as_ref().map(|i| i.image.clone()).unwrap_or_default(),
        hash: u64::from_str_radix(&annotation(labels::HASH), 16).unwrap_or_default(),
        restart_count: annotation(labels::RESTART_COUNT).parse().unwrap_or_default(),
        stop_signal,
        user: status.user.and_then(|u| u.linux).map(|u| (u.uid, u.gid, u.supplemental_groups)),
        image_ref: status.image_ref,
        id: status.id,
    }
}

/// The runtime's message, and behind it what the container left in its termination message file or, where the policy
/// says so and the file is empty, the end of its log.
async fn message_of(status: &v1::ContainerStatus, uid: &str, files: &Files) -> String {
    if matches!(state_of(status.state), State::Created | State::Running) {
        return String::new();
    }
    let left = match Left::of(status) {
        Some(left) => {
            let path = left.path().to_path_buf();
            // The file may be on a volume of the pod's own.
            match files.of_pod(uid, "read", &path, move || left.read()).await {
                Ok(text) => text,
                Err(error) => format!("Error on reading termination message: {error}"),
            }
        }
        None => String::new(),
    };
    match (status.message.is_empty(), left.is_empty()) {
        (false, false) => format!("{}: {left}", status.message),
        (true, _) => left,
        (false, true) => status.message.clone(),
    }
}

/// Where a container that has ended may have left a message.
#[derive(Clone, Debug, Default)]
struct Left {
    file: Option<PathBuf>,
    log: Option<PathBuf>,
}

impl Left {
    fn of(status: &v1::ContainerStatus) -> Option<Left> {
        let annotation = |key: &str| status.annotations.get(key).map(String::as_str).unwrap_or_default();
        let fallback = annotation(labels::TERMINATION_POLICY) == "FallbackToLogsOnError"
            && status.exit_code != 0
            && status.reason != "ContainerCannotRun";
        let path = annotation(labels::TERMINATION_PATH);
        let path = if path.starts_with('/') { path.to_string() } else { format!("/{path}") };
        let mount = status.mounts.iter().find(|m| path != "/" && m.container_path == path);
        let (file, log) = (mount.map(|m| m.host_path.clone().into()), fallback.then(|| status.log_path.clone().into()));
        (file.is_some() || log.is_some()).then_some(Left { file, log })
    }

    fn path(&self) -> &Path {
        self.file.as_deref().or(self.log.as_deref()).unwrap_or(Path::new(""))
    }

    /// Blocks.
    fn read(&self) -> String {
        let text = self.file.as_deref().map(termination_file).unwrap_or_default();
        match &self.log {
            Some(log) if text.is_empty() => logs::tail_text(log, MAX_LOG_MESSAGE_LINES, MAX_LOG_MESSAGE)
                .unwrap_or_else(|error| format!("Error reading termination message from logs: {error}")),
            _ => text,
        }
    }
}

fn termination_file(path: &Path) -> String {
    match logs::read_tail(path, MAX_TERMINATION_MESSAGE) {
        Ok(data) => String::from_utf8_lossy(&data).into_owned(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => format!("Error on reading termination log {}: {error}", path.display()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use kedge_base::{Ledger, system_clock};

    fn exited(dir: &Path, policy: &str) -> v1::ContainerStatus {
        let file = dir.join("message");
        let mount = v1::Mount {
            container_path: "/dev/termination-log".into(),
            host_path: file.display().to_string(),
            ..Default::default()
        };
        v1::ContainerStatus {
            state: v1::ContainerState::ContainerExited as i32,
            exit_code: 1,
            mounts: vec![mount],
            log_path: dir.join("0.log").display().to_string(),
            annotations: HashMap::from([
                (labels::TERMINATION_PATH.to_string(), "/dev/termination-log".to_string()),
                (labels::TERMINATION_POLICY.to_string(), policy.to_string()),
                (labels::RESTART_COUNT.to_string(), "3".to_string()),
            ]),
            ..Default::default()
        }
    }

    async fn seen(status: v1::ContainerStatus) -> ContainerRun {
        let files = Files::new(system_clock(), &Ledger::process());
        let message = message_of(&status, "u", &files).await;
        run_of(status, "s", "containerd", message)
    }

    #[tokio::test]
    async fn message_comes_from_the_file_then_from_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let log = "2026-01-02T03:04:05.000000000Z stderr F boom\n";
        std::fs::write(dir.path().join("0.log"), log).unwrap();
        assert_eq!(seen(exited(dir.path(), "File")).await.message, "");
        let run = seen(exited(dir.path(), "FallbackToLogsOnError")).await;
        assert_eq!((run.message.as_str(), run.restart_count), ("boom\n", 3));
        std::fs::write(dir.path().join("message"), "bye").unwrap();
        let run = seen(exited(dir.path(), "FallbackToLogsOnError")).await;
        assert_eq!(run.message, "bye");
    }
}
