//! Where events go.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kedge_base::{SharedClock, TaskGroup, blocking};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tracing::warn;

use crate::batch::{Batch, Batching, Receiver};
use crate::{Event, Level, LogFile};

/// Lines that wait for the disk; whoever has another waits, too.
const WAITING: usize = 1_024;
/// Lines that are written together.
const TOGETHER: usize = 256;

/// What has been counted, for metrics.
#[derive(Debug, Default)]
pub struct Counts {
    /// Events that were handed on.
    pub events: AtomicU64,
    /// Events that were lost, at the file and on the way to the receiver.
    pub lost: [AtomicU64; 2],
    /// Requests by the level that the policy has for them.
    pub levels: [AtomicU64; 4],
}

impl Counts {
    /// A request has a level.
    pub fn judged(&self, level: Level) {
        self.levels[level as usize].fetch_add(1, Ordering::Relaxed);
    }
}

/// Takes events. Cheap to clone.
#[derive(Clone, Default)]
pub struct Sink {
    file: Option<Lines>,
    batch: Option<Batch>,
    pub counts: Arc<Counts>,
}

#[derive(Clone)]
struct Lines {
    to: mpsc::Sender<Vec<u8>>,
    legacy: bool,
}

impl Sink {
    /// The same, which writes to a file, one event a line; `legacy` in the short form.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn with_file(
        mut self,
        mut file: LogFile,
        legacy: bool,
        tasks: &TaskGroup,
        clock: &SharedClock,
    ) -> io::Result<Self> {
        file.open()?;
        let (to, lines) = mpsc::channel(WAITING);
        let writer = Arc::new(Writer {
            file: Mutex::new(file),
            lines: tokio::sync::Mutex::new(lines),
            counts: self.counts.clone(),
            clock: clock.clone(),
        });
        let shutdown = tasks.shutdown().clone();
        tasks.spawn_lasting("audit log", move || {
            let (writer, shutdown) = (writer.clone(), shutdown.clone());
            async move {
                tokio::select! {
                    () = writer.run(false) => {}
                    () = shutdown.requested() => writer.run(true).await,
                }
            }
        });
        self.file = Some(Lines { to, legacy });
        Ok(self)
    }

    /// The same, which sends events on, many at a time.
    #[must_use]
    pub fn with_receiver(
        mut self,
        receiver: Arc<dyn Receiver>,
        batching: Batching,
        tasks: &TaskGroup,
        clock: &SharedClock,
    ) -> Self {
        self.batch = Some(Batch::start(receiver, batching, self.counts.clone(), tasks, clock));
        self
    }

    /// Hands an event on. It waits for the file, if that is slow, and never for the receiver.
    pub async fn record(&self, event: &Event) {
        self.counts.events.fetch_add(1, Ordering::Relaxed);
        if let Some(batch) = &self.batch {
            batch.put(event);
        }
        let Some(lines) = &self.file else { return };
        let line = if lines.legacy { Ok(event.legacy().into_bytes()) } else { event.line() };
        let sent = match line {
            Ok(mut line) => {
                line.push(b'\n');
                lines.to.send(line).await.is_ok()
            }
            Err(err) => {
                warn!(error = %err, audit_id = event.audit_id, "an audit event cannot be written");
                false
            }
        };
        if !sent {
            self.counts.lost[0].fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Who writes lines to the file.
struct Writer {
    file: Mutex<LogFile>,
    lines: tokio::sync::Mutex<mpsc::Receiver<Vec<u8>>>,
    counts: Arc<Counts>,
    clock: SharedClock,
}

impl Writer {
    /// Writes what comes; with `rest` only what is there already.
    async fn run(self: &Arc<Self>, rest: bool) {
        let mut lines = self.lines.lock().await;
        let mut taken = Vec::new();
        loop {
            if rest {
                while taken.len() < TOGETHER
                    && let Ok(line) = lines.try_recv()
                {
                    taken.push(line);
                }
            } else {
                lines.recv_many(&mut taken, TOGETHER).await;
            }
            if taken.is_empty() {
                return;
            }
            let (writer, together) = (self.clone(), std::mem::take(&mut taken));
            let count = together.len() as u64;
            let now = self.clock.now();
            let written = blocking::unbounded("audit log", move || writer.file.lock().append(&together, now)).await;
            let failed = match written {
                Ok(Ok(())) => continue,
                Ok(Err(err)) => err.to_string(),
                Err(panicked) => panicked.to_string(),
            };
            self.counts.lost[0].fetch_add(count, Ordering::Relaxed);
            warn!(error = failed, events = count, "the audit log cannot be written; events are lost");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use kedge_base::{Shutdown, system_clock};
    use std::time::Duration;

    #[tokio::test]
    async fn what_was_recorded_before_the_end_is_in_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        let tasks = TaskGroup::new("audit", Shutdown::new());
        let file = LogFile::new(path.to_str().unwrap(), 0, 0, 0, false);
        let sink = Sink::default().with_file(file, false, &tasks, &system_clock()).unwrap();
        for n in 0..300 {
            sink.record(&Event { audit_id: n.to_string(), ..crate::event::event() }).await;
        }
        assert!(tasks.join(Duration::from_secs(30)).await);
        let text = std::fs::read_to_string(&path).unwrap();
        let ids: Vec<String> = text
            .lines()
            .map(|line| {
                serde_json::from_str::<serde_json::Value>(line).unwrap()["auditID"].as_str().unwrap().to_owned()
            })
            .collect();
        assert_eq!(ids, (0..300).map(|n| n.to_string()).collect::<Vec<_>>(), "in their order");
        assert_eq!(sink.counts.events.load(Ordering::Relaxed), 300);
    }
}
