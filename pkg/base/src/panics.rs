//! What panicked, how often, and whether that is too often: the ledger that all tasks of a process share.
//!
//! A panic is a bug, and a server that runs for months meets some. Whoever runs tasks decides what becomes of the one that
//! panicked (see [`crate::TaskGroup`]); that it happened is counted here, and a task that panics again and again makes the
//! server say that it is not ready.

use std::any::Any;
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, PanicHookInfo};
use std::sync::{Arc, Once, OnceLock};
use std::time::Duration;

use futures::FutureExt as _;
use parking_lot::Mutex;
use tracing::error;

use crate::clock::{SharedClock, system_clock};

/// So many panics of one task within [`WINDOW`] are too many.
pub const TOO_MANY: usize = 5;
/// Panics count for so long.
pub const WINDOW: Duration = Duration::from_secs(300);
/// Bytes of a message that are kept.
const MAX_MESSAGE: usize = 500;

/// Something panicked; it has been counted and logged.
#[derive(Debug, Clone, thiserror::Error)]
#[error("panicked: {message}")]
pub struct Panicked {
    /// What it said, and where.
    pub message: String,
}

/// What repeated panics of a task mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// It serves one client, who sees the failure: the panic is counted, no more.
    Single,
    /// Something of the server's own work is not done while it panics: too many make the server unready.
    Vital,
}

/// One kind of task, as metrics show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskReport {
    pub group: &'static str,
    pub task: &'static str,
    /// Since the process started.
    pub panics: u64,
    /// Tasks that have not ended.
    pub running: usize,
}

/// A task that panicked too often of late.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    pub group: &'static str,
    pub task: &'static str,
    /// Within [`WINDOW`]; not counted further than [`TOO_MANY`].
    pub panics: usize,
    /// What the last one said.
    pub message: String,
}

/// Counts panics and running tasks by group and name of the task. Clones share the counts.
#[derive(Clone)]
pub struct Ledger {
    inner: Arc<Inner>,
}

struct Inner {
    clock: SharedClock,
    /// As many as there are names in the source: none is made up at run time.
    records: Mutex<BTreeMap<(&'static str, &'static str), Record>>,
}

#[derive(Default)]
struct Record {
    panics: u64,
    running: usize,
    /// When the last vital ones were, at most [`TOO_MANY`].
    recent: VecDeque<Duration>,
    message: String,
}

/// What all tasks of this process have come to, for metrics.
pub fn task_reports() -> Vec<TaskReport> {
    Ledger::process().snapshot()
}

impl Ledger {
    /// An empty one of its own, for tests.
    pub fn new(clock: SharedClock) -> Self {
        remember_places();
        Self { inner: Arc::new(Inner { clock, records: Mutex::default() }) }
    }

    /// The one of this process.
    pub fn process() -> Self {
        static PROCESS: OnceLock<Ledger> = OnceLock::new();
        PROCESS.get_or_init(|| Self::new(system_clock())).clone()
    }

    /// Counts and logs a panic.
    pub fn panicked(
        &self,
        group: &'static str,
        task: &'static str,
        weight: Weight,
        payload: &(dyn Any + Send),
    ) -> Panicked {
        let mut message = message_of(payload);
        if let Some(place) = LAST_PLACE.with(|place| place.borrow_mut().take()) {
            message = format!("{message} ({place})");
        }
        if message.len() > MAX_MESSAGE {
            let end = (0..=MAX_MESSAGE).rev().find(|i| message.is_char_boundary(*i)).unwrap_or_default();
            message.truncate(end);
        }
        let now = self.inner.clock.monotonic();
        let panics = {
            let mut records = self.inner.records.lock();
            let record = records.entry((group, task)).or_default();
            record.panics += 1;
            record.message.clone_from(&message);
            if weight == Weight::Vital {
                record.recent.push_back(now);
                if record.recent.len() > TOO_MANY {
                    record.recent.pop_front();
                }
            }
            record.panics
        };
        error!(group, task, panics, message, "a task panicked");
        Panicked { message }
    }

    /// Counts a running task for as long as the answer is kept.
    pub fn running(&self, group: &'static str, task: &'static str) -> Running {
        self.inner.records.lock().entry((group, task)).or_default().running += 1;
        Running { ledger: self.clone(), group, task }
    }

    /// What there is, ordered by group and task.
    pub fn snapshot(&self) -> Vec<TaskReport> {
        let records = self.inner.records.lock();
        let report = |(&(group, task), record): (&(&'static str, &'static str), &Record)| TaskReport {
            group,
            task,
            panics: record.panics,
            running: record.running,
        };
        records.iter().map(report).collect()
    }

