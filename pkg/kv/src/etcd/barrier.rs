//! Barriers: the newest revision, then waiting until all observers have been told as much.
//!
//! A round is one question for the newest revision. Callers join the round that has not begun yet, so that the answer
//! covers whatever was acknowledged before they called, and many callers cost one round.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::oneshot;

use super::Shared;
use super::caller::closed;
use crate::error::Error;

/// Callers that may wait for the next round.
const MAX_WAITING: usize = 100_000;

type Answer = oneshot::Sender<Result<u64, Error>>;

/// Who waits for the next round.
#[derive(Default)]
pub(super) struct Rounds {
    waiting: Vec<Answer>,
    running: bool,
}

impl Shared {
    pub(super) async fn barrier(self: &Arc<Self>) -> Result<u64, Error> {
        let revision = self.next_round().await?;
        self.wanted.fetch_max(revision, Ordering::AcqRel);
        let deadline = self.caller.clock().sleep(self.caller.total_timeout());
        let late = || {
            let what = format!("observers have not been told of revision {revision} in time");
            Err(Error::Unavailable { what, unknown: false })
        };
        tokio::select! {
            () = self.all_told(revision) => Ok(revision),
            () = deadline => late(),
            () = self.caller.shutdown().requested() => Err(closed()),
        }
    }

    async fn next_round(self: &Arc<Self>) -> Result<u64, Error> {
        let (answer, answered) = oneshot::channel();
        let lead = {
            let mut rounds = self.rounds.lock();
            if rounds.waiting.len() >= MAX_WAITING {
                return Err(Error::Unavailable { what: "too many reads wait".into(), unknown: false });
            }
            rounds.waiting.push(answer);
            !std::mem::replace(&mut rounds.running, true)
        };
        if lead {
            // A task of its own, so that callers who give up do not take the round with them.
            let shared = self.clone();
            self.spawn("etcd-barrier", move || run_rounds(shared.clone()));
        }
        let unfinished = || Error::Unavailable { what: "the newest revision was not learned".into(), unknown: false };
        tokio::select! {
            answer = answered => answer.map_err(|_| unfinished())?,
            // After that no round begins any more.
            () = self.caller.shutdown().requested() => Err(closed()),
        }
    }

    /// Completes when every observer has been told everything up to `revision`.
    async fn all_told(&self, revision: u64) {
        loop {
            let progress = self.progress.notified();
            tokio::pin!(progress);
            progress.as_mut().enable();
            let mut behind = false;
            for observation in self.observations.lock().iter().filter(|o| o.seen() < revision) {
                behind = true;
                observation.nudge.notify_one();
            }
            if !behind {
                return;
            }
            progress.await;
        }
    }
}

async fn run_rounds(shared: Arc<Shared>) {
    loop {
        let callers = {
            let mut rounds = shared.rounds.lock();
            let callers = std::mem::take(&mut rounds.waiting);
            rounds.running = !callers.is_empty();
            callers
        };
        if callers.is_empty() {
            return;
        }
        let outcome = shared.newest(shared.caller.total_timeout()).await;
        for caller in callers {
            // A caller that gave up does not listen any more.
            let _ = caller.send(outcome.clone());
        }
    }
}
