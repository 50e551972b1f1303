//! A tree as YAML that every reader reads the same way, by the rules of 1.1 and of 1.2.

use serde_json::Value;

use crate::decode::is_plain_text;

/// A longer key stands behind a question mark, as upstream's: readers look no more than 1,024 bytes ahead for the colon of any other, and a byte may
/// be written as six.
const MAX_SIMPLE_KEY: usize = 128;

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
                if key.len() > MAX_SIMPLE_KEY {
                    out.push_str("? ");
                    text(key, out);
                    out.push('\n');
                    out.extend(std::iter::repeat_n(' ', indent));
                    out.push(':');
                    item(value, indent, out);
                    continue;
                }
                text(key, out);
                out.push(':');
                // Lists stand under their key, as upstream writes them.
                entry(value, if value.is_array() { indent } else { indent + 2 }, out);
            }
        }
        Value::Array(items) => {
            for value in items {
                begin(out);
                out.push('-');
                item(value, indent, out);
            }
        }
        scalar => inline(scalar, out),
    }
}

/// What follows the dash of an item, or the colon of a long key, and begins on its line.
fn item(value: &Value, indent: usize, out: &mut String) {
    out.push(' ');
    if is_block(value) {
        block(value, indent + 2, true, out);
    } else {
        inline(value, out);
        out.push('\n');
    }
}

fn is_block(value: &Value) -> bool {
    value.as_object().is_some_and(|map| !map.is_empty()) || value.as_array().is_some_and(|items| !items.is_empty())
}

/// What follows a key.
fn entry(value: &Value, indent: usize, out: &mut String) {
    if is_block(value) {
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

    /// Long keys were once written as any others, and those of more than 1,024 bytes could not be read by anybody.
    #[test]
    fn long_keys_are_set_apart() {
        let [a, b, c, d] = ["a", "b", "c", "d"].map(|letter| letter.repeat(129));
        let value = json!({"x": {a.clone(): {"k": {}, "l": [1]}, b.clone(): [1, {"k": 2}], c.clone(): "c"}});
        let text = format!("x:\n  ? {a}\n  : k: {{}}\n    l:\n    - 1\n  ? {b}\n  : - 1\n    - k: 2\n  ? {c}\n  : c\n");
        assert_eq!(to_yaml(&value), text);
        for key in [d[..128].to_owned(), d, "\u{2}".repeat(200), "é\n".repeat(5_000)] {
            let value = json!([{key: [[{}]]}]);
            let written = to_yaml(&value);
            assert_eq!(decode_yaml(written.as_bytes(), &Limits::default()).unwrap().value, value, "{written}");
        }
    }

    #[test]
    fn ordinary_objects_are_easy_to_read() {
        let value = json!({"kind": "Pod", "spec": {"containers": [{"name": "c", "args": ["a", "yes"]}], "x": {}}});
        let text = "kind: Pod\nspec:\n  containers:\n  - args:\n    - a\n    - \"yes\"\n    name: c\n  x: {}\n";
        assert_eq!(to_yaml(&value), text);
    }
}
