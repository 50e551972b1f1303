//! The life of one pod on this node: it is kept running, then terminated, then cleared away, in this order and never
//! back.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kedge_base::Backoff;
use tracing::{debug, info, warn};

use super::kill::kill_pod;
use super::sync_pod::{Outcome, Sync};
use super::undisturbed::until;
use super::{Slot, cleanup, fail};
use crate::cgroups;
use crate::kubelet::Kubelet;
use crate::pod::{PodExt, RawPod};
use crate::runtime::{PodRuntime, State};
use crate::status::{StartErrors, Subject, generate};

/// Each pod is looked at this often, even when nothing tells of a change.
const RESYNC: Duration = Duration::from_secs(60);
const FIRST_RETRY: Duration = Duration::from_millis(250);
const LAST_RETRY: Duration = Duration::from_secs(10);

/// Runs until nothing of the pod is left and its object is gone.
pub(super) async fn run(kubelet: Arc<Kubelet>, slot: Arc<Slot>) {
    let worker = Worker { kubelet, slot };
    let Some(mut pod) = worker.keep_running().await else { return };
    worker.retry("terminating", || worker.end(&mut pod)).await;
    worker.retry("clearing away", || worker.clear(&pod)).await;
    worker.kubelet.statuses.finish(&pod);
    worker.wait_until_gone().await;
    worker.retry("removing", || cleanup::forget(&worker.kubelet, &pod)).await;
    worker.kubelet.statuses.forget(&worker.slot.uid);
}

struct Worker {
    kubelet: Arc<Kubelet>,
    slot: Arc<Slot>,
}

impl Worker {
    /// The latest pod; `None` when its object is no pod at all.
    fn pod(&self) -> Option<Pod> {
        decode(&self.slot.pod())
    }

    /// Keeps the pod running until it ends or is to end. Returns the pod as it was then.
    async fn keep_running(&self) -> Option<Pod> {
        let mut sync = Sync::default();
        let mut retry = Backoff::new(FIRST_RETRY, LAST_RETRY, 20);
        let mut last_error = String::new();
        let mut terminate = self.slot.terminate.subscribe();
        loop {
            let pod = Arc::new(self.pod()?);
            let ends = terminate.borrow_and_update().is_some() || pod.is_terminal();
            if let Some(eviction) = self.slot.evicted.lock().clone().filter(|_| !pod.is_terminal()) {
                let status = self.kubelet.statuses.get(pod.uid()).unwrap_or_else(|| pod.status().clone());
                fail::evict(&self.kubelet, &pod, status, &eviction);
                return Some(Arc::unwrap_or_clone(pod));
            }
            if ends {
                return Some(Arc::unwrap_or_clone(pod));
            }
            // Whatever is under way, such as a pull, is given up.
            let asked = async { drop(terminate.wait_for(Option::is_some).await) };
            let call = self.kubelet.calls.of(&self.slot.uid);
            let Some(outcome) = until(&call, sync.run(&self.kubelet, &pod), asked).await else { continue };
            let wait = match outcome {
                Outcome::Ended => return Some(Arc::unwrap_or_clone(pod)),
                Outcome::Settled { again } => {
                    retry.reset();
                    last_error.clear();
                    again.unwrap_or(RESYNC).min(RESYNC)
                }
                Outcome::Failed { error } => {
                    let wait = retry.next();
                    if error == last_error {
                        debug!(pod = pod.display(), error, again_in = ?wait, "pod is still not running as it should");
                    } else {
                        warn!(pod = pod.display(), error, again_in = ?wait, "pod is not running as it should");
                    }
                    last_error = error;
                    // What the attempt itself left behind in the runtime is no reason to try again at once.
                    tokio::select! {
                        () = self.kubelet.clock.sleep(FIRST_RETRY) => {}
                        _ = terminate.wait_for(Option::is_some) => continue,
                    }
                    wait.saturating_sub(FIRST_RETRY)
                }
            };
            tokio::select! {
                () = self.slot.wake.notified() => {}
                () = self.kubelet.clock.sleep(wait) => {}
            }
        }
    }

