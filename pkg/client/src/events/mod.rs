//! Events about objects, written as upstream's recorder writes them: repeated ones are counted, similar ones combined,
//! and an object that has too many is cut short.
//!
//! Recording never blocks and never fails the caller: when a queue is full the event is dropped and that is logged.

mod correlate;
mod lru;

use std::sync::Arc;
use std::time::Duration;

use kedge_base::{SharedClock, TaskGroup, random, time};
use kedge_meta::{ObjectReference, resources};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tracing::{debug, warn};

use crate::client::{Client, Patch};
use crate::error::Error;
use correlate::{Correlator, Observed, Occurrence, object_of};

/// Writers of one recorder. Each object has its own among them, so that its events keep their order; the others need not
/// wait for it.
const LANES: usize = 8;
/// Events that may wait for one writer.
const QUEUE: usize = 512;
/// Upstream's limit on the message.
const MAX_MESSAGE: usize = 1_024;
/// How often an event is sent when no answer comes, and how long after each other.
const TRIES: u32 = 12;
const BETWEEN_TRIES: Duration = Duration::from_secs(10);
const TASK: &str = "event recorder";

/// The type of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventType {
    Normal,
    Warning,
}

impl EventType {
    fn name(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// Records events of one component; clones share the queues.
#[derive(Clone)]
pub struct EventRecorder {
    lanes: Arc<[mpsc::Sender<Occurrence>]>,
}

impl EventRecorder {
    /// A recorder for `component` (such as `kubelet`) on `host` (empty for none); it writes in tasks of `tasks`.
    pub fn new(client: &Client, clock: SharedClock, tasks: &TaskGroup, component: &str, host: &str) -> Self {
        let writer = Arc::new(Writer {
            client: client.clone(),
            clock,
            component: component.to_owned(),
            host: host.to_owned(),
            correlator: Mutex::new(Correlator::new()),
        });
        let lane = |_| {
            let (queue, receiver) = mpsc::channel(QUEUE);
            tasks.spawn_until_shutdown(TASK, writer.clone().run(receiver, tasks.clone()));
            queue
        };
        Self { lanes: (0..LANES).map(lane).collect() }
    }

    /// Records that something happened to `object`.
    pub fn event(&self, object: &ObjectReference, kind: EventType, reason: &str, message: impl Into<String>) {
        let mut message = message.into();
        if message.len() > MAX_MESSAGE {
            let end = (0..=MAX_MESSAGE).rev().find(|i| message.is_char_boundary(*i)).unwrap_or_default();
            message.truncate(end);
        }
        // The version of the object changes all the time and would make every event a new one.
        let object = ObjectReference { resource_version: String::new(), ..object.clone() };
        let occurrence = Occurrence { object, kind, reason: reason.to_owned(), message };
        let (half, _) = object_of(&occurrence);
        let lane = usize::try_from(half % LANES as u64).unwrap_or_default();
        if let Err(err) = self.lanes[lane].try_send(occurrence) {
            warn!(reason, error = %err, "event dropped");
        }
    }
}

struct Writer {
    client: Client,
    clock: SharedClock,
    component: String,
    host: String,
    correlator: Mutex<Correlator>,
}

impl Writer {
    async fn run(self: Arc<Self>, mut queue: mpsc::Receiver<Occurrence>, tasks: TaskGroup) {
        while let Some(occurrence) = queue.recv().await {
            // An event that makes this panic would do so again: it is dropped, and the ones behind it are written.
            let _counted = tasks.catch(TASK, self.record(occurrence)).await;
        }
    }

    async fn record(&self, occurrence: Occurrence) {
        let reason = occurrence.reason.clone();
        let observed = self.correlator.lock().correlate(occurrence, self.clock.now());
        let Some(observed) = observed else {
            debug!(reason, "event dropped: too many for this object");
            return;
        };
        if let Err(err) = self.deliver(&observed).await {
            // Events about objects of a namespace that is going away are refused, which is no news.
            if err.is_not_found() || err.is_forbidden() || err.is_already_exists() {
                debug!(reason, error = %err, "event refused");
            } else {
                warn!(reason, error = %err, "event not written");
            }
        }
    }

    /// Writes, and tries again when nobody answered. An answer, whatever it says, is the end.
    async fn deliver(&self, observed: &Observed) -> Result<(), Error> {
        let mut wait = BETWEEN_TRIES.mul_f64((random::u64() % 1_000) as f64 / 1_000.0);
        for _ in 1..TRIES {
            match self.write(observed).await {
                Err(err) if err.status().is_none() => {
                    debug!(error = %err, "event not written yet");
                    self.clock.sleep(wait).await;
                    wait = BETWEEN_TRIES;
                }
                done => return done,
            }
        }
        self.write(observed).await
    }

    async fn write(&self, observed: &Observed) -> Result<(), Error> {
        let namespace = match observed.occurrence.object.namespace.as_str() {
            "" => "default",
            namespace => namespace,
        };
        if observed.count > 1 {
            let last = time::rfc3339(observed.last);
            let message = &observed.occurrence.message;
            let patch = Patch::Merge(json!({"count": observed.count, "lastTimestamp": last, "message": message}));
            let patched: Result<Value, _> =
                self.client.patch(&resources::EVENTS, namespace, &observed.name, patch, None).await;
            match patched {
                // It has expired, or was never written; it begins again with what is known of it.
                Err(err) if err.is_not_found() => {}
                done => return done.map(drop),
            }
        }
        let _: Value = self.client.create(&resources::EVENTS, namespace, &self.event(namespace, observed)).await?;
        Ok(())
    }

    fn event(&self, namespace: &str, observed: &Observed) -> Value {
        let Observed { occurrence, name, count, first, last } = observed;
        json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": { "name": name, "namespace": namespace },
            "involvedObject": occurrence.object,
            "type": occurrence.kind.name(),
            "reason": occurrence.reason,
            "message": occurrence.message,
            "source": { "component": self.component, "host": self.host },
            "reportingComponent": self.component,
            "reportingInstance": self.host,
            "firstTimestamp": time::rfc3339(*first),
            "lastTimestamp": time::rfc3339(*last),
            "count": count,
        })
    }
}

#[cfg(test)]
mod tests;
