//! Evaluating.
//!
//! Errors are values to `&&`, `||` and comprehensions; final ones are not, and end everything.

use std::sync::Arc;

use super::{Activation, Attribute, Call, Code, Construct, Node, NodeId, no_overload};
use crate::context::Context;
use crate::cost::runtime::equality;
use crate::error::EvalError;
use crate::functions::{Function, Overload};
use crate::limits::{LIST_CREATE_COST, MAP_CREATE_COST, STRUCT_CREATE_COST};
use crate::value::{Evaluated, Key, List, Map, OwnedMap, Struct, Value, plain};

/// What is in a variable of a comprehension.
#[derive(Debug)]
pub(super) enum Slot<'a> {
    Empty,
    /// What an accumulator begins with, not yet evaluated.
    Pending(NodeId),
    Value(Evaluated<'a>),
}

pub(super) struct Evaluator<'p, 'a, 'c, 'b> {
    pub code: &'p Code,
    pub variables: &'a dyn Activation,
    pub slots: Vec<Slot<'a>>,
    pub context: &'c mut Context<'b>,
}

/// Evaluates a program.
pub(super) fn evaluate<'a>(code: &Code, variables: &'a dyn Activation, context: &mut Context<'_>) -> Evaluated<'a> {
    let slots = std::iter::repeat_with(|| Slot::Empty).take(code.slots).collect();
    Evaluator { code, variables, slots, context }.node(code.root)
}

