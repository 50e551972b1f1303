//! How many requests are served at a time.

use std::sync::Arc;

use kedge_meta::Status;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::body::Room;
use crate::input::request_info::RequestInfo;

/// As upstream's defaults; long-running requests are bounded by themselves.
const READ_ONLY: usize = 400;
const MUTATING: usize = 200;
const LONG_RUNNING: usize = 10_000;
const INTERNAL: usize = 256;

/// Slots for requests.
pub(crate) struct Limits {
    read_only: Arc<Semaphore>,
    mutating: Arc<Semaphore>,
    long_running: Arc<Semaphore>,
    /// For components of this process, which are few and wait for each other instead of failing.
    internal: Arc<Semaphore>,
    /// For large bodies.
    pub(crate) bodies: Room,
}

impl Limits {
    pub(crate) fn new() -> Self {
        let slots = |n| Arc::new(Semaphore::new(n));
        Self {
            read_only: slots(READ_ONLY),
            mutating: slots(MUTATING),
            long_running: slots(LONG_RUNNING),
            internal: slots(INTERNAL),
            bodies: Room::new(),
        }
    }

    /// Requests that are being served, of those that only read and of those that write.
    pub(crate) fn taken(&self) -> [(&'static str, usize); 2] {
        let taken = |of: usize, slots: &Semaphore| of.saturating_sub(slots.available_permits());
        [("mutating", taken(MUTATING, &self.mutating)), ("readOnly", taken(READ_ONLY, &self.read_only))]
    }

    /// Waits for a slot for a component of this process.
    ///
    /// # Errors
    /// 503 when the server has ended.
    pub(crate) async fn enter_internal(&self, info: &RequestInfo) -> Result<OwnedSemaphorePermit, Status> {
        if info.is_long_running() {
            return self.enter(info);
        }
        self.internal.clone().acquire_owned().await.map_err(|_| Status::unavailable("the server is shutting down"))
    }

    /// Takes a slot until the permit is dropped.
    ///
    /// # Errors
    /// 429 when there is none.
    pub(crate) fn enter(&self, info: &RequestInfo) -> Result<OwnedSemaphorePermit, Status> {
        let slots = match info.verb.as_str() {
            _ if info.is_long_running() => &self.long_running,
            "get" | "list" | "head" => &self.read_only,
            _ => &self.mutating,
        };
        let full = |_| Status::too_many_requests("too many requests, please try again later.", 1);
        slots.clone().try_acquire_owned().map_err(full)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn when_all_slots_are_taken_the_next_is_told_to_wait() {
        let limits = Limits::new();
        let info = RequestInfo { verb: "create".into(), is_resource: true, ..RequestInfo::default() };
        let held: Vec<_> = (0..MUTATING).map(|_| limits.enter(&info).unwrap()).collect();
        let refused = limits.enter(&info).unwrap_err();
        assert_eq!((refused.code, refused.details.unwrap().retry_after_seconds), (429, 1));
        drop(held);
        assert!(limits.enter(&info).is_ok());
    }
}
