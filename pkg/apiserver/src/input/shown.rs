//! The text of a patched object in an error: upstream's patches sort the fields of what they touch, and leave the rest as it was.

use std::collections::BTreeMap;

use kedge_patch::{go_json, without_html};
use kedge_schema::encode;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// The text of what a patch made of `current`. Where the patch has objects, it went into those of the object.
pub(super) fn patched(new: &Value, current: &Value, patch: &Value) -> String {
    let text = encode::to_json(current).unwrap_or_default();
    let before: Option<Box<RawValue>> = serde_json::from_slice(&text).ok();
    let mut out = String::new();
    write(&mut out, new, Some(patch), before.as_deref());
    out
}

/// The places that the operations of a JSON patch go through, as nested objects.
pub(super) fn touched(operations: &Value) -> Value {
    let mut all = Value::Object(Map::new());
    let paths = operations.as_array().into_iter().flatten();
    for path in paths.filter_map(|operation| operation.get("path").and_then(Value::as_str)) {
        let mut at = &mut all;
        for part in path.split('/').skip(1) {
            if !at.is_object() {
                *at = Value::Object(Map::new());
            }
            at = &mut at[part.replace("~1", "/").replace("~0", "~")];
        }
    }
    all
}

fn write(out: &mut String, new: &Value, patch: Option<&Value>, before: Option<&RawValue>) {
    let (Value::Object(fields), Some(Value::Object(patch))) = (new, patch) else {
        match (patch, before) {
            (None, Some(before)) => out.push_str(&without_html(before.get())),
            _ => out.push_str(&go_json(new)),
        }
        return;
    };
    let before: BTreeMap<String, &RawValue> =
        before.and_then(|before| serde_json::from_str(before.get()).ok()).unwrap_or_default();
    out.push('{');
    for (i, (key, value)) in fields.iter().enumerate() {
        out.push_str(if i == 0 { "" } else { "," });
        out.push_str(&go_json(&Value::from(key.as_str())));
        out.push(':');
        write(out, value, patch.get(key), before.get(key).copied());
    }
    out.push('}');
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_patch_touches_is_sorted_and_the_rest_is_as_it_was() {
        let current = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "uid": "u", "labels": {"x": "y"}}});
        let mut new = current.clone();
        new["kind"] = "Other".into();
        let text = patched(&new, &current, &json!({"kind": "Other"}));
        assert_eq!(text, r#"{"apiVersion":"v1","kind":"Other","metadata":{"name":"a","uid":"u","labels":{"x":"y"}}}"#);
        new["metadata"]["labels"] = 5.into();
        let operations = json!([{"op": "replace", "path": "/metadata/labels", "value": 5}]);
        let text = patched(&new, &current, &touched(&operations));
        assert_eq!(text, r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"labels":5,"name":"a","uid":"u"}}"#);
    }

    /// Upstream's JSON is fit for HTML, whoever wrote it.
    #[test]
    fn what_means_something_in_html_is_escaped() {
        let (new, old) = (json!({"a": "x < y", "b": "& so on"}), json!({"b": "& so on"}));
        assert_eq!(patched(&new, &old, &json!({"a": "x < y"})), r#"{"a":"x \u003c y","b":"\u0026 so on"}"#);
    }
}
