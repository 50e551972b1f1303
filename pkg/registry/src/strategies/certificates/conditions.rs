//! What has become of a request: who approves does not sign, who signs does not approve, and what was said stays said.

use kedge_meta::field::{Error, ErrorList};
use serde_json::{Value, json};

use super::super::validation::At;
use crate::value::ValueExt;

const APPROVED: &str = "Approved";
const DENIED: &str = "Denied";
/// Those that are true or not there.
const FINAL: [&str; 3] = [APPROVED, DENIED, "Failed"];

fn kind(condition: &Value) -> &str {
    condition.text(&["type"])
}

fn of_kind<'a>(request: &'a Value, wanted: &str) -> Vec<&'a Value> {
    request.list(&["status", "conditions"]).iter().filter(|condition| kind(condition) == wanted).collect()
}

/// Puts back what was decided where somebody who signs has written something else about it; more or fewer decisions are left to be
/// refused.
pub(super) fn keep_decisions(new: &mut Value, old: &Value) {
    for decision in [APPROVED, DENIED] {
        let was = of_kind(old, decision);
        if was.len() != of_kind(new, decision).len() {
            continue;
        }
        let Some(Value::Array(conditions)) = new.pointer_mut("/status/conditions") else { continue };
        let places = conditions.iter_mut().filter(|condition| kind(condition) == decision);
        places.zip(was).for_each(|(place, was)| *place = was.clone());
    }
}

/// Conditions without a date get one.
pub(super) fn date(new: &mut Value, was: &[Value], now: &str) {
    let Some(Value::Array(conditions)) = new.pointer_mut("/status/conditions") else { return };
    for condition in conditions {
        if condition.text(&["lastUpdateTime"]).is_empty() {
            condition.set("lastUpdateTime", now);
        }
        if condition.text(&["lastTransitionTime"]).is_empty() {
            let same = |old: &&Value| {
                ["type", "status"].iter().all(|field| old.text(&[field]) == condition.text(&[field]))
                    && !old.text(&["lastTransitionTime"]).is_empty()
            };
            let since = was.iter().find(same).map_or(now, |old| old.text(&["lastTransitionTime"]));
            condition.set("lastTransitionTime", since);
        }
    }
}

/// What is wrong with the conditions, but for what was wrong with those that were there.
pub(super) fn validate(new: &Value, old: Option<&Value>, errors: &mut ErrorList) {
    let was = old.map(|old| old.list(&["status", "conditions"])).unwrap_or_default();
    let has = |wanted: &str| was.iter().any(|condition| kind(condition) == wanted);
    let may_contradict = has(APPROVED) && has(DENIED);
    let may_repeat = was.iter().enumerate().any(|(i, one)| was[..i].iter().any(|other| kind(other) == kind(one)));
    let may_lack_type = has("");
    let all = At::field(new, "status").child("conditions");
    let mut seen: Vec<&str> = Vec::new();
    for condition in all.items() {
        let (kind, status) = (condition.child("type"), condition.child("status"));
        if kind.text().is_empty() && !may_lack_type {
            errors.push(kind.required(""));
        }
        let allowed: &[&str] = if FINAL.contains(&kind.text()) { &["True"] } else { &["False", "True", "Unknown"] };
        match status.text() {
            "" => errors.push(status.required("")),
            text if !allowed.contains(&text) => errors.push(status.not_supported(allowed)),
            _ => {}
        }
        let contradicts = match kind.text() {
            APPROVED => seen.contains(&DENIED),
            DENIED => seen.contains(&APPROVED),
            _ => false,
        };
        if contradicts && !may_contradict {
            let why = "Approved and Denied conditions are mutually exclusive";
            errors.push(Error::invalid(&all.path, kind.text(), why));
        }
        if seen.contains(&kind.text()) && !may_repeat {
            errors.push(if kind.is_set() { kind.duplicate() } else { Error::duplicate(&kind.path, json!("")) });
        }
        seen.push(kind.text());
    }
}

