//! Supervised tasks: every task has a name and a group; a shutdown waits for them, and a panic is counted.

use std::future::Future;
use std::time::Duration;

use tokio_util::task::TaskTracker;
use tracing::{Instrument, debug, warn};

use crate::panics::{Ledger, Panicked, Weight};
use crate::{Backoff, Shutdown};

/// Pauses before a worker that panicked is started again.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LAST_PAUSE: Duration = Duration::from_secs(30);
/// A worker that ran for so long begins with short pauses again.
const STEADY: Duration = Duration::from_secs(60);

/// A set of tasks that share a shutdown flag. Cheap to clone.
///
/// Every panic is counted in the [`Ledger`] and logged with its words; the other tasks go on. What becomes of the work
/// depends on how it was begun: [`TaskGroup::spawn`] is for work that serves one request or connection and ends with it;
/// [`TaskGroup::spawn_worker`] is for loops that live as long as the process, which are started again;
/// [`TaskGroup::catch`] is for one piece of work inside a loop, whose caller gives back what it held and tries again.
///
/// Tasks must watch [`TaskGroup::shutdown`] and return when it is raised; those that do not by the end of
/// [`TaskGroup::join`] are reported by that call.
#[derive(Clone)]
pub struct TaskGroup {
    name: &'static str,
    tracker: TaskTracker,
    shutdown: Shutdown,
    ledger: Ledger,
}

impl TaskGroup {
    /// An empty group that stops with `shutdown`; its panics are counted in the ledger of the process.
    pub fn new(name: &'static str, shutdown: Shutdown) -> Self {
        Self::with_ledger(name, shutdown, Ledger::process())
    }

    /// An empty group that counts in `ledger`.
    pub fn with_ledger(name: &'static str, shutdown: Shutdown, ledger: Ledger) -> Self {
        Self { name, tracker: TaskTracker::new(), shutdown, ledger }
    }

    /// A group of its own whose flag is a child of this one's, and for which this group's `join` waits as well.
    pub fn child(&self, name: &'static str) -> Self {
        Self { name, tracker: self.tracker.clone(), ..self.apart(name) }
    }

    /// A group of its own whose flag is a child of this one's, and which is waited for alone.
    pub fn apart(&self, name: &'static str) -> Self {
        Self::with_ledger(name, self.shutdown.child(), self.ledger.clone())
    }

    /// The flag that tasks of this group watch.
    pub fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// Where panics are counted.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Runs `future` to its end as a task of this group. A panic ends it, and is counted.
    pub fn spawn<F>(&self, task: &'static str, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (ledger, group, running) = (self.ledger.clone(), self.name, self.ledger.running(self.name, task));
        // Large ones would be copied on the stack by every layer around them.
        let future = Box::pin(future);
        let supervised = async move {
            // A panic has been counted and logged; nothing else is known about the work here.
            if ledger.catch(group, task, Weight::Single, future).await.is_ok() {
                debug!(group, task, "task ended");
            }
            drop(running);
        };
        self.tracker.spawn(supervised.in_current_span());
    }

    /// Runs `future` until it ends or the shutdown flag is raised, whichever is first.
    pub fn spawn_until_shutdown<F>(&self, task: &'static str, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let shutdown = self.shutdown.clone();
        self.spawn(task, async move {
            tokio::select! {
                () = shutdown.requested() => {}
                () = future => {}
            }
        });
    }

    /// Runs what `make` makes until it returns or the shutdown flag is raised. After a panic it is made again, with growing
    /// pauses: it must find its way from what it finds, not from what the one before it knew.
    pub fn spawn_worker<M, F>(&self, task: &'static str, mut make: M)
    where
        M: FnMut() -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let shutdown = self.shutdown.clone();
        self.spawn_lasting(task, move || {
            let (shutdown, work) = (shutdown.clone(), Box::pin(make()));
            async move {
                tokio::select! {
                    () = shutdown.requested() => {}
                    () = work => {}
                }
            }
        });
    }

