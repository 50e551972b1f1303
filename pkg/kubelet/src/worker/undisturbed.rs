//! Calls to the runtime that are not given up half way.
//!
//! A pod that is to end gives up whatever is under way, such as a pull. But a runtime whose caller hangs up in the middle of making a
//! sandbox or a container stops in the middle, too: it left groups of processes that nobody knew of, and containers that seemed to have
//! failed. Such calls are waited for.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Mutex as Call;

/// One at a time for each pod, by its uid.
#[derive(Default)]
pub(crate) struct Undisturbed(Mutex<HashMap<String, Arc<Call<()>>>>);

impl Undisturbed {
    /// Held as long as a call is made that must not be given up.
    pub(crate) fn of(&self, uid: &str) -> Arc<Call<()>> {
        self.0.lock().entry(uid.to_owned()).or_default().clone()
    }

    pub(crate) fn forget(&self, uid: &str) {
        self.0.lock().remove(uid);
    }
}

/// Runs `work`, until `end` comes and none of these calls is under way: then none.
pub(crate) async fn until<T>(
    call: &Call<()>,
    work: impl Future<Output = T>,
    end: impl Future<Output = ()>,
) -> Option<T> {
    let end = async {
        end.await;
        // Whoever waits for it gets it before the next call of the work does.
        let _ = call.lock().await;
    };
    tokio::select! {
        done = work => Some(done),
        () = end => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods)]
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_call_that_has_begun_is_waited_for_and_none_is_begun_after_it() {
        let (calls, made, begun) = (Undisturbed::default(), AtomicU32::new(0), AtomicU32::new(0));
        let call = calls.of("uid");
        let work = async {
            loop {
                let call = calls.of("uid");
                let _held = call.lock().await;
                begun.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_secs(5)).await;
                made.fetch_add(1, Ordering::Relaxed);
            }
        };
        let given_up: Option<()> = until(&call, work, tokio::time::sleep(Duration::from_secs(7))).await;
        assert_eq!((given_up, begun.load(Ordering::Relaxed), made.load(Ordering::Relaxed)), (None, 2, 2));
        let pull = std::future::pending::<()>();
        let given_up = until(&call, pull, std::future::ready(())).await;
        assert_eq!(given_up, None, "what is no such call is given up at once");
        calls.forget("uid");
        assert!(calls.0.lock().is_empty());
    }
}
