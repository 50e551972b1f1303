//! Label selectors and maps of labels.

use kedge_meta::field::ErrorList;
use kedge_meta::labels::Selector;
use kedge_meta::names;
use serde_json::{Map, Value};

use super::{At, Report};

/// A `metav1.LabelSelector`.
pub(crate) fn label_selector(at: &At<'_>, errors: &mut ErrorList) {
    labels(&at.child("matchLabels"), errors);
    for requirement in at.child("matchExpressions").items() {
        let (key, values) = (requirement.child("key"), requirement.child("values"));
        match requirement.child("operator").text() {
            "In" | "NotIn" => {
                if values.len() == 0 {
                    errors.push(values.required("must be specified when `operator` is 'In' or 'NotIn'"));
                }
            }
            "Exists" | "DoesNotExist" => {
                if values.len() > 0 {
                    errors.push(values.forbidden("may not be specified when `operator` is 'Exists' or 'DoesNotExist'"));
                }
            }
            _ => errors.push(requirement.child("operator").invalid("not a valid selector operator")),
        }
        errors.complaints(&key, names::is_qualified_name(key.text()));
        for value in values.items() {
            errors.complaints(&value, names::is_valid_label_value(value.text()));
        }
    }
}

/// A map of labels, as in `nodeSelector`.
pub(crate) fn labels(at: &At<'_>, errors: &mut ErrorList) {
    errors.extend(crate::metadata::validate_labels(at.value.as_object(), &at.path));
}

/// Whether a selector that is valid selects nothing in particular.
pub(crate) fn is_empty(at: &At<'_>) -> bool {
    at.child("matchLabels").len() == 0 && at.child("matchExpressions").len() == 0
}

/// Whether a label selector matches labels.
pub(crate) fn matches(selector: &Value, labels: Option<&Map<String, Value>>) -> bool {
    Selector::from_label_selector(selector)
        .is_ok_and(|selector| selector.matches_with(|key| labels.and_then(|map| map.get(key)?.as_str())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn expressions_are_checked() {
        let object = json!({"selector": {"matchExpressions": [{"key": "a", "operator": "In"},
            {"key": "b", "operator": "Exists", "values": ["x"]}, {"key": "-", "operator": "Is"}]}});
        let mut errors = ErrorList::new();
        label_selector(&At::field(&object, "selector"), &mut errors);
        let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts[0],
            "selector.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'"
        );
        assert!(texts[1].contains("Forbidden: may not be specified"));
        assert_eq!(
            texts[2],
            "selector.matchExpressions[2].operator: Invalid value: \"Is\": not a valid selector operator"
        );
        assert_eq!(texts.len(), 4);
    }

    #[test]
    fn a_selector_matches_labels() {
        let labels = json!({"app": "web"});
        assert!(matches(&json!({"matchLabels": {"app": "web"}}), labels.as_object()));
        assert!(!matches(&json!({"matchLabels": {"app": "db"}}), labels.as_object()));
        assert!(!matches(&json!({"matchLabels": {"app": "web"}}), None));
    }
}
