//! A place in an object: what is there, and how it is called in errors.

use kedge_meta::field::{Error, ErrorList, Path};
use serde_json::Value;

static NOTHING: Value = Value::Null;

/// A value and its path.
#[derive(Clone)]
pub(crate) struct At<'a> {
    pub value: &'a Value,
    pub path: Path,
}

impl<'a> At<'a> {
    /// A field of the whole object.
    pub fn field(object: &'a Value, name: &str) -> Self {
        Self { value: object.get(name).unwrap_or(&NOTHING), path: Path::new(name) }
    }

    pub fn child(&self, name: &str) -> Self {
        Self { value: self.value.get(name).unwrap_or(&NOTHING), path: self.path.child(name) }
    }

    /// The elements of a list.
    pub fn items(&self) -> impl Iterator<Item = At<'a>> + use<'a> {
        let path = self.path.clone();
        let list: &'a [Value] = self.value.as_array().map_or(&[], Vec::as_slice);
        list.iter().enumerate().map(move |(i, value)| At { value, path: path.index(i) })
    }

    /// The entries of a map.
    pub fn entries(&self) -> impl Iterator<Item = (&'a str, At<'a>)> + use<'a> {
        let path = self.path.clone();
        let map = self.value.as_object().into_iter().flatten();
        map.map(move |(key, value)| (key.as_str(), At { value, path: path.key(key) }))
    }

    pub fn is_set(&self) -> bool {
        !self.value.is_null()
    }

    pub fn text(&self) -> &'a str {
        self.value.as_str().unwrap_or_default()
    }

    pub fn int(&self) -> Option<i64> {
        self.value.as_i64()
    }

    pub fn flag(&self) -> Option<bool> {
        self.value.as_bool()
    }

    pub fn is_true(&self) -> bool {
        self.flag() == Some(true)
    }

    /// Elements of a list or entries of a map.
    pub fn len(&self) -> usize {
        match self.value {
            Value::Array(items) => items.len(),
            Value::Object(map) => map.len(),
            _ => 0,
        }
    }

    pub fn required(&self, detail: &str) -> Error {
        Error::required(&self.path, detail)
    }

    pub fn invalid(&self, detail: impl Into<String>) -> Error {
        Error::invalid(&self.path, self.value, detail)
    }

    pub fn forbidden(&self, detail: impl Into<String>) -> Error {
        Error::forbidden(&self.path, detail)
    }

    pub fn not_supported(&self, valid: &[&str]) -> Error {
        Error::not_supported_of(&self.path, self.value, valid)
    }

    pub fn duplicate(&self) -> Error {
        Error::duplicate(&self.path, self.value)
    }

    pub fn not_found(&self) -> Error {
        Error::not_found(&self.path, self.value)
    }
}

/// Ways to report that many rules share.
pub(crate) trait Report {
    /// Each complaint as an invalid value.
    fn complaints(&mut self, at: &At<'_>, complaints: Vec<String>);
    /// A text that must be there.
    fn need_text(&mut self, at: &At<'_>) -> bool;
    /// A text that must be one of a set, and must be there.
    fn need_one_of(&mut self, at: &At<'_>, valid: &[&str]);
    /// A text that must be one of a set when it is there.
    fn one_of(&mut self, at: &At<'_>, valid: &[&str]);
    /// A number that must not be negative.
    fn non_negative(&mut self, at: &At<'_>);
    /// A number within a range, when it is there.
    fn range(&mut self, at: &At<'_>, low: i64, high: i64);
    /// A field that may not change.
    fn immutable(&mut self, new: &At<'_>, old: &At<'_>);
    /// A name that must be there and fit a rule.
    fn need_name(&mut self, at: &At<'_>, rule: fn(&str) -> Vec<String>);
    /// A name that must fit a rule when it is there.
    fn name(&mut self, at: &At<'_>, rule: fn(&str) -> Vec<String>);
}

impl Report for ErrorList {
    fn complaints(&mut self, at: &At<'_>, complaints: Vec<String>) {
        self.extend(complaints.into_iter().map(|complaint| at.invalid(complaint)));
    }

    fn need_text(&mut self, at: &At<'_>) -> bool {
        let there = !at.text().is_empty();
        if !there {
            self.push(at.required(""));
        }
        there
    }

    fn need_one_of(&mut self, at: &At<'_>, valid: &[&str]) {
        if self.need_text(at) {
            self.one_of(at, valid);
        }
    }

    fn one_of(&mut self, at: &At<'_>, valid: &[&str]) {
        if at.is_set() && !valid.contains(&at.text()) {
            self.push(at.not_supported(valid));
        }
    }

    fn non_negative(&mut self, at: &At<'_>) {
        if at.int().is_some_and(|number| number < 0) {
            self.push(at.invalid("must be greater than or equal to 0"));
        }
    }

    fn range(&mut self, at: &At<'_>, low: i64, high: i64) {
        if at.int().is_some_and(|number| number < low || number > high) {
            self.push(at.invalid(format!("must be between {low} and {high}, inclusive")));
        }
    }

    fn immutable(&mut self, new: &At<'_>, old: &At<'_>) {
        if new.value != old.value {
            self.push(new.invalid("field is immutable"));
        }
    }

    fn need_name(&mut self, at: &At<'_>, rule: fn(&str) -> Vec<String>) {
        if self.need_text(at) {
            self.complaints(at, rule(at.text()));
        }
    }

    fn name(&mut self, at: &At<'_>, rule: fn(&str) -> Vec<String>) {
        if !at.text().is_empty() {
            self.complaints(at, rule(at.text()));
        }
    }
}
