//! Expressions of webhooks and of policies, with what they are evaluated over.
//!
//! Invariants: a variable is evaluated when it is first asked for, and once; whatever it costs is taken from the budget of who asks;
//! nothing waits.

mod conditions;
mod judge;
mod scope;

use kedge_cel::Program;
use kedge_cel::admission::{Compiler, Purpose, Refused};

pub(crate) use conditions::Conditions;
pub(crate) use judge::Judge;
pub(crate) use scope::{Given, Scope};

/// An expression, compiled.
#[derive(Debug)]
pub(crate) struct Expression {
    pub text: Box<str>,
    /// Or why it cannot be compiled: it was stored by somebody who could.
    pub program: Result<Program, Refused>,
}

/// An expression that others may name.
#[derive(Debug)]
pub(crate) struct Variable {
    pub name: Box<str>,
    pub program: Result<Program, Refused>,
}

impl Expression {
    /// Of a policy.
    pub(crate) fn compile(compiler: &mut Compiler, text: &str, purpose: Purpose) -> Self {
        Self { text: text.into(), program: compiler.compile(text, purpose, true) }
    }

    /// Of a webhook.
    pub(crate) fn condition(text: &str) -> Self {
        Self { text: text.into(), program: kedge_cel::admission::condition(text, true) }
    }
}
