//! Work that may block for long or for ever, on threads of its own: calls into file systems, mounts, other programs.
//!
//! Such a call cannot be called off: an NFS server that is gone or a FUSE daemon that does not answer holds the thread until
//! somebody repairs it. So it never runs on the threads that serve requests, and nobody waits for it without a limit.
//!
//! Invariants: of one key (such as a pod's uid) at most one call runs; while that hangs, further ones of the key fail at once
//! and take no thread. Other keys are not held up by it: a place is taken only for as long as somebody waits for the call.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::clock::SharedClock;
use crate::panics::{Ledger, Panicked, Running, Weight};

/// Why there is no result.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BlockingError {
    /// The call did not come back in time. Its thread goes on waiting.
    #[error("{operation} {path}: no answer within {limit:?}; the file system may hang")]
    Hung { operation: &'static str, path: PathBuf, limit: Duration },
    /// An earlier call of the same key has not come back. How long it has been is not in the words, so that events that say
    /// the same are one.
    #[error("{operation} {path}: still no answer; the file system may hang")]
    StillHung { operation: &'static str, path: PathBuf, waited: Duration },
    /// As many calls run as may.
    #[error("{operation} {path}: too many file system calls are under way ({running})")]
    Busy { operation: &'static str, path: PathBuf, running: usize },
    /// The system gave no thread.
    #[error("{operation} {path}: no thread for it: {source}")]
    NoThread { operation: &'static str, path: PathBuf, source: Arc<std::io::Error> },
    /// The call panicked, which has been counted.
    #[error("{operation} {path}: {panicked}")]
    Panicked { operation: &'static str, path: PathBuf, panicked: Panicked },
}

/// What is called, for errors and logs, and how long it may take.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// A verb, such as `stat`.
    pub operation: &'static str,
    pub path: &'a Path,
    pub limit: Duration,
}

/// The blocking calls of one user of them; clones share the threads.
#[derive(Clone)]
pub struct Blocking {
    inner: Arc<Inner>,
}

struct Inner {
    name: &'static str,
    clock: SharedClock,
    ledger: Ledger,
    /// For calls that are waited for.
    places: Arc<Semaphore>,
    /// Threads at most, those that hang among them.
    most: usize,
    running: Mutex<HashMap<String, Arc<Job>>>,
}

/// A call that has a thread.
struct Job {
    operation: &'static str,
    path: PathBuf,
    limit: Duration,
    started: Duration,
    ended: CancellationToken,
}

impl Blocking {
    /// At most `active` calls are waited for at a time, and at most `most` threads are there with those that hang.
    pub fn new(name: &'static str, clock: SharedClock, ledger: &Ledger, active: usize, most: usize) -> Self {
        let places = Arc::new(Semaphore::new(active));
        let ledger = ledger.clone();
        Self { inner: Arc::new(Inner { name, clock, ledger, places, most, running: Mutex::default() }) }
    }

    /// Runs `work` on a thread of its own, after an earlier call of the same `key` has ended.
    ///
    /// # Errors
    /// [`BlockingError`]; after [`BlockingError::Hung`], the work goes on, and its result is lost.
    pub async fn run<T, W>(&self, key: &str, call: Call<'_>, work: W) -> Result<T, BlockingError>
    where
        T: Send + 'static,
        W: FnOnce() -> T + Send + 'static,
    {
        let (operation, path, limit) = (call.operation, call.path.to_path_buf(), call.limit);
        let (place, job) = self.turn(key, &call).await?;
        let answer = match self.start(key.to_owned(), job, work) {
            Ok(answer) => answer,
            Err(source) => return Err(BlockingError::NoThread { operation, path, source: Arc::new(source) }),
        };
        let result = tokio::select! {
            biased;
            answered = answer => match answered {
                Ok(Ok(result)) => Ok(result),
                Ok(Err(panicked)) => Err(BlockingError::Panicked { operation, path, panicked }),
                // The thread answers before it ends, whatever happens.
                Err(_) => Err(BlockingError::Hung { operation, path, limit }),
            },
            () = self.inner.clock.sleep(limit) => {
                let user = self.inner.name;
                warn!(user, key, operation, path = %path.display(), ?limit, "a file system call does not come back");
                Err(BlockingError::Hung { operation, path, limit })
            }
        };
        // One that hangs gives its place to the next: its key keeps it from taking more than the one thread.
        drop(place);
        result
    }

    /// How many calls have not come back in their time.
    pub fn hung(&self) -> usize {
        let now = self.inner.clock.monotonic();
        self.inner.running.lock().values().filter(|job| job.is_late(now)).count()
    }

    /// Waits for a place and for the end of the key's earlier call.
    async fn turn(&self, key: &str, call: &Call<'_>) -> Result<(OwnedSemaphorePermit, Arc<Job>), BlockingError> {
        let Call { operation, path, limit } = *call;
        let inner = &self.inner;
        let begun = inner.clock.monotonic();
        let busy = |running| BlockingError::Busy { operation, path: path.to_path_buf(), running };
        loop {
            let now = inner.clock.monotonic();
            let left = limit.saturating_sub(now.saturating_sub(begun));
            let earlier = inner.running.lock().get(key).cloned();
            if let Some(earlier) = earlier {
                if earlier.is_late(now) || left.is_zero() {
                    return Err(earlier.still_hung(now));
                }
                tokio::select! {
                    () = earlier.ended.cancelled() => {}
                    () = inner.clock.sleep(left.min(earlier.left(now))) => {}
                }
                continue;
            }
            let place = tokio::select! {
                place = inner.places.clone().acquire_owned() => place.ok(),
                () = inner.clock.sleep(left) => None,
            };
            let mut running = inner.running.lock();
            let Some(place) = place else { return Err(busy(running.len())) };
            if running.len() >= inner.most {
                return Err(busy(running.len()));
            }
            if running.contains_key(key) {
                continue;
            }
            let started = inner.clock.monotonic();
            let ended = CancellationToken::new();
            let job = Arc::new(Job { operation, path: path.to_path_buf(), limit, started, ended });
            running.insert(key.to_owned(), job.clone());
            return Ok((place, job));
        }
    }

    fn start<T, W>(
        &self,
        key: String,
        job: Arc<Job>,
        work: W,
    ) -> std::io::Result<oneshot::Receiver<Result<T, Panicked>>>
    where
        T: Send + 'static,
        W: FnOnce() -> T + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let (name, operation, ledger) = (self.inner.name, job.operation, self.inner.ledger.clone());
        let counted = ledger.running(name, operation);
        // Dropped with the thread's work, or with the attempt to start one.
        let entry = Entry { inner: self.inner.clone(), key, job, _counted: counted };
        let span = tracing::Span::current();
        let thread = move || {
            let _span = span.entered();
            let result = ledger.catch_now(name, operation, Weight::Vital, work);
            drop(entry);
            // Nobody waits any more when it took too long.
            let _ = answer.send(result);
        };
        std::thread::Builder::new().name(name.to_owned()).spawn(thread)?;
        Ok(answered)
    }
}

impl Job {
    fn left(&self, now: Duration) -> Duration {
        (self.started + self.limit).saturating_sub(now)
    }

    fn is_late(&self, now: Duration) -> bool {
        self.left(now).is_zero()
    }

    fn still_hung(&self, now: Duration) -> BlockingError {
        let waited = Duration::from_secs(now.saturating_sub(self.started).as_secs());
        BlockingError::StillHung { operation: self.operation, path: self.path.clone(), waited }
    }
}

/// The place of a call among those that run.
struct Entry {
    inner: Arc<Inner>,
    key: String,
    job: Arc<Job>,
    _counted: Running,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.inner.running.lock().remove(&self.key);
        self.job.ended.cancel();
        let now = self.inner.clock.monotonic();
        if self.job.is_late(now) {
            let (user, operation) = (self.inner.name, self.job.operation);
            let took = now.saturating_sub(self.job.started);
            info!(user, key = self.key, operation, path = %self.job.path.display(), ?took, "a file system call came back late");
        }
    }
}

/// Runs work that ends by itself, such as deriving a key or writing a file of this process's own, where it holds up nobody.
///
/// # Errors
/// [`Panicked`], which has been counted.
pub async fn unbounded<T, W>(task: &'static str, work: W) -> Result<T, Panicked>
where
    T: Send + 'static,
    W: FnOnce() -> T + Send + 'static,
{
    let ledger = Ledger::process();
    let counted = ledger.running("blocking", task);
    let span = tracing::Span::current();
    let caught = tokio::task::spawn_blocking(move || {
        let _span = span.entered();
        let _counted = counted;
        ledger.catch_now("blocking", task, Weight::Vital, work)
    });
    // What panics is caught inside; the rest is a runtime that ends.
    caught.await.unwrap_or_else(|err| Err(Panicked { message: err.to_string() }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::system_clock;
    use std::sync::mpsc;

    const LONG: Duration = Duration::from_secs(60);

    fn blocking(active: usize, most: usize) -> (Blocking, Ledger) {
        let ledger = Ledger::new(system_clock());
        (Blocking::new("volumes", system_clock(), &ledger, active, most), ledger)
    }

    fn call(path: &str, limit: Duration) -> Call<'_> {
        Call { operation: "stat", path: Path::new(path), limit }
    }

    fn threads(ledger: &Ledger) -> usize {
        ledger.snapshot().iter().map(|report| report.running).sum()
    }

    #[tokio::test]
    async fn a_call_that_hangs_takes_one_thread_and_holds_up_nobody_else() {
        let (blocking, ledger) = blocking(1, 8);
        let (let_go, hang) = mpsc::channel::<()>();
        let hung = blocking.run("a", call("/nfs", Duration::from_millis(10)), move || hang.recv()).await.unwrap_err();
        assert_eq!(hung.to_string(), "stat /nfs: no answer within 10ms; the file system may hang");
        for _ in 0..100 {
            let again = blocking.run("a", call("/nfs", LONG), || ()).await.unwrap_err();
            assert!(matches!(again, BlockingError::StillHung { .. }), "{again}");
        }
        assert_eq!((threads(&ledger), blocking.hung()), (1, 1));
        assert_eq!(blocking.run("b", call("/disk", LONG), || 7).await.unwrap(), 7);
        // When it comes back, the key is free.
        drop(let_go);
        loop {
            match blocking.run("a", call("/nfs", LONG), || 8).await {
                Ok(result) => break assert_eq!(result, 8),
                Err(_) => tokio::task::yield_now().await,
            }
        }
        assert_eq!((threads(&ledger), blocking.hung()), (0, 0));
    }

    #[tokio::test]
    async fn the_calls_of_one_key_follow_each_other_also_when_nobody_waits() {
        let (blocking, _) = blocking(4, 8);
        let (let_go, hang) = mpsc::channel::<()>();
        let mut first = Box::pin(blocking.run("a", call("/d", LONG), move || hang.recv()));
        assert!(futures::poll!(&mut first).is_pending());
        drop(first);
        let mut second = Box::pin(blocking.run("a", call("/d", LONG), || 2));
        assert!(futures::poll!(&mut second).is_pending(), "the first has not ended");
        drop(let_go);
        assert_eq!(second.await.unwrap(), 2);
    }

    #[tokio::test]
    async fn there_are_no_more_threads_than_may_be() {
        let (blocking, ledger) = blocking(4, 2);
        let mut held = Vec::new();
        for key in ["a", "b"] {
            let (let_go, hang) = mpsc::channel::<()>();
            held.push(let_go);
            let hung = blocking.run(key, call("/nfs", Duration::from_millis(1)), move || hang.recv()).await;
            assert!(matches!(hung, Err(BlockingError::Hung { .. })));
        }
        let refused = blocking.run("c", call("/disk", LONG), || ()).await.unwrap_err();
        assert!(matches!(refused, BlockingError::Busy { running: 2, .. }), "{refused}");
        assert_eq!(threads(&ledger), 2);
    }

    #[tokio::test]
    async fn a_call_that_panics_is_counted_and_leaves_its_key_free() {
        let (blocking, ledger) = blocking(1, 1);
        let panicked = blocking.run("a", call("/d", LONG), || panic!("on purpose")).await.unwrap_err();
        assert!(panicked.to_string().starts_with("stat /d: panicked: on purpose"), "{panicked}");
        assert_eq!(ledger.panics_of("stat"), 1);
        assert_eq!(blocking.run("a", call("/d", LONG), || 1).await.unwrap(), 1);
    }
}