/// What was said stays, and only who approves or denies adds a decision.
pub(super) fn validate_change(new: &Value, old: &Value, may_decide: bool, errors: &mut ErrorList) {
    let all = At::field(new, "status").child("conditions");
    for said in FINAL {
        if of_kind(new, said).len() < of_kind(old, said).len() {
            errors.push(all.forbidden(format!("updates may not remove a condition of type {said:?}")));
        }
    }
    for said in [APPROVED, DENIED].into_iter().filter(|_| !may_decide) {
        if of_kind(new, said).len() > of_kind(old, said).len() {
            errors.push(all.forbidden(format!("updates may not add a condition of type {said:?}")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(conditions: &[(&str, &str)]) -> Value {
        let conditions: Vec<_> = conditions.iter().map(|(k, s)| json!({"type": k, "status": s})).collect();
        json!({"status": {"conditions": conditions}})
    }

    fn said(new: &Value, old: Option<&Value>) -> Vec<String> {
        let mut errors = ErrorList::new();
        validate(new, old, &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_decision_is_dated_and_is_true() {
        let mut approved = json!({"status": {"conditions": [{"type": "Approved", "status": "True", "reason": "ok"}]}});
        let was = [json!({"type": "Approved", "status": "True", "lastTransitionTime": "2025-01-01T00:00:00Z"})];
        date(&mut approved, &was, "2026-01-01T00:00:00Z");
        let condition = &approved["status"]["conditions"][0];
        assert_eq!(condition["lastUpdateTime"], "2026-01-01T00:00:00Z");
        assert_eq!(condition["lastTransitionTime"], "2025-01-01T00:00:00Z");
        assert!(said(&approved, None).is_empty());
        assert!(said(&request(&[("Other", "Unknown")]), None).is_empty());
        let not = said(&request(&[("Failed", "False")]), None);
        assert!(not[0].contains("Unsupported value: \"False\": supported values: \"True\""), "{not:?}");
        let none = said(&request(&[("Approved", "")]), None);
        assert_eq!(none, ["status.conditions[0].status: Required value"]);
    }

    #[test]
    fn what_contradicts_or_repeats_is_refused_unless_it_was_there() {
        let both = request(&[("Approved", "True"), ("Denied", "True")]);
        let refused = said(&both, None);
        assert_eq!(
            refused,
            ["status.conditions: Invalid value: \"Denied\": Approved and Denied conditions are mutually exclusive"]
        );
        assert!(said(&both, Some(&both)).is_empty());
        let twice = request(&[("Approved", "True"), ("Approved", "True")]);
        assert_eq!(said(&twice, None), ["status.conditions[1].type: Duplicate value: \"Approved\""]);
        assert!(said(&twice, Some(&twice)).is_empty());
    }

    #[test]
    fn who_signs_changes_no_decision() {
        let old = json!({"status": {"conditions": [{"type": "Approved", "status": "True", "reason": "a"}]}});
        let mut new = json!({"status": {"conditions": [
            {"type": "Failed", "status": "True"}, {"type": "Approved", "status": "True", "reason": "b"}]}});
        keep_decisions(&mut new, &old);
        assert_eq!(new["status"]["conditions"][1]["reason"], "a");
        let changed = |new: &Value, old: &Value, may_decide| {
            let mut errors = ErrorList::new();
            validate_change(new, old, may_decide, &mut errors);
            errors.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert!(changed(&new, &old, false).is_empty());
        let none = json!({});
        let removed = "status.conditions: Forbidden: updates may not remove a condition of type \"Approved\"";
        assert_eq!(changed(&none, &old, false), [removed]);
        assert_eq!(changed(&none, &old, true), [removed]);
        let added = "status.conditions: Forbidden: updates may not add a condition of type \"Approved\"";
        assert_eq!(changed(&old, &none, false), [added]);
        assert!(changed(&old, &none, true).is_empty());
    }
}
