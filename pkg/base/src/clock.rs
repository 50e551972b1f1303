//! The injected clock: wall time, monotonic time and sleeping, real or virtual.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::oneshot;

/// A boxed future that can be moved between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A source of time. Wall time may jump; monotonic time never goes back.
pub trait Clock: Send + Sync {
    /// The wall clock.
    fn now(&self) -> Timestamp;
    /// Time since an arbitrary fixed point.
    fn monotonic(&self) -> Duration;
    /// Completes when `duration` has passed on this clock.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
}

/// A clock handed around.
pub type SharedClock = Arc<dyn Clock>;

struct SystemClock {
    origin: Instant,
}

/// The clock of the machine.
pub fn system_clock() -> SharedClock {
    static CLOCK: OnceLock<SharedClock> = OnceLock::new();
    CLOCK.get_or_init(|| Arc::new(SystemClock { origin: Instant::now() })).clone()
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn monotonic(&self) -> Duration {
        self.origin.elapsed()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

struct Sleeper {
    at: Duration,
    wake: oneshot::Sender<()>,
}

impl PartialEq for Sleeper {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}
impl Eq for Sleeper {}
impl PartialOrd for Sleeper {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Sleeper {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

/// A clock that only moves when told to. For tests.
#[derive(Clone)]
pub struct VirtualClock {
    state: Arc<Mutex<VirtualState>>,
}

struct VirtualState {
    start: Timestamp,
    elapsed: Duration,
    sleepers: BinaryHeap<Reverse<Sleeper>>,
}

impl VirtualClock {
    /// A clock that stands at `start`.
    pub fn new(start: Timestamp) -> Self {
        let state = VirtualState { start, elapsed: Duration::ZERO, sleepers: BinaryHeap::new() };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Moves time on and wakes every sleeper that is due.
    pub fn advance(&self, by: Duration) {
        let mut state = self.state.lock();
        state.elapsed += by;
        while state.sleepers.peek().is_some_and(|Reverse(s)| s.at <= state.elapsed) {
            if let Some(Reverse(sleeper)) = state.sleepers.pop() {
                // A sleeper that was dropped no longer listens, which is fine.
                let _ = sleeper.wake.send(());
            }
        }
    }

    /// How many sleepers wait.
    pub fn sleepers(&self) -> usize {
        self.state.lock().sleepers.iter().filter(|Reverse(s)| !s.wake.is_closed()).count()
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        let state = self.state.lock();
        state.start.checked_add(state.elapsed).unwrap_or(Timestamp::MAX)
    }

    fn monotonic(&self) -> Duration {
        self.state.lock().elapsed
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let (wake, woken) = oneshot::channel();
        let mut state = self.state.lock();
        let at = state.elapsed + duration;
        state.sleepers.push(Reverse(Sleeper { at, wake }));
        Box::pin(async move {
            let _ = woken.await;
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn a_virtual_sleeper_wakes_only_when_its_time_has_come() {
        let clock = VirtualClock::new(Timestamp::UNIX_EPOCH);
        let mut sleep = clock.sleep(Duration::from_secs(5));
        clock.advance(Duration::from_secs(4));
        assert!(futures::poll!(&mut sleep).is_pending());
        clock.advance(Duration::from_secs(1));
        assert!(futures::poll!(&mut sleep).is_ready());
        assert_eq!(clock.now().as_second(), 5);
    }
}
