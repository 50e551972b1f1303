//! The pod lifecycle event generator: tells which pods changed in the runtime.
//!
//! Every wake-up of the runtime's event stream leads to a relist, and a relist also happens by timer: each second while
//! no event was ever seen (a runtime without events), each ten seconds otherwise. What changed is found by comparing
//! two lists, so a lost event costs time and nothing else.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt;
use kedge_base::{SharedClock, TaskGroup};
use kedge_cri::{Error, Runtime};
use kedge_meta::ObjectKey;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tracing::{debug, info, warn};

use super::labels;
use crate::metrics::Metrics;

const WITHOUT_EVENTS: Duration = Duration::from_secs(1);
const WITH_EVENTS: Duration = Duration::from_secs(10);
/// Events come in bursts; one relist serves a burst.
const COALESCE: Duration = Duration::from_millis(20);
const RECONNECT: Duration = Duration::from_secs(5);

/// A pod as the runtime lists it: its name, and its objects' states.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) key: ObjectKey,
    pub(crate) sandboxes: BTreeMap<String, i32>,
    pub(crate) containers: BTreeMap<String, i32>,
}

/// The latest list, and who is told about changes.
pub(crate) struct Pleg {
    runtime: Arc<dyn Runtime>,
    clock: SharedClock,
    pods: Mutex<HashMap<String, Listed>>,
    /// When the last relist succeeded, on the monotonic clock.
    last: Mutex<Option<Duration>>,
    wake: Notify,
    events_seen: AtomicBool,
    metrics: Arc<Metrics>,
}

impl Pleg {
    pub(crate) fn new(runtime: Arc<dyn Runtime>, clock: SharedClock, metrics: Arc<Metrics>) -> Arc<Pleg> {
        Arc::new(Pleg {
            runtime,
            clock,
            pods: Mutex::default(),
            last: Mutex::new(None),
            wake: Notify::new(),
            events_seen: AtomicBool::new(false),
            metrics,
        })
    }

    /// The pods of the latest list, by uid.
    pub(crate) fn pods(&self) -> HashMap<String, Listed> {
        self.pods.lock().clone()
    }

    /// How long ago the runtime last answered; `None` before the first answer.
    pub(crate) fn age(&self) -> Option<Duration> {
        let last = *self.last.lock();
        last.map(|at| self.clock.monotonic().saturating_sub(at))
    }

    /// Lists everything once and returns the uids that changed.
    ///
    /// # Errors
    /// The runtime's.
    pub(crate) async fn relist(&self) -> Result<Vec<String>, Error> {
        let sandboxes = self.runtime.list_pod_sandboxes(HashMap::new()).await?;
        let containers = self.runtime.list_containers(HashMap::new()).await?;
        let mut now: HashMap<String, Listed> = HashMap::new();
        for sandbox in sandboxes {
            if let Some(listed) = entry(&mut now, &sandbox.labels) {
                listed.sandboxes.insert(sandbox.id, sandbox.state);
            }
        }
        for container in containers {
            if let Some(listed) = entry(&mut now, &container.labels) {
                listed.containers.insert(container.id, container.state);
            }
        }
        *self.last.lock() = Some(self.clock.monotonic());
        let mut pods = self.pods.lock();
        let changed = now.iter().filter(|(uid, listed)| pods.get(*uid) != Some(listed));
        let gone = pods.keys().filter(|uid| !now.contains_key(*uid));
        let uids = changed.map(|(uid, _)| uid).chain(gone).cloned().collect();
        *pods = now;
        Ok(uids)
    }

    /// Starts the two tasks: one that listens, one that relists and calls `changed` with each uid.
    pub(crate) fn start(self: &Arc<Self>, tasks: &TaskGroup, changed: impl Fn(&str) + Send + Sync + 'static) {
        let pleg = self.clone();
        tasks.spawn_worker("runtime-events", move || listen(pleg.clone()));
        let (pleg, changed) = (self.clone(), Arc::new(changed));
        tasks.spawn_worker("pleg", move || relist_always(pleg.clone(), changed.clone()));
    }
}

async fn relist_always(pleg: Arc<Pleg>, changed: Arc<impl Fn(&str) + Send + Sync>) {
    let mut before = None;
    loop {
        let begun = pleg.clock.monotonic();
        if let Some(before) = before.replace(begun) {
            pleg.metrics.pleg_interval.observe(begun.saturating_sub(before).as_secs_f64());
        }
        let relisted = pleg.relist().await;
        pleg.metrics.pleg_relist.observe(pleg.clock.monotonic().saturating_sub(begun).as_secs_f64());
        match relisted {
            Ok(uids) => uids.iter().for_each(|uid| changed(uid)),
            Err(error) => debug!(%error, "relist failed"),
        }
        let seen = pleg.events_seen.load(Ordering::Relaxed);
        let period = if seen { WITH_EVENTS } else { WITHOUT_EVENTS };
        tokio::select! {
            () = pleg.clock.sleep(period) => {}
            () = pleg.wake.notified() => pleg.clock.sleep(COALESCE).await,
        }
    }
}

fn entry<'a>(pods: &'a mut HashMap<String, Listed>, labels: &HashMap<String, String>) -> Option<&'a mut Listed> {
    // Sandboxes without our labels belong to somebody else.
    let uid = labels.get(labels::POD_UID)?;
    let name = labels.get(labels::POD_NAME)?;
    let namespace = labels.get(labels::POD_NAMESPACE)?;
    let listed = pods.entry(uid.clone()).or_default();
    listed.key = ObjectKey::new(namespace, name);
    Some(listed)
}

async fn listen(pleg: Arc<Pleg>) {
    let mut told = false;
    loop {
        match pleg.runtime.events().await {
            Ok((mut events, source)) => {
                if !told {
                    info!(source, "container events come from the runtime");
                    told = true;
                }
                pleg.events_seen.store(true, Ordering::Relaxed);
                pleg.wake.notify_one();
                while let Some(Ok(_)) = events.next().await {
                    pleg.wake.notify_one();
                }
            }
            Err(error) if error.is_unimplemented() => {
                info!("the runtime has no container events; its state is listed every second");
                return;
            }
            Err(error) => warn!(%error, "cannot subscribe to container events"),
        }
        pleg.events_seen.store(false, Ordering::Relaxed);
        pleg.clock.sleep(RECONNECT).await;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use kedge_cri::fake::FakeRuntime;
    use kedge_cri::v1;

    #[tokio::test]
    async fn relist_tells_what_changed() {
        let runtime = Arc::new(FakeRuntime::default());
        let pleg = Pleg::new(runtime.clone(), kedge_base::system_clock(), Arc::default());
        assert!(pleg.relist().await.unwrap().is_empty());
        let labels = [(labels::POD_UID, "u"), (labels::POD_NAME, "p"), (labels::POD_NAMESPACE, "n")];
        let labels = labels.map(|(k, v)| (k.to_string(), v.to_string())).into();
        let config = v1::PodSandboxConfig { labels, ..Default::default() };
        let id = runtime.run_pod_sandbox(config, "").await.unwrap();
        assert_eq!(pleg.relist().await.unwrap(), ["u"]);
        assert!(pleg.relist().await.unwrap().is_empty());
        runtime.stop_pod_sandbox(&id).await.unwrap();
        assert_eq!(pleg.relist().await.unwrap(), ["u"]);
        runtime.remove_pod_sandbox(&id).await.unwrap();
        assert_eq!(pleg.relist().await.unwrap(), ["u"]);
    }
}
