//! Pieces of objects as Go prints them, where messages of upstream's controllers have them.

use serde_json::Value;

/// A label selector, as Go prints it in messages.
pub fn printed_selector(selector: &Value) -> String {
    let Some(selector) = selector.as_object() else { return "nil".to_owned() };
    let text = |value: &Value, field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut labels: Vec<(&String, &str)> = Vec::new();
    if let Some(map) = selector.get("matchLabels").and_then(Value::as_object) {
        labels.extend(map.iter().map(|(key, value)| (key, value.as_str().unwrap_or_default())));
        labels.sort();
    }
    let labels: String = labels.into_iter().map(|(key, value)| format!("{key}: {value},")).collect();
    let expressions = selector.get("matchExpressions").and_then(Value::as_array).into_iter().flatten();
    let expressions = expressions.map(|expression| {
        let values = expression.get("values").and_then(Value::as_array).into_iter().flatten();
        let values: Vec<&str> = values.filter_map(Value::as_str).collect();
        format!(
            "LabelSelectorRequirement{{Key:{},Operator:{},Values:[{}],}},",
            text(expression, "key"),
            text(expression, "operator"),
            values.join(" ")
        )
    });
    let expressions: String = expressions.collect();
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{labels}}},MatchExpressions:[]LabelSelectorRequirement{{{expressions}}},}}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn selectors_are_printed_as_go_does() {
        assert_eq!(printed_selector(&Value::Null), "nil");
        let empty = "&LabelSelector{MatchLabels:map[string]string{},MatchExpressions:[]LabelSelectorRequirement{},}";
        assert_eq!(printed_selector(&json!({})), empty);
        let selector = json!({"matchLabels": {"b": "c", "a": ""},
            "matchExpressions": [{"key": "k", "operator": "In", "values": ["x", "y"]}, {"key": "e", "operator": "Exists"}]});
        let wanted = "&LabelSelector{MatchLabels:map[string]string{a: ,b: c,},MatchExpressions:[]LabelSelectorRequirement{\
            LabelSelectorRequirement{Key:k,Operator:In,Values:[x y],},LabelSelectorRequirement{Key:e,Operator:Exists,Values:[],},},}";
        assert_eq!(printed_selector(&selector), wanted);
    }
}
