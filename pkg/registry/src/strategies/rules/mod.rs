//! Rules in CEL of kinds that came while the server runs: `x-kubernetes-validations`.
//!
//! Invariants: nothing but places with rules is visited; what all rules of one object cost together is bounded; a rule that cannot be
//! evaluated refuses the object, and never lets it pass.

mod compile;
mod definitions;
mod validate;

pub(crate) use definitions::DefinitionRules;
pub(crate) use validate::Verdict;

use std::collections::BTreeMap;
use std::sync::Arc;

use kedge_cel::decl::Decl;
use kedge_cel::{Budget, Program, limits};
use serde_json::Value;

/// The rules of a schema, and of what is below it; none where there are none.
pub(crate) struct Rules {
    /// As the schema calls its type, for messages.
    type_name: Box<str>,
    own: Result<Vec<Rule>, String>,
    /// What the rules see; none where there are no rules, or the schema has no type.
    decl: Option<Arc<Decl>>,
    items: Option<Box<Rules>>,
    additional: Option<Box<Rules>>,
    properties: BTreeMap<Box<str>, Rules>,
    all_of: Vec<Rules>,
    /// What names an item of a list whose items have keys.
    map_keys: Option<Box<[Box<str>]>>,
}

/// A rule.
struct Rule {
    /// As it is written.
    text: Box<str>,
    message: Box<str>,
    message_expression: Option<Program>,
    reason: Box<str>,
    optional_old_self: bool,
    /// The place that is to blame, below the one that has the rule.
    field_path: Box<str>,
    program: Result<Program, String>,
    uses_old_self: bool,
}

impl Rules {
    /// Compiles the rules of the schema of a whole object; none when it has none.
    pub(crate) fn of(schema: &Value) -> Option<Self> {
        compile::validator(schema, schema, true, kedge_cel::Expressions::Stored, 0)
    }

    /// What an object breaks, given what it was before.
    pub(crate) fn check(&self, new: &Value, old: Option<&Value>) -> Verdict {
        let budget = Budget::new(limits::RUNTIME_COST_BUDGET);
        validate::check(self, new, old, &budget, old.is_some())
    }
}

impl Rule {
    /// What stands for it in messages.
    fn shown(&self) -> &str {
        let message = self.message.trim();
        if self.message.is_empty() { self.text.trim() } else { message }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
