//! What printers read of an object, and how they write it.

use kedge_meta::labels::Selector;
use serde_json::{Map, Value, json};

use super::duration::age;
use crate::value::ValueExt;

/// An object on its way to become a row.
pub(super) struct Row<'a> {
    pub object: &'a Value,
    pub now: jiff::Timestamp,
}

impl<'a> Row<'a> {
    pub fn name(&self) -> Value {
        json!(self.object.name())
    }

    pub fn created(&self) -> Value {
        json!(self.object.text(&["metadata", "creationTimestamp"]))
    }

    pub fn age(&self) -> Value {
        json!(self.since(&["metadata", "creationTimestamp"]))
    }

    /// The time since what a field says.
    pub fn since(&self, path: &[&str]) -> String {
        age(self.object.text(path), self.now)
    }

    pub fn text(&self, path: &[&str]) -> &'a str {
        self.object.text(path)
    }

    /// The text of a field, or what stands for nothing.
    pub fn text_or(&self, path: &[&str], nothing: &str) -> Value {
        json!(or(self.object.text(path), nothing))
    }

    /// The number of a field; nothing is zero.
    pub fn int(&self, path: &[&str]) -> i64 {
        self.object.int(path).unwrap_or_default()
    }

    pub fn flag(&self, path: &[&str]) -> bool {
        self.object.flag(path).unwrap_or_default()
    }

    pub fn list(&self, path: &[&str]) -> &'a [Value] {
        self.object.list(path)
    }

    pub fn is_deleted(&self) -> bool {
        !self.object.text(&["metadata", "deletionTimestamp"]).is_empty()
    }

    /// Names and images of the containers of a pod spec.
    pub fn containers(&self, path: &[&str]) -> [Value; 2] {
        let containers = self.list(path);
        ["name", "image"].map(|field| json!(join(containers.iter().map(|c| c.text(&[field])), ",")))
    }

    /// A label selector in its text form.
    pub fn selector(&self, path: &[&str]) -> Value {
        let text = match self.object.at(path).filter(|selector| !selector.is_null()) {
            Some(selector) => match Selector::from_label_selector(selector) {
                Ok(selector) => selector.to_string(),
                Err(_) => return json!("<error>"),
            },
            None => String::new(),
        };
        json!(or(&text, "<none>"))
    }

    /// Whether a condition is there and true.
    pub fn has_condition(&self, kind: &str) -> bool {
        condition(self.list(&["status", "conditions"]), kind).is_some_and(|c| c.text(&["status"]) == "True")
    }
}

pub(super) fn or<'a>(text: &'a str, nothing: &'a str) -> &'a str {
    if text.is_empty() { nothing } else { text }
}

pub(super) fn join<'a>(texts: impl Iterator<Item = &'a str>, between: &str) -> String {
    texts.collect::<Vec<_>>().join(between)
}

pub(super) fn condition<'a>(conditions: &'a [Value], kind: &str) -> Option<&'a Value> {
    conditions.iter().find(|condition| condition.text(&["type"]) == kind)
}

/// `a=b,c=d`; `<none>` for no labels.
pub(super) fn labels(labels: Option<&Map<String, Value>>) -> String {
    let mut pairs: Vec<_> = labels
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    pairs.sort();
    or(&pairs.join(","), "<none>").to_owned()
}

/// The first `max` of a list, and how many more there are.
pub(super) fn first(list: &[String], max: usize, between: &str) -> String {
    let shown = list.get(..max).unwrap_or(list).join(between);
    if list.len() > max { format!("{shown} + {} more...", list.len() - max) } else { shown }
}

/// A number or a text as it is printed.
pub(super) fn printed(value: Option<&Value>, nothing: &str) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => nothing.to_owned(),
        Some(other) => other.to_string(),
    }
}

/// Addresses of a load balancer, sorted, each once.
pub(super) fn load_balancer(ingress: &[Value]) -> String {
    let address = |i: &'_ Value| or(i.text(&["ip"]), i.text(&["hostname"])).to_owned();
    let mut all: Vec<_> = ingress.iter().map(address).filter(|a| !a.is_empty()).collect();
    all.sort();
    all.dedup();
    all.join(",")
}
