//! The `authorizer` of expressions: who may do what.
//!
//! Evaluation never waits. An [`Authorizer`] answers from what it knows; what it does not know yet it answers with [`Answer::Pending`], which
//! ends the evaluation with [`EvalError::Pending`](crate::EvalError::Pending) and the question. The caller asks whoever must be asked, in
//! whatever way takes time, keeps the answer, and evaluates again, with a copy of the budget as it was. Two checks are all that an expression
//! can pay for, so that happens at most twice; and no thread is held while a webhook thinks.

/// Whose rights are looked at.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Subject {
    /// Who made the request.
    Requester,
    /// A service account that the expression names.
    ServiceAccount { namespace: Box<str>, name: Box<str> },
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// A path that is no resource.
    Path(Box<str>),
    /// A resource; what is not said is empty.
    Resource(Box<ResourceTarget>),
}

/// A resource in a check.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct ResourceTarget {
    pub group: Box<str>,
    pub resource: Box<str>,
    pub subresource: Box<str>,
    pub namespace: Box<str>,
    pub name: Box<str>,
    /// As the expression has it: it may be no selector.
    pub field_selector: Box<str>,
    /// As the expression has it: it may be no selector.
    pub label_selector: Box<str>,
}

/// A question.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Check {
    pub subject: Subject,
    pub target: Target,
    pub verb: Box<str>,
}

/// A decision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decision {
    pub allowed: bool,
    pub reason: Box<str>,
    /// What went wrong when it was made.
    pub error: Option<Box<str>>,
}

/// What an authorizer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Decided(Decision),
    /// It must be found out first.
    Pending,
}

/// Who knows what is allowed.
pub trait Authorizer: Sync {
    /// Answers at once.
    fn check(&self, check: &Check) -> Answer;
}
