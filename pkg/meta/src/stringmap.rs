//! Labels and annotations, in one piece of memory.
//!
//! Caches keep some objects by the ten thousand, each with a label or two. A `BTreeMap` takes 544 bytes for the first of them; here
//! a map takes its text and two bytes an entry in one allocation, and nothing when it is empty. Looking up walks the
//! entries, changing one writes all of them anew: right for what has few entries and is seldom changed.
//!
//! Invariant: entries are sorted by key, each key is there once, so that equal maps have equal text.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Index;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, Serializer};

/// A map from strings to strings, as small as its text.
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StringMap {
    /// Key and value of each entry, each behind its length.
    text: Box<str>,
}

/// Bits of a length that one character in front of a text holds. Characters below 128 are one byte in UTF-8.
const BITS: u32 = 6;
const MORE: u8 = 1 << BITS;

fn push(text: &mut String, part: &str) {
    let mut length = part.len();
    loop {
        let low = u8::try_from(length & usize::from(MORE - 1)).unwrap_or_default();
        length >>= BITS;
        text.push(char::from(if length == 0 { low } else { low | MORE }));
        if length == 0 {
            break;
        }
    }
    text.push_str(part);
}

/// The first part, and what follows it.
fn split(text: &str) -> Option<(&str, &str)> {
    let (mut length, mut shift) = (0, 0);
    for (at, byte) in text.bytes().enumerate() {
        length |= usize::from(byte & (MORE - 1)) << shift;
        shift += BITS;
        if byte & MORE == 0 {
            return text.get(at + 1..)?.split_at_checked(length);
        }
    }
    None
}

/// The entries of a map, sorted by key.
#[derive(Debug, Clone)]
pub struct Iter<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        let (key, rest) = split(self.rest)?;
        let (value, rest) = split(rest)?;
        self.rest = rest;
        Some((key, value))
    }
}

impl StringMap {
    /// An empty map.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// The entries, sorted by key.
    pub fn iter(&self) -> Iter<'_> {
        Iter { rest: &self.text }
    }

    /// The keys, sorted.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.iter().map(|(key, _)| key)
    }

    /// The values, in the order of their keys.
    pub fn values(&self) -> impl Iterator<Item = &str> {
        self.iter().map(|(_, value)| value)
    }

    /// The value of a key.
    pub fn get(&self, key: impl AsRef<str>) -> Option<&str> {
        let key = key.as_ref();
        self.iter().find(|(k, _)| *k == key).map(|(_, value)| value)
    }

    /// Whether a key has a value.
    pub fn contains_key(&self, key: impl AsRef<str>) -> bool {
        self.get(key).is_some()
    }

    /// Whether all entries of another map are among these. Both are walked once, however many there are.
    pub fn contains_all(&self, other: &Self) -> bool {
        let mut own = self.iter();
        other.iter().all(|(key, value)| own.find(|(k, _)| *k >= key) == Some((key, value)))
    }

    /// Sets the value of a key; the one that it had. All entries are written anew: many are set with [`StringMap::extend`].
    pub fn insert(&mut self, key: impl Into<String>, value: impl Into<String>) -> Option<String> {
        self.change(|map| map.insert(key.into(), value.into()))
    }

    /// Takes a key away; the value that it had.
    pub fn remove(&mut self, key: impl AsRef<str>) -> Option<String> {
        if self.contains_key(key.as_ref()) { self.change(|map| map.remove(key.as_ref())) } else { None }
    }

    /// Sets the values of many keys.
    pub fn extend<K: Into<String>, V: Into<String>>(&mut self, entries: impl IntoIterator<Item = (K, V)>) {
        self.change(|map| map.extend(entries.into_iter().map(|(k, v)| (k.into(), v.into()))));
    }

    /// Keeps the entries that satisfy a condition.
    pub fn retain(&mut self, keep: impl Fn(&str, &str) -> bool) {
        *self = self.iter().filter(|(key, value)| keep(key, value)).collect();
    }

    /// Takes all entries away.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    fn change<T>(&mut self, change: impl FnOnce(&mut BTreeMap<String, String>) -> T) -> T {
        let mut map = BTreeMap::from(&*self);
        let result = change(&mut map);
        *self = Self::from(&map);
        result
    }

    fn of_sorted<K: AsRef<str>, V: AsRef<str>>(entries: impl Iterator<Item = (K, V)>) -> Self {
        let mut text = String::new();
        for (key, value) in entries {
            push(&mut text, key.as_ref());
            push(&mut text, value.as_ref());
        }
        Self { text: text.into_boxed_str() }
    }
}

