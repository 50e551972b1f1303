//! What bounds the requests that are served at a time.
//!
//! Whose turn it is, is for [priority and fairness](crate::fairness) to say. Where that is turned off, or before it is known, there are so
//! many slots for those that read and so many for those that write, and the next one is refused. Beside that there are bounds for what takes
//! no turns: what is long-running, who is exempt, and components of this process.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kedge_meta::Status;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::body::Room;
use crate::fairness::Seat;
use crate::input::request_info::RequestInfo;

/// Long-running requests are bounded by themselves.
const LONG_RUNNING: usize = 10_000;
const INTERNAL: usize = 256;
/// Who is exempt waits for no turn, but for the memory that so many requests take.
const EXEMPT: usize = 2_000;
/// Answers that are still read when they have had their seat for as long as a request may take.
const SLOW: usize = 64;

/// How many requests are served at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InFlight {
    /// Of those that only read.
    pub read_only: usize,
    /// Of those that write.
    pub mutating: usize,
    /// Whether priority and fairness shares out their sum; else these are two limits.
    pub fairness: bool,
}

impl Default for InFlight {
    /// Upstream's.
    fn default() -> Self {
        Self { read_only: 400, mutating: 200, fairness: true }
    }
}

/// Slots for requests.
pub(crate) struct Limits {
    read_only: Arc<Semaphore>,
    mutating: Arc<Semaphore>,
    long_running: Arc<Semaphore>,
    exempt: Arc<Semaphore>,
    /// For components of this process, which are few and wait for each other instead of failing.
    internal: Arc<Semaphore>,
    slow: Arc<Semaphore>,
    /// Requests that are being served.
    served: Arc<[AtomicUsize; 2]>,
    /// For large bodies.
    pub(crate) bodies: Room,
}

/// What a request has until its answer is ready, or, if it streams, has ended.
pub(crate) struct Slot {
    permit: Option<OwnedSemaphorePermit>,
    _seat: Option<Seat>,
    _served: Option<Served>,
}

/// Counts a request while it is served.
struct Served(Arc<[AtomicUsize; 2]>, usize);

const KINDS: [&str; 2] = ["mutating", "readOnly"];

fn reads(info: &RequestInfo) -> bool {
    matches!(info.verb.as_str(), "get" | "list" | "watch" | "head")
}

// === impl Limits ===

impl Limits {
    pub(crate) fn new(at_a_time: InFlight) -> Self {
        let slots = |n| Arc::new(Semaphore::new(n));
        Self {
            read_only: slots(at_a_time.read_only),
            mutating: slots(at_a_time.mutating),
            long_running: slots(LONG_RUNNING),
            exempt: slots(EXEMPT),
            internal: slots(INTERNAL),
            slow: slots(SLOW),
            served: Arc::default(),
            bodies: Room::new(),
        }
    }

