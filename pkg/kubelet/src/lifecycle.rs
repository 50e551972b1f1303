//! Hooks that run right after a container has started and before it is stopped.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, LifecycleHandler, Pod};
use kedge_client::EventType;
use tracing::debug;

use crate::http_get::{GetError, Target, get};
use crate::kubelet::Kubelet;
use crate::pod::PodExt;

/// A hook over HTTP has no limit of its own; the grace period, or this, ends it.
const HTTP_LIMIT: Duration = Duration::from_secs(3600);
/// Nor has a command that is run when a container starts.
pub(crate) const NO_LIMIT: Duration = Duration::from_secs(24 * 3600);
/// So much later the runtime ends a command that nobody waits for any more.
const BEHIND: Duration = Duration::from_secs(1);

/// Runs a hook to its end. A command may take until `limit`, which whoever asks watches as well: the runtime only sees to it that none
/// runs on for ever.
///
/// # Errors
/// The message for the container's waiting state.
pub(crate) async fn run_hook(
    kubelet: &Kubelet,
    pod: &Pod,
    container: &Container,
    container_id: &str,
    hook: &LifecycleHandler,
    limit: Duration,
) -> Result<(), String> {
    let place = format!("for Container {:?} in Pod {:?} failed - error:", container.name, pod.display());
    if let Some(exec) = &hook.exec {
        let command = exec.command.clone().unwrap_or_default();
        let (error, output) = match run_command(kubelet, container_id, &command, limit).await {
            Ok(()) => return Ok(()),
            Err(failed) => failed,
        };
        let words = command.join(" ");
        return Err(format!("Exec lifecycle hook ([{words}]) {place} {error}, message: {output:?}"));
    }
    if let Some(action) = &hook.http_get {
        let path = action.path.clone().unwrap_or_default();
        let result = run_http(kubelet, pod, container, hook).await;
        return result.map_err(|error| format!("HTTP lifecycle hook ({path}) {place} {error}"));
    }
    if let Some(sleep) = &hook.sleep {
        let seconds = u64::try_from(sleep.seconds).unwrap_or_default();
        kubelet.clock.sleep(Duration::from_secs(seconds)).await;
        return Ok(());
    }
    Err("Cannot run handler: invalid handler".to_string())
}

/// The error and what the command wrote.
async fn run_command(kubelet: &Kubelet, id: &str, command: &[String], limit: Duration) -> Result<(), (String, String)> {
    let result = kubelet.runtime.exec_sync(id, command.to_vec(), limit.saturating_add(BEHIND)).await;
    let output = result.map_err(|error| (error.to_string(), String::new()))?;
    if output.exit_code == 0 {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let all = format!("{}{errors}", String::from_utf8_lossy(&output.stdout));
    let words = command.join(" ");
    Err((format!("command '{words}' exited with {}: {errors}", output.exit_code), all))
}

async fn run_http(kubelet: &Kubelet, pod: &Pod, container: &Container, hook: &LifecycleHandler) -> Result<(), String> {
    let Some(action) = &hook.http_get else { return Ok(()) };
    let ip = match action.host.as_deref() {
        Some(host) if !host.is_empty() => host.to_string(),
        _ => pod_ip(kubelet, pod).await?,
    };
    let target = Target::new(action, container, &ip, "lifecycle")?;
    match get(&target, HTTP_LIMIT).await {
        // The container was told; what it answered does not matter.
        Ok(answer) => {
            debug!(pod = pod.display(), status = answer.status, "lifecycle hook answered");
            Ok(())
        }
        Err(error @ GetError::PlainAnswer { .. }) => {
            if get(&target.without_tls(), HTTP_LIMIT).await.is_err() {
                return Err(error.to_string());
            }
            let message = format!(
                "request to HTTPS lifecycle hook {} got HTTP response, retry with HTTP succeeded",
                target.authority()
            );
            kubelet.event(&pod.reference(), EventType::Warning, "LifecycleHTTPFallback", message);
            Ok(())
        }
        Err(error) => Err(error.to_string()),
    }
}

async fn pod_ip(kubelet: &Kubelet, pod: &Pod) -> Result<String, String> {
    if pod.host_network() {
        return Ok(kubelet.host_ips().first().cloned().unwrap_or_default());
    }
    let seen = kubelet.observe(pod.uid()).await;
    let seen = seen.map_err(|e| format!("unable to get pod status, event handlers may be invalid: {e}"))?;
    let first = seen.ips().into_iter().next();
    first.ok_or_else(|| "failed to find networking container".to_string())
}
