//! Config maps.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kedge_meta::field::{Error, ErrorList, Path};
use kedge_meta::names;
use serde_json::Value;

use super::super::validation::At;
use crate::strategy::{Context, Strategy};

/// Upstream's limit on all data of a config map or secret.
pub(super) const MAX_SIZE: usize = 1 << 20;
const IMMUTABLE: &str = "field is immutable when `immutable` is set";

pub(crate) struct ConfigMap;

impl Strategy for ConfigMap {
    fn validate(&self, _ctx: &Context<'_>, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let (data, binary) = (At::field(object, "data"), At::field(object, "binaryData"));
        let mut size = 0;
        for (key, at) in data.entries() {
            key_rules(key, &at, &mut errors);
            if binary.child(key).is_set() {
                errors.push(Error::invalid(&at.path, key, "duplicate of key present in binaryData"));
            }
            size += at.text().len();
        }
        for (key, at) in binary.entries() {
            key_rules(key, &at, &mut errors);
            size += decoded_len(at.text());
        }
        if size > MAX_SIZE {
            errors.push(Error::too_long(&Path::new(""), MAX_SIZE));
        }
        errors
    }

    fn validate_update(&self, ctx: &Context<'_>, new: &Value, old: &Value) -> ErrorList {
        let mut errors = immutable_data(new, old, &["data", "binaryData"]);
        errors.extend(self.validate(ctx, new));
        errors
    }
}

fn key_rules(key: &str, at: &At<'_>, errors: &mut ErrorList) {
    errors.extend(names::is_config_map_key(key).into_iter().map(|complaint| Error::invalid(&at.path, key, complaint)));
}

/// What may not change once the object says so.
pub(super) fn immutable_data(new: &Value, old: &Value, fields: &[&str]) -> ErrorList {
    let mut errors = ErrorList::new();
    if !At::field(old, "immutable").is_true() {
        return errors;
    }
    let immutable = At::field(new, "immutable");
    if !immutable.is_true() {
        errors.push(immutable.forbidden(IMMUTABLE));
    }
    for field in fields {
        let at = At::field(new, field);
        if at.value != At::field(old, field).value {
            errors.push(at.forbidden(IMMUTABLE));
        }
    }
    errors
}

/// How many bytes a base64 text stands for.
pub(super) fn decoded_len(text: &str) -> usize {
    let padding = text.bytes().rev().take_while(|b| *b == b'=').count();
    (text.len() / 4 * 3).saturating_sub(padding)
}

/// The bytes of a base64 text; nothing for one that cannot be read, which decoding has refused already.
pub(crate) fn decoded(text: &str) -> Vec<u8> {
    STANDARD.decode(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_immutable_map_stays() {
        let old = json!({"immutable": true, "data": {"a": "1"}});
        let texts: Vec<_> = immutable_data(&json!({"data": {"a": "2"}}), &old, &["data", "binaryData"])
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            texts,
            [
                "immutable: Forbidden: field is immutable when `immutable` is set",
                "data: Forbidden: field is immutable when `immutable` is set"
            ]
        );
        assert_eq!((decoded_len("aGk="), decoded("aGk=")), (2, b"hi".to_vec()));
    }
}
