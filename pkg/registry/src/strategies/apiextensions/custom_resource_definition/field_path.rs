//! Paths to fields that a schema names: `.spec.replicas`, `.testMap['a.b']`.

use kedge_meta::field::Path;

use super::schema::{Additional, Schema};

/// Where a path leads.
pub(super) struct Found<'a> {
    /// Its first step.
    pub root: String,
    /// In the form of paths in errors.
    pub path: Path,
    /// None for whatever a map without a schema holds.
    pub schema: Option<Schema<'a>>,
}

/// Follows a path from `schema`; steps in brackets only where they are `brackets`.
///
/// # Errors
/// Why it leads nowhere, in upstream's words.
pub(super) fn follow<'a>(text: &str, schema: Schema<'a>, brackets: bool) -> Result<Found<'a>, String> {
    let mut found = Found { root: String::new(), path: Path::default(), schema: Some(schema) };
    let mut tokens = Tokens(text);
    while let Some(token) = tokens.next() {
        match token {
            "[" if !brackets => return Err("array notation is not allowed".to_owned()),
            "[" => {
                let quoted = tokens.next().ok_or("unexpected end of JSON path")?;
                let inner = quoted.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
                let inner = inner.ok_or_else(|| format!("expected single quoted string but got {quoted}"))?;
                let name = unescape(inner).map_err(|why| format!("invalid string literal: {why}"))?;
                found.step(&name)?;
                match tokens.next().ok_or("unexpected end of JSON path")? {
                    "]" => {}
                    other => return Err(format!("expected ] but got {other}")),
                }
            }
            "." => {
                let name = tokens.next().ok_or("unexpected end of JSON path")?;
                found.step(name)?;
            }
            other => return Err(format!("expected [ or . but got: {other}")),
        }
    }
    Ok(found)
}

impl Found<'_> {
    fn step(&mut self, name: &str) -> Result<(), String> {
        let nowhere = || "does not refer to a valid field".to_owned();
        let schema = self.schema.ok_or_else(nowhere)?;
        let first = self.root.is_empty();
        if schema.has_entries("properties") {
            self.path = self.path.child(name);
            self.schema = Some(schema.property(name).ok_or_else(nowhere)?);
        } else {
            let additional = schema.additional().ok_or_else(nowhere)?;
            self.path = self.path.key(name);
            self.schema = match additional {
                Additional::Bool(_) => None,
                Additional::Schema(schema) => Some(schema),
            };
        }
        if first {
            self.root = self.path.to_string();
        }
        Ok(())
    }
}

/// Dots and brackets, and what is between them; what is quoted is one.
struct Tokens<'t>(&'t str);

impl<'t> Iterator for Tokens<'t> {
    type Item = &'t str;

    fn next(&mut self) -> Option<&'t str> {
        let bytes = self.0.as_bytes();
        let first = *bytes.first()?;
        let end = if first == b'\'' {
            let close = (1..bytes.len()).find(|i| bytes[*i] == b'\'' && bytes[i - 1] != b'\\');
            close.map_or(bytes.len(), |i| i + 1)
        } else {
            let delimiter = bytes.iter().position(|b| matches!(b, b'.' | b'[' | b']'));
            delimiter.map_or(bytes.len(), |i| i.max(1))
        };
        let (token, rest) = self.0.split_at(end);
        self.0 = rest;
        Some(token)
    }
}

fn unescape(text: &str) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('a') => out.push('\u{7}'),
            Some('b') => out.push('\u{8}'),
            Some('f') => out.push('\u{c}'),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some('v') => out.push('\u{b}'),
            Some(quoted @ ('\'' | '\\')) => out.push(quoted),
            Some(other) => return Err(format!("invalid escape char \\{other}")),
            None => out.push('\\'),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use serde_json::json;

    #[test]
    fn paths_lead_to_fields_of_the_schema() {
        let schema = json!({"properties": {"a": {"properties": {"b.c": {"type": "string"}}},
            "map": {"additionalProperties": {"type": "integer"}}, "any": {"additionalProperties": true}}});
        let lead = |text: &str| match follow(text, Schema(&schema), true) {
            Ok(found) => format!("{} {}", found.path, found.schema.map(Schema::kind).unwrap_or("-")),
            Err(why) => why,
        };
        for (text, leads) in [
            (".a['b.c']", "a.b.c string"),
            (".map.x", "map[x] integer"),
            (".map['it\\'s']", "map[it's] integer"),
            (".any.x", "any[x] -"),
            (".any.x.y", "does not refer to a valid field"),
            (".b", "does not refer to a valid field"),
            ("a", "expected [ or . but got: a"),
            (".", "unexpected end of JSON path"),
            (".a[0]", "expected single quoted string but got 0"),
            (".a['b.c'", "unexpected end of JSON path"),
            (".a['b.c'x]", "expected ] but got x"),
            (".a['\\d']", "invalid string literal: invalid escape char \\d"),
        ] {
            assert_eq!(lead(text), leads, "{text}");
        }
        assert_eq!(follow(".a['b.c']", Schema(&schema), false).err().unwrap(), "array notation is not allowed");
    }
}
