//! A tree as YAML that every reader reads the same way, by the rules of 1.1 and of 1.2.

use serde_json::Value;

use crate::decode::is_plain_text;

/// The document of a tree, in block style.
pub fn to_yaml(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => block(value, 0, false, &mut out),
        Value::Array(items) if !items.is_empty() => block(value, 0, false, &mut out),
        scalar => {
            inline(scalar, &mut out);
            out.push('\n');
        }
    }
    out
}

/// A map or list that is not empty; `follows` says that its first line has begun.
fn block(value: &Value, indent: usize, mut follows: bool, out: &mut String) {
    let mut begin = |out: &mut String| {
        if !follows {
            out.extend(std::iter::repeat_n(' ', indent));
        }
        follows = false;
    };
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                begin(out);
                text(key, out);
                out.push(':');
                // Lists stand under their key, as upstream writes them.
                entry(value, if value.is_array() { indent } else { indent + 2 }, out);
            }
        }
        Value::Array(items) => {
            for item in items {
                begin(out);
                out.push('-');
                match item {
                    Value::Object(map) if !map.is_empty() => {
                        out.push(' ');
                        block(item, indent + 2, true, out);
                    }
                    Value::Array(inner) if !inner.is_empty() => {
                        out.push(' ');
                        block(item, indent + 2, true, out);
                    }
                    scalar => {
                        out.push(' ');
                        inline(scalar, out);
                        out.push('\n');
                    }
                }
            }
        }
        scalar => inline(scalar, out),
    }
}

/// What follows a key.
fn entry(value: &Value, indent: usize, out: &mut String) {
    let is_block =
        value.as_object().is_some_and(|map| !map.is_empty()) || value.as_array().is_some_and(|v| !v.is_empty());
    if is_block {
        out.push('\n');
        block(value, indent, false, out);
    } else {
        out.push(' ');
        inline(value, out);
        out.push('\n');
    }
}

fn inline(value: &Value, out: &mut String) {
    match value {
        Value::String(string) => text(string, out),
        Value::Object(_) => out.push_str("{}"),
        Value::Array(_) => out.push_str("[]"),
        other => out.push_str(&other.to_string()),
    }
}

/// A text as it is where nobody can take it for something else, in quotes otherwise.
fn text(text: &str, out: &mut String) {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._/-+ ()=@".contains(&b);
    let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'/');
    if first && text.bytes().all(plain) && !text.ends_with(' ') && is_plain_text(text) {
        out.push_str(text);
        return;
    }
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}') => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{Limits, decode_yaml};
    use serde_json::json;

    /// A text that some reader takes for a boolean or a number would come back as one.
    #[test]
    fn what_is_written_is_read_again_as_it_was() {
        let odd = [
            "",
            "yes",
            "No",
            "y",
            "on",
            "~",
            "null",
            "0400",
            "1_000",
            "12:30:45",
            "1e3",
            ".inf",
            "2026-01-01",
            "a: b",
            "a #b",
            "- a",
            "a\nb\n",
            " a",
            "a ",
            "\u{feff}x",
            "\u{7f}\u{85}\u{2028}",
            "\"'\\",
            "%a",
            "@a",
            "`a",
            "{a}",
            "[a]",
            "a,b",
            "\u{1f980}",
            "!a",
            "&a",
            "*a",
            "|",
            ">",
            "<<",
            "=",
            "-",
            "?",
            ":",
            "a:",
            "\t",
            "true",
            "a/b.c-d_e",
        ];
        let mut map = serde_json::Map::new();
        for text in odd {
            map.insert(text.to_owned(), text.into());
        }
        let value = json!({"odd": odd.to_vec(), "map": map, "deep": [[1, [2, {"a": [{"b": {}}], "c": []}]], [], {}],
            "n": [0.5, -3, 18446744073709551615u64, null, true]});
        let written = to_yaml(&value);
        assert_eq!(decode_yaml(written.as_bytes(), &Limits::default()).unwrap().value, value, "{written}");
        let plain: Value = serde_yaml::from_str(&written).unwrap();
        assert_eq!(plain, value, "{written}");
        for scalar in [json!("yes"), json!({}), json!([]), json!(null), json!(1)] {
            assert_eq!(decode_yaml(to_yaml(&scalar).as_bytes(), &Limits::default()).unwrap().value, scalar);
        }
    }

    #[test]
    fn ordinary_objects_are_easy_to_read() {
        let value = json!({"kind": "Pod", "spec": {"containers": [{"name": "c", "args": ["a", "yes"]}], "x": {}}});
        let text = "kind: Pod\nspec:\n  containers:\n  - args:\n    - a\n    - \"yes\"\n    name: c\n  x: {}\n";
        assert_eq!(to_yaml(&value), text);
    }
}
