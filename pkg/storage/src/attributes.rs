//! Labels and selectable fields of an object, read from its bytes without building a tree, and kept small: every object that
//! was ever selected has them for as long as it is cached.

use std::collections::BTreeMap;
use std::fmt;

use kedge_meta::Text;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A field that lists and watches can select by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Where it is in the stored form, with dots. Of two places with `|` between, the second is that of objects whose first is
    /// empty.
    pub path: Text,
    /// What an absent one is selected by: `0` for a count, `false` for a boolean, else nothing.
    pub zero: Text,
}

/// The fields that the objects of a cache can be selected by. Objects keep their values in this order, so a cache has the same
/// fields for as long as it lives: others need another cache.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Fields(Box<[Field]>);

impl Fields {
    /// Whether objects can be selected by the field at this path.
    pub fn contains(&self, path: &str) -> bool {
        self.position(path).is_some()
    }

    fn position(&self, path: &str) -> Option<usize> {
        self.0.iter().position(|field| field.path == *path)
    }
}

impl FromIterator<Field> for Fields {
    fn from_iter<I: IntoIterator<Item = Field>>(fields: I) -> Self {
        Self(fields.into_iter().collect())
    }
}

/// Labels and selectable fields of an object.
#[derive(Debug, Default)]
pub(crate) struct Attributes {
    /// Sorted by key.
    labels: Box<[(Box<str>, Box<str>)]>,
    /// In the order of the fields that the kind can be selected by.
    fields: Box<[Box<str>]>,
}

#[derive(Deserialize)]
struct Labelled {
    metadata: LabelledMeta,
}

#[derive(Deserialize)]
struct LabelledMeta {
    #[serde(default)]
    labels: Option<BTreeMap<Box<str>, Box<str>>>,
}

impl Attributes {
    /// Of an object's JSON. What cannot be read has neither.
    pub(crate) fn of(json: &[u8], fields: &Fields) -> Self {
        let labels = serde_json::from_slice::<Labelled>(json).ok().and_then(|object| object.metadata.labels);
        let mut found: Vec<Option<Box<str>>> = vec![None; fields.0.len()];
        let mut paths: Vec<(usize, &str)> = Vec::with_capacity(fields.0.len());
        // Where the second places of fields are found, and which fields these are.
        let mut seconds = Vec::new();
        for (slot, field) in fields.0.iter().enumerate() {
            let (first, second) = field.path.split_once('|').map_or((&*field.path, None), |(a, b)| (a, Some(b)));
            paths.push((slot, first));
            if let Some(second) = second {
                paths.push((found.len(), second));
                seconds.push((slot, found.len()));
                found.push(None);
            }
        }
        let picked =
            Pick { paths: &paths, found: &mut found }.deserialize(&mut serde_json::Deserializer::from_slice(json));
        if picked.is_err() {
            found.fill(None);
        }
        for (slot, second) in seconds {
            if found[slot].as_ref().is_none_or(|text| text.is_empty()) {
                found[slot] = found[second].take();
            }
        }
        let value = |(text, field): (Option<Box<str>>, &Field)| text.unwrap_or_else(|| (*field.zero).into());
        Self {
            labels: labels.unwrap_or_default().into_iter().collect(),
            fields: found.into_iter().zip(&fields.0).map(value).collect(),
        }
    }

    pub(crate) fn label(&self, key: &str) -> Option<&str> {
        let at = self.labels.binary_search_by(|(label, _)| (**label).cmp(key)).ok()?;
        Some(&self.labels[at].1)
    }

    /// A field by its path; `fields` are those that these were made of, and another path than theirs is empty.
    pub(crate) fn field(&self, path: &str, fields: &Fields) -> &str {
        fields.position(path).and_then(|at| self.fields.get(at)).map_or("", |text| text)
    }
}

