//! The recent events of a resource, and the budget that the rings of all resources share.
//!
//! Invariant: beyond the floor of each ring, all rings together keep at most [`BYTES`] and [`EVENTS`], none older than
//! [`AGE`]; the oldest go first, of whatever resource they are. The floor of a ring is its last [`FLOOR_EVENTS`] events, as
//! far as they fit into [`FLOOR_BYTES`]: so one busy resource cannot take from a quiet one what its watchers need to go on
//! after an interruption. What a burst left goes when the burst is over, and what a cache counted goes with the cache.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicIsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use kedge_base::sizes::Size;
use kedge_base::{Room as _, SharedClock};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::cache::Cache;
use crate::frames::Frames;
use crate::watch::WatchEvent;

const BYTES: usize = 8 << 20;
const EVENTS: usize = 32_768;
const AGE: Duration = Duration::from_secs(120);
const FLOOR_EVENTS: usize = 100;
const FLOOR_BYTES: usize = 64 << 10;
/// Events that went of age are dropped so many at a time, so that writers do not wait for long.
const SWEEP: usize = 512;
/// How long it takes until a cache that is in use is tried again.
const BUSY: Duration = Duration::from_millis(20);

/// The ring of one resource.
#[derive(Default)]
pub(crate) struct Ring {
    pub(crate) events: VecDeque<Arc<WatchEvent>>,
    /// The number of the first event; events are numbered from 0.
    pub(crate) first: u64,
    /// Events at or before this revision are not in the ring.
    pub(crate) oldest: u64,
    /// How many of the first events are the floor, which the budget does not count.
    floor: usize,
    floor_bytes: usize,
    /// Bytes of the others; what a cache that goes gives back.
    pub(crate) counted: usize,
    /// How often it began anew: what was pushed before that has no say in what is settled after it.
    generation: u64,
}

/// What a pushed event counts.
pub(crate) struct Counted {
    size: usize,
    generation: u64,
}

impl Ring {
    /// The number of the next event.
    pub(crate) fn next(&self) -> u64 {
        self.first + self.events.len() as u64
    }

    pub(crate) fn size(&self) -> Size {
        Size::new(self.events.len(), self.floor_bytes + self.counted)
    }

    /// Takes in an event, which counts from now on.
    pub(crate) fn push(&mut self, event: WatchEvent) -> Counted {
        let size = event.size();
        self.counted += size;
        self.events.push_back(Arc::new(event));
        Counted { size, generation: self.generation }
    }

    /// The oldest event that counts does not any more: it becomes the last of the floor, or goes. Returns what it counted.
    fn settle(&mut self) -> usize {
        let Some(size) = self.events.get(self.floor).map(|event| event.size()) else { return 0 };
        self.counted -= size;
        self.floor += 1;
        self.floor_bytes += size;
        while self.floor > FLOOR_EVENTS || self.floor_bytes > FLOOR_BYTES {
            let Some(gone) = self.events.pop_front() else { break };
            self.first += 1;
            self.oldest = gone.revision;
            self.floor -= 1;
            self.floor_bytes -= gone.size();
        }
        self.events.tighten();
        size
    }

    /// Begins anew at a revision; returns what counted. The number that no event will have tells watchers at the old end
    /// that they missed something; nobody watches before the first time.
    pub(crate) fn restart(&mut self, revision: u64, first_time: bool) -> usize {
        let counted = self.counted;
        let first = self.next() + u64::from(!first_time);
        *self = Self { first, oldest: revision, generation: self.generation + 1, ..Self::default() };
        counted
    }
}

/// What the rings keep together.
pub(crate) struct Budget {
    /// For a moment less than nothing, when a ring begins anew between the push and the count of an event. Beside the lock, so
    /// that a cache gives back wherever it goes: also when this lock is held, by whoever looked for something to drop in it.
    bytes: AtomicIsize,
    state: Mutex<State>,
    clock: SharedClock,
    /// There is something that will be of age.
    begun: Notify,
    /// What watchers share of the newest events.
    pub(crate) frames: Arc<Frames>,
}

#[derive(Default)]
struct State {
    /// One for each event that counts, in order.
    events: VecDeque<Place>,
}

struct Place {
    /// When the event came.
    at: Duration,
    cache: Weak<Cache>,
    /// Of its ring.
    generation: u64,
}

impl Budget {
    pub(crate) fn new(clock: SharedClock) -> Self {
        Self {
            bytes: AtomicIsize::new(0),
            state: Mutex::default(),
            clock,
            begun: Notify::new(),
            frames: Arc::default(),
        }
    }

    /// Counts an event that was pushed into the ring of `cache`, and makes room for it. No lock of a cache may be held.
    pub(crate) fn count(&self, cache: &Arc<Cache>, counted: Counted) {
        let mut state = self.state.lock();
        if state.events.is_empty() {
            self.begun.notify_one();
        }
        self.bytes.fetch_add(counted.size.cast_signed(), Ordering::Relaxed);
        let place = Place { at: self.clock.monotonic(), cache: Arc::downgrade(cache), generation: counted.generation };
        state.events.push_back(place);
        while self.bytes.load(Ordering::Relaxed) > BYTES.cast_signed() || state.events.len() > EVENTS {
            if !self.settle(&mut state) {
                break;
            }
        }
    }

    /// What counted went, with the state that it led to or with its cache.
    pub(crate) fn give_back(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes.cast_signed(), Ordering::Relaxed);
    }

    /// What counts now.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> isize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Drops what has come of age, for ever.
    pub(crate) async fn tend(&self) {
        loop {
            let oldest = self.state.lock().events.front().map(|place| place.at);
            let Some(oldest) = oldest else {
                self.begun.notified().await;
                continue;
            };
            let (due, now) = (oldest + AGE, self.clock.monotonic());
            if due > now {
                // Not for each event alone.
                self.clock.sleep(due - now + AGE / 8).await;
                continue;
            }
            if self.sweep(now) {
                tokio::task::yield_now().await;
            } else {
                self.clock.sleep(BUSY).await;
            }
        }
    }

    /// False when the cache of the next one is in use.
    fn sweep(&self, now: Duration) -> bool {
        let mut state = self.state.lock();
        let due = |state: &State| state.events.front().is_some_and(|place| place.at + AGE <= now);
        for _ in 0..SWEEP {
            if !due(&state) {
                break;
            }
            if !self.settle(&mut state) {
                return false;
            }
        }
        state.events.tighten();
        true
    }

    /// Has the oldest event count no more. False when there is none, or when somebody reads its cache: a write of one
    /// resource does not wait for readers of another, but leaves it to the next one to make room.
    fn settle(&self, state: &mut State) -> bool {
        let Some(place) = state.events.pop_front() else { return false };
        // A cache that went has given back what it counted.
        let Some(cache) = place.cache.upgrade() else { return true };
        let Some(mut cached) = cache.state.try_write() else {
            state.events.push_front(place);
            return false;
        };
        if cached.ring.generation == place.generation {
            self.give_back(cached.ring.settle());
        }
        true
    }
}

#[cfg(test)]
#[path = "recent_tests.rs"]
mod tests;
