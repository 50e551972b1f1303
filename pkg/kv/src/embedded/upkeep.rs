//! What keeps the log short: checkpoints, on a thread of their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use kedge_base::{Ledger, Weight};
use tracing::{info, warn};

use super::Shared;
use super::log::Log;
use super::space::Space;
use crate::error::Error;

pub(super) struct Upkeep {
    shared: Arc<Shared>,
    called_off: Arc<AtomicBool>,
    running: Option<JoinHandle<()>>,
}

impl Upkeep {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, called_off: Arc::default(), running: None }
    }

    /// Starts a new segment when the current one is full, and a checkpoint when much has been written since the last one.
    /// Returns whether everything was made durable by that.
    pub(super) fn checkpoint_when_due(&mut self, log: &mut Log, space: Space, ceiling: u64) -> Result<bool, Error> {
        let (revision, live) = {
            let index = self.shared.index.read();
            (index.revision(), index.live_bytes())
        };
        let limit = log.checkpoint_bytes.max(2 * live);
        // A checkpoint gives space back, if there is enough left for it.
        let relief =
            matches!(space, Space::Low(free) if free > 2 * live && log.uncovered > 2 * live + log.checkpoint_bytes / 4);
        let idle = self.running.as_ref().is_none_or(JoinHandle::is_finished);
        let due = idle && (log.uncovered > limit || relief);
        if !due && !log.wants_rotation() {
            return Ok(false);
        }
        log.rotate(revision)?;
        if due {
            self.start(log, revision, ceiling);
        }
        Ok(true)
    }

    fn start(&mut self, log: &mut Log, revision: u64, ceiling: u64) {
        self.shared.index.write().pin();
        let leases = self.shared.leases.lock().all();
        let checkpointer = log.checkpointer(revision, ceiling);
        log.uncovered = 0;
        let (shared, called_off) = (self.shared.clone(), self.called_off.clone());
        let work = move || {
            let write = || checkpointer.write(&shared, &leases, &called_off);
            match Ledger::process().catch_now("kv", "kv-checkpoint", Weight::Vital, write) {
                Ok(Ok(Some(keys))) => info!(revision, keys, "checkpoint written"),
                Ok(Ok(None)) => info!(revision, "checkpoint called off; the log is kept"),
                Ok(Err(err)) => warn!(revision, error = %err, "checkpoint not written; the log is kept"),
                Err(err) => warn!(revision, error = %err, "checkpoint not written; the log is kept"),
            }
            let give_back = || {
                shared.index.write().unpin(revision);
                while shared.index.write().forget_some() {}
            };
            // Counted and logged; the writer forgets what is left.
            let _counted = Ledger::process().catch_now("kv", "kv-checkpoint", Weight::Vital, give_back);
        };
        match std::thread::Builder::new().name("kv-checkpoint".into()).spawn(work) {
            Ok(thread) => self.running = Some(thread),
            Err(err) => {
                self.shared.index.write().unpin(revision);
                warn!(error = %err, "cannot start a thread for the checkpoint; the log is kept");
            }
        }
    }

    /// Waits until no checkpoint is being written any more; one that is gets called off.
    pub(super) fn stop(&mut self) {
        self.called_off.store(true, Ordering::Relaxed);
        if let Some(running) = self.running.take() {
            // A panic has been counted and logged; the log is kept then.
            let _ = running.join();
        }
    }
}
