//! The pods that wait for a node: to be tried now, after a backoff, or when something has changed.
//!
//! Invariants: a pod is in one place at most; while it is being tried it is in none, and what happens to it or to the
//! cluster meanwhile is remembered until it comes back. Nothing here grows beyond the pods that exist.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use kedge_base::{Room as _, SharedClock};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::api::Pod;
use crate::framework::{Event, PluginSet};

const INITIAL_BACKOFF: Duration = Duration::from_secs(1);
const MAX_BACKOFF: Duration = Duration::from_secs(10);
/// A pod is tried again after this time even if nothing has happened.
const MAX_UNSCHEDULABLE: Duration = Duration::from_secs(5 * 60);

/// A pod taken from the queue to be scheduled.
#[derive(Debug, Clone)]
pub struct Queued {
    pub pod: Arc<Pod>,
    /// How often it has been tried, this time included.
    pub attempts: u32,
    /// When it first came into the queue; those that came first are tried first.
    since: Duration,
    /// The events that had happened when it was taken.
    seen: u64,
}

/// How an attempt has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// These plugins refused it; it waits for what they wait for.
    Rejected(PluginSet),
    /// Something else went wrong; it is tried again after a backoff.
    Error,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Active,
    Backoff { until: Duration, error: bool },
    Unschedulable { since: Duration },
    Gated,
}

#[derive(Debug)]
struct Entry {
    pod: Arc<Pod>,
    attempts: u32,
    since: Duration,
    /// Backoff counts from here.
    failed: Duration,
    rejected_by: PluginSet,
    place: Place,
    /// Tells entries of equal time apart.
    number: u64,
}

#[derive(Debug)]
enum InFlight {
    Unchanged,
    Changed(Arc<Pod>),
    Deleted,
}

#[derive(Debug, Default)]
struct Inner {
    entries: HashMap<String, Entry>,
    active: BTreeSet<(Reverse<i32>, Duration, u64, String)>,
    backoff: BTreeSet<(Duration, u64, String)>,
    error_backoff: BTreeSet<(Duration, u64, String)>,
    unschedulable: BTreeSet<(Duration, String)>,
    in_flight: HashMap<String, InFlight>,
    /// When each kind of event last happened, counted in events.
    last: [u64; Event::COUNT],
    events: u64,
    numbers: u64,
}

/// The queue.
pub struct SchedulingQueue {
    inner: Mutex<Inner>,
    wake: Notify,
    clock: SharedClock,
    interests: [PluginSet; Event::COUNT],
}

impl SchedulingQueue {
    /// An empty queue; `interests` says which plugins' refusals an event may end.
    pub fn new(clock: SharedClock, interests: [PluginSet; Event::COUNT]) -> Self {
        Self { inner: Mutex::default(), wake: Notify::new(), clock, interests }
    }

    /// Takes in a new or changed pod that has no node.
    pub fn set(&self, pod: Arc<Pod>) {
        let now = self.clock.monotonic();
        self.inner.lock().set(pod, now);
        self.wake.notify_one();
    }

    /// Forgets a pod that has ended or got a node.
    pub fn remove(&self, uid: &str) {
        let mut inner = self.inner.lock();
        inner.take(uid);
        if let Some(state) = inner.in_flight.get_mut(uid) {
            *state = InFlight::Deleted;
        }
    }

    /// Notes that something has changed, and moves the pods for which that may matter.
    pub fn event(&self, event: Event) {
        let now = self.clock.monotonic();
        if self.inner.lock().event(event, self.interests[event as usize], now) {
            self.wake.notify_one();
        }
    }

    /// The next pod to be tried, as soon as there is one. [`done`](Self::done) or [`retry`](Self::retry) must follow.
    pub async fn pop(&self) -> Queued {
        loop {
            let woken = self.wake.notified();
            let now = self.clock.monotonic();
            let deadline = {
                let mut inner = self.inner.lock();
                inner.flush(now);
                if let Some(queued) = inner.pop() {
                    return queued;
                }
                inner.deadline()
            };
            match deadline {
                None => woken.await,
                Some(at) => tokio::select! {
                    () = woken => {}
                    () = self.clock.sleep(at.saturating_sub(now)) => {}
                },
            }
        }
    }

    /// The attempt is over and the pod has its node, or no longer exists.
    pub fn done(&self, uid: &str) {
        self.inner.lock().in_flight.remove(uid);
    }

    /// The attempt has failed; the pod goes back. Returns its newest version, or `None` if it has gone meanwhile.
    pub fn retry(&self, queued: &Queued, outcome: Outcome) -> Option<Arc<Pod>> {
        let now = self.clock.monotonic();
        let pod = self.inner.lock().retry(queued, outcome, &self.interests, now);
        self.wake.notify_one();
        pod
    }

