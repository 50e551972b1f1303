//! The seats of a priority level, and the queues of those that wait for them.
//!
//! Each flow is dealt a hand of queues and waits in the one with the least work. Queues take turns by virtual time: of those with
//! somebody waiting, the one is served whose first request would be the first to end if all were served evenly.
//!
//! Invariants: a seat that is given is given back exactly once, however its request ends; who gives up waiting leaves no trace; a queue
//! takes memory only while somebody is in it. Virtual time is in seats times seconds.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use kedge_base::SharedClock;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::deal;
use super::demand::{Integrator, Wanted};
use super::flows::Flows;

/// How long a request is thought to take before it is known, in seconds. As upstream.
pub(super) const USUAL: f64 = 0.003;

/// How a level treats what it has no seat for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Response {
    /// It has seats for all.
    Exempt,
    Reject,
    Queue {
        queues: usize,
        hand: usize,
        length: usize,
    },
}

/// What asks for seats.
#[derive(Debug, Clone)]
pub(super) struct Asking {
    pub schema: Arc<str>,
    /// Of its schema: a user or a namespace.
    pub flow: Box<str>,
    pub seats: usize,
    pub what: Arc<super::dump::What>,
}

/// Why there is no seat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    QueueFull,
    NoSeat,
    TimeOut,
}

impl Refused {
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::QueueFull => "queue-full",
            Self::NoSeat => "concurrency-limit",
            Self::TimeOut => "time-out",
        }
    }
}

/// The seats of a level.
pub(super) struct Seats {
    state: Mutex<State>,
    clock: SharedClock,
}

pub(super) struct State {
    response: Response,
    limit: usize,
    pub(super) queues: BTreeMap<usize, Queue>,
    /// Of those that no queue knows.
    pub(super) unqueued: BTreeMap<u64, Executing>,
    virtual_time: f64,
    last: Duration,
    turn: usize,
    robin: usize,
    next: u64,
    pub(super) waiting: usize,
    pub(super) seats_waiting: usize,
    pub(super) executing: usize,
    pub(super) seats: usize,
    demand: Integrator,
    pub(super) flows: Flows,
}

/// A queue in which somebody waits, or from which somebody is being served.
#[derive(Default)]
pub(super) struct Queue {
    /// When its next request begins.
    pub(super) next_dispatch: f64,
    pub(super) seats: usize,
    pub(super) waiting: VecDeque<Waiting>,
    pub(super) executing: BTreeMap<u64, Executing>,
}

pub(super) struct Waiting {
    id: u64,
    pub(super) asking: Asking,
    arrival: f64,
    pub(super) since: Duration,
    turn: oneshot::Sender<Seat>,
}

/// A request that has its seats.
pub(super) struct Executing {
    pub(super) asking: Asking,
    pub(super) arrived: Duration,
    pub(super) since: Duration,
}

/// The seats of a request, until they are dropped.
pub(crate) struct Seat {
    of: Option<Arc<Seats>>,
    queue: Option<usize>,
    id: u64,
}

/// What becomes of who asks.
pub(super) enum Asked {
    Seated(Seat),
    Waits(Turn),
    Refused(Refused),
}

/// A place in a queue. Whoever drops it leaves the queue.
pub(super) struct Turn {
    of: Arc<Seats>,
    queue: usize,
    id: u64,
    comes: oneshot::Receiver<Seat>,
}

// === impl Seats ===

impl Seats {
    pub fn new(response: Response, limit: usize, clock: &SharedClock) -> Arc<Self> {
        let now = clock.monotonic();
        let state = State {
            response,
            limit,
            queues: BTreeMap::new(),
            unqueued: BTreeMap::new(),
            virtual_time: 0.0,
            last: now,
            turn: 0,
            robin: 0,
            next: 0,
            waiting: 0,
            seats_waiting: 0,
            executing: 0,
            seats: 0,
            demand: Integrator::new(now),
            flows: Flows::default(),
        };
        Arc::new(Self { state: Mutex::new(state), clock: clock.clone() })
    }

    /// From now on it answers like this. Those who wait go on waiting where they are.
    pub fn configure(self: &Arc<Self>, response: Response) {
        self.changing(|state, _| state.response = response);
    }

    /// From now on there are so many; whether there were not before.
    pub fn set_limit(self: &Arc<Self>, limit: usize) -> bool {
        self.changing(|state, _| std::mem::replace(&mut state.limit, limit) != limit)
    }

    /// Counts no longer of schemas that are not known.
    pub fn forget_flows(&self, is_known: impl Fn(&str) -> bool) {
        self.state.lock().flows.keep(is_known);
    }

