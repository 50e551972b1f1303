//! Puts strict errors in the order in which the document gives cause for them. Trees are sorted by key, so the order is
//! found again in the bytes; this is done only when there is more than one error.

use super::StrictError;
use super::tree::push_key;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use std::collections::HashMap;
use std::fmt;

/// Sorts `errors`. Bytes that do not parse leave the order as it is; they were parsed before.
pub fn sort_by_document(bytes: &[u8], errors: &mut [StrictError]) {
    let mut finder = Finder { path: String::new(), at: 0, places: HashMap::new() };
    for error in errors.iter() {
        finder.places.insert(error.path().to_string(), Place::default());
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    if Walk(&mut finder).deserialize(&mut deserializer).is_err() {
        return;
    }
    errors.sort_by_key(|error| {
        let place = finder.places.get(error.path()).copied().unwrap_or_default();
        match error {
            StrictError::DuplicateField(_) => place.second,
            _ => place.first,
        }
    });
}

/// When a path was met for the first and the second time; 0 is never.
#[derive(Clone, Copy, Default)]
struct Place {
    first: usize,
    second: usize,
}

struct Finder {
    path: String,
    at: usize,
    places: HashMap<String, Place>,
}

impl Finder {
    fn meet(&mut self) {
        self.at += 1;
        if let Some(place) = self.places.get_mut(&self.path) {
            if place.first == 0 {
                place.first = self.at;
            } else if place.second == 0 {
                place.second = self.at;
            }
        }
    }
}

struct Walk<'a>(&'a mut Finder);

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<(), A::Error> {
        let length = self.0.path.len();
        let mut index = 0;
        loop {
            self.0.path.push_str(&format!("[{index}]"));
            let element = access.next_element_seed(Walk(self.0));
            self.0.path.truncate(length);
            if element?.is_none() {
                return Ok(());
            }
            index += 1;
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<(), A::Error> {
        let length = self.0.path.len();
        while let Some(key) = access.next_key::<String>()? {
            push_key(&mut self.0.path, &key);
            self.0.meet();
            let value = access.next_value_seed(Walk(self.0));
            self.0.path.truncate(length);
            value?;
        }
        Ok(())
    }
}
