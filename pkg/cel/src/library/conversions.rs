//! Conversions of the standard library: `int`, `string`, `type`, `dyn`, …

use std::sync::Arc;

use crate::error::EvalError;
use crate::functions::{Functions, Implementation};
use crate::types::Type;
use crate::value::{Evaluated, Value, convert};

fn to<'a>(args: &[Value<'a>], of: &Type) -> Evaluated<'a> {
    args.first().map_or_else(|| Err(EvalError::no_such_overload()), |value| convert(value, of))
}

const TO_BOOL: Implementation = |_, args| to(args, &Type::Bool);
const TO_BYTES: Implementation = |_, args| to(args, &Type::Bytes);
const TO_DOUBLE: Implementation = |_, args| to(args, &Type::Double);
const TO_DURATION: Implementation = |_, args| to(args, &Type::Duration);
const TO_INT: Implementation = |_, args| to(args, &Type::Int);
const TO_STRING: Implementation = |_, args| to(args, &Type::String);
const TO_TIMESTAMP: Implementation = |_, args| to(args, &Type::Timestamp);
const TO_UINT: Implementation = |_, args| to(args, &Type::Uint);

const CONVERSIONS: &[(&str, &str, Implementation)] = &[
    ("bool_to_bool", "bool(bool) -> bool", TO_BOOL),
    ("string_to_bool", "bool(string) -> bool", TO_BOOL),
    ("bytes_to_bytes", "bytes(bytes) -> bytes", TO_BYTES),
    ("string_to_bytes", "bytes(string) -> bytes", TO_BYTES),
    ("double_to_double", "double(double) -> double", TO_DOUBLE),
    ("int64_to_double", "double(int) -> double", TO_DOUBLE),
    ("string_to_double", "double(string) -> double", TO_DOUBLE),
    ("uint64_to_double", "double(uint) -> double", TO_DOUBLE),
    ("duration_to_duration", "duration(duration) -> duration", TO_DURATION),
    ("int64_to_duration", "duration(int) -> duration", TO_DURATION),
    ("string_to_duration", "duration(string) -> duration", TO_DURATION),
    ("int64_to_int64", "int(int) -> int", TO_INT),
    ("double_to_int64", "int(double) -> int", TO_INT),
    ("duration_to_int64", "int(duration) -> int", TO_INT),
    ("string_to_int64", "int(string) -> int", TO_INT),
    ("timestamp_to_int64", "int(timestamp) -> int", TO_INT),
    ("uint64_to_int64", "int(uint) -> int", TO_INT),
    ("string_to_string", "string(string) -> string", TO_STRING),
    ("bool_to_string", "string(bool) -> string", TO_STRING),
    ("bytes_to_string", "string(bytes) -> string", TO_STRING),
    ("double_to_string", "string(double) -> string", TO_STRING),
    ("duration_to_string", "string(duration) -> string", TO_STRING),
    ("int64_to_string", "string(int) -> string", TO_STRING),
    ("timestamp_to_string", "string(timestamp) -> string", TO_STRING),
    ("uint64_to_string", "string(uint) -> string", TO_STRING),
    ("timestamp_to_timestamp", "timestamp(timestamp) -> timestamp", TO_TIMESTAMP),
    ("int64_to_timestamp", "timestamp(int) -> timestamp", TO_TIMESTAMP),
    ("string_to_timestamp", "timestamp(string) -> timestamp", TO_TIMESTAMP),
    ("uint64_to_uint64", "uint(uint) -> uint", TO_UINT),
    ("double_to_uint64", "uint(double) -> uint", TO_UINT),
    ("int64_to_uint64", "uint(int) -> uint", TO_UINT),
    ("string_to_uint64", "uint(string) -> uint", TO_UINT),
];

pub(super) fn declare(functions: &mut Functions) {
    for (id, signature, implementation) in CONVERSIONS {
        functions.declare(id, signature, *implementation);
    }
    functions.declare_common(&[("type", "type(A) -> type<A>")], |_, args| match args {
        [value] => Ok(Value::Type(Arc::new(value.type_of()))),
        _ => Err(EvalError::no_such_overload()),
    });
    functions.declare_common(&[("to_dyn", "dyn(A) -> dyn")], |_, args| match args {
        [value] => Ok(value.clone()),
        _ => Err(EvalError::no_such_overload()),
    });
}
