//! Counts the writes in flight, and lets none begin any more once it is closed.
//!
//! Invariant: a write is counted from before its first operation on the store until the store has answered the last one, or
//! until nobody waits for the answer. When [`Gate::close`] has completed, no write is counted and none will be.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

use crate::error::Error;

/// The bit that says that it is closed; the rest is the number of writes, times two.
const CLOSED: usize = 1;
const WRITE: usize = 2;

#[derive(Default)]
pub(crate) struct Gate {
    state: AtomicUsize,
    /// The last write is through, and the gate is closed.
    idle: Notify,
}

/// A write in flight.
pub(crate) struct Write<'a>(&'a Gate);

impl Gate {
    /// # Errors
    /// [`Error::Removed`] when it is closed.
    pub(crate) fn enter(&self) -> Result<Write<'_>, Error> {
        let before = self.state.fetch_add(WRITE, Ordering::AcqRel);
        let write = Write(self);
        // Whoever is refused leaves as one that was let in: who waits for the last write waits for it, too.
        if before & CLOSED == 0 { Ok(write) } else { Err(Error::Removed) }
    }

    /// Closes it for ever, and waits for the writes in flight.
    pub(crate) async fn close(&self) {
        self.state.fetch_or(CLOSED, Ordering::AcqRel);
        loop {
            let idle = self.idle.notified();
            tokio::pin!(idle);
            // From here on it is woken, so that nothing is missed between looking and waiting.
            idle.as_mut().enable();
            if self.state.load(Ordering::Acquire) == CLOSED {
                return;
            }
            idle.await;
        }
    }
}

impl Drop for Write<'_> {
    fn drop(&mut self) {
        if self.0.state.fetch_sub(WRITE, Ordering::AcqRel) == CLOSED + WRITE {
            self.0.idle.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn closing_waits_for_who_is_in_and_lets_nobody_else_in() {
        let gate = Gate::default();
        let (one, two) = (gate.enter().unwrap(), gate.enter().unwrap());
        let (closing, also) = (gate.close(), gate.close());
        tokio::pin!(closing);
        tokio::pin!(also);
        assert!(futures::poll!(closing.as_mut()).is_pending());
        assert!(matches!(gate.enter(), Err(Error::Removed)));
        drop(one);
        assert!(futures::poll!(closing.as_mut()).is_pending());
        drop(two);
        closing.await;
        also.await;
        assert!(matches!(gate.enter(), Err(Error::Removed)));
        gate.close().await;
    }

    #[test]
    fn nobody_is_in_when_it_is_closed_however_they_come() {
        let inside = AtomicUsize::new(0);
        for _ in 0..200 {
            let gate = Gate::default();
            std::thread::scope(|scope| {
                for _ in 0..3 {
                    scope.spawn(|| {
                        while let Ok(write) = gate.enter() {
                            inside.fetch_add(1, Ordering::SeqCst);
                            std::thread::yield_now();
                            inside.fetch_sub(1, Ordering::SeqCst);
                            drop(write);
                        }
                    });
                }
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                runtime.block_on(gate.close());
                assert_eq!(inside.load(Ordering::SeqCst), 0);
            });
        }
    }
}
