//! The Common Expression Language as Kubernetes v1.36 has it: custom resources' `x-kubernetes-validations`, admission policies, match
//! conditions of webhooks, configuration of authentication and authorization, selectors of devices.
//!
//! # Use
//! ```
//! use kedge_cel::{Budget, Env, Expressions, Type, Value};
//! use kedge_cel::decl::Decl;
//! use std::sync::Arc;
//!
//! let schema = serde_json::json!({"type": "object", "properties": {"replicas": {"type": "integer"}}});
//! let decl = Arc::new(Decl::from_schema(&schema, "self", false));
//! let env = Env::builder(Expressions::NEW).typed_variable("self", &decl).build();
//! let program = env.compile("self.replicas >= 1", Some(&Type::Bool))?;
//!
//! let object = serde_json::json!({"replicas": 3});
//! let variables = vec![("self", Value::typed(&object, &decl)?)];
//! let budget = Budget::new(kedge_cel::limits::RUNTIME_COST_BUDGET);
//! assert!(matches!(program.evaluate(&variables, &budget)?, Value::Bool(true)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The API, which others build on
//! [`Env::builder`] begins with what a version brings ([`Expressions`]) and takes variables, types and more libraries; [`Env::extend`] begins
//! with an environment. [`Env::check`] gives a [`Checked`] expression, which knows its type, estimates its cost ([`SizeHints`]) and makes the
//! [`Program`]; [`Env::compile`] does all of it. A [`Program`] has no tree any more: thousands may live at once, and estimating is done when an
//! expression is stored, not when it runs. [`Program::evaluate`] reads variables from an [`Activation`], which may find them when they are
//! asked for, and takes from a [`Budget`], which several evaluations share. [`Value`] borrows the JSON it views, with or without a
//! [`Decl`](decl::Decl); [`Value::to_json`] copies it out. [`MapHost`] is a map that a caller answers for, [`Variables`] one of expressions
//! that are evaluated when they are first asked for. An [`Authorizer`](authorizer::Authorizer) never waits: see there.
//!
//! Texts of errors, costs and estimates are upstream's.
//!
//! # Deliberately absent
//! Protobuf messages: nothing in Kubernetes has any. Recovery from errors of syntax that a token too much or too few does not explain: the first
//! is reported, where upstream may go on to more. `\B` on texts that are not ASCII looks at Unicode's words. Maps are gone through in the order
//! of their keys, where upstream's order is random.
//!
//! Invariants: nothing waits, and nothing does I/O; no text and no data make it panic; an evaluation ends, bounded by its budget.

#![forbid(unsafe_code)]

mod address;
pub mod admission;
mod ast;
pub mod authorizer;
mod budget;
mod check;
mod context;
mod cost;
mod encoding;
mod env;
mod error;
mod functions;
mod library;
pub mod limits;
mod parser;
mod print;
mod program;
mod source;
mod types;
mod url;
mod value;
mod variables;

pub use budget::Budget;
pub use cost::{CostEstimate, SizeEstimate, SizeHints};
pub use env::{Checked, Env, EnvBuilder, Expressions, Library, Version};
pub use error::EvalError;
pub use program::{Activation, Outcome, Program};
pub use source::{CompileErrors, Offset, Source, SourceError};
pub use types::escape::{RESERVED, escape, unescape};
pub use types::{Type, decl};
pub use value::{
    Cidr, Evaluated, Key, List, Map, MapHost, Opaque, OwnedMap, Semver, Struct, Text, Timestamp, Url, Value,
};
pub use variables::{Scope, Variables};
