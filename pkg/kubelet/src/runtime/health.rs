//! Whether the container runtime answers and what it says about itself, asked every few seconds.

use std::sync::Arc;
use std::time::Duration;

use kedge_base::{Backoff, SharedClock, TaskGroup};
use kedge_cri::{Error, Runtime, v1};
use parking_lot::RwLock;
use tokio::sync::watch;
use tracing::{info, warn};

use super::RuntimeProblem;

/// Upstream's period of `updateRuntimeUp`.
const PERIOD: Duration = Duration::from_secs(5);
/// While the runtime does not answer, it is asked sooner at first.
const RETRY: Duration = Duration::from_millis(200);

/// What was heard last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Health {
    /// Such as `containerd`; empty before the first answer.
    pub(crate) name: String,
    pub(crate) version: String,
    /// Why no pod can run, if none can.
    pub(crate) runtime_error: Option<String>,
    /// Why no pod with a network of its own can run, if none can.
    pub(crate) network_error: Option<String>,
}

impl Health {
    fn unknown() -> Health {
        Health {
            name: String::new(),
            version: String::new(),
            runtime_error: Some("container runtime status check may not have completed yet".into()),
            network_error: None,
        }
    }

    /// `containerd://1.6.20`, as nodes show it.
    pub(crate) fn runtime_version(&self) -> String {
        format!("{}://{}", self.name, self.version)
    }

    /// The message of a node that is not ready because of the runtime.
    pub(crate) fn error(&self) -> Option<String> {
        match (&self.runtime_error, &self.network_error) {
            (Some(runtime), Some(network)) => Some(format!("[{runtime}, {network}]")),
            (Some(one), None) | (None, Some(one)) => Some(one.clone()),
            (None, None) => None,
        }
    }
}

/// The runtime's health, and a way to wait for changes of it.
pub(crate) struct RuntimeHealth {
    runtime: Arc<dyn Runtime>,
    clock: SharedClock,
    problem: RuntimeProblem,
    latest: RwLock<Health>,
    changed: watch::Sender<u64>,
}

impl RuntimeHealth {
    pub(crate) fn new(runtime: Arc<dyn Runtime>, clock: SharedClock, problem: RuntimeProblem) -> Arc<RuntimeHealth> {
        let latest = RwLock::new(Health::unknown());
        Arc::new(RuntimeHealth { runtime, clock, problem, latest, changed: watch::Sender::new(0) })
    }

    pub(crate) fn get(&self) -> Health {
        self.latest.read().clone()
    }

    /// The scheme of container ids, such as `containerd`.
    pub(crate) fn name(&self) -> String {
        self.latest.read().name.clone()
    }

    /// A receiver that is marked as changed with each change of the health.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Asks now.
    pub(crate) async fn check(&self) {
        let next = match self.ask().await {
            Ok(health) => {
                self.problem.clear();
                health
            }
            Err(error) => Health {
                runtime_error: Some(format!(
                    "container runtime is down: {}",
                    self.problem.get().unwrap_or_else(|| error.message())
                )),
                network_error: None,
                ..self.get()
            },
        };
        if next == *self.latest.read() {
            return;
        }
        match next.error() {
            None => info!(runtime = next.runtime_version(), "the container runtime is ready"),
            Some(error) => warn!(error, "the container runtime is not ready"),
        }
        *self.latest.write() = next;
        self.changed.send_modify(|n| *n = n.wrapping_add(1));
    }

    async fn ask(&self) -> Result<Health, Error> {
        let version = self.runtime.version().await?;
        let status = self.runtime.status(false).await?;
        let conditions = status.status.unwrap_or_default().conditions;
        Ok(Health {
            name: version.runtime_name,
            version: version.runtime_version.trim_start_matches('v').to_string(),
            runtime_error: problem(&conditions, "RuntimeReady", "container runtime not ready"),
            network_error: problem(&conditions, "NetworkReady", "container runtime network not ready"),
        })
    }

    /// Asks until shutdown.
    pub(crate) fn start(self: &Arc<Self>, tasks: &TaskGroup) {
        let health = self.clone();
        tasks.spawn_worker("runtime-health", move || health.clone().check_always());
    }

    async fn check_always(self: Arc<Self>) {
        let mut retry = Backoff::new(RETRY, PERIOD, 20);
        let mut problem = self.problem.subscribe();
        loop {
            self.check().await;
            let wait = if self.get().error().is_none() {
                retry.reset();
                PERIOD
            } else {
                retry.next()
            };
            tokio::select! {
                () = self.clock.sleep(wait) => {}
                Ok(()) = problem.changed() => retry.reset(),
            }
        }
    }
}

/// As Go prints a condition of the runtime.
fn problem(conditions: &[v1::RuntimeCondition], kind: &str, what: &str) -> Option<String> {
    match conditions.iter().find(|c| c.r#type == kind) {
        Some(condition) if condition.status => None,
        Some(c) => Some(format!("{what}: {kind}=false reason:{} message:{}", c.reason, c.message)),
        None => Some(format!("{what}: condition {kind} is not set")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kedge_cri::fake::FakeRuntime;

    #[tokio::test]
    async fn a_runtime_that_answers_is_healthy() {
        let health =
            RuntimeHealth::new(Arc::new(FakeRuntime::default()), kedge_base::system_clock(), RuntimeProblem::default());
        assert!(health.get().error().is_some());
        health.check().await;
        assert_eq!(health.get().error(), None);
        assert_eq!(health.get().runtime_version(), "fake://1.0.0");
    }

    #[tokio::test]
    async fn what_is_known_of_a_runtime_that_does_not_run_is_told_until_it_answers() {
        let (runtime, problem) = (Arc::new(FakeRuntime::default()), RuntimeProblem::default());
        let health = RuntimeHealth::new(runtime.clone(), kedge_base::system_clock(), problem.clone());
        runtime.fail("version", "nobody listens");
        health.check().await;
        assert_eq!(health.get().error().as_deref(), Some("container runtime is down: nobody listens"));
        problem.set("containerd is not installed");
        health.check().await;
        assert_eq!(health.get().error().as_deref(), Some("container runtime is down: containerd is not installed"));
        let answers = Arc::new(FakeRuntime::default());
        RuntimeHealth::new(answers, kedge_base::system_clock(), problem.clone()).check().await;
        assert_eq!(problem.get(), None);
    }

    #[test]
    fn a_missing_network_is_named_as_upstream_does() {
        let condition = v1::RuntimeCondition {
            r#type: "NetworkReady".into(),
            status: false,
            reason: "NetworkPluginNotReady".into(),
            message: "cni plugin not initialized".into(),
        };
        assert_eq!(
            problem(&[condition], "NetworkReady", "container runtime network not ready").as_deref(),
            Some(
                "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady \
                 message:cni plugin not initialized"
            )
        );
    }
}
