//! Where events go.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kedge_base::{SharedClock, TaskGroup, blocking};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tracing::warn;

use crate::batch::{Batch, Batching, Receiver};
use crate::file::Tidying;
use crate::{Event, Level, LogFile};

/// Lines that wait for the disk; whoever has another waits, too.
const WAITING: usize = 1_024;
/// KiB of them; one that is larger takes all of it.
const ROOM: usize = 32 << 10;
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
    to: mpsc::Sender<Line>,
    /// KiB of lines that may wait.
    room: Arc<Semaphore>,
    legacy: bool,
}

/// A line, and the room that it takes until it is written.
struct Line(Vec<u8>, OwnedSemaphorePermit);

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
            tasks: tasks.clone(),
            tidies: Arc::default(),
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
        self.file = Some(Lines { to, room: Arc::new(Semaphore::new(ROOM)), legacy });
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
                let kib = line.len().div_ceil(1 << 10).min(ROOM) as u32;
                match lines.room.clone().acquire_many_owned(kib).await {
                    Ok(room) => lines.to.send(Line(line, room)).await.is_ok(),
                    Err(_) => false,
                }
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
    lines: tokio::sync::Mutex<mpsc::Receiver<Line>>,
    counts: Arc<Counts>,
    clock: SharedClock,
    tasks: TaskGroup,
    /// Held while files that were set aside are packed.
    tidies: Arc<tokio::sync::Mutex<()>>,
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
            let (texts, room): (Vec<_>, Vec<_>) = taken.drain(..).map(|Line(text, room)| (text, room)).unzip();
            let (writer, count, now) = (self.clone(), texts.len() as u64, self.clock.now());
            let written = blocking::unbounded("audit log", move || writer.file.lock().append(&texts, now)).await;
            drop(room);
            let tidying = self.file.lock().tidying();
            if let Some(tidying) = tidying {
                self.tidy(tidying);
            }
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

impl Writer {
    /// Packs and removes what was set aside, while lines go on being written.
    fn tidy(&self, tidying: Tidying) {
        let (one, now) = (self.tidies.clone(), self.clock.now());
        self.tasks.spawn_until_shutdown("audit log", async move {
            let _one = one.lock().await;
            let failed = match blocking::unbounded("audit log", move || tidying.run(now)).await {
                Ok(Ok(())) => return,
                Ok(Err(err)) => err.to_string(),
                Err(panicked) => panicked.to_string(),
            };
            warn!(error = failed, "files of the audit log that were set aside cannot be packed or removed");
        });
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
