//! What others know of schemas: the engine of rules, which this strategy asks where there is one.
//!
//! Without it, what rules mean is not judged; their form is, and all else.

use std::collections::BTreeSet;
use std::sync::Arc;

use kedge_meta::field::{ErrorList, Path};
use serde_json::Value;

/// The engines that there are.
#[derive(Clone, Default)]
pub struct Engines {
    pub rules: Option<Arc<dyn Rules>>,
}

/// Knows `x-kubernetes-validations`.
///
/// `schema` is a structural schema, in the JSON of definitions. `is_resource` says that it is of a whole resource, so that `self`
/// has `apiVersion`, `kind` and `metadata`.
pub trait Rules: Send + Sync {
    /// Compiles all rules of one schema, in their order. Expressions that are `known` were stored before, and may use what
    /// expressions of this version may not use yet.
    ///
    /// # Errors
    /// The internal error that there is no type for the schema.
    fn compile(&self, schema: &Value, is_resource: bool, known: &Known<'_>) -> Result<Vec<Compiled>, String>;

    /// What rules of the schema and below it say of a default at `path`: both of one that stays (it is its own `oldSelf`) and, if
    /// that is well, of one that is new. What the dearer of both costs is taken from `budget`, which is below zero when it did
    /// not suffice.
    fn check_default(
        &self,
        path: &Path,
        schema: &Value,
        value: &Value,
        is_resource: bool,
        budget: &mut i64,
    ) -> ErrorList;
}

/// Expressions that the definition had before.
#[derive(Default)]
pub struct Known<'a> {
    pub rules: BTreeSet<&'a str>,
    pub messages: BTreeSet<&'a str>,
}

/// What compiling a rule came to.
#[derive(Default)]
pub struct Compiled {
    pub fault: Option<Fault>,
    /// What one evaluation costs at most.
    pub cost: u64,
    /// How often it is evaluated at most, as the types say, where the schemas above set no limit.
    pub cardinality: u64,
    pub uses_old_self: bool,
    /// Of `messageExpression`, where there is one: what it costs at most, or what is wrong with it.
    pub message: Option<Result<u64, String>>,
}

/// What is wrong with a rule.
pub enum Fault {
    /// There is none.
    Required(String),
    Invalid(String),
}
