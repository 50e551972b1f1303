//! One run of a probe, by its handler: command, HTTP, TCP or gRPC.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Probe};
use kedge_cri::Runtime;

use super::grpc;
use crate::generate::expand;
use crate::http_get::{Target, dial, get, resolve_port};

/// What is kept of a command's output.
const MAX_OUTPUT: usize = 10 * 1024;

/// What one run found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Success,
    /// A success worth a word in the events.
    Warning(String),
    Failure(String),
    /// The probe itself could not be run: no verdict.
    Error(String),
}

/// The container to ask.
pub(super) struct Subject<'a> {
    pub(super) container: &'a Container,
    pub(super) container_id: &'a str,
    pub(super) pod_ip: &'a str,
}

fn seconds(seconds: Option<i32>) -> Duration {
    Duration::from_secs(u64::try_from(seconds.unwrap_or(1)).unwrap_or(1).max(1))
}

/// Runs the probe once, within its own time limit.
pub(super) async fn run(probe: &Probe, subject: &Subject<'_>, runtime: &dyn Runtime) -> Outcome {
    let limit = seconds(probe.timeout_seconds);
    if let Some(exec) = &probe.exec {
        let command = exec.command.as_deref().unwrap_or_default();
        return run_command(command, subject, limit, runtime).await;
    }
    if let Some(action) = &probe.http_get {
        return match Target::new(action, subject.container, subject.pod_ip, "probe") {
            Ok(target) => run_http(&target, limit).await,
            Err(message) => Outcome::Error(message),
        };
    }
    if let Some(action) = &probe.tcp_socket {
        let host = action.host.as_deref().filter(|h| !h.is_empty()).unwrap_or(subject.pod_ip);
        return match resolve_port(&action.port, subject.container) {
            Ok(port) => match dial(host, port, limit).await {
                Ok(_) => Outcome::Success,
                Err(message) => Outcome::Failure(message),
            },
            Err(message) => Outcome::Error(message),
        };
    }
    if let Some(action) = &probe.grpc {
        let service = action.service.clone().unwrap_or_default();
        return match u16::try_from(action.port) {
            Ok(port) => grpc::check(subject.pod_ip, port, &service, limit).await,
            Err(_) => Outcome::Error(format!("invalid port number: {}", action.port)),
        };
    }
    Outcome::Error(format!("missing probe handler for {}", subject.container.name))
}

async fn run_http(target: &Target, limit: Duration) -> Outcome {
    match get(target, limit).await {
        Ok(answer) => match answer.status {
            200..300 => Outcome::Success,
            300..400 => Outcome::Warning(format!("Probe terminated redirects, Response body: {}", answer.body)),
            status => Outcome::Failure(format!("HTTP probe failed with statuscode: {status}")),
        },
        Err(error) => Outcome::Failure(error.to_string()),
    }
}

async fn run_command(command: &[String], subject: &Subject<'_>, limit: Duration, runtime: &dyn Runtime) -> Outcome {
    // Only variables with a plain value are known outside the container.
    let variables = subject.container.env.iter().flatten();
    let plain: Vec<(&str, &str)> = variables.filter_map(|v| Some((v.name.as_str(), v.value.as_deref()?))).collect();
    let lookup = |name: &str| plain.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string());
    let command: Vec<String> = command.iter().map(|word| expand(word, &lookup).0).collect();
    let words = command.join(" ");
    match runtime.exec_sync(subject.container_id, command, limit).await {
        Ok(output) if output.exit_code == 0 => Outcome::Success,
        Ok(output) => {
            let mut text = output.stdout;
            text.extend_from_slice(&output.stderr);
            text.truncate(MAX_OUTPUT);
            Outcome::Failure(String::from_utf8_lossy(&text).into_owned())
        }
        Err(error) if error.is_timeout() => {
            let seconds = limit.as_secs();
            Outcome::Failure(format!("command timed out: {words:?} timed out after {seconds}s"))
        }
        Err(error) => Outcome::Error(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::pod::PodExt;
    use crate::pod::testing::pod;
    use kedge_cri::fake::FakeRuntime;
    use serde_json::{Value, json};

    async fn outcome(probe: Value, runtime: &FakeRuntime) -> Outcome {
        let pod = pod(json!({"containers": [{"name": "a", "livenessProbe": probe}]}));
        let container = &PodExt::spec(&pod).containers[0];
        let subject = Subject { container, container_id: "id", pod_ip: "127.0.0.1" };
        run(container.liveness_probe.as_ref().unwrap(), &subject, runtime).await
    }

    #[tokio::test]
    async fn a_command_that_cannot_be_run_is_no_verdict() {
        let runtime = FakeRuntime::default();
        let probe = || json!({"exec": {"command": ["true"]}});
        assert_eq!(outcome(probe(), &runtime).await, Outcome::Success);
        runtime.fail("ExecSync", "no such container");
        assert!(matches!(outcome(probe(), &runtime).await, Outcome::Error(_)));
        assert!(matches!(outcome(json!({}), &runtime).await, Outcome::Error(_)));
    }

    #[tokio::test]
    async fn a_closed_port_fails() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let probe = json!({"tcpSocket": {"port": port}});
        assert_eq!(outcome(probe.clone(), &FakeRuntime::default()).await, Outcome::Success);
        drop(listener);
        let want = format!("dial tcp 127.0.0.1:{port}: connect: connection refused");
        assert_eq!(outcome(probe, &FakeRuntime::default()).await, Outcome::Failure(want));
    }
}
