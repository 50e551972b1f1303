//! A queue of keys: each key is in it once, is worked on by one worker at a time, and comes back after a failure with
//! growing delay.
//!
//! The number of keys is bounded by the number of objects that exist, since a key is never in the queue twice.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::fmt::Display;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use kedge_base::{Room as _, SharedClock, TaskGroup};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tracing::{debug, warn};

use crate::error::Error;
use crate::workqueue_meters::Meters;

const BASE_DELAY: Duration = Duration::from_millis(5);
const MAX_DELAY: Duration = Duration::from_secs(1000);

/// A work queue; clones share it.
pub struct WorkQueue<K> {
    inner: Arc<Inner<K>>,
}

impl<K> Clone for WorkQueue<K> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

struct Inner<K> {
    state: Mutex<State<K>>,
    wake: Notify,
    timer: Notify,
    clock: SharedClock,
    tasks: TaskGroup,
}

struct State<K> {
    ready: VecDeque<K>,
    queued: HashSet<K>,
    running: HashSet<K>,
    /// Keys that were added while being worked on.
    dirty: HashSet<K>,
    delayed: BTreeMap<(Duration, u64), K>,
    /// When each delayed key is due: only its earliest time counts.
    due: HashMap<K, (Duration, u64)>,
    failures: HashMap<K, u32>,
    sequence: u64,
    /// Of a queue that is measured.
    meters: Option<Arc<Meters>>,
}

impl<K: Hash + Eq + Clone + Send + Sync + 'static> WorkQueue<K> {
    /// An empty queue; its timer runs in `tasks`.
    pub fn new(clock: SharedClock, tasks: &TaskGroup) -> Self {
        let state = State {
            ready: VecDeque::new(),
            queued: HashSet::new(),
            running: HashSet::new(),
            dirty: HashSet::new(),
            delayed: BTreeMap::new(),
            due: HashMap::new(),
            failures: HashMap::new(),
            sequence: 0,
            meters: None,
        };
        let inner = Arc::new(Inner {
            state: Mutex::new(state),
            wake: Notify::new(),
            timer: Notify::new(),
            clock,
            tasks: tasks.clone(),
        });
        let queue = inner.clone();
        tasks.spawn_worker("work queue timer", move || move_due(queue.clone()));
        Self { inner }
    }

    /// Shows in metrics how busy the queue is, under that name.
    pub fn measure(&self, name: &'static str) {
        self.inner.state.lock().meters = Some(Meters::new(name));
    }

    /// Adds a key now.
    pub fn add(&self, key: K) {
        if self.inner.state.lock().add(key) {
            self.inner.wake.notify_one();
        }
    }

    /// Adds a key when `delay` has passed.
    pub fn add_after(&self, key: K, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        let at = self.inner.clock.monotonic().saturating_add(delay);
        let mut state = self.inner.state.lock();
        if state.due.get(&key).is_some_and(|(due, _)| *due <= at) {
            return;
        }
        state.sequence += 1;
        let slot = (at, state.sequence);
        if let Some(old) = state.due.insert(key.clone(), slot) {
            state.delayed.remove(&old);
        }
        state.delayed.insert(slot, key);
        drop(state);
        self.inner.timer.notify_one();
    }

    /// Adds a key after a delay that doubles with each failure since the last [`WorkQueue::forget`].
    pub fn add_rate_limited(&self, key: K) {
        let failures = {
            let mut state = self.inner.state.lock();
            let failures = state.failures.entry(key.clone()).or_default();
            *failures += 1;
            let failures = *failures;
            if let Some(meters) = &state.meters {
                meters.retried();
            }
            failures
        };
        let delay = BASE_DELAY.saturating_mul(1_u32.checked_shl(failures - 1).unwrap_or(u32::MAX)).min(MAX_DELAY);
        self.add_after(key, delay);
    }

    /// Failures of this key since it was last forgotten.
    pub fn retries(&self, key: &K) -> u32 {
        self.inner.state.lock().failures.get(key).copied().unwrap_or_default()
    }

    /// Forgets the failures of a key.
    pub fn forget(&self, key: &K) {
        let mut state = self.inner.state.lock();
        state.failures.remove(key);
        state.failures.tighten();
    }

    /// The next key to work on; `None` on shutdown. Each key must be given back with [`WorkQueue::done`].
    pub async fn get(&self) -> Option<K> {
        let shutdown = self.inner.tasks.shutdown();
        loop {
            if shutdown.is_requested() {
                return None;
            }
            if let Some(key) = self.inner.state.lock().take() {
                return Some(key);
            }
            tokio::select! {
                () = self.inner.wake.notified() => {}
                () = shutdown.requested() => return None,
            }
        }
    }

    /// The work on a key is over; if it was added meanwhile, it is queued again.
    pub fn done(&self, key: &K) {
        let mut state = self.inner.state.lock();
        state.running.remove(key);
        if state.dirty.remove(key) && state.add(key.clone()) {
            drop(state);
            self.inner.wake.notify_one();
        }
    }

    /// Keys that wait to be worked on now.
    pub fn len(&self) -> usize {
        self.inner.state.lock().ready.len()
    }

    /// Whether no key waits to be worked on now.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<K: Hash + Eq + Clone> State<K> {
    /// Whether a worker should be woken.
    fn add(&mut self, key: K) -> bool {
        if self.running.contains(&key) {
            self.dirty.insert(key);
            return false;
        }
        if !self.queued.insert(key.clone()) {
            return false;
        }
        self.ready.push_back(key);
        if let Some(meters) = &self.meters {
            meters.added(self.ready.len());
        }
        true
    }

    fn take(&mut self) -> Option<K> {
        let key = self.ready.pop_front()?;
        self.queued.remove(&key);
        self.ready.tighten();
        self.queued.tighten();
        self.running.insert(key.clone());
        if let Some(meters) = &self.meters {
            meters.waits(self.ready.len());
        }
        Some(key)
    }
}

