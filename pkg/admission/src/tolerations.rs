//! Tolerations of several origins in one list, without those that others cover.

use kedge_registry::value::ValueExt as _;
use serde_json::Value;

/// Both lists, in order; what another one covers is left out, and of equal ones the second.
pub(crate) fn merge(first: &[Value], second: &[Value]) -> Vec<Value> {
    let all: Vec<&Value> = first.iter().chain(second).collect();
    let mut merged: Vec<Value> = Vec::new();
    for (i, toleration) in all.iter().enumerate() {
        let before = merged.iter().any(|other| covers(other, toleration));
        let after = all[i + 1..].iter().any(|other| *other != *toleration && covers(other, toleration));
        if !before && !after {
            merged.push((*toleration).clone());
        }
    }
    merged
}

pub(crate) fn covers(wide: &Value, narrow: &Value) -> bool {
    if wide == narrow {
        return true;
    }
    let of = |field: &str| (wide.text(&[field]), narrow.text(&[field]));
    let ((wide_key, key), (wide_effect, effect), (operator, narrow_operator), (wide_value, value)) =
        (of("key"), of("effect"), of("operator"), of("value"));
    if wide_key != key && !(wide_key.is_empty() && operator == "Exists") {
        return false;
    }
    if wide_effect != effect && !wide_effect.is_empty() {
        return false;
    }
    if wide_effect == "NoExecute"
        && let Some(seconds) = wide.int(&["tolerationSeconds"])
        && narrow.int(&["tolerationSeconds"]).is_none_or(|own| own > seconds)
    {
        return false;
    }
    match operator {
        "Equal" | "" => narrow_operator == "Equal" && wide_value == value,
        "Exists" => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_others_cover_is_left_out() {
        let a = json!({"key": "a", "operator": "Equal", "value": "1", "effect": "NoSchedule"});
        let any_a = json!({"key": "a", "operator": "Exists"});
        let b = json!({"key": "b", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5});
        let longer = json!({"key": "b", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 9});
        let one = std::slice::from_ref::<Value>;
        assert_eq!(merge(one(&a), one(&a)), std::slice::from_ref(&a));
        assert_eq!(merge(one(&a), one(&any_a)), std::slice::from_ref(&any_a));
        assert_eq!(merge(one(&any_a), one(&a)), std::slice::from_ref(&any_a));
        assert_eq!(merge(one(&b), one(&longer)), std::slice::from_ref(&longer));
        assert_eq!(merge(one(&a), one(&b)), [a.clone(), b]);
        let everything = json!({"operator": "Exists"});
        assert_eq!(merge(&[a, longer], one(&everything)), [everything]);
    }
}
