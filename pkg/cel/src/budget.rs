//! What evaluations may cost.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::error::EvalError;
use crate::limits::PER_CALL_LIMIT;

/// What is left for several evaluations, and how much one of them may cost. It may be shared: an expression that is evaluated because another
/// asks for a variable takes from the same budget.
#[derive(Debug)]
pub struct Budget {
    left: AtomicU64,
    per_call: u64,
    interrupted: AtomicBool,
    /// Patterns that may still be compiled.
    patterns: AtomicU64,
}

/// As many patterns that are no constants may be compiled for one budget: it takes time that costs do not count.
const PATTERNS: u64 = 200;

impl Budget {
    /// So much for all, of which each may take [`PER_CALL_LIMIT`].
    pub fn new(total: u64) -> Self {
        let patterns = AtomicU64::new(PATTERNS);
        Self { left: AtomicU64::new(total), per_call: PER_CALL_LIMIT, interrupted: AtomicBool::new(false), patterns }
    }

    /// The same with another limit for each evaluation.
    #[must_use]
    pub fn per_call(self, limit: u64) -> Self {
        Self { per_call: limit, ..self }
    }

    /// What is left.
    pub fn left(&self) -> u64 {
        self.left.load(Ordering::Relaxed)
    }

    pub(crate) fn limit(&self) -> u64 {
        self.per_call
    }

    /// Ends evaluations that are running, and those that would begin.
    pub fn interrupt(&self) {
        self.interrupted.store(true, Ordering::Relaxed);
    }

    pub(crate) fn check(&self) -> Result<(), EvalError> {
        if self.interrupted.load(Ordering::Relaxed) { Err(EvalError::Interrupted) } else { Ok(()) }
    }

    /// Takes the compiling of a pattern that is no constant.
    pub(crate) fn compile(&self) -> Result<(), EvalError> {
        let taken = self.patterns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        taken.map(|_| ()).map_err(|_| EvalError::CostLimit)
    }

    /// Takes a cost; what is not there any more cannot be taken.
    ///
    /// # Errors
    /// There was less; then nothing is left.
    pub fn take(&self, cost: u64) -> Result<(), EvalError> {
        let taken =
            self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| Some(left.saturating_sub(cost)));
        if taken.is_ok_and(|before| before >= cost) { Ok(()) } else { Err(EvalError::BudgetExhausted) }
    }
}

impl Clone for Budget {
    /// What is left now, to take it twice: for an evaluation that may have to begin again.
    fn clone(&self) -> Self {
        let interrupted = AtomicBool::new(self.interrupted.load(Ordering::Relaxed));
        let patterns = AtomicU64::new(self.patterns.load(Ordering::Relaxed));
        Self { left: AtomicU64::new(self.left()), per_call: self.per_call, interrupted, patterns }
    }
}
