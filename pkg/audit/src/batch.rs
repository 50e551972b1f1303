//! Events that are sent on, many at a time, to somebody who may be slow or away.
//!
//! Invariants: no request waits for them; what waits is bounded in events and bytes, and what is dropped is counted and said.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use kedge_base::{Backoff, SharedClock, TaskGroup};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tracing::warn;

use crate::{Counts, Event};

/// Bytes of events that wait.
const MOST: usize = 64 << 20;
/// How often a batch is sent at most, as upstream.
const TRIES: usize = 5;
const LONGEST: Duration = Duration::from_secs(120);
/// How long the last batches may take when the server ends.
const LAST: Duration = Duration::from_secs(5);

/// Takes an `EventList`.
#[async_trait]
pub trait Receiver: Send + Sync {
    /// Sends it.
    ///
    /// # Errors
    /// Why it was not taken, and whether it is of use to try again.
    async fn post(&self, list: Bytes) -> Result<(), (String, bool)>;
}

/// How events are gathered; the defaults are upstream's.
#[derive(Debug, Clone, Copy)]
pub struct Batching {
    /// Events that wait at most.
    pub buffer: usize,
    /// Events that are sent together.
    pub size: usize,
    /// How long the first of them waits for others.
    pub wait: Duration,
    /// Batches in a second, and how many may come at once.
    pub throttle: Option<(f64, u32)>,
    /// How long it is waited before a batch is sent again.
    pub backoff: Duration,
}

impl Default for Batching {
    fn default() -> Self {
        Self {
            buffer: 10_000,
            size: 400,
            wait: Duration::from_secs(30),
            throttle: Some((10.0, 15)),
            backoff: Duration::from_secs(10),
        }
    }
}

/// Events that wait. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Batch(Arc<Shared>);

struct Shared {
    waiting: Mutex<Waiting>,
    /// What is being sent; left here when the server ends in the middle of it.
    sending: Mutex<Option<Bytes>>,
    comes: Notify,
    batching: Batching,
    counts: Arc<Counts>,
    clock: SharedClock,
}

#[derive(Default)]
struct Waiting {
    events: VecDeque<(Event, usize)>,
    bytes: usize,
}

impl Batch {
    pub(crate) fn start(
        receiver: Arc<dyn Receiver>,
        batching: Batching,
        counts: Arc<Counts>,
        tasks: &TaskGroup,
        clock: &SharedClock,
    ) -> Self {
        let shared = Arc::new(Shared {
            waiting: Mutex::default(),
            sending: Mutex::default(),
            comes: Notify::new(),
            batching,
            counts,
            clock: clock.clone(),
        });
        let (own, shutdown) = (shared.clone(), tasks.shutdown().clone());
        tasks.spawn_lasting("audit webhook", move || {
            let (shared, receiver, shutdown) = (own.clone(), receiver.clone(), shutdown.clone());
            async move {
                tokio::select! {
                    () = shared.run(&*receiver) => {}
                    () = shutdown.requested() => shared.last(&*receiver).await,
                }
            }
        });
        Self(shared)
    }

    /// Puts an event behind the others, if there is room.
    pub(crate) fn put(&self, event: &Event) {
        let shared = &self.0;
        // An estimate: what a request and its answer take is nearly all of it.
        let object = |value: &Option<serde_json::Value>| value.as_ref().map_or(0, |value| value.to_string().len());
        let bytes = 1_000 + object(&event.request_object) + object(&event.response_object);
        let mut waiting = shared.waiting.lock();
        if waiting.events.len() >= shared.batching.buffer || waiting.bytes + bytes > MOST {
            drop(waiting);
            shared.lose(1, "audit buffer queue blocked");
            return;
        }
        waiting.bytes += bytes;
        waiting.events.push_back((event.clone(), bytes));
        let full = waiting.events.len() >= shared.batching.size;
        let first = waiting.events.len() == 1;
        drop(waiting);
        if full || first {
            shared.comes.notify_one();
        }
    }
}

