//! Label keys of a pod become part of the selectors that name them, once, at creation.

use serde_json::{Value, json};

use crate::value::ValueExt;

/// Merges `matchLabelKeys` and `mismatchLabelKeys` into the selectors beside them.
pub(super) fn merge_label_keys(pod: &mut Value) {
    let labels = pod.map(&["metadata", "labels"]).cloned().unwrap_or_default();
    let Some(spec) = pod.get_mut("spec") else { return };
    let mut terms: Vec<&mut Value> = Vec::new();
    if let Some(Value::Object(affinity)) = spec.get_mut("affinity") {
        for (kind, pods) in affinity.iter_mut().filter(|(kind, _)| *kind != "nodeAffinity") {
            let _ = kind;
            for (when, list) in pods.as_object_mut().into_iter().flatten() {
                let weighted = when.starts_with("preferred");
                for term in list.as_array_mut().into_iter().flatten() {
                    terms.extend(if weighted { term.get_mut("podAffinityTerm") } else { Some(term) });
                }
            }
        }
    }
    for term in terms {
        merge(term, "matchLabelKeys", "In", &labels);
        merge(term, "mismatchLabelKeys", "NotIn", &labels);
    }
    if let Some(Value::Array(constraints)) = spec.get_mut("topologySpreadConstraints") {
        constraints.iter_mut().for_each(|constraint| merge(constraint, "matchLabelKeys", "In", &labels));
    }
}

fn merge(term: &mut Value, keys: &str, operator: &str, labels: &serde_json::Map<String, Value>) {
    let keys: Vec<Value> = term.list(&[keys]).to_vec();
    let Some(Value::Object(selector)) = term.get_mut("labelSelector") else { return };
    let expressions = selector.entry("matchExpressions").or_insert_with(|| json!([]));
    if expressions.is_null() {
        *expressions = json!([]);
    }
    for key in keys {
        let value = key.as_str().and_then(|key| labels.get(key));
        if let (Some(value), Value::Array(list)) = (value, &mut *expressions) {
            list.push(json!({"key": key, "operator": operator, "values": [value]}));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_become_expressions() {
        let mut pod = json!({"metadata": {"labels": {"a": "1", "b": "2"}}, "spec": {
            "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
                {"labelSelector": {}, "matchLabelKeys": ["a", "none"], "mismatchLabelKeys": ["b"]}]}},
            "topologySpreadConstraints": [{"labelSelector": {"matchLabels": {"x": "y"}}, "matchLabelKeys": ["b"]}]}});
        merge_label_keys(&mut pod);
        let term = &pod["spec"]["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][0];
        assert_eq!(
            term["labelSelector"]["matchExpressions"],
            json!([{"key": "a", "operator": "In", "values": ["1"]}, {"key": "b", "operator": "NotIn", "values": ["2"]}])
        );
        let spread = &pod["spec"]["topologySpreadConstraints"][0]["labelSelector"];
        assert_eq!(spread["matchExpressions"][0]["values"], json!(["2"]));
    }
}