    /// Whether a pod that is being tried has ended or got a node meanwhile.
    pub fn is_gone(&self, uid: &str) -> bool {
        matches!(self.inner.lock().in_flight.get(uid), None | Some(InFlight::Deleted))
    }

    /// Tries a waiting pod again at once.
    pub fn activate(&self, uid: &str) {
        let gated = |entry: &Entry| entry.place == Place::Gated;
        self.inner.lock().relocate(uid, |entry| if gated(entry) { Place::Gated } else { Place::Active });
        self.wake.notify_one();
    }

    /// How many pods wait in any place.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.inner.lock().entries.len()
    }
}

fn backoff(attempts: u32) -> Duration {
    let doublings = attempts.saturating_sub(1).min(16);
    (INITIAL_BACKOFF * 2_u32.pow(doublings)).min(MAX_BACKOFF)
}

/// Whether scheduling could come out differently for the changed pod.
fn matters(old: &Pod, new: &Pod) -> bool {
    old.metadata.labels != new.metadata.labels || old.requests != new.requests || old.pending != new.pending
}

impl Inner {
    fn set(&mut self, pod: Arc<Pod>, now: Duration) {
        if let Some(state) = self.in_flight.get_mut(pod.uid()) {
            *state = InFlight::Changed(pod);
            return;
        }
        let gated = pod.pending.as_ref().is_some_and(|p| !p.gates.is_empty());
        let Some(mut entry) = self.take(pod.uid()) else {
            self.numbers += 1;
            let place = if gated { Place::Gated } else { Place::Active };
            let number = self.numbers;
            let entry = Entry { pod, attempts: 0, since: now, failed: now, rejected_by: 0, place, number };
            self.put(entry);
            return;
        };
        let matters = matters(&entry.pod, &pod);
        entry.pod = pod;
        entry.place = match entry.place {
            _ if gated => Place::Gated,
            Place::Gated => Place::Active,
            Place::Unschedulable { .. } if matters => Self::after_event(&entry, now),
            place => place,
        };
        self.put(entry);
    }

    /// Where a pod goes when trying it again makes sense.
    fn after_event(entry: &Entry, now: Duration) -> Place {
        let until = entry.failed + backoff(entry.attempts);
        if entry.attempts == 0 || until <= now { Place::Active } else { Place::Backoff { until, error: false } }
    }

    fn put(&mut self, entry: Entry) {
        let uid = entry.pod.uid().to_owned();
        match entry.place {
            Place::Active => {
                self.active.insert((Reverse(entry.pod.priority), entry.since, entry.number, uid.clone()));
            }
            Place::Backoff { until, error: true } => {
                self.error_backoff.insert((until, entry.number, uid.clone()));
            }
            Place::Backoff { until, error: false } => {
                self.backoff.insert((until, entry.number, uid.clone()));
            }
            Place::Unschedulable { since } => {
                self.unschedulable.insert((since, uid.clone()));
            }
            Place::Gated => {}
        }
        self.entries.insert(uid, entry);
    }

    fn take(&mut self, uid: &str) -> Option<Entry> {
        let entry = self.entries.remove(uid)?;
        self.entries.tighten();
        let uid = uid.to_owned();
        match entry.place {
            Place::Active => self.active.remove(&(Reverse(entry.pod.priority), entry.since, entry.number, uid)),
            Place::Backoff { until, error: true } => self.error_backoff.remove(&(until, entry.number, uid)),
            Place::Backoff { until, error: false } => self.backoff.remove(&(until, entry.number, uid)),
            Place::Unschedulable { since } => self.unschedulable.remove(&(since, uid)),
            Place::Gated => true,
        };
        Some(entry)
    }

    fn relocate(&mut self, uid: &str, place: impl FnOnce(&Entry) -> Place) {
        if let Some(mut entry) = self.take(uid) {
            entry.place = place(&entry);
            self.put(entry);
        }
    }

    fn event(&mut self, event: Event, interested: PluginSet, now: Duration) -> bool {
        self.events += 1;
        self.last[event as usize] = self.events;
        let entries = &self.entries;
        let concerned = |uid: &&String| entries.get(*uid).is_some_and(|e| e.rejected_by & interested != 0);
        let moving: Vec<String> = self.unschedulable.iter().map(|(_, uid)| uid).filter(concerned).cloned().collect();
        for uid in &moving {
            self.relocate(uid, |entry| Self::after_event(entry, now));
        }
        !moving.is_empty()
    }

