//! Whether the server is ready: named conditions, and tasks that do their work.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kedge_base::{Ledger, Trouble};
use parking_lot::RwLock;
use tracing::{error, info};

/// The check that fails while a task of the server panics again and again.
pub(crate) const TASKS: &str = "tasks";

/// Named conditions that must all hold for the server to be ready.
#[derive(Clone)]
pub struct Readiness {
    /// In the order in which they were declared.
    checks: Arc<RwLock<Vec<(&'static str, bool)>>>,
    ledger: Ledger,
    /// Whether the tasks were well when they were last looked at, so that a change is logged once.
    tasks_were_well: Arc<AtomicBool>,
}

impl Default for Readiness {
    fn default() -> Self {
        Self::over(Ledger::process())
    }
}

impl Readiness {
    /// With the tasks that `ledger` knows of.
    pub fn over(ledger: Ledger) -> Self {
        Self { checks: Arc::default(), ledger, tasks_were_well: Arc::new(AtomicBool::new(true)) }
    }

    /// Declares conditions that do not hold yet.
    pub fn declare(&self, checks: &[&'static str]) {
        self.checks.write().extend(checks.iter().map(|check| (*check, false)));
    }

    /// Says that a condition holds.
    pub fn hold(&self, check: &'static str) {
        let mut checks = self.checks.write();
        match checks.iter_mut().find(|(name, _)| *name == check) {
            Some((_, holds)) => *holds = true,
            None => checks.push((check, true)),
        }
    }

    /// Whether all conditions hold.
    pub fn is_ready(&self) -> bool {
        self.checks.read().iter().all(|(_, holds)| *holds) && self.tasks().is_ok()
    }

    /// The conditions, and whether they hold.
    pub(crate) fn checks(&self) -> Vec<(&'static str, bool)> {
        self.checks.read().clone()
    }

    /// Where panics of requests are counted as well.
    pub(crate) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Why tasks do not do their work, if so: those that panicked too often of late.
    pub(crate) fn tasks(&self) -> Result<(), String> {
        let troubles = self.ledger.troubles();
        let well = troubles.is_empty();
        let text = |t: &Trouble| format!("{}/{} panicked {} times of late: {}", t.group, t.task, t.panics, t.message);
        let reason = troubles.iter().map(text).collect::<Vec<_>>().join("; ");
        match (self.tasks_were_well.swap(well, Ordering::Relaxed), well) {
            (true, false) => error!(reason, "the server is not ready: tasks panic again and again"),
            (false, true) => info!("tasks have been quiet for a while: the server is ready again"),
            _ => {}
        }
        if well { Ok(()) } else { Err(reason) }
    }
}