    /// Requests that are being served, of those that only read and of those that write.
    pub(crate) fn taken(&self) -> [(&'static str, usize); 2] {
        [0, 1].map(|kind| (KINDS[kind], self.served[kind].load(Ordering::Relaxed)))
    }

    /// Waits for a slot for a component of this process.
    ///
    /// # Errors
    /// 503 when the server has ended.
    pub(crate) async fn enter_internal(&self, info: &RequestInfo) -> Result<Slot, Status> {
        if info.is_long_running() {
            return self.long_running();
        }
        self.waited(&self.internal, info).await
    }

    /// Waits for a slot for one who is exempt.
    ///
    /// # Errors
    /// 503 when the server has ended.
    pub(crate) async fn enter_exempt(&self, info: &RequestInfo, seat: Seat) -> Result<Slot, Status> {
        Ok(self.waited(&self.exempt, info).await?.with(seat))
    }

    async fn waited(&self, slots: &Arc<Semaphore>, info: &RequestInfo) -> Result<Slot, Status> {
        let permit = slots.clone().acquire_owned().await;
        let permit = permit.map_err(|_| Status::unavailable("the server is shutting down"))?;
        Ok(Slot { permit: Some(permit), ..self.served(info) })
    }

    /// The slot of a request that is long-running.
    ///
    /// # Errors
    /// 429 when there is none.
    pub(crate) fn long_running(&self) -> Result<Slot, Status> {
        let permit = self.long_running.clone().try_acquire_owned().map_err(|_| full())?;
        Ok(Slot { permit: Some(permit), _seat: None, _served: None })
    }

    /// The slot of one whose turn it is.
    pub(crate) fn seated(&self, info: &RequestInfo, seat: Seat) -> Slot {
        self.served(info).with(seat)
    }

    /// Takes a slot where nobody has turns.
    ///
    /// # Errors
    /// 429 when there is none.
    pub(crate) fn enter(&self, info: &RequestInfo) -> Result<Slot, Status> {
        let slots = if reads(info) { &self.read_only } else { &self.mutating };
        let permit = slots.clone().try_acquire_owned().map_err(|_| full())?;
        Ok(Slot { permit: Some(permit), ..self.served(info) })
    }

    /// Takes a place among those whose answers are read slowly, if there is one.
    pub(crate) fn slow(&self) -> Option<OwnedSemaphorePermit> {
        self.slow.clone().try_acquire_owned().ok()
    }

    fn served(&self, info: &RequestInfo) -> Slot {
        let kind = usize::from(reads(info));
        self.served[kind].fetch_add(1, Ordering::Relaxed);
        Slot { permit: None, _seat: None, _served: Some(Served(self.served.clone(), kind)) }
    }
}

fn full() -> Status {
    Status::too_many_requests("too many requests, please try again later.", 1)
}

// === impl Slot ===

impl Slot {
    /// The same, and the seat of its priority level.
    pub(crate) fn with(self, seat: Seat) -> Self {
        Self { _seat: Some(seat), ..self }
    }

    /// What a stream keeps once it runs: it no longer is anybody's turn.
    pub(crate) fn running(self) -> Self {
        Self { permit: self.permit, _seat: None, _served: None }
    }

    /// Gives everything back for a place among those that are slow.
    pub(crate) fn exchange(&mut self, slow: OwnedSemaphorePermit) {
        *self = Self { permit: Some(slow), _seat: None, _served: None };
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.0[self.1].fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn when_all_slots_are_taken_the_next_is_told_to_wait() {
        let limits = Limits::new(InFlight { mutating: 3, ..InFlight::default() });
        let info = RequestInfo { verb: "create".into(), is_resource: true, ..RequestInfo::default() };
        let held: Vec<_> = (0..3).map(|_| limits.enter(&info).ok().unwrap()).collect();
        let refused = limits.enter(&info).err().unwrap();
        assert_eq!((refused.code, refused.details.unwrap().retry_after_seconds), (429, 1));
        assert_eq!(limits.taken(), [("mutating", 3), ("readOnly", 0)]);
        let own = limits.enter_internal(&info).await.ok().unwrap();
        assert_eq!(limits.taken()[0].1, 4, "components of this process have slots of their own");
        drop((held, own));
        assert!(limits.enter(&info).is_ok());
        assert_eq!(limits.taken(), [("mutating", 0), ("readOnly", 0)]);
    }

    #[test]
    fn so_many_answers_are_read_slowly() {
        let limits = Limits::new(InFlight::default());
        let info = RequestInfo { verb: "list".into(), is_resource: true, ..RequestInfo::default() };
        let mut slots: Vec<_> = (0..SLOW).map(|_| limits.enter(&info).ok().unwrap()).collect();
        for slot in &mut slots {
            slot.exchange(limits.slow().unwrap());
        }
        assert_eq!(limits.taken()[1].1, 0, "the seat is for the next");
        assert!(limits.slow().is_none());
        slots.pop();
        assert!(limits.slow().is_some());
    }
}
