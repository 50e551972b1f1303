//! The simple JSONPath of columns and fields: one place in an object. `.spec.replicas`, `.spec.list[0]`, `['a.b']`,
//! `.status.conditions[?(@.type=="Ready")].status`, `[*]`, `..name`; a dot within a name is written `\.`.
//!
//! Invariant: no path and no object makes it panic or go on for ever: a path has at most [`MAX_STEPS`] steps, and of what it leads to only
//! the first [`MAX_FOUND`] are followed.

use serde_json::Value;

/// Steps of a path.
const MAX_STEPS: usize = 64;
/// Values that are followed at a time.
const MAX_FOUND: usize = 1_000;

/// A path that has been read.
#[derive(Debug, Clone, PartialEq)]
pub struct JsonPath(Vec<Step>);

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Field(String),
    /// From the end when negative.
    Index(i64),
    All,
    /// Everything below, and the value itself.
    Below,
    /// Items of which something at a path is, or is not, a value; just there, where there is none.
    Where(JsonPath, Option<(bool, Value)>),
}

/// Why a text is no path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no simple JSONPath")]
pub struct PathError(String);

impl JsonPath {
    /// Reads a path.
    ///
    /// # Errors
    /// When it is not understood.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        let bad = || PathError(text.to_owned());
        let mut steps = Vec::new();
        let mut rest = text.trim();
        while !rest.is_empty() {
            if steps.len() >= MAX_STEPS {
                return Err(bad());
            }
            let (step, after) = step(rest).ok_or_else(bad)?;
            rest = after;
            steps.extend(step);
        }
        Ok(Self(steps))
    }

    /// The first value that it leads to.
    pub fn first<'a>(&self, object: &'a Value) -> Option<&'a Value> {
        let mut found = vec![object];
        for step in &self.0 {
            let mut next = Vec::new();
            for value in found {
                step.follow(value, &mut next);
            }
            next.truncate(MAX_FOUND);
            found = next;
        }
        found.into_iter().next()
    }
}

impl Step {
    fn follow<'a>(&self, value: &'a Value, out: &mut Vec<&'a Value>) {
        match (self, value) {
            (Self::Field(name), value) => out.extend(value.get(name)),
            (Self::Index(at), Value::Array(items)) => {
                let length = i64::try_from(items.len()).unwrap_or(i64::MAX);
                let at = if *at < 0 { at.saturating_add(length) } else { *at };
                out.extend(usize::try_from(at).ok().and_then(|at| items.get(at)));
            }
            (Self::All, Value::Array(items)) => out.extend(items.iter().take(MAX_FOUND)),
            (Self::All, Value::Object(fields)) => out.extend(fields.values().take(MAX_FOUND)),
            (Self::Below, value) => below(value, out),
            (Self::Where(path, wanted), Value::Array(items)) => {
                let fits = |item: &&Value| match (path.first(item), wanted) {
                    (Some(is), Some((equal, wanted))) => (is == wanted) == *equal,
                    (is, None) => is.is_some(),
                    (None, Some(_)) => false,
                };
                out.extend(items.iter().filter(fits).take(MAX_FOUND));
            }
            _ => {}
        }
    }
}

fn below<'a>(value: &'a Value, out: &mut Vec<&'a Value>) {
    if out.len() >= MAX_FOUND {
        return;
    }
    out.push(value);
    match value {
        Value::Array(items) => items.iter().for_each(|item| below(item, out)),
        Value::Object(fields) => fields.values().for_each(|field| below(field, out)),
        _ => {}
    }
}

/// The step that a text begins with, if it is not the root or an empty dot, and what comes behind it.
fn step(text: &str) -> Option<(Option<Step>, &str)> {
    if let Some(rest) = text.strip_prefix('$') {
        return Some((None, rest));
    }
    if let Some(rest) = text.strip_prefix("..") {
        // The name that is sought follows, as if behind a dot.
        let (name, rest) = if rest.starts_with('[') { (String::new(), rest) } else { name(rest) };
        return match (name.is_empty(), rest.starts_with('[')) {
            (false, _) => Some((Some(Step::Below), &text[1..])),
            (true, true) => Some((Some(Step::Below), rest)),
            (true, false) => None,
        };
    }
    if let Some(rest) = text.strip_prefix('.') {
        if let Some(rest) = rest.strip_prefix('*') {
            return Some((Some(Step::All), rest));
        }
        if rest.starts_with('[') {
            return Some((None, rest));
        }
        let (name, rest) = name(rest);
        return (!name.is_empty()).then_some((Some(Step::Field(name)), rest));
    }
    bracket(text.strip_prefix('[')?)
}

