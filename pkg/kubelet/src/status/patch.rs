//! The strategic merge patch from the status the API has to the one it should have.

use serde_json::{Map, Value, json};

use super::conditions;

/// Lists that merge by key in a strategic merge patch and must be replaced whole.
const MERGED_LISTS: [&str; 2] = ["podIPs", "hostIPs"];
/// Fields that others write.
const FOREIGN: [&str; 5] = [
    "resourceClaimStatuses",
    "extendedResourceClaimStatus",
    "nodeAllocatableResourceClaimStatuses",
    "nominatedNodeName",
    "resize",
];

/// The patch, or `None` when nothing differs. It holds the uid, so that it cannot hit a namesake.
pub(super) fn status_patch(uid: &str, have: &Value, want: &Value) -> Option<Value> {
    let empty = Map::new();
    let have = have.as_object().unwrap_or(&empty);
    let want = want.as_object().unwrap_or(&empty);
    let mut patch = Map::new();
    for (name, value) in want.iter().filter(|(name, _)| !FOREIGN.contains(&name.as_str())) {
        if name == "conditions" {
            let changed = changed_conditions(have.get(name), value);
            if !changed.is_empty() {
                patch.insert(name.clone(), Value::Array(changed));
            }
            continue;
        }
        if have.get(name) == Some(value) {
            continue;
        }
        let is_there = have.get(name).is_some_and(Value::is_object);
        patch.insert(name.clone(), replacement(name, value, is_there));
    }
    for name in have.keys().filter(|name| !want.contains_key(*name)) {
        if name != "conditions" && !FOREIGN.contains(&name.as_str()) {
            patch.insert(name.clone(), Value::Null);
        }
    }
    (!patch.is_empty()).then(|| json!({"metadata": {"uid": uid}, "status": patch}))
}

/// `is_there`: whether there is something to be replaced. A server takes what replaces nothing for nothing.
fn replacement(name: &str, value: &Value, is_there: bool) -> Value {
    match value {
        Value::Array(items) if MERGED_LISTS.contains(&name) => {
            let mut list = vec![json!({"$patch": "replace"})];
            list.extend(items.iter().cloned());
            Value::Array(list)
        }
        Value::Object(fields) if is_there => {
            let mut fields = fields.clone();
            fields.insert("$patch".into(), "replace".into());
            Value::Object(fields)
        }
        other => other.clone(),
    }
}

/// Our own conditions that differ. Conditions are only ever set, never removed, and those of others stay.
fn changed_conditions(have: Option<&Value>, want: &Value) -> Vec<Value> {
    let none = Vec::new();
    let have = have.and_then(Value::as_array).unwrap_or(&none);
    let find = |kind: &Value| have.iter().find(|c| c.get("type") == Some(kind));
    let ours = want
        .as_array()
        .into_iter()
        .flatten()
        .filter(|c| c.get("type").and_then(Value::as_str).is_some_and(conditions::is_owned));
    ours.filter_map(|condition| {
        let old = condition.get("type").and_then(find);
        let same = |name: &str| old.and_then(|o| o.get(name)).filter(|v| !v.is_null()) == condition.get(name);
        let compared = ["status", "reason", "message", "observedGeneration", "lastTransitionTime"];
        if compared.iter().all(|name| same(name)) {
            return None;
        }
        let mut changed = condition.clone();
        // What the old one said and the new one does not must go.
        for name in ["reason", "message"] {
            let stale = old.is_some_and(|o| o.get(name).is_some());
            if stale && condition.get(name).is_none() {
                changed[name] = Value::Null;
            }
        }
        Some(changed)
    })
    .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// What a pod was given as a whole never came to be known: there was nothing to replace.
    #[test]
    fn what_is_new_is_sent_as_it_is_and_what_was_there_is_replaced() {
        let want = json!({"allocatedResources": {"cpu": "1"}});
        let sent = |have: Value| status_patch("u", &have, &want).unwrap()["status"]["allocatedResources"].clone();
        assert_eq!(sent(json!({})), json!({"cpu": "1"}));
        assert_eq!(sent(json!({"allocatedResources": {"memory": "1"}})), json!({"cpu": "1", "$patch": "replace"}));
    }

    #[test]
    fn only_differences_are_sent() {
        let have = json!({"phase": "Pending", "podIP": "1.2.3.4", "conditions": [
            {"type": "Ready", "status": "False", "reason": "X"},
            {"type": "Mine", "status": "True"}]});
        assert_eq!(status_patch("u", &have, &have), None);
        let want = json!({"phase": "Running", "podIPs": [{"ip": "1.2.3.4"}], "conditions": [
            {"type": "Ready", "status": "True"}]});
        let patch = status_patch("u", &have, &want).unwrap();
        assert_eq!(
            patch["status"],
            json!({"phase": "Running", "podIP": null,
                "podIPs": [{"$patch": "replace"}, {"ip": "1.2.3.4"}],
                "conditions": [{"type": "Ready", "status": "True", "reason": null}]})
        );
        assert_eq!(patch["metadata"]["uid"], "u");
    }
}
