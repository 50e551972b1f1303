//! A visitor that builds a tree from any self-describing format, counts nesting, and notes keys given twice.

use super::MAX_STRICT_ERRORS;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::fmt;

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    Key(String),
    Index(usize),
}

/// A place where a key was given twice. Segments are collected innermost first while the walk returns.
#[derive(Clone, Debug)]
pub struct Duplicate {
    reversed: Vec<Segment>,
}

impl Duplicate {
    /// A key given twice, here.
    pub fn of(key: &str) -> Self {
        Self { reversed: vec![Segment::Key(key.to_owned())] }
    }

    /// The same, seen from the map that has it under a key.
    pub fn within_key(&mut self, key: &str) {
        self.reversed.push(Segment::Key(key.to_owned()));
    }

    /// The same, seen from the list that has it at a place.
    pub fn within_index(&mut self, index: usize) {
        self.reversed.push(Segment::Index(index));
    }

    pub fn segments(&self) -> impl Iterator<Item = &Segment> {
        self.reversed.iter().rev()
    }

    pub fn key(&self) -> &str {
        match self.reversed.first() {
            Some(Segment::Key(key)) => key,
            _ => "",
        }
    }

    /// `spec.containers[0].name`.
    pub fn path(&self) -> String {
        let mut path = String::new();
        for segment in self.segments() {
            match segment {
                Segment::Key(key) => push_key(&mut path, key),
                Segment::Index(index) => path.push_str(&format!("[{index}]")),
            }
        }
        path
    }
}

pub fn push_key(path: &mut String, key: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(key);
}

pub const TOO_DEEP: &str = "exceeded max depth";

/// State of one reading.
pub struct Builder {
    pub max_depth: usize,
    pub duplicates: Vec<Duplicate>,
}

impl Builder {
    pub fn new(max_depth: usize) -> Self {
        Builder { max_depth, duplicates: Vec::new() }
    }

    pub fn seed(&mut self) -> Seed<'_> {
        Seed { builder: self, depth: 0 }
    }

    fn note(&mut self, key: &str) {
        if self.duplicates.len() < MAX_STRICT_ERRORS {
            self.duplicates.push(Duplicate::of(key));
        }
    }

    fn prefix(&mut self, from: usize, segment: impl Fn() -> Segment) {
        for duplicate in self.duplicates.iter_mut().skip(from) {
            duplicate.reversed.push(segment());
        }
    }
}

pub struct Seed<'a> {
    builder: &'a mut Builder,
    depth: usize,
}

impl Seed<'_> {
    fn deeper<E: Error>(&mut self) -> Result<Seed<'_>, E> {
        if self.depth >= self.builder.max_depth {
            return Err(E::custom(TOO_DEEP));
        }
        Ok(Seed { builder: self.builder, depth: self.depth + 1 })
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        // Infinity and NaN exist in YAML only and have no JSON form.
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("json: unsupported value"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_string()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        loop {
            let from = self.builder.duplicates.len();
            let Some(item) = access.next_element_seed(self.deeper()?)? else { break };
            self.builder.prefix(from, || Segment::Index(items.len()));
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key_seed(Key)? {
            if map.contains_key(&key) {
                self.builder.note(&key);
            }
            // A duplicate belongs to this level; only what the value reports gets this key in front.
            let from = self.builder.duplicates.len();
            let value = access.next_value_seed(self.deeper()?)?;
            self.builder.prefix(from, || Segment::Key(key.clone()));
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

/// YAML's `<<`: takes over what the map does not set itself, from maps or lists of them.
pub fn merge_keys(map: &mut Map<String, Value>, sources: Vec<Value>) {
    let flat = sources.into_iter().flat_map(|source| match source {
        Value::Array(items) => items,
        other => vec![other],
    });
    for source in flat {
        if let Value::Object(source) = source {
            for (key, value) in source {
                map.entry(key).or_insert(value);
            }
        }
    }
}

/// Reads a key; scalars become their JSON text.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for Key {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a scalar key")
    }

    fn visit_str<E>(self, value: &str) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_string<E>(self, value: String) -> Result<String, E> {
        Ok(value)
    }

    fn visit_bool<E>(self, value: bool) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_i64<E>(self, value: i64) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_u64<E>(self, value: u64) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_f64<E>(self, value: f64) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_unit<E>(self) -> Result<String, E> {
        Ok("null".to_string())
    }
}
