//! What nodes and their pods use, from their kubelets: read when somebody asks, and by nobody else.
//!
//! Kubelets of any make tell it in `/stats/summary`, with rates of their own, so that one reading is an answer. Whoever asks for a node
//! while it is read waits for the same reading, and who asks soon after gets it again. A node that does not answer in time has no usage,
//! and is left alone for a while, so that it does not hold up the next list.
//! Invariant: what is kept is one reading of each node that somebody asked about within a minute; after that minute nothing is kept and
//! nothing runs.

mod summary;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use http::{HeaderValue, Request, StatusCode, header};
use kedge_base::SharedClock;
use kedge_base::time::timeout;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tracing::debug;

use super::{Backend, KubeletAccess, Unreached};
use crate::body::{self, full};

pub(crate) use summary::{NodeUsage, Sample};

const PATH: &str = "/stats/summary?only_cpu_and_memory=true";
/// How long a reading is an answer.
const FRESH: Duration = Duration::from_secs(5);
/// How long a node is left alone that did not answer.
const RETRY: Duration = Duration::from_secs(10);
/// How long a node has to answer. Ours take a second for the first answer after a pause.
const PATIENCE: Duration = Duration::from_secs(3);
/// Nodes that are read at a time, for all who ask.
const AT_A_TIME: usize = 64;
/// How long a reading is kept that nobody asks for.
const KEPT: Duration = Duration::from_secs(60);

/// Why a node has no usage.
#[derive(Debug, thiserror::Error)]
enum Unread {
    #[error("it cannot be reached: {0}")]
    Unreached(#[from] Unreached),
    #[error("it answers {0}")]
    Refused(StatusCode),
    #[error("its answer broke off: {0}")]
    Broken(String),
    #[error("its answer is no summary: {0}")]
    Summary(#[from] serde_json::Error),
    #[error("it does not answer in time")]
    Late,
}

/// The last reading of a node, or that there was none.
#[derive(Default)]
struct Reading(Option<(Duration, Option<Arc<NodeUsage>>)>);

impl Reading {
    /// What is still an answer.
    fn current(&self, now: Duration) -> Option<Option<Arc<NodeUsage>>> {
        let (at, usage) = self.0.as_ref()?;
        let kept = if usage.is_some() { FRESH } else { RETRY };
        (now.saturating_sub(*at) < kept).then(|| usage.clone())
    }
}

struct Slot {
    asked: Duration,
    /// Locked while the node is read.
    reading: Arc<tokio::sync::Mutex<Reading>>,
}

/// The readings of all nodes. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Usages(Arc<Inner>);

struct Inner {
    clock: SharedClock,
    nodes: Mutex<HashMap<String, Slot>>,
    at_a_time: Semaphore,
}

impl Usages {
    pub(crate) fn new(clock: SharedClock) -> Self {
        Self(Arc::new(Inner { clock, nodes: Mutex::default(), at_a_time: Semaphore::new(AT_A_TIME) }))
    }

    /// The usage of nodes by their names; those that do not tell are missing.
    pub(crate) async fn of(
        &self,
        kubelets: &KubeletAccess,
        nodes: Vec<(String, Backend)>,
    ) -> HashMap<String, Arc<NodeUsage>> {
        let each = futures::stream::iter(nodes).map(|(name, kubelet)| async move {
            let usage = self.one(kubelets, &name, &kubelet).await;
            usage.map(|usage| (name, usage))
        });
        each.buffer_unordered(AT_A_TIME).filter_map(std::future::ready).collect().await
    }

    async fn one(&self, kubelets: &KubeletAccess, name: &str, kubelet: &Backend) -> Option<Arc<NodeUsage>> {
        let reading = self.slot(kubelets, name);
        let mut reading = reading.lock().await;
        if let Some(known) = reading.current(self.0.clock.monotonic()) {
            return known;
        }
        let _turn = self.0.at_a_time.acquire().await.ok()?;
        let read = timeout(PATIENCE, read(kubelets, kubelet)).await.unwrap_or(Err(Unread::Late));
        let usage = match read {
            Ok(usage) => Some(Arc::new(usage)),
            Err(why) => {
                debug!(node = name, error = %why, "a node does not tell what it uses");
                None
            }
        };
        reading.0 = Some((self.0.clock.monotonic(), usage.clone()));
        usage
    }

    fn slot(&self, kubelets: &KubeletAccess, name: &str) -> Arc<tokio::sync::Mutex<Reading>> {
        let mut nodes = self.0.nodes.lock();
        if nodes.is_empty() {
            let inner = self.0.clone();
            kubelets.spawn("usage of nodes", async move { inner.forget().await });
        }
        let asked = self.0.clock.monotonic();
        let slot = nodes.entry(name.to_owned()).or_insert_with(|| Slot { asked, reading: Arc::default() });
        slot.asked = asked;
        slot.reading.clone()
    }
}

impl Inner {
    /// Forgets what nobody asks for, until there is nothing.
    async fn forget(&self) {
        loop {
            self.clock.sleep(KEPT).await;
            let now = self.clock.monotonic();
            let mut nodes = self.nodes.lock();
            nodes.retain(|_, slot| now.saturating_sub(slot.asked) < KEPT);
            if nodes.is_empty() {
                nodes.shrink_to_fit();
                return;
            }
        }
    }
}

async fn read(kubelets: &KubeletAccess, kubelet: &Backend) -> Result<NodeUsage, Unread> {
    let mut request = Request::new(full(""));
    *request.uri_mut() = http::Uri::from_static(PATH);
    if let Ok(host) = HeaderValue::from_str(&kubelet.address) {
        request.headers_mut().insert(header::HOST, host);
    }
    let response = kubelets.send(kubelet, request).await?;
    if response.status() != StatusCode::OK {
        return Err(Unread::Refused(response.status()));
    }
    let window = response.headers().get(kedge_meta::USAGE_WINDOW).and_then(|value| value.to_str().ok()?.parse().ok());
    let bytes = body::read(response.into_body()).await.map_err(|status| Unread::Broken(status.message))?;
    Ok(NodeUsage::parse(&bytes, window)?)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