    /// Moves what has waited long enough.
    fn flush(&mut self, now: Duration) {
        for from in [false, true] {
            let set = if from { &mut self.error_backoff } else { &mut self.backoff };
            let due: Vec<String> = set.iter().take_while(|(at, ..)| *at <= now).map(|(.., uid)| uid.clone()).collect();
            due.iter().for_each(|uid| self.relocate(uid, |_| Place::Active));
        }
        let due: Vec<String> = self
            .unschedulable
            .iter()
            .take_while(|(since, _)| *since + MAX_UNSCHEDULABLE <= now)
            .map(|(_, uid)| uid.clone())
            .collect();
        due.iter().for_each(|uid| self.relocate(uid, |entry| Self::after_event(entry, now)));
    }

    fn deadline(&self) -> Option<Duration> {
        let backoff = self.backoff.first().map(|(at, ..)| *at);
        let errors = self.error_backoff.first().map(|(at, ..)| *at);
        let stale = self.unschedulable.first().map(|(since, _)| *since + MAX_UNSCHEDULABLE);
        [backoff, errors, stale].into_iter().flatten().min()
    }

    fn pop(&mut self) -> Option<Queued> {
        let active = self.active.first().map(|(.., uid)| uid);
        // With nothing else to do, a pod need not sit out a backoff that only exists to let others go first.
        let uid = active.or_else(|| self.backoff.first().map(|(.., uid)| uid))?.clone();
        let entry = self.take(&uid)?;
        self.in_flight.insert(uid, InFlight::Unchanged);
        Some(Queued { pod: entry.pod, attempts: entry.attempts + 1, since: entry.since, seen: self.events })
    }

