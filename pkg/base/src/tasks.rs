//! Supervised tasks: every task has a name and a group; a shutdown waits for them.

use std::future::Future;
use std::time::Duration;

use tokio_util::task::TaskTracker;
use tracing::{Instrument, debug, error};

use crate::Shutdown;

/// A set of tasks that share a shutdown flag. Cheap to clone.
///
/// A task that panics is logged with its name; the others go on. Tasks must watch [`TaskGroup::shutdown`] and return when
/// it is raised; those that do not by the end of [`TaskGroup::join`] are reported by that call.
#[derive(Clone)]
pub struct TaskGroup {
    name: &'static str,
    tracker: TaskTracker,
    shutdown: Shutdown,
}

impl TaskGroup {
    /// An empty group that stops with `shutdown`.
    pub fn new(name: &'static str, shutdown: Shutdown) -> Self {
        Self { name, tracker: TaskTracker::new(), shutdown }
    }

    /// A group of its own whose flag is a child of this one's, and for which this group's `join` waits as well.
    pub fn child(&self, name: &'static str) -> Self {
        Self { name, tracker: self.tracker.clone(), shutdown: self.shutdown.child() }
    }

    /// The flag that tasks of this group watch.
    pub fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// Runs `future` to its end as a task of this group.
    pub fn spawn<F>(&self, task: &'static str, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let group = self.name;
        let work = tokio::spawn(future.in_current_span());
        self.tracker.spawn(async move {
            match work.await {
                Ok(()) => debug!(group, task, "task ended"),
                Err(err) if err.is_panic() => error!(group, task, error = %err, "task panicked"),
                Err(_) => debug!(group, task, "task cancelled"),
            }
        });
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
    use super::*;

    #[tokio::test]
    async fn join_waits_for_tasks_and_survives_a_panicking_one() {
        let group = TaskGroup::new("test", Shutdown::new());
        let shutdown = group.shutdown().clone();
        group.spawn("waits", async move { shutdown.requested().await });
        group.spawn("panics", async { panic!("on purpose") });
        assert!(group.join(Duration::from_secs(5)).await);
        assert!(group.is_empty());
    }

    #[tokio::test]
    async fn join_says_when_a_task_does_not_stop() {
        let group = TaskGroup::new("test", Shutdown::new());
        group.spawn("stuck", std::future::pending());
        assert!(!group.join(Duration::from_millis(10)).await);
    }
}
