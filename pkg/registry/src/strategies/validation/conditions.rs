//! Conditions of `meta/v1`.

use std::collections::HashSet;

use kedge_meta::field::{Error, ErrorList};
use kedge_meta::names;

use super::{At, Report};

const STATUSES: [&str; 3] = ["False", "True", "Unknown"];
const MAX_REASON: usize = 1 << 10;
const MAX_MESSAGE: usize = 32 << 10;
const REASON: &str = "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric characters or '_,:', and must end with an alphanumeric character or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex used for validation is '[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')";

/// Upstream's rules for conditions of `meta/v1`.
pub(crate) fn each(conditions: &At<'_>, errors: &mut ErrorList) {
    let mut seen = HashSet::new();
    for condition in conditions.items() {
        let kind = condition.child("type");
        if !seen.insert(kind.text()) {
            errors.push(kind.duplicate());
        }
        errors.complaints(&kind, names::is_qualified_name(kind.text()));
        let status = condition.child("status");
        if !STATUSES.contains(&status.text()) {
            errors.push(status.not_supported(&STATUSES));
        }
        let generation = condition.child("observedGeneration");
        if generation.int().is_some_and(|generation| generation < 0) {
            errors.push(generation.invalid("must be greater than or equal to zero"));
        }
        errors.need_text(&condition.child("lastTransitionTime"));
        let reason = condition.child("reason");
        if errors.need_text(&reason) && !is_reason(reason.text()) {
            errors.push(reason.invalid(REASON));
        }
        for (field, most) in [("reason", MAX_REASON), ("message", MAX_MESSAGE)] {
            let text = condition.child(field);
            if text.text().len() > most {
                errors.push(Error::too_long(&text.path, most));
            }
        }
    }
}

fn is_reason(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let bytes = text.as_bytes();
    bytes.first().is_some_and(u8::is_ascii_alphabetic)
        && bytes.last().is_some_and(|last| word(*last))
        && bytes.iter().all(|byte| word(*byte) || matches!(byte, b',' | b':'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn reasons_are_words() {
        for good in ["A", "MigrationRunning", "a_b,c:d", "A1"] {
            assert!(is_reason(good), "{good}");
        }
        for bad in ["", "1a", "a:", "a b", "_a"] {
            assert!(!is_reason(bad), "{bad}");
        }
    }

    #[test]
    fn conditions_say_what_since_when_and_why() {
        let since = "2001-01-01T00:00:00Z";
        let fine = json!({"type": "Ready", "status": "True", "lastTransitionTime": since, "reason": "Done"});
        let status = json!({"conditions": [fine, fine, {"type": "a b", "status": "Yes", "observedGeneration": -1}]});
        let mut errors = ErrorList::new();
        each(&At::field(&status, "conditions"), &mut errors);
        let fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "conditions[1].type",
                "conditions[2].type",
                "conditions[2].status",
                "conditions[2].observedGeneration",
                "conditions[2].lastTransitionTime",
                "conditions[2].reason"
            ]
        );
    }
}
