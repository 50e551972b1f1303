//! Kubernetes' functions of regular expressions.

use crate::error::EvalError;
use crate::functions::{Functions, Implementation};
use crate::value::Value;

pub(super) fn declare(functions: &mut Functions) {
    functions.declare("string_find_string", "string.find(string) -> string", |context, args| match args {
        [Value::String(text), Value::String(pattern)] => {
            let pattern = context.pattern(pattern).map_err(illegal)?;
            Ok(Value::string(pattern.find(text).map_or("", |found| found.as_str())))
        }
        _ => Err(EvalError::no_such_overload()),
    });
    functions.declare("string_find_all_string", "string.findAll(string) -> list<string>", FIND_ALL);
    functions.declare("string_find_all_string_int", "string.findAll(string, int) -> list<string>", FIND_ALL);
}

fn illegal(error: EvalError) -> EvalError {
    if error.is_final() { error } else { EvalError::new(format!("Illegal regex: {error}")) }
}

const FIND_ALL: Implementation = |context, args| {
    let (text, pattern, limit) = match args {
        [Value::String(text), Value::String(pattern)] => (text, pattern, -1),
        [Value::String(text), Value::String(pattern), Value::Int(limit)] => (text, pattern, *limit),
        _ => return Err(EvalError::no_such_overload()),
    };
    let pattern = context.pattern(pattern).map_err(illegal)?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let found: Vec<_> = pattern.find_iter(text).take(limit).map(|found| Value::string(found.as_str())).collect();
    context.step(found.len())?;
    Ok(Value::list(found))
};
