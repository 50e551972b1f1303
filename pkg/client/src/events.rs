//! Events about objects, written as upstream's recorder writes them: repeated ones are counted, not repeated.
//!
//! Recording never blocks and never fails the caller: when the queue is full the event is dropped and that is logged.

use std::collections::HashMap;
use std::sync::Arc;

use kedge_base::{SharedClock, TaskGroup, time};
use kedge_meta::{ObjectReference, resources};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tracing::{debug, warn};

use crate::client::{Client, Patch};
use crate::error::Error;

/// Events that may wait to be written.
const QUEUE: usize = 1_000;
/// Distinct events that are remembered to count repetitions.
const REMEMBERED: usize = 4_096;
/// Upstream's limit on the message.
const MAX_MESSAGE: usize = 1_024;
/// Events per object and source before the token bucket limits them, and seconds for a further one.
const BURST: u32 = 25;
const REFILL_SECONDS: i64 = 300;

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

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    object: ObjectReference,
    kind: EventType,
    reason: String,
    message: String,
}

/// Records events of one component; clones share the queue.
#[derive(Clone)]
pub struct EventRecorder {
    queue: mpsc::Sender<Key>,
}

impl EventRecorder {
    /// A recorder for `component` (such as `kubelet`) on `host` (empty for none); it writes in a task of `tasks`.
    pub fn new(client: &Client, clock: SharedClock, tasks: &TaskGroup, component: &str, host: &str) -> Self {
        let (queue, receiver) = mpsc::channel(QUEUE);
        let writer = Writer {
            client: client.clone(),
            clock,
            component: component.to_owned(),
            host: host.to_owned(),
            known: HashMap::new(),
            buckets: HashMap::new(),
        };
        tasks.spawn_until_shutdown("event recorder", writer.run(receiver));
        Self { queue }
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
        let key = Key { object, kind, reason: reason.to_owned(), message };
        if let Err(err) = self.queue.try_send(key) {
            warn!(reason, error = %err, "event dropped");
        }
    }
}

struct Known {
    namespace: String,
    name: String,
    count: u32,
}

struct Bucket {
    tokens: u32,
    refilled: i64,
}

struct Writer {
    client: Client,
    clock: SharedClock,
    component: String,
    host: String,
    known: HashMap<Arc<Key>, Known>,
    buckets: HashMap<ObjectReference, Bucket>,
}

impl Writer {
    async fn run(mut self, mut queue: mpsc::Receiver<Key>) {
        while let Some(key) = queue.recv().await {
            if !self.admit(&key.object) {
                debug!(reason = key.reason, "event dropped: too many for this object");
                continue;
            }
            let reason = key.reason.clone();
            if let Err(err) = self.write(key).await {
                // Events about objects of a namespace that is going away are refused, which is no news.
                if err.is_not_found() || err.is_forbidden() {
                    debug!(reason, error = %err, "event refused");
                } else {
                    warn!(reason, error = %err, "event not written");
                }
            }
        }
    }

    fn admit(&mut self, object: &ObjectReference) -> bool {
        let now = self.clock.now().as_second();
        if self.buckets.len() >= REMEMBERED {
            self.buckets.retain(|_, b| now - b.refilled < REFILL_SECONDS);
        }
        let bucket = self.buckets.entry(object.clone()).or_insert(Bucket { tokens: BURST, refilled: now });
        let refill = u32::try_from((now - bucket.refilled) / REFILL_SECONDS).unwrap_or_default();
        if refill > 0 {
            bucket.tokens = bucket.tokens.saturating_add(refill).min(BURST);
            bucket.refilled = now;
        }
        let admitted = bucket.tokens > 0;
        bucket.tokens = bucket.tokens.saturating_sub(1);
        admitted
    }

    async fn write(&mut self, key: Key) -> Result<(), Error> {
        let now = time::rfc3339(self.clock.now());
        if let Some(known) = self.known.get_mut(&key) {
            let patch = json!({ "count": known.count + 1, "lastTimestamp": now });
            let patched: Result<Value, _> =
                self.client.patch(&resources::EVENTS, &known.namespace, &known.name, Patch::Merge(patch), None).await;
            match patched {
                Ok(_) => {
                    known.count += 1;
                    return Ok(());
                }
                Err(err) if err.is_not_found() => {
                    self.known.remove(&key);
                }
                Err(err) => return Err(err),
            }
        }
        self.create(key, &now).await
    }

    async fn create(&mut self, key: Key, now: &str) -> Result<(), Error> {
        let namespace = if key.object.namespace.is_empty() { "default" } else { &key.object.namespace };
        let name = format!("{}.{:x}", key.object.name, self.clock.now().as_nanosecond());
        let event = json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": { "name": name, "namespace": namespace },
            "involvedObject": key.object,
            "type": key.kind.name(),
            "reason": key.reason,
            "message": key.message,
            "source": { "component": self.component, "host": self.host },
            "reportingComponent": self.component,
            "reportingInstance": self.host,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        });
        let _: Value = self.client.create(&resources::EVENTS, namespace, &event).await?;
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        let known = Known { namespace: namespace.to_owned(), name, count: 1 };
        self.known.insert(Arc::new(key), known);
        Ok(())
    }
}