impl Shared {
    fn lose(&self, events: usize, why: &str) {
        let before = self.counts.lost[1].fetch_add(events as u64, Ordering::Relaxed);
        // Once for each power of two, so that a flood does not flood the log as well.
        if (before + 1).is_power_of_two() || events > 1 {
            warn!(error = why, events, "audit events are lost on the way to the webhook");
        }
    }

    async fn run(&self, receiver: &dyn Receiver) {
        let mut pace = Pace::new(self.batching.throttle);
        loop {
            let count = self.waiting.lock().events.len();
            if count == 0 {
                self.comes.notified().await;
                continue;
            }
            if count < self.batching.size {
                let full = async {
                    while self.waiting.lock().events.len() < self.batching.size {
                        self.comes.notified().await;
                    }
                };
                tokio::select! {
                    () = full => {}
                    () = self.clock.sleep(self.batching.wait) => {}
                }
            }
            let pause = pace.pause(self.clock.monotonic());
            if !pause.is_zero() {
                self.clock.sleep(pause).await;
            }
            let batch = self.take();
            self.send(receiver, batch, TRIES).await;
        }
    }

    fn take(&self) -> Vec<Event> {
        let mut waiting = self.waiting.lock();
        let count = waiting.events.len().min(self.batching.size);
        let taken: Vec<_> = waiting.events.drain(..count).collect();
        waiting.bytes -= taken.iter().map(|(_, bytes)| bytes).sum::<usize>();
        taken.into_iter().map(|(event, _)| event).collect()
    }

    async fn send(&self, receiver: &dyn Receiver, batch: Vec<Event>, tries: usize) {
        let list = match Event::list(&batch) {
            Ok(list) => Bytes::from(list),
            Err(err) => return self.lose(batch.len(), &err.to_string()),
        };
        let count = batch.len();
        drop(batch);
        *self.sending.lock() = Some(list.clone());
        self.post(receiver, list, (count, tries)).await;
        *self.sending.lock() = None;
    }

    async fn post(&self, receiver: &dyn Receiver, list: Bytes, (count, tries): (usize, usize)) {
        let mut backoff = Backoff::new(self.batching.backoff, LONGEST, 15);
        for left in (0..tries).rev() {
            match receiver.post(list.clone()).await {
                Ok(()) => return,
                Err((why, again)) if !again || left == 0 => return self.lose(count, &why),
                Err(_) => self.clock.sleep(backoff.next()).await,
            }
        }
    }

    /// What is left is sent once.
    async fn last(&self, receiver: &dyn Receiver) {
        let begun = self.sending.lock().take();
        let all = async {
            if let Some(list) = begun {
                self.post(receiver, list, (1, 1)).await;
            }
            loop {
                let batch = self.take();
                if batch.is_empty() {
                    return;
                }
                self.send(receiver, batch, 1).await;
            }
        };
        if kedge_base::time::timeout(LAST, all).await.is_err() {
            let left = self.waiting.lock().events.len();
            self.lose(left, "the server has ended");
        }
    }
}

/// A bucket of tokens.
struct Pace {
    throttle: Option<(f64, u32)>,
    tokens: f64,
    last: Duration,
}

impl Pace {
    fn new(throttle: Option<(f64, u32)>) -> Self {
        Self { throttle, tokens: throttle.map_or(0.0, |(_, burst)| f64::from(burst)), last: Duration::ZERO }
    }

