//! Lists as sets.

use crate::context::Context;
use crate::error::EvalError;
use crate::functions::Functions;
use crate::value::{Evaluated, List, Value};

use super::elements;

pub(super) fn declare(functions: &mut Functions) {
    functions.declare("list_sets_contains_list", "sets.contains(list<T>, list<T>) -> bool", |context, args| {
        let (a, b) = both(context, args)?;
        contains_all(&a, &b).map(Value::Bool)
    });
    functions.declare("list_sets_equivalent_list", "sets.equivalent(list<T>, list<T>) -> bool", |context, args| {
        let (a, b) = both(context, args)?;
        Ok(Value::Bool(contains_all(&a, &b)? && contains_all(&b, &a)?))
    });
    functions.declare("list_sets_intersects_list", "sets.intersects(list<T>, list<T>) -> bool", intersects);
}

fn both<'a>(context: &mut Context<'_>, args: &[Value<'a>]) -> Result<(List<'a>, List<'a>), EvalError> {
    match args {
        [Value::List(a), Value::List(b)] => {
            context.step(a.len().saturating_mul(b.len()))?;
            Ok((a.clone(), b.clone()))
        }
        _ => Err(EvalError::no_such_overload()),
    }
}

fn contains_all<'a>(list: &List<'a>, part: &List<'a>) -> Result<bool, EvalError> {
    for element in elements(part)? {
        if !list.contains(&element)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn intersects<'a>(context: &mut Context<'_>, args: &mut [Value<'a>]) -> Evaluated<'a> {
    let (a, b) = both(context, args)?;
    for element in elements(&a)? {
        // What cannot be compared is not in both.
        if b.contains(&element).unwrap_or(false) {
            return Ok(Value::Bool(true));
        }
    }
    Ok(Value::Bool(false))
}
