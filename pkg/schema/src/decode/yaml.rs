//! One YAML document to a tree, as upstream reads it: by the rules of YAML 1.1, and with keys that become text.
//!
//! Invariants: what aliases repeat is bounded; nothing recurses deeper than the limit.

use super::scalar::{self, Scalar};
use super::tree::{Duplicate, merge_keys};
use super::{DecodeError, Limits, MAX_DEPTH, MAX_STRICT_ERRORS, StrictError};
use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::collections::HashMap;

/// Nodes that aliases may repeat in one document.
const MAX_REPEATED: usize = 100_000;
/// What may be copied of one document in all: for anchors that are kept, and for aliases.
const MAX_COPIED: usize = 16 << 20;
/// What a node takes beside its text, for that.
const NODE: usize = 32;

pub fn read(bytes: &[u8], limits: &Limits) -> Result<(Value, Vec<Duplicate>), DecodeError> {
    if bytes.len() > limits.max_bytes {
        return Err(DecodeError::TooLarge { limit: limits.max_bytes });
    }
    let text = text(bytes)?;
    let mut reader = Reader::new(&text, limits.max_depth.min(MAX_DEPTH));
    let value = reader.document()?.unwrap_or(Value::Null);
    let duplicates = std::mem::take(&mut reader.duplicates);
    // As upstream: whatever follows the first document is not looked at.
    Ok((value, duplicates))
}

/// The text of a stream: UTF-8, or UTF-16 that a byte order mark announces. The mark is none of its content.
fn text(bytes: &[u8]) -> Result<Cow<'_, str>, DecodeError> {
    let wide = |rest: &[u8], unit: fn([u8; 2]) -> u16| {
        let units = rest.chunks(2).map(|pair| unit([pair[0], pair.get(1).copied().unwrap_or_default()]));
        char::decode_utf16(units).collect::<Result<String, _>>().map(Cow::Owned)
    };
    let malformed = |_| failed("incomplete UTF-16 surrogate pair");
    match bytes {
        [0xef, 0xbb, 0xbf, rest @ ..] => plain(rest),
        [0xff, 0xfe, rest @ ..] => wide(rest, u16::from_le_bytes).map_err(malformed),
        [0xfe, 0xff, rest @ ..] => wide(rest, u16::from_be_bytes).map_err(malformed),
        all => plain(all),
    }
}

fn plain(bytes: &[u8]) -> Result<Cow<'_, str>, DecodeError> {
    std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(|_| failed("invalid leading UTF-8 octet"))
}

fn failed(text: &str) -> DecodeError {
    DecodeError::Yaml(format!("error converting YAML to JSON: yaml: {text}"))
}

/// What an anchor names, how many nodes and bytes of text it has, and how deep it is.
struct Anchored {
    value: Value,
    nodes: usize,
    bytes: usize,
    height: usize,
}