    /// What has been wanted since this was asked for the last time.
    pub fn wanted(&self, before: Wanted) -> Wanted {
        self.state.lock().demand.end(before, self.clock.monotonic())
    }

    /// Looks at it.
    pub fn look<T>(&self, look: impl FnOnce(&State, Duration) -> T) -> T {
        look(&self.state.lock(), self.clock.monotonic())
    }

    /// Asks for seats.
    pub fn ask(self: &Arc<Self>, asking: Asking) -> Asked {
        self.changing(|state, now| match state.response {
            Response::Queue { queues, hand, length } => {
                let hash = deal::hash(&asking.schema, &asking.flow);
                let queue = state.shortest(&deal::hand(hash, queues, hand));
                let full = state.queues.get(&queue).is_some_and(|queue| queue.waiting.len() >= length);
                if state.seats >= state.limit && (full || length == 0) {
                    state.flows.refused(&asking.schema, Refused::QueueFull);
                    return Asked::Refused(Refused::QueueFull);
                }
                let (id, comes) = state.enqueue(queue, asking, now);
                Asked::Waits(Turn { of: self.clone(), queue, id, comes })
            }
            response if response == Response::Exempt || state.fits(asking.seats) => {
                let id = state.id();
                Asked::Seated(state.seat(self, (None, id), asking, now, now))
            }
            _ => {
                state.flows.refused(&asking.schema, Refused::NoSeat);
                Asked::Refused(Refused::NoSeat)
            }
        })
    }

    /// Changes it, and lets those go on who now can.
    fn changing<T>(self: &Arc<Self>, change: impl FnOnce(&mut State, Duration) -> T) -> T {
        let now = self.clock.monotonic();
        let mut state = self.state.lock();
        state.pass(now);
        let changed = change(&mut state, now);
        state.dispatch(self, now);
        let wanted = state.seats + state.seats_waiting;
        state.demand.set(wanted as f64, now);
        changed
    }
}

// === impl State ===

