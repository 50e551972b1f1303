//! What an evaluation has with it: what it used, and regular expressions that it compiled.

use std::sync::Arc;

use regex::Regex;

use crate::budget::Budget;
use crate::error::EvalError;
use kedge_meta::regexp;

/// Steps that cost nothing upstream are counted beside costs, so that none of them makes an evaluation endless: constants, conditions,
/// elements that are copied or compared. As many are allowed for each unit of cost.
const STEPS_PER_COST: u64 = 3;
/// Allowed to each evaluation beside that.
const FREE_STEPS: u64 = 1 << 16;
/// As many bytes of a text that is made count as a step.
const BYTES_PER_STEP: usize = 16;
/// What compiling a pattern counts, for each of its bytes.
const STEPS_PER_PATTERN_BYTE: u64 = 64;
/// What a pattern that is no constant may take: compiling it takes time that no cost counts.
const MAX_PATTERN_SIZE: usize = 256 << 10;
/// Compiled patterns that are kept during an evaluation: those of a loop's body.
const MAX_PATTERNS: usize = 8;
/// As often, in iterations, it is looked whether the evaluation shall end.
const CHECK_FREQUENCY: u32 = 100;

/// The state of an evaluation.
#[derive(Debug)]
pub(crate) struct Context<'b> {
    budget: &'b Budget,
    cost: u64,
    steps: u64,
    max_steps: u64,
    iterations: u32,
    patterns: Vec<(Box<str>, Arc<Regex>)>,
    /// What the call that is made has as a constant.
    prepared: Option<Arc<Regex>>,
}

impl<'b> Context<'b> {
    /// Nothing used yet.
    pub fn new(budget: &'b Budget) -> Self {
        let max_steps = budget.limit().saturating_mul(STEPS_PER_COST).saturating_add(FREE_STEPS);
        Self { budget, cost: 0, steps: 0, max_steps, iterations: 0, patterns: Vec::new(), prepared: None }
    }

    /// What was used.
    pub fn cost(&self) -> u64 {
        self.cost
    }

    /// Uses cost.
    pub fn charge(&mut self, cost: u64) -> Result<(), EvalError> {
        self.cost = self.cost.saturating_add(cost);
        if self.cost > self.budget.limit() {
            return Err(EvalError::CostLimit);
        }
        if self.cost > self.budget.left() { Err(EvalError::BudgetExhausted) } else { Ok(()) }
    }

    /// Counts steps.
    pub fn step(&mut self, steps: usize) -> Result<(), EvalError> {
        self.steps = self.steps.saturating_add(steps as u64);
        if self.steps > self.max_steps { Err(EvalError::CostLimit) } else { Ok(()) }
    }

    /// Counts the making of a text of so many bytes: they take memory.
    pub fn text(&mut self, length: usize) -> Result<(), EvalError> {
        self.step(length / BYTES_PER_STEP)
    }

    /// Counts an iteration of a comprehension.
    pub fn iteration(&mut self) -> Result<(), EvalError> {
        self.iterations = self.iterations.wrapping_add(1);
        if self.iterations.is_multiple_of(CHECK_FREQUENCY) { self.budget.check() } else { Ok(()) }
    }

    /// Looks whether the evaluation shall begin at all.
    pub fn begin(&self) -> Result<(), EvalError> {
        self.budget.check()
    }

    /// Sets the regular expression that the next call has as a constant.
    pub fn prepare(&mut self, pattern: Option<Arc<Regex>>) {
        self.prepared = pattern;
    }

    /// Whether the call that is made has its regular expression as a constant.
    pub fn is_prepared(&self) -> bool {
        self.prepared.is_some()
    }

    /// The regular expression of a pattern: the constant's, or one that is compiled now.
    pub fn pattern(&mut self, pattern: &str) -> Result<Arc<Regex>, EvalError> {
        if let Some(prepared) = &self.prepared {
            return Ok(prepared.clone());
        }
        if let Some((_, known)) = self.patterns.iter().find(|(text, _)| **text == *pattern) {
            return Ok(known.clone());
        }
        self.steps = self.steps.saturating_add(STEPS_PER_PATTERN_BYTE.saturating_mul(pattern.len() as u64 + 1));
        self.step(0)?;
        self.budget.compile()?;
        let compiled = Arc::new(
            regexp::compile_within(pattern, MAX_PATTERN_SIZE).map_err(|error| EvalError::new(error.to_string()))?,
        );
        if self.patterns.len() >= MAX_PATTERNS {
            self.patterns.remove(0);
        }
        self.patterns.push((pattern.into(), compiled.clone()));
        Ok(compiled)
    }
}
