//! How bytes become what targets work on, and what several of them look at.

use kedge_schema::{Limits, ResourceInfo, TypeId, decode_json};
use serde_json::Value;

/// The text that the bytes are, if they are one.
pub fn text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok()
}

/// The first byte, and the rest.
pub fn choice(data: &[u8]) -> Option<(usize, &[u8])> {
    data.split_first().map(|(first, rest)| (usize::from(*first), rest))
}

/// What stands before the first zero byte, and what stands behind it.
pub fn halves(data: &[u8]) -> (&[u8], &[u8]) {
    match data.iter().position(|byte| *byte == 0) {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (data, &[]),
    }
}

/// JSON as the server reads it, within its limits.
pub fn json(data: &[u8]) -> Option<Value> {
    decode_json(data, &Limits::default()).ok().map(|decoded| decoded.value)
}

/// A list of `N` values, as the server reads JSON.
pub fn several<const N: usize>(data: &[u8]) -> Option<[Value; N]> {
    match json(data)? {
        Value::Array(values) => values.try_into().ok(),
        _ => None,
    }
}

/// All resources that the product has.
pub fn resources() -> impl Iterator<Item = &'static ResourceInfo> {
    kedge_schema::resources().iter().chain(kedge_schema::optional_resources())
}

/// The built-in type with this number, counted round.
pub fn builtin(choice: usize) -> Option<TypeId> {
    let all: Vec<TypeId> = resources().filter_map(|info| info.schema.builtin()).collect();
    all.get(choice % all.len().max(1)).copied()
}

/// How many arrays and objects are inside one another.
pub fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or_default(),
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or_default(),
        _ => 0,
    }
}