    /// How long the next has to wait.
    fn pause(&mut self, now: Duration) -> Duration {
        let Some((rate, burst)) = self.throttle.filter(|(rate, _)| *rate > 0.0) else { return Duration::ZERO };
        let passed = now.saturating_sub(self.last).as_secs_f64();
        self.last = now;
        self.tokens = (self.tokens + passed * rate).min(f64::from(burst.max(1))) - 1.0;
        Duration::from_secs_f64((-self.tokens / rate).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use kedge_base::{Shutdown, VirtualClock};

    /// Takes lists, but for the first few.
    #[derive(Default)]
    struct Taker {
        refuses: Mutex<usize>,
        taken: Mutex<Vec<usize>>,
        comes: Notify,
    }

    #[async_trait]
    impl Receiver for Taker {
        async fn post(&self, list: Bytes) -> Result<(), (String, bool)> {
            let mut refuses = self.refuses.lock();
            if *refuses > 0 {
                *refuses -= 1;
                return Err(("busy".into(), true));
            }
            let list: serde_json::Value = serde_json::from_slice(&list).unwrap();
            self.taken.lock().push(list["items"].as_array().unwrap().len());
            self.comes.notify_one();
            Ok(())
        }
    }

    struct Setup {
        batch: Batch,
        taker: Arc<Taker>,
        clock: VirtualClock,
        tasks: TaskGroup,
        counts: Arc<Counts>,
    }

    fn setup(batching: Batching) -> Setup {
        let clock = VirtualClock::new(jiff::Timestamp::UNIX_EPOCH);
        let (shared, tasks): (SharedClock, _) = (Arc::new(clock.clone()), TaskGroup::new("audit", Shutdown::new()));
        let (taker, counts) = (Arc::new(Taker::default()), Arc::new(Counts::default()));
        let batch = Batch::start(taker.clone(), batching, counts.clone(), &tasks, &shared);
        Setup { batch, taker, clock, tasks, counts }
    }

    async fn sleeping(clock: &VirtualClock) {
        while clock.sleepers() == 0 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_batch_goes_when_it_is_full_or_has_waited() {
        let Setup { batch, taker, clock, .. } = setup(Batching { size: 3, ..Batching::default() });
        for _ in 0..3 {
            batch.put(&crate::event::event());
        }
        taker.comes.notified().await;
        batch.put(&crate::event::event());
        sleeping(&clock).await;
        clock.advance(Duration::from_secs(30));
        taker.comes.notified().await;
        assert_eq!(*taker.taken.lock(), [3, 1]);
    }

    #[tokio::test]
    async fn who_is_busy_is_sent_it_again_and_who_stays_away_is_given_up() {
        let Setup { batch, taker, clock, counts, .. } =
            setup(Batching { size: 1, throttle: None, ..Batching::default() });
        *taker.refuses.lock() = 2;
        batch.put(&crate::event::event());
        for _ in 0..2 {
            sleeping(&clock).await;
            clock.advance(Duration::from_secs(60));
        }
        taker.comes.notified().await;
        *taker.refuses.lock() = TRIES;
        batch.put(&crate::event::event());
        for _ in 0..TRIES - 1 {
            sleeping(&clock).await;
            clock.advance(Duration::from_secs(120));
        }
        while counts.lost[1].load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(*taker.taken.lock(), [1]);
    }

    #[tokio::test]
    async fn what_there_is_no_room_for_is_dropped_and_counted_and_the_rest_is_sent_at_the_end() {
        let Setup { batch, taker, tasks, counts, .. } = setup(Batching { buffer: 5, ..Batching::default() });
        for _ in 0..7 {
            batch.put(&crate::event::event());
        }
        assert_eq!(counts.lost[1].load(Ordering::Relaxed), 2);
        assert!(tasks.join(Duration::from_secs(30)).await);
        assert_eq!(*taker.taken.lock(), [5]);
        assert_eq!(batch.0.waiting.lock().bytes, 0);
    }

    #[test]
    fn batches_keep_their_pace() {
        let mut pace = Pace::new(Some((10.0, 2)));
        let at = Duration::from_secs(100);
        assert_eq!([pace.pause(at), pace.pause(at)], [Duration::ZERO; 2]);
        assert_eq!(pace.pause(at), Duration::from_millis(100));
        assert_eq!(pace.pause(at + Duration::from_secs(10)), Duration::ZERO);
    }
}