impl<'a> Evaluator<'_, 'a, '_, '_> {
    pub fn node(&mut self, id: NodeId) -> Evaluated<'a> {
        self.context.step(1)?;
        let code = self.code;
        let Some(node) = code.nodes.get(id as usize) else { return Err(EvalError::new("no such node")) };
        match node {
            Node::Constant(value) => Ok(value.clone()),
            Node::Attribute(attribute) => self.attribute(attribute),
            Node::Has(attribute) => self.has(attribute),
            Node::And(a, b) => self.logic(*a, *b, false),
            Node::Or(a, b) => self.logic(*a, *b, true),
            Node::Equal { left, right, negated } => self.equal(*left, *right, *negated),
            Node::NotStrictlyFalse(arg) => self.not_strictly_false(*arg),
            Node::Call(call) => self.call(call),
            Node::Append { list, element } => self.append(list, *element),
            Node::InSet(value, set) => {
                let value = self.node(*value)?;
                Ok(Value::Bool(Key::new(value).is_ok_and(|key| set.values.contains(&key))))
            }
            Node::OrElse { optional, other, unwrap } => self.or_else(*optional, *other, *unwrap),
            Node::List(elements) => self.list(elements),
            Node::Map(entries) => self.map(entries),
            Node::Struct(construct) => self.construct(construct),
            Node::Fold(fold) => self.fold(fold),
        }
    }

    /// `a && b`, `a || b`: one side may decide whatever comes of the other.
    #[inline(never)]
    fn logic(&mut self, a: NodeId, b: NodeId, decides: bool) -> Evaluated<'a> {
        let mut error = None;
        for side in [a, b] {
            match self.node(side) {
                Ok(Value::Bool(it)) if it == decides => return Ok(Value::Bool(decides)),
                Ok(Value::Bool(_)) => {}
                Err(e) if e.is_final() => return Err(e),
                Err(e) => error = error.or(Some(e)),
                Ok(_) => error = error.or_else(|| Some(EvalError::no_such_overload())),
            }
        }
        error.map_or(Ok(Value::Bool(!decides)), Err)
    }

    /// Both sides, although the first may be an error: that has its cost.
    fn both(&mut self, a: NodeId, b: NodeId) -> Result<(Evaluated<'a>, Evaluated<'a>), EvalError> {
        let a = self.node(a);
        if let Err(error) = &a
            && error.is_final()
        {
            return Err(error.clone());
        }
        let b = self.node(b);
        match &b {
            Err(error) if error.is_final() => Err(error.clone()),
            _ => Ok((a, b)),
        }
    }

    #[inline(never)]
    fn equal(&mut self, a: NodeId, b: NodeId, negated: bool) -> Evaluated<'a> {
        let (a, b) = self.both(a, b)?;
        self.context.charge(equality(a.as_ref().ok(), b.as_ref().ok(), negated))?;
        let (a, b) = (a?, b?);
        self.context.step(steps_to_compare(&a))?;
        match a.equals(&b) {
            Ok(same) => Ok(Value::Bool(same != negated)),
            // What cannot be compared is not the same, where that is asked.
            Err(error) if negated && !error.is_final() => Ok(Value::Bool(true)),
            Err(error) => Err(error),
        }
    }

    #[inline(never)]
    fn not_strictly_false(&mut self, arg: NodeId) -> Evaluated<'a> {
        let value = self.node(arg);
        self.context.charge(1)?;
        match value {
            Ok(Value::Bool(it)) => Ok(Value::Bool(it)),
            Err(error) if error.is_final() => Err(error),
            _ => Ok(Value::Bool(true)),
        }
    }

    #[inline(never)]
    fn or_else(&mut self, optional: NodeId, other: NodeId, unwrap: bool) -> Evaluated<'a> {
        match self.node(optional)? {
            Value::Optional(None) => self.node(other),
            Value::Optional(Some(value)) if unwrap => Ok((*value).clone()),
            value => Ok(value),
        }
    }

    #[inline(never)]
    fn call(&mut self, call: &Call) -> Evaluated<'a> {
        match &*call.args {
            [] => self.apply(call, &mut []),
            [arg] => match self.node(*arg) {
                Ok(arg) => self.apply(call, &mut [arg]),
                Err(error) => self.failed(call, &[Value::Null], error),
            },
            [a, b] if !call.stops => match self.both(*a, *b)? {
                (Ok(a), Ok(b)) => self.apply(call, &mut [a, b]),
                (Err(error), b) => self.failed(call, &[Value::Null, b.unwrap_or(Value::Null)], error),
                (Ok(a), Err(error)) => self.failed(call, &[a, Value::Null], error),
            },
            args => {
                let mut values = Vec::with_capacity(args.len());
                for (n, arg) in args.iter().enumerate() {
                    match self.node(*arg) {
                        Ok(value) => values.push(value),
                        Err(error) if n + 1 == args.len() => {
                            values.push(Value::Null);
                            return self.failed(call, &values, error);
                        }
                        Err(error) => return Err(error),
                    }
                }
                self.apply(call, &mut values)
            }
        }
    }

    /// A call whose arguments were all looked at costs what it costs, also if one of them has no value.
    fn failed(&mut self, call: &Call, args: &[Value<'a>], error: EvalError) -> Evaluated<'a> {
        if !error.is_final() {
            self.context.charge(call.rule.before(args).saturating_add(call.rule.after(None)))?;
        }
        Err(error)
    }

    fn apply(&mut self, call: &Call, args: &mut [Value<'a>]) -> Evaluated<'a> {
        let before = call.rule.before(args);
        self.context.prepare(call.pattern.clone());
        let result = apply(self.context, &call.function, call.overload.as_deref(), args);
        self.context.prepare(None);
        let cost = before.saturating_add(call.rule.after(result.as_ref().ok()));
        match result {
            Err(error) if error.is_final() => Err(error),
            result => {
                self.context.charge(cost)?;
                result
            }
        }
    }

    /// `list + [element]`, with what that costs.
    #[inline(never)]
    fn append(&mut self, list: &Attribute, element: NodeId) -> Evaluated<'a> {
        let list = self.attribute(list);
        if list.as_ref().is_err_and(EvalError::is_final) {
            return list;
        }
        let element = self.node(element);
        if element.as_ref().is_err_and(EvalError::is_final) {
            return element;
        }
        self.context.charge(LIST_CREATE_COST + 1)?;
        self.context.step(2)?;
        let (list, element) = (list?, element?);
        match list {
            Value::List(List::Owned(mut values)) => {
                if Arc::strong_count(&values) > 1 {
                    self.context.step(2 * values.len())?;
                }
                Arc::make_mut(&mut values).push(element);
                Ok(Value::List(List::Owned(values)))
            }
            Value::List(list) => list.concat(&List::Owned(Arc::new(vec![element]))),
            _ => Err(EvalError::no_such_overload()),
        }
    }

    #[inline(never)]
    fn list(&mut self, elements: &[(NodeId, bool)]) -> Evaluated<'a> {
        let mut values = Vec::with_capacity(elements.len());
        let mut build = || {
            for (element, optional) in elements {
                let value = self.node(*element)?;
                match (optional, value) {
                    (false, value) => values.push(value),
                    (true, Value::Optional(value)) => values.extend(value.map(|it| (*it).clone())),
                    (true, value) => {
                        let message = format!(
                            "cannot initialize optional list element from non-optional value {}",
                            plain(&value)
                        );
                        return Err(EvalError::new(message));
                    }
                }
            }
            Ok(())
        };
        let built = build();
        self.constructed(built, LIST_CREATE_COST)?;
        Ok(Value::list(values))
    }

    /// What is constructed costs, also when it failed.
    fn constructed(&mut self, built: Result<(), EvalError>, cost: u64) -> Result<(), EvalError> {
        if let Err(error) = &built
            && error.is_final()
        {
            return built;
        }
        self.context.charge(cost)?;
        built
    }

    #[inline(never)]
    fn map(&mut self, entries: &[(NodeId, NodeId, bool)]) -> Evaluated<'a> {
        let mut map = OwnedMap::default();
        let mut build = || {
            for (key, value, optional) in entries {
                let key = Key::new(self.node(*key)?)?;
                let value = self.node(*value)?;
                match (optional, value) {
                    (false, value) => map.insert(key, value),
                    (true, Value::Optional(Some(value))) => map.insert(key, (*value).clone()),
                    (true, Value::Optional(None)) => map.remove(&key),
                    (true, value) => return Err(not_optional(&plain(&key.value()), &value)),
                }
            }
            Ok(())
        };
        let built = build();
        self.constructed(built, MAP_CREATE_COST)?;
        Ok(Value::Map(Map::Owned(Arc::new(map))))
    }

    #[inline(never)]
    fn construct(&mut self, construct: &Construct) -> Evaluated<'a> {
        let mut fields = std::collections::BTreeMap::new();
        let mut build = || {
            for (name, value, optional) in &construct.fields {
                let value = self.node(*value)?;
                match (optional, value) {
                    (false, value) => fields.insert(name.clone(), value),
                    (true, Value::Optional(Some(value))) => fields.insert(name.clone(), (*value).clone()),
                    (true, Value::Optional(None)) => fields.remove(name),
                    (true, value) => return Err(not_optional(name, &value)),
                };
            }
            Ok(())
        };
        let built = build();
        self.constructed(built, STRUCT_CREATE_COST)?;
        Ok(Value::Struct(Arc::new(Struct { name: construct.name.clone(), fields })))
    }
}

fn not_optional(entry: &str, value: &Value<'_>) -> EvalError {
    EvalError::new(format!("cannot initialize optional entry '{entry}' from non-optional value {}", plain(value)))
}

/// What comparing looks at, at most.
fn steps_to_compare(value: &Value<'_>) -> usize {
    match value {
        Value::List(list) => list.len(),
        Value::Map(map) => map.len(),
        Value::String(text) => text.len() / 64,
        _ => 0,
    }
}

/// Calls a function: the overload that is meant, or the one that the arguments show.
pub(super) fn apply<'a>(
    context: &mut Context<'_>,
    function: &Function,
    overload: Option<&Overload>,
    args: &mut [Value<'a>],
) -> Evaluated<'a> {
    if let Some(common) = function.common {
        return common(context, args);
    }
    let fits = |it: &&Overload| it.implementation.is_some() && (!function.guarded || it.accepts(args));
    let found = match overload {
        Some(only) => Some(only).filter(fits),
        None => function.overloads.iter().map(|it| &**it).find(fits),
    };
    match found.and_then(|it| it.implementation) {
        Some(implementation) => implementation(context, args),
        None => Err(no_overload(&function.name, args)),
    }
}