struct Reader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    max_depth: usize,
    anchors: HashMap<usize, Anchored>,
    /// Nodes read so far, and those of them that aliases have repeated.
    nodes: usize,
    repeated: usize,
    /// Bytes of text read so far, and what has been copied.
    bytes: usize,
    copied: usize,
    /// The deepest node since it was last looked at.
    deepest: usize,
    duplicates: Vec<Duplicate>,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str, max_depth: usize) -> Self {
        let parser = Parser::new_from_str(text);
        Self {
            parser,
            max_depth,
            anchors: HashMap::new(),
            nodes: 0,
            repeated: 0,
            bytes: 0,
            copied: 0,
            deepest: 0,
            duplicates: Vec::new(),
        }
    }

    fn next(&mut self) -> Result<(Event<'a>, Span), DecodeError> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(err)) if err.info().contains("recursion limit") => Err(DecodeError::TooDeep),
            Some(Err(err)) => Err(failed(&format!("line {}: {}", err.marker().line(), err.info()))),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    /// The next document, if there is one.
    fn document(&mut self) -> Result<Option<Value>, DecodeError> {
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(None),
                Event::Nothing | Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd => {}
                event => return self.node(event, span, 0).map(Some),
            }
        }
    }

    /// The node that begins with an event.
    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Value, DecodeError> {
        if depth > self.max_depth {
            return Err(DecodeError::TooDeep);
        }
        let (before, bytes) = (self.nodes, self.bytes);
        let deepest = std::mem::replace(&mut self.deepest, depth);
        self.nodes += 1;
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.bytes += text.len();
                let tag = tag.map(|tag| format!("{}{}", tag.handle, tag.suffix));
                let scalar = scalar::resolve(&text, style == ScalarStyle::Plain, tag.as_deref());
                let value = scalar.and_then(Scalar::into_value);
                (value.map_err(|why| failed(&format!("line {}: {why}", span.start.line())))?, anchor)
            }
            Event::SequenceStart(anchor, _) => (self.sequence(depth)?, anchor),
            Event::MappingStart(anchor, _) => (self.mapping(depth)?, anchor),
            Event::Alias(anchor) => (self.alias(anchor, depth)?, 0),
            _ => return Err(failed("unexpected end of stream")),
        };
        if anchor > 0 {
            let (nodes, bytes) = (self.nodes - before, self.bytes - bytes);
            self.copy(nodes, bytes)?;
            let height = self.deepest - depth;
            self.anchors.insert(anchor, Anchored { value: value.clone(), nodes, bytes, height });
        }
        self.deepest = self.deepest.max(deepest);
        Ok(value)
    }

    /// Counts what is about to be copied.
    fn copy(&mut self, nodes: usize, bytes: usize) -> Result<(), DecodeError> {
        self.copied = self.copied.saturating_add(bytes.saturating_add(nodes.saturating_mul(NODE)));
        if self.copied > MAX_COPIED { Err(failed("document contains excessive aliasing")) } else { Ok(()) }
    }

    fn alias(&mut self, anchor: usize, depth: usize) -> Result<Value, DecodeError> {
        // An anchor is known once its node has ended.
        let Some(anchored) = self.anchors.get(&anchor) else { return Err(failed("anchor value contains itself")) };
        let (nodes, bytes, height) = (anchored.nodes, anchored.bytes, anchored.height);
        if depth + height > self.max_depth {
            return Err(DecodeError::TooDeep);
        }
        self.deepest = self.deepest.max(depth + height);
        self.nodes += nodes;
        self.bytes += bytes;
        self.repeated += nodes;
        self.copy(nodes, bytes)?;
        if self.repeated > MAX_REPEATED {
            return Err(failed("document contains excessive aliasing"));
        }
        self.anchors.get(&anchor).map(|anchored| anchored.value.clone()).ok_or_else(|| failed("unknown anchor"))
    }

    fn sequence(&mut self, depth: usize) -> Result<Value, DecodeError> {
        let mut items = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::SequenceEnd {
                return Ok(Value::Array(items));
            }
            let from = self.duplicates.len();
            let item = self.node(event, span, depth + 1)?;
            self.duplicates[from..].iter_mut().for_each(|duplicate| duplicate.within_index(items.len()));
            items.push(item);
        }
    }

    fn mapping(&mut self, depth: usize) -> Result<Value, DecodeError> {
        let mut map = Map::new();
        let mut merged = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                merge_keys(&mut map, merged);
                return Ok(Value::Object(map));
            }
            let merges = matches!(&event, Event::Scalar(text, ScalarStyle::Plain, ..) if text == "<<");
            let key = if merges { String::new() } else { self.key(event, span, depth)? };
            let from = self.duplicates.len();
            let (event, span) = self.next()?;
            let value = self.node(event, span, depth + 1)?;
            if merges {
                merged.push(value);
                continue;
            }
            self.duplicates[from..].iter_mut().for_each(|duplicate| duplicate.within_key(&key));
            if map.contains_key(&key) && self.duplicates.len() < MAX_STRICT_ERRORS {
                self.duplicates.insert(from, Duplicate::of(&key));
            }
            map.insert(key, value);
        }
    }

    /// A key as text: scalars that are none are written as JSON would.
    fn key(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<String, DecodeError> {
        match self.node(event, span, depth + 1)? {
            Value::String(text) => Ok(text),
            Value::Bool(value) => Ok(value.to_string()),
            Value::Number(value) => Ok(value.to_string()),
            other => {
                let kind = if other.is_null() { "%!s(<nil>)" } else { "map[interface {}]interface {}" };
                Err(DecodeError::Yaml(format!("error converting YAML to JSON: unsupported map key of type: {kind}")))
            }
        }
    }
}

/// All duplicate keys as the one error that upstream's YAML parser returns, with the lines found again in the text.
pub fn strict_errors(bytes: &[u8], duplicates: &[Duplicate]) -> Vec<StrictError> {
    if duplicates.is_empty() {
        return Vec::new();
    }
    let text = String::from_utf8_lossy(bytes);
    let mut next_line = 0;
    let lines: Vec<String> = duplicates
        .iter()
        .map(|duplicate| {
            let key = duplicate.key();
            let line = later_line(&text, key, next_line);
            next_line = line;
            format!("  line {line}: key \"{key}\" already set in map")
        })
        .collect();
    vec![StrictError::Yaml(lines.join("\n"))]
}