    /// How often tasks of that name have panicked, over all groups.
    pub fn panics_of(&self, task: &str) -> u64 {
        self.inner.records.lock().iter().filter(|((_, name), _)| *name == task).map(|(_, record)| record.panics).sum()
    }

    /// The tasks that panicked too often of late.
    pub fn troubles(&self) -> Vec<Trouble> {
        let now = self.inner.clock.monotonic();
        let mut records = self.inner.records.lock();
        let mut troubles = Vec::new();
        for (&(group, task), record) in records.iter_mut() {
            record.recent.retain(|at| now.saturating_sub(*at) < WINDOW);
            if record.recent.len() >= TOO_MANY {
                let (panics, message) = (record.recent.len(), record.message.clone());
                troubles.push(Trouble { group, task, panics, message });
            }
        }
        troubles
    }

    /// Runs `work`, and counts the panic if it ends with one.
    ///
    /// # Errors
    /// [`Panicked`]. What `work` had begun to change then is as the panic left it.
    pub fn catch_now<T>(
        &self,
        group: &'static str,
        task: &'static str,
        weight: Weight,
        work: impl FnOnce() -> T,
    ) -> Result<T, Panicked> {
        std::panic::catch_unwind(AssertUnwindSafe(work)).map_err(|p| self.panicked(group, task, weight, &*p))
    }

    /// Runs `future` to its end, and counts the panic if it ends with one.
    ///
    /// # Errors
    /// [`Panicked`]. What `future` had begun to change then is as the panic left it.
    pub async fn catch<F: Future>(
        &self,
        group: &'static str,
        task: &'static str,
        weight: Weight,
        future: F,
    ) -> Result<F::Output, Panicked> {
        let caught = AssertUnwindSafe(future).catch_unwind().await;
        caught.map_err(|payload| self.panicked(group, task, weight, &*payload))
    }
}

/// A task that is counted as running.
pub struct Running {
    ledger: Ledger,
    group: &'static str,
    task: &'static str,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(record) = self.ledger.inner.records.lock().get_mut(&(self.group, self.task)) {
            record.running = record.running.saturating_sub(1);
        }
    }
}

thread_local! {
    /// Where the last panic of this thread was; the payload does not say.
    static LAST_PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Lets the panic hook note the place as well; what it did before it still does.
fn remember_places() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info: &PanicHookInfo<'_>| {
            let place = info.location().map(ToString::to_string);
            // While the thread ends there is nothing to write to any more, and nobody who would read it.
            let _ = LAST_PLACE.try_with(|last| *last.borrow_mut() = place);
            before(info);
        }));
    });
}

fn message_of(payload: &(dyn Any + Send)) -> String {
    match (payload.downcast_ref::<&'static str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (None, Some(text)) => text.clone(),
        (None, None) => "without a message".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::VirtualClock;
    use jiff::Timestamp;

    fn ledger() -> (Ledger, VirtualClock) {
        let clock = VirtualClock::new(Timestamp::UNIX_EPOCH);
        (Ledger::new(Arc::new(clock.clone())), clock)
    }

    #[test]
    fn a_panic_is_counted_with_its_words_and_its_place() {
        let (ledger, _) = ledger();
        let panicked = ledger.catch_now("g", "t", Weight::Single, || panic!("the {}th", 5)).unwrap_err();
        assert!(panicked.message.starts_with("the 5th (") && panicked.message.contains("panics.rs"), "{panicked}");
        assert_eq!(ledger.snapshot(), [TaskReport { group: "g", task: "t", panics: 1, running: 0 }]);
    }

    #[test]
    fn too_many_in_a_window_are_trouble_until_the_window_has_passed() {
        let (ledger, clock) = ledger();
        let panic = |task, weight| drop(ledger.catch_now("g", task, weight, || panic!("again")));
        for _ in 1..TOO_MANY {
            panic("t", Weight::Vital);
        }
        (0..2 * TOO_MANY).for_each(|_| panic("request", Weight::Single));
        assert_eq!(ledger.troubles(), []);
        panic("t", Weight::Vital);
        let troubles = ledger.troubles();
        assert_eq!((troubles.len(), troubles[0].task, troubles[0].panics), (1, "t", TOO_MANY));
        clock.advance(WINDOW);
        assert_eq!(ledger.troubles(), []);
        assert_eq!(ledger.panics_of("t"), TOO_MANY as u64, "they are still counted");
    }
}
