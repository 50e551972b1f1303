//! Programs: what is evaluated.
//!
//! A program is the checked expression in the form that evaluating needs, and nothing else: names are slots where they can be, constants are
//! values, calls know what does them and what that costs. Invariants: a program never changes; it owns all it needs.

mod attribute;
mod evaluate;
mod fold;
mod plan;

use std::sync::Arc;

use regex::Regex;

use crate::budget::Budget;
use crate::context::Context;
use crate::cost::runtime::Rule;
use crate::error::EvalError;
use crate::functions::{Function, Overload};
use crate::types::Type;
use crate::value::{Evaluated, Value};
pub(crate) use plan::plan;

/// Where a program finds its variables.
pub trait Activation: Sync {
    /// The value of a variable, found when it is asked for. Asking twice gives the same. An error is only one for the expression if it looks.
    fn resolve<'s>(&'s self, name: &str) -> Option<Evaluated<'s>>;
}

/// Variables in a slice.
impl<'v> Activation for [(&'v str, Value<'v>)] {
    fn resolve<'s>(&'s self, name: &str) -> Option<Evaluated<'s>> {
        self.iter().find(|(own, _)| *own == name).map(|(_, value)| Ok(value.clone()))
    }
}

impl<'v> Activation for Vec<(&'v str, Value<'v>)> {
    fn resolve<'s>(&'s self, name: &str) -> Option<Evaluated<'s>> {
        self.as_slice().resolve(name)
    }
}

/// No variables.
impl Activation for () {
    fn resolve<'s>(&'s self, _name: &str) -> Option<Evaluated<'s>> {
        None
    }
}

/// An expression that can be evaluated. Cheap to clone, and small: thousands may be there at once.
#[derive(Debug, Clone)]
pub struct Program(Arc<Code>);

/// What an evaluation gave, and what it cost.
#[derive(Debug)]
pub struct Outcome<'a> {
    pub result: Evaluated<'a>,
    pub cost: u64,
}

impl Program {
    /// The type of what comes out.
    pub fn result_type(&self) -> &Type {
        &self.0.result_type
    }

    /// Whether the expression has the variable anywhere, even where it is never looked at.
    pub fn uses(&self, variable: &str) -> bool {
        self.0.variables.iter().any(|name| **name == *variable)
    }

    /// The variables that the expression has.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.0.variables.iter().map(|name| &**name)
    }

    /// Evaluates, and takes from the budget what that costs, also if it fails.
    ///
    /// # Errors
    /// The expression has no value for these variables, or may not go on: see [`EvalError::is_final`].
    pub fn evaluate<'a>(&self, variables: &'a dyn Activation, budget: &Budget) -> Evaluated<'a> {
        self.run(variables, budget).result
    }

    /// The same, and says what it cost.
    pub fn run<'a>(&self, variables: &'a dyn Activation, budget: &Budget) -> Outcome<'a> {
        let mut context = Context::new(budget);
        let result = match context.begin() {
            Ok(()) => evaluate::evaluate(&self.0, variables, &mut context),
            Err(error) => Err(error),
        };
        let cost = context.cost();
        let taken = budget.take(cost);
        // An evaluation that was over its own limit says so, whatever is left.
        let result = match (result, taken) {
            (Ok(_), Err(error)) => Err(error),
            (result, _) => result,
        };
        Outcome { result, cost }
    }
}

type NodeId = u32;

#[derive(Debug)]
pub(crate) struct Code {
    nodes: Box<[Node]>,
    root: NodeId,
    /// As many variables of comprehensions there are.
    slots: usize,
    variables: Box<[Arc<str>]>,
    result_type: Type,
}

#[derive(Debug)]
enum Node {
    Constant(Value<'static>),
    /// A variable, a field, an element, a choice.
    Attribute(Box<Attribute>),
    /// Whether the last of the attribute's qualifiers is there.
    Has(Box<Attribute>),
    And(NodeId, NodeId),
    Or(NodeId, NodeId),
    Equal {
        left: NodeId,
        right: NodeId,
        negated: bool,
    },
    NotStrictlyFalse(NodeId),
    Call(Box<Call>),
    /// What `map` and `filter` do for each element: a list that nobody else has grows by one.
    Append {
        list: Box<Attribute>,
        element: NodeId,
    },
    /// Whether a value is in a constant list of primitive values.
    InSet(NodeId, Box<Set>),
    /// `a.or(b)`, `a.orValue(b)`.
    OrElse {
        optional: NodeId,
        other: NodeId,
        unwrap: bool,
    },
    List(Box<[(NodeId, bool)]>),
    Map(Box<[(NodeId, NodeId, bool)]>),
    Struct(Box<Construct>),
    Fold(Box<Fold>),
}

/// Something, and what is looked up in it.
#[derive(Debug)]
struct Attribute {
    root: Root,
    qualifiers: Vec<Qualifier>,
}

#[derive(Debug)]
enum Root {
    Variable(Arc<str>),
    /// A variable of a comprehension; `take` where it is read for the last time before it is set again.
    Slot {
        slot: usize,
        take: bool,
    },
    Operand(NodeId),
    /// What is looked up in a choice is looked up in what is chosen.
    Choice(NodeId, Box<(Attribute, Attribute)>),
}

#[derive(Debug)]
struct Qualifier {
    key: QualifierKey,
    /// With a question mark: what is missing is no error.
    optional: bool,
}

#[derive(Debug)]
enum QualifierKey {
    Constant(Value<'static>),
    Attribute(Attribute),
}

#[derive(Debug)]
struct Call {
    function: Arc<Function>,
    /// The overload, if only one can be meant.
    overload: Option<Arc<Overload>>,
    args: Box<[NodeId]>,
    /// Whether the first argument that is an error ends the call; else two are looked at anyway.
    stops: bool,
    rule: Rule,
    /// The regular expression, if it is a constant.
    pattern: Option<Arc<Regex>>,
}

/// Primitive values, sorted by kind and value.
#[derive(Debug, Default)]
struct Set {
    values: std::collections::BTreeSet<crate::value::Key<'static>>,
}

#[derive(Debug)]
struct Construct {
    name: Arc<str>,
    fields: Box<[(Arc<str>, NodeId, bool)]>,
}

#[derive(Debug)]
struct Fold {
    range: NodeId,
    init: NodeId,
    condition: NodeId,
    step: NodeId,
    result: NodeId,
    accumulator: usize,
    variable: usize,
    second: Option<usize>,
}

fn no_overload(name: &str, args: &[Value<'_>]) -> EvalError {
    let types: Vec<_> = args.iter().map(|arg| arg.type_name().to_string()).collect();
    EvalError::new(format!("no such overload: {name}({})", types.join(", ")))
}

/// The type that upstream names.
fn go_type(value: &Value<'_>) -> &'static str {
    match value {
        Value::Null => "types.Null",
        Value::Bool(_) => "types.Bool",
        Value::Int(_) => "types.Int",
        Value::Uint(_) => "types.Uint",
        Value::Double(_) => "types.Double",
        Value::String(_) => "types.String",
        Value::Bytes(_) => "types.Bytes",
        Value::Duration(_) => "types.Duration",
        Value::Timestamp(_) => "types.Timestamp",
        Value::Type(_) => "*types.Type",
        Value::Optional(_) => "*types.Optional",
        Value::List(_) => "*types.baseList",
        Value::Map(_) => "*types.baseMap",
        _ => "ref.Val",
    }
}
