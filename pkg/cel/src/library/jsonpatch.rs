//! What expressions that make JSON patches need.

use crate::error::EvalError;
use crate::functions::Functions;
use crate::value::Value;

pub(super) fn declare(functions: &mut Functions) {
    functions.declare(
        "string_jsonpatch_escapeKey_string",
        "jsonpatch.escapeKey(string) -> string",
        |_, args| match args {
            [Value::String(key)] => Ok(Value::string(key.replace('~', "~0").replace('/', "~1"))),
            _ => Err(EvalError::no_such_overload()),
        },
    );
}
