//! Pod templates: whether two are the same, and the hash that names what is made from one.

use serde_json::Value;
use serde_json::value::RawValue;

use super::pod_control;

/// The label that tells the pods of one ReplicaSet from those of another of the same Deployment.
pub const HASH_LABEL: &str = "pod-template-hash";

const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// A template without the label that the controller adds, in a form in which equal templates are equal.
pub fn normalized(raw: &RawValue) -> Value {
    normalize(pod_control::template(raw))
}

/// The same for a parsed template.
pub fn normalize(mut template: Value) -> Value {
    if let Some(labels) = template.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        labels.remove(HASH_LABEL);
    }
    remove_nulls(&mut template);
    template
}

/// Absent and null mean the same, and so do absent and empty labels or annotations.
fn remove_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, v| !v.is_null());
            map.values_mut().for_each(remove_nulls);
            for field in ["metadata", "labels", "annotations"] {
                if map.get(field).and_then(Value::as_object).is_some_and(serde_json::Map::is_empty) {
                    map.remove(field);
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(remove_nulls),
        _ => {}
    }
}

/// The hash of a normalized template. The number of collisions so far makes it another one.
pub fn hash(template: &Value, collisions: i64) -> String {
    let mut fnv = Fnv(0x811c_9dc5);
    fnv.value(template);
    if collisions > 0 {
        fnv.bytes(&collisions.to_le_bytes());
    }
    // Digits become letters of the alphabet without vowels, so that no words come out.
    fnv.0.to_string().bytes().map(|b| char::from(ALPHABET[usize::from(b) % ALPHABET.len()])).collect()
}

struct Fnv(u32);

impl Fnv {
    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        }
    }

    /// Keys are taken in their order, so the order in which they are stored does not matter.
    fn value(&mut self, value: &Value) {
        match value {
            Value::Object(map) => {
                let mut keys: Vec<&String> = map.keys().collect();
                keys.sort();
                self.bytes(b"{");
                for key in keys {
                    self.bytes(key.as_bytes());
                    self.bytes(b":");
                    self.value(&map[key]);
                }
                self.bytes(b"}");
            }
            Value::Array(list) => {
                self.bytes(b"[");
                list.iter().for_each(|v| self.value(v));
                self.bytes(b"]");
            }
            other => {
                self.bytes(other.to_string().as_bytes());
                self.bytes(b",");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    #[test]
    fn the_hash_label_and_nulls_make_no_difference() {
        let a = normalized(&raw(r#"{"metadata":{"creationTimestamp":null,"labels":{"a":"b"}},"spec":{"x":1}}"#));
        let b = normalized(&raw(r#"{"spec":{"x":1},"metadata":{"labels":{"pod-template-hash":"h","a":"b"}}}"#));
        assert_eq!(a, b);
        assert_eq!(hash(&a, 0), hash(&b, 0));
        let c = normalized(&raw(r#"{"spec":{"x":2},"metadata":{"labels":{"a":"b"}}}"#));
        assert_ne!(a, c);
        assert_ne!(hash(&a, 0), hash(&c, 0));
        assert_ne!(hash(&a, 0), hash(&a, 1));
    }

    #[test]
    fn hashes_have_no_vowels() {
        assert!(hash(&Value::Null, 0).bytes().all(|b| ALPHABET.contains(&b)));
    }
}