impl From<&BTreeMap<String, String>> for StringMap {
    fn from(map: &BTreeMap<String, String>) -> Self {
        Self::of_sorted(map.iter())
    }
}

impl From<BTreeMap<String, String>> for StringMap {
    fn from(map: BTreeMap<String, String>) -> Self {
        Self::from(&map)
    }
}

impl From<&StringMap> for BTreeMap<String, String> {
    fn from(map: &StringMap) -> Self {
        map.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }
}

impl<K: AsRef<str>, V: AsRef<str>> FromIterator<(K, V)> for StringMap {
    /// The last of several values of a key is kept.
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let entries: Vec<(K, V)> = entries.into_iter().collect();
        let map: BTreeMap<&str, &str> = entries.iter().map(|(k, v)| (k.as_ref(), v.as_ref())).collect();
        Self::of_sorted(map.into_iter())
    }
}

impl<K: AsRef<str>, V: AsRef<str>, const N: usize> From<[(K, V); N]> for StringMap {
    fn from(entries: [(K, V); N]) -> Self {
        entries.into_iter().collect()
    }
}

impl<'a> IntoIterator for &'a StringMap {
    type Item = (&'a str, &'a str);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl<Q: Borrow<str> + ?Sized> Index<&Q> for StringMap {
    type Output = str;

    /// # Panics
    /// When the key has no value.
    fn index(&self, key: &Q) -> &str {
        self.get(key.borrow()).unwrap_or_else(|| panic!("no entry {:?}", key.borrow()))
    }
}

impl fmt::Debug for StringMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl Serialize for StringMap {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for StringMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Read)
    }
}

struct Read;

impl<'de> Visitor<'de> for Read {
    type Value = StringMap;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of strings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<StringMap, A::Error> {
        // Stored objects have their keys sorted, most of the time: then nothing else is built.
        let mut entries: Vec<(String, String)> = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        if entries.is_sorted_by(|(a, _), (b, _)| a < b) {
            return Ok(StringMap::of_sorted(entries.into_iter()));
        }
        Ok(entries.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn map(entries: &[(&str, &str)]) -> StringMap {
        entries.iter().copied().collect()
    }

    #[test]
    fn an_entry_is_found_whatever_its_length_and_text() {
        for length in [0, 1, 63, 64, 65, 4_095, 4_096, 262_144] {
            let long = "é".repeat(length / 2) + &"x".repeat(length % 2);
            let map = map(&[("b", &long), (&format!("a{long}"), "y\0"), ("c", "")]);
            assert_eq!(map.get("b"), Some(long.as_str()), "{length}");
            assert_eq!(map.get(format!("a{long}")), Some("y\0"), "{length}");
            assert_eq!((map.get("c"), map.get("d"), map.len()), (Some(""), None, 3), "{length}");
        }
    }

    #[test]
    fn it_is_a_map() {
        let mut a = map(&[("b", "1"), ("a", "2"), ("b", "3")]);
        assert_eq!(a, map(&[("a", "2"), ("b", "3")]), "sorted, and the last value counts");
        assert_eq!(a.insert("b", "4"), Some("3".to_owned()));
        assert_eq!((a.remove("x"), a.remove("a")), (None, Some("2".to_owned())));
        a.extend([("c", "5")]);
        a.retain(|key, _| key != "b");
        assert_eq!((&a["c"], a.len(), format!("{a:?}")), ("5", 1, r#"{"c": "5"}"#.to_owned()));
        a.clear();
        assert!(a.is_empty() && a == StringMap::new());
    }

    #[test]
    fn all_of_another_are_looked_for_in_one_walk() {
        let all = map(&[("a", "1"), ("b", "2"), ("d", "4")]);
        for (other, wanted) in [
            (map(&[]), true),
            (map(&[("a", "1"), ("d", "4")]), true),
            (map(&[("b", "3")]), false),
            (map(&[("c", "3")]), false),
            (map(&[("d", "4"), ("e", "5")]), false),
        ] {
            assert_eq!(all.contains_all(&other), wanted, "{other:?}");
        }
    }

    #[test]
    fn json_goes_in_and_out() {
        let json = r#"{"a":"1","b/c":"\u0000\n"}"#;
        let read: StringMap = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), json);
        assert_eq!(serde_json::from_str::<StringMap>(r#"{"b/c":"\u0000\n","a":"0","a":"1"}"#).unwrap(), read);
        assert!(serde_json::from_str::<StringMap>(r#"{"a":1}"#).is_err());
        assert!(serde_json::from_str::<StringMap>("[]").is_err());
    }
}