    /// As [`TaskGroup::spawn_worker`], for work that has something to do when the shutdown flag is raised, and ends by itself
    /// then.
    pub fn spawn_lasting<M, F>(&self, task: &'static str, mut make: M)
    where
        M: FnMut() -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let group = self.clone();
        self.spawn(task, async move {
            let mut pause = Backoff::new(FIRST_PAUSE, LAST_PAUSE, 20);
            loop {
                let begun = tokio::time::Instant::now();
                // Making it may panic as well.
                let once = async { Box::pin(make()).await };
                if group.catch(task, once).await.is_ok() {
                    return;
                }
                if begun.elapsed() > STEADY {
                    pause.reset();
                }
                let wait = pause.next();
                warn!(group = group.name, task, again_in = ?wait, "a worker is started again after its panic");
                tokio::select! {
                    () = group.shutdown.requested() => return,
                    () = tokio::time::sleep(wait) => {}
                }
            }
        });
    }

    /// Runs one piece of work inside a task, and counts the panic if it ends with one: the caller gives back what the work
    /// held, and tries again as after a failure.
    ///
    /// # Errors
    /// [`Panicked`].
    pub async fn catch<F: Future>(&self, task: &'static str, work: F) -> Result<F::Output, Panicked> {
        self.ledger.catch(self.name, task, Weight::Vital, work).await
    }

    /// As [`TaskGroup::catch`], for work that does not wait.
    ///
    /// # Errors
    /// [`Panicked`].
    pub fn catch_now<T>(&self, task: &'static str, work: impl FnOnce() -> T) -> Result<T, Panicked> {
        self.ledger.catch_now(self.name, task, Weight::Vital, work)
    }

    /// How many tasks have not ended.
    pub fn len(&self) -> usize {
        self.tracker.len()
    }

    /// Whether all tasks have ended.
    pub fn is_empty(&self) -> bool {
        self.tracker.is_empty()
    }

    /// Raises the flag and waits for all tasks, however long they take.
    pub async fn finished(&self) {
        self.shutdown.trigger();
        self.tracker.close();
        self.tracker.wait().await;
    }

    /// Raises the flag and waits for all tasks, at most `limit`. Returns whether all ended.
    pub async fn join(&self, limit: Duration) -> bool {
        self.shutdown.trigger();
        self.tracker.close();
        tokio::time::timeout(limit, self.tracker.wait()).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::system_clock;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::Notify;

    fn group() -> TaskGroup {
        TaskGroup::with_ledger("test", Shutdown::new(), Ledger::new(system_clock()))
    }

    #[tokio::test]
    async fn join_waits_for_tasks_and_survives_a_panicking_one() {
        let group = group();
        let shutdown = group.shutdown().clone();
        group.spawn("waits", async move { shutdown.requested().await });
        group.spawn("panics", async { panic!("on purpose") });
        assert!(group.join(Duration::from_secs(5)).await);
        assert!(group.is_empty());
        assert_eq!(group.ledger().panics_of("panics"), 1);
        assert!(group.ledger().snapshot().iter().all(|report| report.running == 0));
    }

    #[tokio::test]
    async fn join_says_when_a_task_does_not_stop() {
        let group = group();
        group.spawn("stuck", std::future::pending());
        assert!(!group.join(Duration::from_millis(10)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_is_started_again_after_a_panic_and_not_after_its_end() {
        let group = group().child("child");
        let (runs, works) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let (counted, told) = (runs.clone(), works.clone());
        group.spawn_worker("worker", move || {
            let (run, told) = (counted.fetch_add(1, Ordering::SeqCst), told.clone());
            assert!(run != 1, "the second is not even made");
            async move {
                assert!(run != 0, "the first panics while it works");
                told.notify_one();
                if run == 2 {
                    panic!("the third panics later");
                }
            }
        });
        works.notified().await;
        works.notified().await;
        while !group.is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!((runs.load(Ordering::SeqCst), group.ledger().panics_of("worker")), (4, 3));
        let reports = group.ledger().snapshot();
        assert_eq!((reports[0].group, reports[0].running), ("child", 0));
    }

    #[tokio::test]
    async fn a_worker_that_panics_does_not_hold_up_the_shutdown() {
        let group = group();
        group.spawn_worker("worker", || async { panic!("on purpose") });
        while group.ledger().panics_of("worker") == 0 {
            tokio::task::yield_now().await;
        }
        assert!(group.join(Duration::from_secs(5)).await);
    }
}