    fn retry(
        &mut self,
        queued: &Queued,
        outcome: Outcome,
        interests: &[PluginSet; Event::COUNT],
        now: Duration,
    ) -> Option<Arc<Pod>> {
        let (pod, changed) = match self.in_flight.remove(queued.pod.uid())? {
            InFlight::Deleted => return None,
            InFlight::Unchanged => (queued.pod.clone(), false),
            InFlight::Changed(pod) => {
                let matters = matters(&queued.pod, &pod);
                (pod, matters)
            }
        };
        self.numbers += 1;
        let rejected_by = if let Outcome::Rejected(by) = outcome { by } else { 0 };
        let mut entry = Entry {
            pod: pod.clone(),
            attempts: queued.attempts,
            since: queued.since,
            failed: now,
            rejected_by,
            place: Place::Unschedulable { since: now },
            number: self.numbers,
        };
        let mut happened = interests.iter().zip(self.last).filter(|(_, last)| *last > queued.seen);
        if pod.pending.as_ref().is_some_and(|p| !p.gates.is_empty()) {
            entry.place = Place::Gated;
        } else if outcome == Outcome::Error {
            entry.place = Place::Backoff { until: now + backoff(queued.attempts), error: true };
        } else if changed || happened.any(|(by, _)| by & rejected_by != 0) {
            entry.place = Self::after_event(&entry, now);
        }
        self.put(entry);
        Some(pod)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing::{sized, with_spec};
    use futures::poll;
    use kedge_base::VirtualClock;
    use serde_json::json;
    use std::pin::pin;

    const FIT: PluginSet = 1;
    const TAINT: PluginSet = 2;

    fn queue() -> (VirtualClock, SchedulingQueue) {
        let clock = VirtualClock::new("2026-01-01T00:00:00Z".parse().unwrap());
        let mut interests = [0; Event::COUNT];
        interests[Event::PodDelete as usize] = FIT;
        interests[Event::NodeAdd as usize] = FIT | TAINT;
        (clock.clone(), SchedulingQueue::new(Arc::new(clock), interests))
    }

    async fn next(queue: &SchedulingQueue) -> Option<Queued> {
        let mut pop = pin!(queue.pop());
        for _ in 0..3 {
            if let std::task::Poll::Ready(queued) = poll!(&mut pop) {
                return Some(queued);
            }
        }
        None
    }

    async fn next_name(queue: &SchedulingQueue) -> Option<String> {
        next(queue).await.map(|q| q.pod.metadata.name.clone())
    }

    #[tokio::test]
    async fn higher_priority_first_then_first_come() {
        let (clock, queue) = queue();
        for (name, priority) in [("low", 0), ("high", 5), ("low2", 0)] {
            queue.set(with_spec(name, json!({"priority": priority})));
            clock.advance(Duration::from_millis(1));
        }
        assert_eq!(next_name(&queue).await.unwrap(), "high");
        assert_eq!(next_name(&queue).await.unwrap(), "low");
        assert_eq!(next_name(&queue).await.unwrap(), "low2");
        assert_eq!(next_name(&queue).await, None);
    }

    #[tokio::test]
    async fn errors_back_off_exponentially_to_ten_seconds() {
        let (clock, queue) = queue();
        queue.set(sized("p", "1"));
        for seconds in [1, 2, 4, 8, 10, 10] {
            let queued = next(&queue).await.unwrap();
            queue.retry(&queued, Outcome::Error);
            clock.advance(Duration::from_millis(seconds * 1000 - 1));
            assert_eq!(next_name(&queue).await, None);
            clock.advance(Duration::from_millis(1));
        }
        assert!(next(&queue).await.is_some());
    }

    #[tokio::test]
    async fn a_sleeping_pop_wakes_at_the_end_of_the_backoff() {
        let (clock, queue) = queue();
        queue.set(sized("p", "1"));
        let queued = next(&queue).await.unwrap();
        queue.retry(&queued, Outcome::Error);
        let mut pop = pin!(queue.pop());
        while clock.sleepers() == 0 {
            assert!(poll!(&mut pop).is_pending());
        }
        clock.advance(Duration::from_secs(1));
        assert!(poll!(&mut pop).is_ready());
    }

    #[tokio::test]
    async fn unschedulable_pods_wait_for_an_event_that_concerns_them() {
        let (clock, queue) = queue();
        queue.set(sized("p", "1"));
        let queued = next(&queue).await.unwrap();
        queue.retry(&queued, Outcome::Rejected(TAINT));
        queue.event(Event::PodDelete);
        clock.advance(Duration::from_secs(60));
        assert_eq!(next_name(&queue).await, None);
        queue.event(Event::NodeAdd);
        assert_eq!(next(&queue).await.unwrap().attempts, 2);
    }

    #[tokio::test]
    async fn an_event_during_the_attempt_is_not_lost() {
        let (_clock, queue) = queue();
        queue.set(sized("p", "1"));
        let queued = next(&queue).await.unwrap();
        queue.event(Event::PodDelete);
        queue.retry(&queued, Outcome::Rejected(FIT));
        assert_eq!(next_name(&queue).await.unwrap(), "p", "backing off, but there is nothing else to do");
    }

    #[tokio::test]
    async fn unschedulable_pods_are_tried_again_after_five_minutes() {
        let (clock, queue) = queue();
        queue.set(sized("p", "1"));
        let queued = next(&queue).await.unwrap();
        queue.retry(&queued, Outcome::Rejected(FIT));
        clock.advance(MAX_UNSCHEDULABLE - Duration::from_millis(1));
        assert_eq!(next_name(&queue).await, None);
        clock.advance(Duration::from_millis(1));
        assert_eq!(next_name(&queue).await.unwrap(), "p");
    }

    #[tokio::test]
    async fn gates_hold_a_pod_back_until_they_are_gone() {
        let (_clock, queue) = queue();
        queue.set(with_spec("p", json!({"schedulingGates": [{"name": "wait"}]})));
        queue.event(Event::NodeAdd);
        assert_eq!(next_name(&queue).await, None);
        queue.set(with_spec("p", json!({})));
        assert_eq!(next_name(&queue).await.unwrap(), "p");
    }

    #[tokio::test]
    async fn a_pod_changed_or_deleted_during_the_attempt_comes_back_so() {
        let (_clock, queue) = queue();
        queue.set(sized("p", "8"));
        let queued = next(&queue).await.unwrap();
        queue.set(sized("p", "1"));
        assert_eq!(queue.len(), 0, "not twice");
        queue.retry(&queued, Outcome::Rejected(FIT));
        let queued = next(&queue).await.unwrap();
        assert_eq!(queued.pod.requests.milli_cpu, 1000);
        queue.remove("p");
        assert!(queue.retry(&queued, Outcome::Rejected(FIT)).is_none());
        assert_eq!(queue.len(), 0);
    }

    #[tokio::test]
    async fn a_changed_status_does_not_wake_an_unschedulable_pod() {
        let (_clock, queue) = queue();
        queue.set(sized("p", "8"));
        let queued = next(&queue).await.unwrap();
        queue.retry(&queued, Outcome::Rejected(FIT));
        let mut changed = Pod::clone(&sized("p", "8"));
        changed.condition = Some(Box::default());
        queue.set(Arc::new(changed));
        assert_eq!(next_name(&queue).await, None);
        queue.set(sized("p", "7"));
        assert_eq!(next_name(&queue).await.unwrap(), "p");
    }
}