/// The number of the first line after `from` that sets `key` a second time.
fn later_line(text: &str, key: &str, from: usize) -> usize {
    let sets = |line: &str| {
        let line = line.trim_start().trim_start_matches("- ").trim_start();
        let rest = line.strip_prefix(key).or_else(|| line.trim_start_matches(['"', '\'']).strip_prefix(key));
        rest.is_some_and(|rest| rest.trim_start_matches(['"', '\'']).trim_start().starts_with(':'))
    };
    let mut seen = 0;
    for (number, line) in text.lines().enumerate() {
        if sets(line) {
            seen += 1;
            if seen > 1 && number + 1 > from {
                return number + 1;
            }
        }
    }
    from.max(1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn value(text: &str) -> Value {
        read(text.as_bytes(), &Limits::default()).unwrap().0
    }

    fn error(bytes: &[u8]) -> String {
        read(bytes, &Limits::default()).unwrap_err().to_string()
    }

    /// What people have in their files since long: kubectl reads it the same way.
    #[test]
    fn scalars_are_those_of_yaml_1_1() {
        let read =
            value("{a: yes, b: Off, c: 'yes', d: 0400, e: \"0400\", f: 1_000, g: !!str 12, y: ~, 0123: n, no: on}");
        let expected = json!({"a": true, "b": false, "c": "yes", "d": 256, "e": "0400", "f": 1000, "g": "12", "true": null,
            "83": false, "false": true});
        assert_eq!(read, expected);
        assert_eq!(value("a: |\n  yes\n"), json!({"a": "yes\n"}));
    }

    #[test]
    fn a_byte_order_mark_is_no_content() {
        assert_eq!(value("\u{feff}a: b"), json!({"a": "b"}));
        let wide: Vec<u8> = "\u{feff}a: \u{1f980}".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(read(&wide, &Limits::default()).unwrap().0, json!({"a": "\u{1f980}"}));
        let wide: Vec<u8> = "\u{feff}a: b".encode_utf16().flat_map(u16::to_be_bytes).collect();
        assert_eq!(read(&wide, &Limits::default()).unwrap().0, json!({"a": "b"}));
        assert!(error(b"a: \xff").contains("invalid leading UTF-8 octet"));
    }

    #[test]
    fn merged_keys_give_way_to_those_of_the_map() {
        let text = "x: &x {a: 1, b: 2}\ny: &y {b: 3, c: 4}\nz: {<<: [*x, *y], c: 5}\nw: {c: 6, <<: *y}\nv: {'<<': 1}\n";
        let read = value(text);
        assert_eq!(read["z"], json!({"a": 1, "b": 2, "c": 5}));
        assert_eq!(read["w"], json!({"b": 3, "c": 6}));
        assert_eq!(read["v"], json!({"<<": 1}));
    }

    /// CVE-2019-11253: a kilobyte of text once could ask for a gigabyte of memory.
    #[test]
    fn aliases_are_bounded() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..9 {
            let below = vec![format!("*a{}", level - 1); 10].join(", ");
            text.push_str(&format!("a{level}: &a{level} [{below}]\n"));
        }
        assert!(error(text.as_bytes()).contains("excessive aliasing"));
        assert!(error(b"a: &a [*a]").contains("contains itself"));
        assert!(error(b"a: *b").contains("line 1"));
    }

    /// CVE-2019-11254: text of a few hundred kilobytes once was read for minutes, since what it might yet become was looked at again and again.
    #[test]
    fn what_is_read_takes_no_longer_than_it_is_long() {
        let clock = kedge_base::system_clock();
        let begun = clock.monotonic();
        let parts = [
            "[", "{", "- ", "? ", ": ", "a: ", "- - ", "[a, ", "{a: ", "&a ", "*a ", "!t ", "'", "\"", "# ", "|\n ",
            "%a", "\t", "a: [", "[{", "a\n", "\n:", "<<: ",
        ];
        for part in parts {
            // Whatever it is, it is said at once.
            let _ = read(part.repeat(300_000 / part.len()).as_bytes(), &Limits::default());
        }
        let took = clock.monotonic() - begun;
        assert!(took.as_secs() < 60, "{took:?}");
    }

    /// What aliases make is as deep, and as large, as if it were written out: objects once became too deep to be read again.
    #[test]
    fn what_aliases_make_is_no_deeper_and_no_larger_than_what_is_written() {
        let layer = |inner: &str| format!("{}{inner}{}", "[".repeat(50), "]".repeat(50));
        let two = format!("a: &a {}\nb: {}\n", layer("1"), layer("*a"));
        assert!(read(two.as_bytes(), &Limits::default()).is_ok());
        let three = format!("{two}c: &c {}\nd: {}\n", layer("*a"), layer("*c"));
        assert!(matches!(read(three.as_bytes(), &Limits::default()), Err(DecodeError::TooDeep)));
        let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 20), ["*a"; 20].join(", "));
        assert!(error(long.as_bytes()).contains("excessive aliasing"));
        let nested = format!("a: {}{}{}\n", "&x [".repeat(100), "0, ".repeat(20_000), "]".repeat(100));
        assert!(error(nested.as_bytes()).contains("excessive aliasing"));
    }

    #[test]
    fn what_is_malformed_is_refused_with_its_line() {
        assert!(error(b"a: b\nc: d: e").starts_with("error converting YAML to JSON: yaml: line 2: "));
        assert!(error(b"{a: 1, ~: 2}").contains("unsupported map key"));
        assert!(error(b"a: !!int x").contains("cannot decode !!str `x` as a !!int"));
        assert!(error(b"a: .nan").contains("unsupported value"));
    }
}
