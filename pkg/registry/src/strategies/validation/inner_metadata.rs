//! Metadata of what objects are made from: only labels and annotations are passed on.

use kedge_meta::field::ErrorList;
use serde_json::Value;

use super::{At, selector};

/// What is not passed on, in upstream's order, with the names that its errors have for it.
const OTHERS: [(&str, &str); 13] = [
    ("name", "name"),
    ("generateName", "generateName"),
    ("namespace", "namespace"),
    ("selfLink", "selfLink"),
    ("uid", "uID"),
    ("resourceVersion", "resourceVersion"),
    ("generation", "generation"),
    ("creationTimestamp", "creationTimestamp"),
    ("deletionTimestamp", "deletionTimestamp"),
    ("deletionGracePeriodSeconds", "deletionGracePeriodSeconds"),
    ("ownerReferences", "ownerReferences"),
    ("finalizers", "finalizers"),
    ("managedFields", "managedFields"),
];

/// The metadata of a template of claims.
pub(crate) fn labels_and_annotations(at: &At<'_>, errors: &mut ErrorList) {
    let annotations = at.child("annotations");
    errors.extend(crate::metadata::validate_annotations(annotations.value.as_object(), &annotations.path));
    selector::labels(&at.child("labels"), errors);
    for (field, called) in OTHERS {
        let there = match at.child(field).value {
            Value::Null => false,
            Value::String(text) => !text.is_empty(),
            // A period of nothing is one; a generation of nothing is none.
            Value::Number(number) => field != "generation" || number.as_i64() != Some(0),
            _ => true,
        };
        if there {
            errors.push(At { path: at.path.child(called), ..at.clone() }.forbidden("cannot be set"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nothing_but_labels_and_annotations_is_passed_on() {
        let said = |metadata: Value| {
            let (object, mut errors) = (json!({ "metadata": metadata }), ErrorList::new());
            labels_and_annotations(&At::field(&object, "metadata"), &mut errors);
            errors.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let passed = json!({"labels": {"a": "b"}, "annotations": {"a": "b"}, "name": "", "generation": 0});
        assert!(said(passed).is_empty());
        assert_eq!(
            said(json!({"uid": "a", "finalizers": ["a/b"]})),
            ["metadata.uID: Forbidden: cannot be set", "metadata.finalizers: Forbidden: cannot be set"]
        );
    }
}
