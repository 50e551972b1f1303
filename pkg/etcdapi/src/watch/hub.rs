//! The most recent events, once for all watches.

use std::collections::VecDeque;
use std::sync::Arc;

use kedge_kv::{Error, Event, Kv, Observer, Snapshot};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::BATCH;

/// Events that are kept, and the bytes of their keys and values.
const MAX_EVENTS: usize = 20_000;
const MAX_BYTES: usize = 32 << 20;

#[derive(Default)]
struct Ring {
    events: VecDeque<Event>,
    bytes: usize,
    /// All events after this revision are here.
    complete_after: u64,
    newest: u64,
}

/// Events from some revision on.
pub(crate) enum Batch {
    /// Everything up to `until`.
    Events { events: Vec<Event>, until: u64 },
    /// They are not here any more.
    Older,
}

/// Watches everything, remembers some of it, and wakes those who wait for more.
pub(crate) struct Hub {
    ring: Mutex<Ring>,
    changed: watch::Sender<u64>,
}

fn size(event: &Event) -> usize {
    let of = |kv: &Option<kedge_kv::KeyValue>| kv.as_ref().map_or(0, |kv| kv.value.len());
    event.key.len() + of(&event.current) + of(&event.previous)
}

impl Ring {
    fn push(&mut self, events: &[Event]) {
        for event in events {
            self.bytes += size(event);
            self.events.push_back(event.clone());
            self.newest = event.revision;
        }
        while self.events.len() > MAX_EVENTS || self.bytes > MAX_BYTES {
            let Some(oldest) = self.events.front().map(|e| e.revision) else { break };
            while let Some(event) = self.events.pop_front_if(|e| e.revision == oldest) {
                self.bytes -= size(&event);
            }
            self.complete_after = oldest;
        }
    }
}

impl Hub {
    pub(crate) async fn over(kv: &dyn Kv) -> Result<Arc<Self>, Error> {
        let hub = Arc::new(Self { ring: Mutex::default(), changed: watch::channel(0).0 });
        let start = kv.observe(b"", hub.clone()).await?.revision;
        {
            let mut ring = hub.ring.lock();
            ring.complete_after = ring.complete_after.max(start);
            ring.newest = ring.newest.max(start);
        }
        Ok(hub)
    }

    pub(crate) fn newest(&self) -> u64 {
        self.ring.lock().newest
    }

    /// Wakes on every change.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Events of `next` and later.
    pub(crate) fn since(&self, next: u64) -> Batch {
        let ring = self.ring.lock();
        if next <= ring.complete_after {
            return Batch::Older;
        }
        let first = ring.events.partition_point(|e| e.revision < next);
        let mut last = (first + BATCH).min(ring.events.len());
        while let (Some(before), Some(after)) = (ring.events.get(last.wrapping_sub(1)), ring.events.get(last))
            && before.revision == after.revision
        {
            last += 1;
        }
        let events: Vec<Event> = ring.events.range(first..last).cloned().collect();
        let until = if last == ring.events.len() { ring.newest } else { events.last().map_or(next, |e| e.revision) };
        Batch::Events { events, until }
    }
}

impl Observer for Hub {
    fn committed(&self, events: &[Event]) {
        let newest = {
            let mut ring = self.ring.lock();
            ring.push(events);
            ring.newest
        };
        self.changed.send_replace(newest);
    }

    fn progress(&self, revision: u64) {
        let mut ring = self.ring.lock();
        ring.newest = ring.newest.max(revision);
    }

    fn reset(&self, state: Snapshot) {
        let (complete_after, newest) = (state.revision, state.revision);
        *self.ring.lock() = Ring { complete_after, newest, ..Ring::default() };
        self.changed.send_replace(newest);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic)]
    use super::*;
    use bytes::Bytes;

    fn event(revision: u64) -> Event {
        Event { revision, key: Bytes::from_static(b"k"), current: None, previous: None }
    }

    #[test]
    fn a_batch_ends_between_revisions_and_what_is_gone_is_said_to_be() {
        let hub = Hub { ring: Mutex::default(), changed: watch::channel(0).0 };
        for revision in 1..=(MAX_EVENTS as u64) {
            hub.committed(&[event(revision), event(revision), event(revision)]);
        }
        assert!(matches!(hub.since(1), Batch::Older));
        let oldest = hub.ring.lock().complete_after + 1;
        assert!(matches!(hub.since(oldest - 1), Batch::Older));
        let Batch::Events { events, until } = hub.since(oldest) else { panic!("the oldest is not there") };
        assert_eq!((events.len() % 3, events.len() / 3), (0, BATCH.div_ceil(3)));
        assert_eq!(events.last().map(|e| e.revision), Some(until));
        let newest = MAX_EVENTS as u64;
        assert!(
            matches!(hub.since(newest + 1), Batch::Events { events, until } if events.is_empty() && until == newest)
        );
    }
}
