//! What others know of schemas: engines that this strategy asks, where there are any.
//!
//! Without an engine its part of the rules is not judged; all else is.

use std::collections::BTreeSet;
use std::sync::Arc;

use kedge_meta::field::{ErrorList, Path};
use serde_json::Value;

/// The engines that there are.
#[derive(Clone, Default)]
pub struct Engines {
    pub defaults: Option<Arc<dyn Defaults>>,
    pub rules: Option<Arc<dyn Rules>>,
}

/// Judges defaults, with the engine that prunes and validates custom resources.
///
/// `schema` is the structural schema, in the JSON of definitions, of the place that the default is for; it is one that
/// stands the test of structure. `is_resource` says that the value is a whole resource, embedded or the root, so that
/// `apiVersion`, `kind` and `metadata` belong to it.
pub trait Defaults: Send + Sync {
    /// Drops the fields that the schema does not know.
    fn prune(&self, schema: &Value, value: &mut Value, is_resource: bool);

    /// What is wrong with `apiVersion`, `kind` and `metadata` of the resources in a value at `path`.
    fn check_metadata(&self, path: &Path, schema: &Value, value: &Value, is_resource: bool) -> ErrorList;

    /// What is wrong with a value at `path`, rules aside.
    fn check_value(&self, path: &Path, schema: &Value, value: &Value) -> ErrorList;

    /// What rules of the schema and below it say of a value at `path`, both as one that stays (it is its own `oldSelf`) and
    /// as one that is new. What that costs is taken from `budget`, which is below zero when it did not suffice.
    fn check_rules(&self, path: &Path, schema: &Value, value: &Value, is_resource: bool, budget: &mut i64)
    -> ErrorList;
}

/// Compiles `x-kubernetes-validations`.
pub trait Rules: Send + Sync {
    /// Compiles all rules of one schema, in their order. `is_resource` says that the schema is of a whole resource, so that
    /// `self` has `apiVersion`, `kind` and `metadata`. Expressions that are `known` were stored before, and may use what
    /// expressions of this version may not use yet.
    ///
    /// # Errors
    /// The internal error that there is no type for the schema.
    fn compile(&self, schema: &Value, is_resource: bool, known: &Known<'_>) -> Result<Vec<Compiled>, String>;
}

/// Expressions that the definition had before.
#[derive(Default)]
pub struct Known<'a> {
    pub rules: BTreeSet<&'a str>,
    pub messages: BTreeSet<&'a str>,
}

/// What compiling a rule came to.
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
