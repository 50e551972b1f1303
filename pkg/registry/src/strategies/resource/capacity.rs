//! Capacity of a device that several share: how much of it they may ask for.

use kedge_meta::field::{Error, ErrorList, Path};
use kedge_meta::quantity::Quantity;

use super::super::validation::At;
use super::super::validation::scalar::quantity;
use super::items;

const MAX_VALUES: usize = 10;

/// The policy of a capacity: some amounts, or all between two.
pub(super) fn policy(capacity: &At<'_>, at: &At<'_>, errors: &mut ErrorList) {
    let Some(most) = quantity(capacity) else { return };
    let (values, range, default) = (at.child("validValues"), at.child("validRange"), at.child("default"));
    if values.len() > 0 && range.is_set() {
        let why =
            "exactly one policy can be specified, cannot specify \"validValues\" and \"validRange\" at the same time";
        errors.push(at.forbidden(why));
    } else if values.len() > 0 {
        match quantity(&default) {
            None => errors.push(default.required("required when validValues is defined")),
            Some(default) => amounts(&values, &default, &most, errors),
        }
    } else if range.is_set() {
        match quantity(&default) {
            None => errors.push(default.required("required when validRange is defined")),
            Some(default) => between(&range, &default, &most, errors),
        }
    }
}

fn invalid(path: &Path, amount: &Quantity, why: impl Into<String>) -> Error {
    Error::invalid(path, amount.to_string(), why)
}

fn amounts(at: &At<'_>, default: &Quantity, most: &Quantity, errors: &mut ErrorList) {
    let all: Vec<Option<Quantity>> = at.items().map(|item| quantity(&item)).collect();
    for (n, pair) in all.windows(2).enumerate() {
        if let [Some(one), Some(next)] = pair
            && one > next
        {
            errors.push(invalid(&at.path.index(n + 1), next, "values must be sorted in ascending order"));
        }
    }
    let whole = |item: &At<'_>| quantity(item).map(|amount| amount.value()).unwrap_or_default().to_string().into();
    let mut found = false;
    items::set(at, MAX_VALUES, errors, whole, |item, errors| {
        let Some(amount) = quantity(&item) else { return };
        if amount > *most {
            errors.push(invalid(&item.path, &amount, format!("option is larger than capacity value: {most}")));
        }
        found |= amount == *default;
    });
    if !found {
        errors.push(invalid(&at.path, default, "default value is not valid according to the requestPolicy"));
    }
}

fn between(at: &At<'_>, default: &Quantity, most: &Quantity, errors: &mut ErrorList) {
    let (low, high, by) = (at.child("min"), at.child("max"), at.child("step"));
    let Some(min) = quantity(&low) else {
        errors.push(low.required("required when validRange is defined"));
        return;
    };
    if min > *most {
        errors.push(invalid(&low.path, &min, format!("min is larger than capacity value: {most}")));
    }
    if *default < min {
        errors.push(invalid(&low.path, default, format!("default is less than min: {min}")));
    }
    let max = quantity(&high);
    if let Some(max) = &max {
        if min > *max {
            errors.push(invalid(&high.path, &min, format!("min is larger than max: {max}")));
        }
        if max > most {
            errors.push(invalid(&high.path, max, format!("max is larger than capacity value: {most}")));
        }
        if default > max {
            errors.push(invalid(&high.path, default, format!("default is more than max: {max}")));
        }
    }
    let Some(step) = quantity(&by) else { return };
    let one = min.add(&step);
    if one > *most {
        errors.push(invalid(&by.path, &step, format!("one step {one} is larger than capacity value: {most}")));
    }
    for amount in std::iter::once(default).chain(&max) {
        // Upstream divides by zero here, and answers with an internal error; nothing is a multiple of nothing.
        let over = amount.value().saturating_sub(min.value()).checked_rem(step.value());
        if over != Some(0) {
            let why = format!("value is not a multiple of a given step ({step}) from ({min})");
            errors.push(invalid(&by.path, amount, why));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn said(policies: Value) -> Vec<String> {
        let (object, mut errors) = (json!({"value": "10", "policy": policies}), ErrorList::new());
        policy(&At::field(&object, "value"), &At::field(&object, "policy"), &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn some_amounts() {
        assert!(said(json!({"default": "2", "validValues": ["1", "2", "10"]})).is_empty());
        assert!(said(json!({"default": "1"})).is_empty());
        assert_eq!(
            said(json!({"validValues": ["1"]})),
            ["policy.default: Required value: required when validValues is defined"]
        );
        assert_eq!(
            said(json!({"default": "3", "validValues": ["20", "1", "1"]})),
            [
                "policy.validValues[1]: Invalid value: \"1\": values must be sorted in ascending order",
                "policy.validValues[0]: Invalid value: \"20\": option is larger than capacity value: 10",
                "policy.validValues[2]: Duplicate value: \"1\"",
                "policy.validValues: Invalid value: \"3\": default value is not valid according to the requestPolicy",
            ]
        );
        assert!(said(json!({"validValues": ["1"], "validRange": {}}))[0].starts_with("policy: Forbidden: exactly one"));
    }

    #[test]
    fn all_between_two() {
        let range = |range: Value| said(json!({"default": "4", "validRange": range}));
        assert!(range(json!({"min": "2", "max": "8", "step": "2"})).is_empty());
        assert_eq!(range(json!({})), ["policy.validRange.min: Required value: required when validRange is defined"]);
        assert_eq!(
            range(json!({"min": "5", "max": "3", "step": "6"})),
            [
                "policy.validRange.min: Invalid value: \"4\": default is less than min: 5",
                "policy.validRange.max: Invalid value: \"5\": min is larger than max: 3",
                "policy.validRange.max: Invalid value: \"4\": default is more than max: 3",
                "policy.validRange.step: Invalid value: \"6\": one step 11 is larger than capacity value: 10",
                "policy.validRange.step: Invalid value: \"4\": value is not a multiple of a given step (6) from (5)",
                "policy.validRange.step: Invalid value: \"3\": value is not a multiple of a given step (6) from (5)",
            ]
        );
        assert_eq!(
            range(json!({"min": "1", "step": "0"})),
            ["policy.validRange.step: Invalid value: \"4\": value is not a multiple of a given step (0) from (1)"]
        );
    }
}