/// Picks the values at some paths; all else is skipped.
struct Pick<'a> {
    /// Where each goes, and what is left of its path.
    paths: &'a [(usize, &'a str)],
    found: &'a mut [Option<Box<str>>],
}

impl<'de> DeserializeSeed<'de> for Pick<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Pick<'_> {
    fn put(self, text: &str) {
        for (slot, _) in self.paths.iter().filter(|(_, rest)| rest.is_empty()) {
            self.found[*slot] = Some(text.into());
        }
    }
}

impl<'de> Visitor<'de> for Pick<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.put(if value { "true" } else { "false" });
        Ok(())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.put(&value.to_string());
        Ok(())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.put(&value.to_string());
        Ok(())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.put(&value.to_string());
        Ok(())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.put(value);
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<std::borrow::Cow<'_, str>>()? {
            let mut paths: Vec<(usize, &str)> = Vec::new();
            for (slot, path) in self.paths {
                let (first, rest) = path.split_once('.').unwrap_or((path, ""));
                if first == key {
                    paths.push((*slot, rest));
                }
            }
            if paths.is_empty() {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            map.next_value_seed(Pick { paths: &paths, found: &mut *self.found })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fields() -> Fields {
        let all = [
            ("metadata.name", ""),
            ("spec.nodeName", ""),
            ("spec.unschedulable", "false"),
            ("status.replicas", "0"),
            ("status.podIP", ""),
            ("source.a", ""),
        ];
        all.map(|(path, zero)| Field { path: path.into(), zero: zero.into() }).into_iter().collect()
    }

    #[test]
    fn a_second_place_is_that_of_objects_whose_first_is_empty() {
        let all: Fields =
            [Field { path: "a.b|c".into(), zero: "".into() }, Field { path: "c".into(), zero: "".into() }]
                .into_iter()
                .collect();
        let of = |object: serde_json::Value| {
            let attributes = Attributes::of(object.to_string().as_bytes(), &all);
            (attributes.field("a.b|c", &all).to_owned(), attributes.field("c", &all).to_owned())
        };
        assert_eq!(of(json!({"a": {"b": "x"}, "c": "y"})), ("x".into(), "y".into()));
        assert_eq!(of(json!({"a": {"b": ""}, "c": "y"})), ("y".into(), "y".into()));
        assert_eq!(of(json!({"c": "y"})), ("y".into(), "y".into()));
        assert_eq!(of(json!({"a": {"b": "x"}})), ("x".into(), String::new()));
    }

    #[test]
    fn fields_and_labels_are_found_wherever_they_stand() {
        let object = json!({"metadata": {"labels": {"b": "2", "a": "\u{e9}\n"}, "name": "x", "spec": {"nodeName": "no"}},
            "spec": {"containers": [{"nodeName": "no"}], "nodeName": "n\"1", "unschedulable": true}, "status": {"replicas": 3},
            "source": "text"});
        let all = fields();
        let attributes = Attributes::of(object.to_string().as_bytes(), &all);
        let values: Vec<&str> = all.0.iter().map(|field| attributes.field(&field.path, &all)).collect();
        assert_eq!(values, ["x", "n\"1", "true", "3", "", ""]);
        assert_eq!(
            (attributes.label("a"), attributes.label("b"), attributes.label("c")),
            (Some("\u{e9}\n"), Some("2"), None)
        );
    }

    #[test]
    fn what_is_absent_null_or_unreadable_is_empty_or_zero() {
        for text in [
            r#"{"metadata":{"name":"x","labels":null},"spec":null,"status":{}}"#,
            "{",
            "[]",
            r#"{"metadata":{"name":"x"}"#,
        ] {
            let all = fields();
            let attributes = Attributes::of(text.as_bytes(), &all);
            assert_eq!(attributes.field("spec.unschedulable", &all), "false", "{text}");
            assert_eq!((attributes.field("status.replicas", &all), attributes.field("other", &all)), ("0", ""));
            assert_eq!(attributes.label("a"), None);
        }
    }
}
