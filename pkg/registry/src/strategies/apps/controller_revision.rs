//! Controller revisions: their data never changes.

use kedge_meta::field::ErrorList;
use serde_json::Value;

use super::super::validation::{At, Report};
use crate::strategy::{Context, Strategy};

pub(crate) struct ControllerRevision;

impl Strategy for ControllerRevision {
    fn validate(&self, _ctx: &Context<'_>, object: &Value) -> ErrorList {
        validate(object)
    }

    fn validate_update(&self, _ctx: &Context<'_>, new: &Value, old: &Value) -> ErrorList {
        validate_update(new, old)
    }
}

fn validate(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    errors.non_negative(&At::field(object, "revision"));
    let data = At::field(object, "data");
    match data.value {
        Value::Object(_) => {}
        Value::Null => errors.push(data.required("data is mandatory")),
        _ => errors.push(data.required("data must be a valid JSON object")),
    }
    errors
}

fn validate_update(new: &Value, old: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    errors.non_negative(&At::field(new, "revision"));
    errors.immutable(&At::field(new, "data"), &At::field(old, "data"));
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn texts(errors: &ErrorList) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn data_is_an_object_and_stays() {
        let object = |data: Value| json!({"revision": 1, "data": data});
        assert!(validate(&object(json!({"a": "b"}))).is_empty());
        assert_eq!(texts(&validate(&object(json!(null)))), ["data: Required value: data is mandatory"]);
        assert_eq!(texts(&validate(&object(json!([])))), ["data: Required value: data must be a valid JSON object"]);
        // What was stored before may be no object; that nothing changes is all that is asked of it.
        let stored = object(json!("x"));
        assert!(validate_update(&stored, &stored).is_empty());
        assert_eq!(
            texts(&validate_update(&json!({"revision": -1}), &stored)),
            [
                "revision: Invalid value: -1: must be greater than or equal to 0",
                "data: Invalid value: null: field is immutable"
            ]
        );
    }
}