/// Moves delayed keys to the ready ones when they are due. Lives as long as the task group.
async fn move_due<K: Hash + Eq + Clone>(queue: Arc<Inner<K>>) {
    loop {
        let next = queue.state.lock().delayed.first_key_value().map(|((at, _), _)| *at);
        let now = queue.clock.monotonic();
        match next {
            Some(at) if at <= now => {
                let mut woken = 0;
                let mut state = queue.state.lock();
                while let Some(entry) = state.delayed.first_entry() {
                    if entry.key().0 > now {
                        break;
                    }
                    let key = entry.remove();
                    state.due.remove(&key);
                    state.due.tighten();
                    woken += usize::from(state.add(key));
                }
                drop(state);
                (0..woken).for_each(|_| queue.wake.notify_one());
            }
            Some(at) => {
                let sleep = queue.clock.sleep(at - now);
                tokio::select! {
                    () = sleep => {}
                    () = queue.timer.notified() => {}
                }
            }
            None => queue.timer.notified().await,
        }
    }
}

/// A key that is being worked on; it is given back when this goes, however the work ended.
struct Held<'a, K: Hash + Eq + Clone + Send + Sync + 'static> {
    queue: &'a WorkQueue<K>,
    key: K,
}

impl<K: Hash + Eq + Clone + Send + Sync + 'static> Drop for Held<'_, K> {
    fn drop(&mut self) {
        self.queue.done(&self.key);
    }
}

/// Runs `workers` tasks that reconcile keys from `queue`. A failed key comes back later, and so does one whose reconciler
/// panicked; a conflict is no news.
pub fn run_workers<K, F, Fut>(name: &'static str, queue: &WorkQueue<K>, tasks: &TaskGroup, workers: usize, reconcile: F)
where
    K: Hash + Eq + Clone + Display + Send + Sync + 'static,
    F: Fn(K) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), Error>> + Send + 'static,
{
    let reconcile = Arc::new(reconcile);
    for _ in 0..workers {
        let (queue, reconcile, group) = (queue.clone(), reconcile.clone(), tasks.clone());
        tasks.spawn_lasting(name, move || work(name, queue.clone(), group.clone(), reconcile.clone()));
    }
}