impl State {
    /// Virtual time passes as fast as the queues are served.
    fn pass(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.last).as_secs_f64();
        self.last = self.last.max(now);
        if !self.queues.is_empty() {
            let served = (self.seats + self.seats_waiting).min(self.limit) as f64;
            self.virtual_time += passed * served / self.queues.len() as f64;
        }
    }

    fn id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// The queue of a hand with the least work; of several, each in its turn.
    fn shortest(&mut self, hand: &[usize]) -> usize {
        let first = self.turn % hand.len().max(1);
        self.turn = self.turn.wrapping_add(1);
        let (before, from) = hand.split_at(first.min(hand.len()));
        let work = |queue: &&usize| {
            self.queues.get(*queue).map_or(0, |queue| queue.waiting.iter().map(|w| w.asking.seats).sum())
        };
        from.iter().chain(before).min_by_key(work).copied().unwrap_or_default()
    }

    fn enqueue(&mut self, at: usize, asking: Asking, now: Duration) -> (u64, oneshot::Receiver<Seat>) {
        let (turn, comes) = oneshot::channel();
        let (id, arrival) = (self.id(), self.virtual_time);
        self.waiting += 1;
        self.seats_waiting += asking.seats;
        self.flows.waits(&asking.schema);
        let queue = self.queues.entry(at).or_insert_with(|| Queue { next_dispatch: arrival, ..Queue::default() });
        queue.waiting.push_back(Waiting { id, asking, arrival, since: now, turn });
        queue.bound();
        (id, comes)
    }

    /// Whether a request with so many seats can begin.
    fn fits(&self, seats: usize) -> bool {
        if seats > self.limit { self.executing == 0 } else { self.seats + seats <= self.limit }
    }

    fn dispatch(&mut self, own: &Arc<Seats>, now: Duration) {
        while self.waiting > 0 && self.seats < self.limit {
            let Some(at) = self.next_queue() else { return };
            let Some(queue) = self.queues.get_mut(&at) else { return };
            let Some(first) = queue.waiting.front() else { return };
            // Nobody overtakes who needs more seats than are free.
            let seats = first.asking.seats;
            if !self.fits(seats) {
                return;
            }
            let Some(queue) = self.queues.get_mut(&at) else { return };
            let Some(Waiting { id, asking, since, turn, .. }) = queue.waiting.pop_front() else { return };
            queue.next_dispatch += seats as f64 * USUAL;
            queue.bound();
            self.robin = at;
            self.left(&asking);
            self.flows.waited(&asking.schema, now.saturating_sub(since), true);
            let seat = self.seat(own, (Some(at), id), asking, since, now);
            if let Err(mut seat) = turn.send(seat) {
                // Whoever waited has just gone.
                seat.of = None;
                self.finish(Some(at), id, now);
            }
        }
    }

    /// The queue whose turn it is: the first to end what it would begin; of several, the next after the one before.
    fn next_queue(&self) -> Option<usize> {
        let after = self.queues.range(self.robin + 1..);
        let all = after.chain(self.queues.range(..=self.robin));
        let ends = all.filter_map(|(at, queue)| {
            let first = queue.waiting.front()?;
            Some((*at, queue.next_dispatch + first.asking.seats as f64 * USUAL))
        });
        ends.min_by(|(_, one), (_, other)| one.total_cmp(other)).map(|(at, _)| at)
    }

    fn left(&mut self, asking: &Asking) {
        self.waiting -= 1;
        self.seats_waiting -= asking.seats;
    }

    fn seat(
        &mut self,
        own: &Arc<Seats>,
        (queue, id): (Option<usize>, u64),
        asking: Asking,
        arrived: Duration,
        now: Duration,
    ) -> Seat {
        self.executing += 1;
        self.seats += asking.seats;
        self.flows.begins(&asking.schema, asking.seats);
        let seats = asking.seats;
        let executing = Executing { asking, arrived, since: now };
        match queue.and_then(|queue| self.queues.get_mut(&queue)) {
            Some(queue) => {
                queue.seats += seats;
                queue.executing.insert(id, executing);
            }
            None => {
                self.unqueued.insert(id, executing);
            }
        }
        Seat { of: Some(own.clone()), queue, id }
    }

    fn finish(&mut self, queue: Option<usize>, id: u64, now: Duration) {
        let queued = queue.and_then(|at| self.queues.get_mut(&at).map(|queue| (at, queue)));
        let finished = match queued {
            Some((at, queue)) => {
                let finished = queue.executing.remove(&id);
                if let Some(Executing { asking, since, .. }) = &finished {
                    queue.seats -= asking.seats;
                    // It was thought to take another time than it has.
                    let took = now.saturating_sub(*since).as_secs_f64();
                    queue.next_dispatch -= asking.seats as f64 * (USUAL - took);
                    queue.bound();
                }
                self.forget_empty(at);
                finished
            }
            None => self.unqueued.remove(&id),
        };
        if let Some(Executing { asking, since, .. }) = finished {
            self.executing -= 1;
            self.seats -= asking.seats;
            self.flows.ends(&asking.schema, asking.seats, now.saturating_sub(since));
        }
    }

    /// Somebody waits no longer.
    fn leave(&mut self, at: usize, id: u64, now: Duration) {
        let Some(queue) = self.queues.get_mut(&at) else { return };
        let Some(place) = queue.waiting.iter().position(|waiting| waiting.id == id) else { return };
        let Some(Waiting { asking, since, .. }) = queue.waiting.remove(place) else { return };
        queue.bound();
        self.left(&asking);
        self.flows.waited(&asking.schema, now.saturating_sub(since), false);
        self.flows.refused(&asking.schema, Refused::TimeOut);
        self.forget_empty(at);
    }

    fn forget_empty(&mut self, at: usize) {
        if self.queues.get(&at).is_some_and(|queue| queue.waiting.is_empty() && queue.executing.is_empty()) {
            self.queues.remove(&at);
        }
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }
}

impl Queue {
    /// A queue saves up nothing: its next request begins no earlier than it came.
    fn bound(&mut self) {
        if let Some(first) = self.waiting.front() {
            self.next_dispatch = self.next_dispatch.max(first.arrival);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(of) = self.of.take() {
            of.changing(|state, now| state.finish(self.queue, self.id, now));
        }
    }
}

// === impl Turn ===

impl Turn {
    /// Waits for it. `tick` is called and waited for again and again.
    pub async fn seat(mut self, within: Duration, tick: impl Fn() -> Duration) -> Result<Seat, Refused> {
        if let Ok(seat) = self.comes.try_recv() {
            return Ok(seat);
        }
        let clock = self.of.clock.clone();
        let until = clock.monotonic() + within;
        loop {
            let left = until.saturating_sub(clock.monotonic());
            if left.is_zero() {
                return Err(Refused::TimeOut);
            }
            tokio::select! {
                biased;
                seat = &mut self.comes => return seat.map_err(|_| Refused::TimeOut),
                () = clock.sleep(left.min(tick())) => {}
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // What has been given meanwhile goes back when the channel is dropped, after this.
        self.of.changing(|state, now| state.leave(self.queue, self.id, now));
    }
}

#[cfg(test)]
#[path = "queues_tests.rs"]
mod tests;
