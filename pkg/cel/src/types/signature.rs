//! Signatures of functions as text: `list<T>.indexOf(T) -> int`.
//!
//! Declarations are static tables; a test reads all of them.

use std::sync::Arc;

use super::Type;

/// What a function takes and gives.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Signature {
    pub function: Arc<str>,
    /// The first argument stands before the name.
    pub member: bool,
    pub args: Arc<[Type]>,
    pub result: Type,
}

/// Reads `[<type> "."] <name> "(" [<type> {"," <type>}] ")" "->" <type>`, where the name may have dots if there is no type before it.
pub(crate) fn parse_signature(text: &str) -> Option<Signature> {
    let (head, result) = text.split_once(" -> ")?;
    let (before, args) = head.strip_suffix(')')?.split_once('(')?;
    let mut list = split(args).into_iter().map(parse).collect::<Option<Vec<_>>>()?;
    let receiver = before.rsplit_once('.').and_then(|(receiver, name)| Some((parse(receiver)?, name)));
    let member = receiver.is_some();
    let function = receiver.as_ref().map_or(before, |(_, name)| name);
    let function = Arc::from(function);
    if let Some((receiver, _)) = receiver {
        list.insert(0, receiver);
    }
    Some(Signature { function, member, args: list.into(), result: parse(result)? })
}

/// Splits at the commas that are in no brackets.
fn split(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
    for (at, c) in text.char_indices() {
        match c {
            '<' => depth += 1,
            '>' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    if !text.trim().is_empty() {
        parts.push(text[start..].trim());
    }
    parts
}

/// Reads one type.
fn parse(text: &str) -> Option<Type> {
    if let Some((name, inner)) = text.split_once('<') {
        let of = split(inner.strip_suffix('>')?).into_iter().map(parse).collect::<Option<Vec<_>>>()?;
        return match (name, of.as_slice()) {
            ("list", [of]) => Some(Type::list(of.clone())),
            ("map", [key, value]) => Some(Type::map(key.clone(), value.clone())),
            ("optional", [of]) => Some(Type::optional(of.clone())),
            ("type", [of]) => Some(Type::Type(Some(Arc::new(of.clone())))),
            _ => None,
        };
    }
    Some(match text {
        "dyn" => Type::Dyn,
        "null" => Type::Null,
        "bool" => Type::Bool,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "double" => Type::Double,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "duration" => Type::Duration,
        "timestamp" => Type::Timestamp,
        "type" => Type::Type(None),
        "net.IP" | "net.CIDR" => Type::opaque(text),
        name if name.starts_with("kubernetes.") => Type::object(name),
        name => match name.chars().next() {
            Some(c) if name.len() == 1 && c.is_ascii_uppercase() => Type::Param(c),
            _ => return None,
        },
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn signatures_are_read() {
        let it = parse_signature("map<K, list<V>>.f(K, optional<V>) -> list<string>").unwrap();
        assert_eq!((&*it.function, it.member, it.args.len()), ("f", true, 3));
        assert_eq!(it.args[0].to_string(), "map(K, list(V))");
        let global = parse_signature("sets.contains(list<T>, list<T>) -> bool").unwrap();
        assert_eq!((&*global.function, global.member), ("sets.contains", false));
        let receiver = parse_signature("net.CIDR.ip() -> net.IP").unwrap();
        assert_eq!((&*receiver.function, receiver.member), ("ip", true));
        assert!(parse_signature("f(what) -> int").is_none());
    }
}