async fn work<K, F, Fut>(name: &'static str, queue: WorkQueue<K>, tasks: TaskGroup, reconcile: Arc<F>)
where
    K: Hash + Eq + Clone + Display + Send + Sync + 'static,
    F: Fn(K) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), Error>> + Send + 'static,
{
    while let Some(key) = queue.get().await {
        let begun = queue.inner.clock.monotonic();
        let meters = queue.inner.state.lock().meters.clone();
        let held = Held { queue: &queue, key };
        let key = &held.key;
        // The call itself may panic as well as what it returns.
        match tasks.catch(name, async { reconcile(key.clone()).await }).await {
            Ok(Ok(())) => queue.forget(key),
            Ok(Err(err)) => {
                if err.is_conflict() || err.is_not_found() {
                    debug!(controller = name, %key, error = %err, "reconcile raced, trying again");
                } else {
                    warn!(controller = name, %key, error = %err, "reconcile failed, trying again");
                }
                queue.add_rate_limited(key.clone());
            }
            Err(panicked) => {
                warn!(controller = name, %key, error = %panicked, "reconcile panicked, trying again");
                queue.add_rate_limited(key.clone());
            }
        }
        if let Some(meters) = meters {
            meters.worked(queue.inner.clock.monotonic().saturating_sub(begun));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use kedge_base::{Shutdown, system_clock};

    fn queue() -> (WorkQueue<String>, TaskGroup) {
        let tasks = TaskGroup::new("test", Shutdown::new());
        (WorkQueue::new(system_clock(), &tasks), tasks)
    }

    #[tokio::test]
    async fn a_key_is_queued_once_and_again_if_added_while_it_runs() {
        let (queue, _tasks) = queue();
        queue.add("a".into());
        queue.add("a".into());
        assert_eq!(queue.len(), 1);
        let key = queue.get().await.unwrap();
        queue.add("a".into());
        assert!(queue.is_empty(), "not while it is being worked on");
        queue.done(&key);
        assert_eq!(queue.get().await.unwrap(), "a");
    }

    #[tokio::test]
    async fn a_delayed_key_arrives_and_the_earliest_time_wins() {
        let (queue, _tasks) = queue();
        queue.add_after("a".into(), Duration::from_secs(3600));
        queue.add_after("a".into(), Duration::from_millis(1));
        assert_eq!(queue.get().await.unwrap(), "a");
    }

    #[tokio::test]
    async fn a_delay_without_end_holds_up_nothing() {
        let (queue, tasks) = queue();
        queue.add_after("never".into(), Duration::MAX);
        queue.add_after("a".into(), Duration::from_millis(1));
        assert_eq!(queue.get().await.unwrap(), "a");
        queue.add_after("never".into(), Duration::from_millis(1));
        assert_eq!(queue.get().await.unwrap(), "never");
        assert!(tasks.join(Duration::from_secs(5)).await);
    }

    #[tokio::test]
    async fn shutdown_ends_the_wait() {
        let (queue, tasks) = queue();
        tasks.shutdown().trigger();
        assert!(queue.get().await.is_none());
    }

    #[tokio::test]
    async fn a_key_whose_reconciler_panics_is_free_again_and_comes_back() {
        // A panic once left its key among those being worked on: nothing was ever done about that object again.
        let ledger = kedge_base::Ledger::new(system_clock());
        let tasks = TaskGroup::with_ledger("test", Shutdown::new(), ledger.clone());
        let queue = WorkQueue::new(system_clock(), &tasks);
        let (done, mut finished) = tokio::sync::mpsc::channel(8);
        let seen = Arc::new(Mutex::new(HashMap::<String, u32>::new()));
        run_workers("panicking", &queue, &tasks, 1, move |key: String| {
            let tries = {
                let mut seen = seen.lock();
                let tries = seen.entry(key.clone()).or_default();
                *tries += 1;
                *tries
            };
            assert!(key != "early" || tries > 1, "before there is a future");
            let done = done.clone();
            async move {
                assert!(key != "late" || tries > 2, "while it works");
                done.send((key, tries)).await.unwrap();
                Ok(())
            }
        });
        ["early", "late", "never"].into_iter().for_each(|key| queue.add(key.to_owned()));
        let mut all = Vec::new();
        while all.len() < 3 {
            all.push(finished.recv().await.unwrap());
        }
        all.sort();
        assert_eq!(all, [("early".to_owned(), 2), ("late".to_owned(), 3), ("never".to_owned(), 1)]);
        assert_eq!(ledger.panics_of("panicking"), 3);
        assert!(tasks.join(Duration::from_secs(5)).await);
        assert!(queue.inner.state.lock().running.is_empty(), "every key was given back");
    }

    /// Panics at the first sleep.
    struct Breaking(std::sync::atomic::AtomicBool);

    impl kedge_base::Clock for Breaking {
        fn now(&self) -> jiff::Timestamp {
            system_clock().now()
        }

        fn monotonic(&self) -> Duration {
            system_clock().monotonic()
        }

        fn sleep(&self, duration: Duration) -> kedge_base::BoxFuture<'static, ()> {
            assert!(self.0.swap(true, std::sync::atomic::Ordering::SeqCst), "on purpose");
            system_clock().sleep(duration)
        }
    }

    #[tokio::test]
    async fn delayed_keys_arrive_after_their_timer_panicked() {
        let ledger = kedge_base::Ledger::new(system_clock());
        let tasks = TaskGroup::with_ledger("test", Shutdown::new(), ledger.clone());
        let queue = WorkQueue::new(Arc::new(Breaking(false.into())), &tasks);
        queue.add_after("a".to_owned(), Duration::from_millis(100));
        assert_eq!(queue.get().await.unwrap(), "a");
        assert_eq!(ledger.panics_of("work queue timer"), 1);
        assert!(tasks.join(Duration::from_secs(5)).await);
    }

    #[tokio::test]
    async fn a_queue_that_is_measured_is_shown() {
        let (queue, tasks) = queue();
        queue.measure("a test of queues");
        ["a", "a", "b"].into_iter().for_each(|key| queue.add(key.to_owned()));
        let shown = || {
            let mut out = kedge_base::exposition::Exposition::default();
            kedge_base::exposition::show_listed(&mut out);
            out.into_text()
        };
        let has = |line: &str| shown().lines().any(|l| l == line);
        assert!(
            has("workqueue_adds_total{name=\"a test of queues\"} 2")
                && has("workqueue_depth{name=\"a test of queues\"} 2")
        );
        let (done, mut finished) = tokio::sync::mpsc::channel(8);
        run_workers("measured", &queue, &tasks, 1, move |key: String| {
            let done = done.clone();
            async move {
                done.send(key).await.unwrap();
                Err(Error::Request("on purpose".to_owned()))
            }
        });
        for _ in 0..3 {
            finished.recv().await.unwrap();
        }
        assert!(!has("workqueue_retries_total{name=\"a test of queues\"} 0"), "{}", shown());
        assert!(!has("workqueue_work_duration_seconds_count{name=\"a test of queues\"} 0"));
        assert_eq!(shown().matches("# TYPE workqueue_depth gauge").count(), 1);
        assert!(tasks.join(Duration::from_secs(5)).await);
    }

    #[test]
    fn failures_count_until_forgotten() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (queue, _tasks) = queue();
            queue.add_rate_limited("a".into());
            queue.add_rate_limited("a".into());
            assert_eq!(queue.retries(&"a".into()), 2);
            queue.forget(&"a".into());
            assert_eq!(queue.retries(&"a".into()), 0);
        });
    }
}
