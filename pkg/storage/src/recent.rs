//! The recent events of a resource, and the budget that the rings of all resources share.
//!
//! Invariant: beyond the floor of each ring, all rings together keep at most [`BYTES`] and [`EVENTS`], none older than
//! [`AGE`]; the oldest go first, of whatever resource they are. The floor of a ring is its last [`FLOOR_EVENTS`] events, as
//! far as they fit into [`FLOOR_BYTES`]: so one busy resource cannot take from a quiet one what its watchers need to go on
//! after an interruption. What a burst left goes when the burst is over.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Duration;

use kedge_base::SharedClock;
use kedge_base::sizes::Size;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::cache::Cache;
use crate::watch::WatchEvent;

const BYTES: usize = 24 << 20;
const EVENTS: usize = 32_768;
const AGE: Duration = Duration::from_secs(120);
const FLOOR_EVENTS: usize = 100;
const FLOOR_BYTES: usize = 64 << 10;
/// Events that went of age are dropped so many at a time, so that writers do not wait for long.
const SWEEP: usize = 512;

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
    /// Bytes of the others.
    counted: usize,
}

impl Ring {
    /// The number of the next event.
    pub(crate) fn next(&self) -> u64 {
        self.first + self.events.len() as u64
    }

    pub(crate) fn size(&self) -> Size {
        Size::new(self.events.len(), self.floor_bytes + self.counted)
    }

    /// Takes in an event, which counts from now on; returns what it counts.
    pub(crate) fn push(&mut self, event: WatchEvent) -> usize {
        let size = event.size();
        self.counted += size;
        self.events.push_back(Arc::new(event));
        size
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
        if self.events.capacity() > 64 && self.events.len() < self.events.capacity() / 4 {
            self.events.shrink_to(self.events.len() * 2);
        }
        size
    }

    /// Begins anew at a revision; returns what counted. The number that no event will have tells watchers at the old end
    /// that they missed something; nobody watches before the first time.
    pub(crate) fn restart(&mut self, revision: u64, first_time: bool) -> usize {
        let counted = self.counted;
        let first = self.next() + u64::from(!first_time);
        *self = Self { first, oldest: revision, ..Self::default() };
        counted
    }
}

/// What the rings keep together.
pub(crate) struct Budget {
    state: Mutex<State>,
    clock: SharedClock,
    /// There is something that will be of age.
    begun: Notify,
}

#[derive(Default)]
struct State {
    bytes: usize,
    /// One for each event that counts, in order: when it came, and into which ring.
    events: VecDeque<(Duration, Weak<Cache>)>,
}

impl Budget {
    pub(crate) fn new(clock: SharedClock) -> Self {
        Self { state: Mutex::default(), clock, begun: Notify::new() }
    }

    /// Counts an event that was pushed into the ring of `cache`, and makes room for it. No lock of a cache may be held.
    pub(crate) fn count(&self, cache: &Arc<Cache>, size: usize) {
        let mut state = self.state.lock();
        if state.events.is_empty() {
            self.begun.notify_one();
        }
        state.bytes += size;
        state.events.push_back((self.clock.monotonic(), Arc::downgrade(cache)));
        while state.bytes > BYTES || state.events.len() > EVENTS {
            if !state.settle() {
                break;
            }
        }
    }

    /// What counted went with the state that it led to.
    pub(crate) fn give_back(&self, bytes: usize) {
        let mut state = self.state.lock();
        state.bytes = state.bytes.saturating_sub(bytes);
    }

    /// Drops what has come of age, for ever.
    pub(crate) async fn tend(&self) {
        loop {
            let oldest = self.state.lock().events.front().map(|(at, _)| *at);
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
            self.sweep(now);
            tokio::task::yield_now().await;
        }
    }

    fn sweep(&self, now: Duration) {
        let mut state = self.state.lock();
        for _ in 0..SWEEP {
            if state.events.front().is_none_or(|(at, _)| *at + AGE > now) || !state.settle() {
                break;
            }
        }
        if state.events.capacity() > 1_024 && state.events.len() < state.events.capacity() / 4 {
            let room = state.events.len() * 2;
            state.events.shrink_to(room);
        }
    }
}

impl State {
    /// Has the oldest event count no more. False when there is none.
    fn settle(&mut self) -> bool {
        let Some((_, cache)) = self.events.pop_front() else { return false };
        // After a restart of a ring there are more places than events: then nothing counts less.
        let size = cache.upgrade().map_or(0, |cache| cache.state.write().ring.settle());
        self.bytes = self.bytes.saturating_sub(size);
        true
    }
}

#[cfg(test)]
#[path = "recent_tests.rs"]
mod tests;
