//! Names of fields that CEL could not say, escaped as Kubernetes escapes them.

/// Names that CEL keeps for itself.
pub const RESERVED: [&str; 21] = [
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// The identifier for a field, unless there is none: `a-b` is `a__dash__b`, `namespace` is `__namespace__`.
pub fn escape(name: &str) -> Option<String> {
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    if RESERVED.contains(&name) {
        return Some(format!("__{name}__"));
    }
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(c) = rest.chars().next() {
        let (text, length) = match c {
            '_' if rest.starts_with("__") => ("__underscores__", 2),
            '.' => ("__dot__", 1),
            '-' => ("__dash__", 1),
            '/' => ("__slash__", 1),
            c if c.is_ascii_alphanumeric() || c == '_' => (&rest[..1], 1),
            _ => return None,
        };
        out.push_str(text);
        rest = &rest[length..];
    }
    Some(out)
}

/// The field that an identifier stands for, unless it is no such identifier.
pub fn unescape(identifier: &str) -> Option<String> {
    let mut out = String::with_capacity(identifier.len());
    let mut rest = identifier;
    while let Some(at) = rest.find("__") {
        let inner = rest[at + 2..].find('_').map_or("", |end| &rest[at + 2..at + 2 + end]);
        let closed = !inner.is_empty() && rest[at + 2 + inner.len()..].starts_with("__");
        if !closed {
            // Two underscores that open nothing stay; the search goes on after the first.
            out.push_str(&rest[..=at]);
            rest = &rest[at + 1..];
            continue;
        }
        out.push_str(&rest[..at]);
        let whole = at == 0 && out.is_empty() && rest.len() == inner.len() + 4 && rest.len() == identifier.len();
        match inner {
            "underscores" => out.push_str("__"),
            "dot" => out.push('.'),
            "dash" => out.push('-'),
            "slash" => out.push('/'),
            name if RESERVED.contains(&name) && whole => out.push_str(name),
            _ => return None,
        }
        rest = &rest[at + inner.len() + 4..];
    }
    out.push_str(rest);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_and_back() {
        for (name, escaped) in [
            ("a", "a"),
            ("a.b", "a__dot__b"),
            ("a-b/c", "a__dash__b__slash__c"),
            ("a__b", "a__underscores__b"),
            ("a___b", "a__underscores___b"),
            ("namespace", "__namespace__"),
            ("int", "int"),
            ("_a_", "_a_"),
        ] {
            assert_eq!(escape(name).as_deref(), Some(escaped));
            assert_eq!(unescape(escaped).as_deref(), Some(name));
        }
    }

    #[test]
    fn what_cannot_be_a_name_has_none() {
        for name in ["", "1a", "a b", "ä", "$ref"] {
            assert_eq!(escape(name), None, "{name}");
        }
        for identifier in ["a__what__b", "a__true__"] {
            assert_eq!(unescape(identifier), None, "{identifier}");
        }
    }
}