/// A name up to the next dot or bracket.
fn name(text: &str) -> (String, &str) {
    let mut name = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => name.extend(characters.next().map(|(_, escaped)| escaped)),
            '.' | '[' => return (name, &text[at..]),
            other => name.push(other),
        }
    }
    (name, "")
}

fn bracket(text: &str) -> Option<(Option<Step>, &str)> {
    if let Some(filter) = text.strip_prefix("?(@") {
        let end = filter.find(")]")?;
        return Some((Some(filtered(&filter[..end])?), &filter[end + 2..]));
    }
    if let Some(quote) = text.chars().next().filter(|c| matches!(c, '\'' | '"')) {
        let inner = &text[1..];
        let end = inner.find(quote)?;
        return Some((Some(Step::Field(inner[..end].to_owned())), inner[end + 1..].strip_prefix(']')?));
    }
    let (inner, rest) = text.split_once(']')?;
    let step = if inner == "*" { Step::All } else { Step::Index(inner.parse().ok()?) };
    Some((Some(step), rest))
}

fn filtered(text: &str) -> Option<Step> {
    let pieces = text.split_once("==").map(|pieces| (true, pieces));
    let Some((equal, (path, wanted))) = pieces.or_else(|| text.split_once("!=").map(|pieces| (false, pieces))) else {
        return Some(Step::Where(JsonPath::parse(text).ok()?, None));
    };
    let wanted = wanted.trim();
    let quoted = wanted.strip_prefix('\'').and_then(|wanted| wanted.strip_suffix('\''));
    let wanted = match quoted {
        Some(text) => Value::from(text),
        None => serde_json::from_str(wanted).ok()?,
    };
    Some(Step::Where(JsonPath::parse(path).ok()?, Some((equal, wanted))))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_lead_to_one_place() {
        let object = json!({"spec": {"n": 3, "list": [1, 2, {"deep": "x"}], "none": null},
            "metadata": {"annotations": {"example.org/a": "b"}},
            "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Other", "status": "False"}]}});
        for (path, wanted) in [
            (".spec.n", json!(3)),
            ("$.spec['n']", json!(3)),
            (".spec.list[0]", json!(1)),
            (".spec.list[-1].deep", json!("x")),
            (".spec.list[*]", json!(1)),
            ("..deep", json!("x")),
            (".spec.none", Value::Null),
            (r".metadata.annotations.example\.org/a", json!("b")),
            (".metadata.annotations['example.org/a']", json!("b")),
            (r#".status.conditions[?(@.type=="Other")].status"#, json!("False")),
            (".status.conditions[?(@.type != 'Ready')].status", json!("False")),
            (".status.conditions[?(@.status)].type", json!("Ready")),
        ] {
            assert_eq!(JsonPath::parse(path).unwrap().first(&object), Some(&wanted), "{path}");
        }
        for absent in [".spec.no", ".spec.n.x", ".spec.list[9]", ".status.conditions[?(@.type==\"No\")].status"] {
            assert_eq!(JsonPath::parse(absent).unwrap().first(&object), None, "{absent}");
        }
    }

    #[test]
    fn what_is_no_simple_path_is_refused() {
        for wrong in ["spec", ".spec.", ".a[", ".a[x]", ".a['b]", ".a[?(@.b==)]", "..", &".a".repeat(MAX_STEPS + 1)] {
            assert!(JsonPath::parse(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in r#"[.\[\]?(@)=!*$'"a\\é0-9-]{0,30}"#) {
            if let Ok(path) = JsonPath::parse(&text) {
                path.first(&json!({"a": [{"a": 1}, {"a": {"a": []}}]}));
            }
        }
    }
}