    /// Repeats a step until it succeeds; each of them can be repeated.
    async fn retry<F>(&self, what: &'static str, mut step: impl FnMut() -> F)
    where
        F: Future<Output = Result<(), String>>,
    {
        let mut backoff = Backoff::new(FIRST_RETRY, LAST_RETRY, 20);
        while let Err(error) = step().await {
            let wait = backoff.next();
            warn!(uid = self.slot.uid, error, again_in = ?wait, "{what} a pod failed");
            self.kubelet.clock.sleep(wait).await;
        }
    }

    /// The seconds the pod has; `None` leaves it to the pod's own fields.
    fn grace(&self) -> Option<i64> {
        self.slot.terminate.borrow().filter(|grace| *grace != i64::MAX)
    }

    /// Stops everything of the pod, and tells the API how its containers ended.
    fn end<'a>(&'a self, pod: &mut Pod) -> impl Future<Output = Result<(), String>> + use<'a> {
        if let Some(latest) = self.pod() {
            *pod = latest;
        }
        let pod = pod.clone();
        async move {
            let uid = pod.uid();
            let text = |error: kedge_cri::Error| error.to_string();
            self.kubelet.probes.terminating(uid);
            let mut terminate = self.slot.terminate.subscribe();
            loop {
                terminate.borrow_and_update();
                let runtime = self.kubelet.observe(uid).await.map_err(text)?;
                self.report(&pod, &runtime, true);
                tokio::select! {
                    killed = kill_pod(&self.kubelet, &pod, &runtime, self.grace()) => {
                        if let Err(error) = killed {
                            self.kubelet.pod_warning(&pod, "FailedKillPod", format!("error killing pod: {error}"));
                            return Err(error.to_string());
                        }
                        break;
                    }
                    // A shorter grace period takes effect at once.
                    _ = terminate.changed() => debug!(pod = pod.display(), "the grace period became shorter"),
                }
            }
            self.kubelet.probes.remove_pod(uid);
            let runtime = self.kubelet.observe(uid).await.map_err(text)?;
            if let Some(run) = runtime.containers.iter().find(|c| c.state == State::Running) {
                return Err(format!("container {} still runs", run.name));
            }
            self.report(&pod, &runtime, false);
            info!(pod = pod.display(), "pod has ended");
            Ok(())
        }
    }

    fn report(&self, pod: &Pod, runtime: &PodRuntime, may_run: bool) {
        let old = self.kubelet.statuses.get(pod.uid()).unwrap_or_else(|| pod.status().clone());
        let subject = Subject {
            pod,
            runtime,
            old: &old,
            start_errors: &StartErrors::new(),
            probes: self.kubelet.probes.as_ref(),
            host: &self.kubelet.config.node_ips,
            terminal: !may_run,
        };
        self.kubelet.statuses.set(pod, generate(&subject), may_run);
    }

    /// Takes down what was made around the containers: volumes, watches and groups.
    async fn clear(&self, pod: &Pod) -> Result<(), String> {
        let uid = pod.uid().to_string();
        let kubelet = self.kubelet.clone();
        kubelet.config_maps.unregister(&uid);
        kubelet.secrets.unregister(&uid);
        kubelet.restarts.forget_prefix(&uid);
        kubelet.images.forget(&uid);
        let path = cgroups::pod_path(pod);
        kubelet.refreshing.end(&uid);
        if let Err(error) = kubelet.volumes.tear_down(&uid).await {
            let message = format!("the pod's volumes cannot be taken down: {error}");
            kubelet.pod_warning(pod, "FailedUnMount", &message);
            return Err(message);
        }
        let Some(cgroups) = kubelet.cgroups.clone() else { return Ok(()) };
        let removed = path.clone();
        let remove = move || cgroups.remove(&removed);
        let done = kubelet.files.of_pod(&uid, "remove", std::path::Path::new(&path), remove).await;
        let failed = |error: String| format!("cannot remove cgroup {path}: {error}");
        done.map_err(|hung| failed(hung.to_string()))?.map_err(|error| failed(error.to_string()))
    }

    async fn wait_until_gone(&self) {
        let mut gone = self.slot.gone.subscribe();
        loop {
            tokio::select! {
                _ = gone.wait_for(|gone| *gone) => return,
                // A deletion of a pod that has ended is told to the status manager by each update; this is for a lost one.
                () = self.kubelet.clock.sleep(RESYNC) => self.kubelet.statuses.recheck(&self.slot.uid),
            }
        }
    }
}

fn decode(raw: &RawPod) -> Option<Pod> {
    raw.decode().inspect_err(|error| warn!(pod = %raw.metadata.key(), %error, "not a pod that can be run")).ok()
}
