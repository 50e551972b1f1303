//! Why an evaluation has no value.

use crate::authorizer::Check;

/// What went wrong. Its text is upstream's.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
    /// An operation has no result: `||` and `&&` absorb it when their other side decides.
    #[error("{0}")]
    Message(Box<str>),
    /// This evaluation cost more than one may.
    #[error("operation cancelled: actual cost limit exceeded")]
    CostLimit,
    /// Nothing is left of the budget that several evaluations share.
    #[error("validation failed due to running out of cost budget, no further validation rules will be run")]
    BudgetExhausted,
    /// Whoever owns the budget gave up.
    #[error("operation interrupted")]
    Interrupted,
    /// The authorizer does not know the answer yet. Find it out, and evaluate again with an authorizer that knows it.
    #[error("the authorizer has not answered yet")]
    Pending(Box<Check>),
}

impl EvalError {
    /// An error that `||` and `&&` absorb.
    pub fn new(message: impl Into<Box<str>>) -> Self {
        Self::Message(message.into())
    }

    /// Whether the whole evaluation is over, whatever the expression makes of errors.
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::Message(_))
    }

    pub(crate) fn no_such_overload() -> Self {
        Self::new("no such overload")
    }

    pub(crate) fn conversion(from: &str, to: &str) -> Self {
        Self::new(format!("type conversion error from '{from}' to '{to}'"))
    }
}
