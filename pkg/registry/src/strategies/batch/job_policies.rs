//! When a job fails, when it succeeds, and when its pods are replaced.

use kedge_meta::field::{Error, ErrorList, Omitted};

use super::super::validation::{At, Report};

const MAX_RULES: usize = 20;
const MAX_EXIT_CODES: usize = 255;
const MAX_CONDITIONS: usize = 20;

pub(super) fn failure(spec: &At<'_>, errors: &mut ErrorList) {
    let rules = spec.child("podFailurePolicy").child("rules");
    if rules.len() > MAX_RULES {
        errors.push(Error::too_many(&rules.path, rules.len(), MAX_RULES));
    }
    let per_index = spec.child("backoffLimitPerIndex").is_set();
    for rule in rules.items() {
        let action = rule.child("action");
        if action.text() == "FailIndex" && !per_index {
            errors.push(action.invalid("requires the backoffLimitPerIndex field to be set"));
        }
        errors.need_one_of(&action, &["Count", "FailIndex", "FailJob", "Ignore"]);
        let (codes, conditions) = (rule.child("onExitCodes"), rule.child("onPodConditions"));
        match (codes.is_set(), conditions.len() > 0) {
            (false, false) => {
                let why = "specifying one of OnExitCodes and OnPodConditions is required";
                errors.push(Error::invalid(&rule.path, Omitted, why));
            }
            (true, true) => {
                let why = "specifying both OnExitCodes and OnPodConditions is not supported";
                errors.push(Error::invalid(&rule.path, Omitted, why));
            }
            (true, false) => exit_codes(spec, &codes, errors),
            (false, true) => {
                if conditions.len() > MAX_CONDITIONS {
                    errors.push(Error::too_many(&conditions.path, conditions.len(), MAX_CONDITIONS));
                }
                for condition in conditions.items() {
                    errors.need_one_of(&condition.child("status"), &["False", "True", "Unknown"]);
                }
            }
        }
    }
}

fn exit_codes(spec: &At<'_>, at: &At<'_>, errors: &mut ErrorList) {
    let (operator, container, values) = (at.child("operator"), at.child("containerName"), at.child("values"));
    errors.need_one_of(&operator, &["In", "NotIn"]);
    if container.is_set() {
        let pod = spec.child("template").child("spec");
        let known = ["containers", "initContainers"]
            .iter()
            .flat_map(|list| pod.child(list).items())
            .any(|one| one.child("name").text() == container.text());
        if !known {
            errors.push(container.invalid("must be one of the container or initContainer names in the pod template"));
        }
    }
    if values.len() == 0 {
        errors.push(values.invalid("at least one value is required"));
    } else if values.len() > MAX_EXIT_CODES {
        errors.push(Error::too_many(&values.path, values.len(), MAX_EXIT_CODES));
    }
    let mut seen: Vec<i64> = Vec::new();
    let mut ordered = true;
    for value in values.items() {
        let code = value.int().unwrap_or_default();
        if operator.text() == "In" && code == 0 {
            errors.push(value.invalid("must not be 0 for the In operator"));
        }
        if seen.contains(&code) {
            errors.push(value.duplicate());
        }
        ordered &= seen.last().is_none_or(|last| *last <= code);
        seen.push(code);
    }
    if !ordered {
        errors.push(values.invalid("must be ordered"));
    }
}

pub(super) fn success(spec: &At<'_>, errors: &mut ErrorList) {
    let policy = spec.child("successPolicy");
    if !policy.is_set() {
        return;
    }
    if spec.child("completionMode").text() != "Indexed" {
        errors.push(policy.invalid("requires indexed completion mode"));
        return;
    }
    let rules = policy.child("rules");
    if rules.len() == 0 {
        errors.push(rules.required("at least one rules must be specified when the successPolicy is specified"));
    }
    if rules.len() > MAX_RULES {
        errors.push(Error::too_many(&rules.path, rules.len(), MAX_RULES));
    }
    let completions = spec.child("completions").int().unwrap_or_default();
    for rule in rules.items() {
        let (count, indexes) = (rule.child("succeededCount"), rule.child("succeededIndexes"));
        if !count.is_set() && !indexes.is_set() {
            errors.push(rule.required("at least one of succeededCount or succeededIndexes must be specified"));
        }
        errors.non_negative(&count);
        if count.int().is_some_and(|count| count > completions) {
            let detail = format!("must be less than or equal to {completions} (the number of specified completions)");
            errors.push(count.invalid(detail));
        }
    }
}

pub(super) fn replacement(spec: &At<'_>, errors: &mut ErrorList) {
    let policy = spec.child("podReplacementPolicy");
    if spec.child("podFailurePolicy").is_set() {
        errors.one_of(&policy, &["Failed"]);
    } else {
        errors.one_of(&policy, &["Failed", "TerminatingOrFailed"]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_rule_looks_at_one_thing() {
        let object = json!({"spec": {"podFailurePolicy": {"rules": [
            {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [3, 0, 3]}},
            {"action": "Ignore"}, {"action": "FailIndex", "onPodConditions": [{"status": "True"}]}]}}});
        let mut errors = ErrorList::new();
        failure(&At::field(&object, "spec"), &mut errors);
        let path = "spec.podFailurePolicy.rules";
        let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), 5);
        assert_eq!(
            texts[0],
            format!("{path}[0].onExitCodes.values[1]: Invalid value: 0: must not be 0 for the In operator")
        );
        assert_eq!(texts[1], format!("{path}[0].onExitCodes.values[2]: Duplicate value: 3"));
        assert!(texts[4].ends_with("requires the backoffLimitPerIndex field to be set"));
    }
}
