//! Pod failure policies and success policies of Jobs.

use serde_json::Value;

use super::indexes::Indexes;
use crate::objects::{FailureRule, Job, OnExitCodes, Pod, SuccessPolicy};

/// What the failure of a pod means.
#[derive(Debug, PartialEq, Eq)]
pub enum Failure {
    /// Counts against the limit.
    Count,
    /// Does not count.
    Ignore,
    /// Its index has failed for good.
    FailIndex,
    /// The whole Job has failed, with this message.
    FailJob(String),
}

/// By the first rule that matches.
pub fn of_failure(job: &Job, pod: &Pod) -> Failure {
    let rules = job.spec.pod_failure_policy.as_ref().map(|p| p.rules.as_slice()).unwrap_or_default();
    for (i, rule) in rules.iter().enumerate() {
        let Some(why) = matched(rule, pod) else { continue };
        return match rule.action.as_str() {
            "Ignore" => Failure::Ignore,
            "Count" => Failure::Count,
            "FailIndex" if job.spec.backoff_limit_per_index.is_some() => Failure::FailIndex,
            "FailJob" => Failure::FailJob(format!("{why} matching FailJob rule at index {i}")),
            _ => continue,
        };
    }
    Failure::Count
}

/// Why the rule matches.
fn matched(rule: &FailureRule, pod: &Pod) -> Option<String> {
    if let Some(codes) = &rule.on_exit_codes {
        let statuses = pod.status.init_container_statuses.iter().chain(&pod.status.container_statuses);
        return statuses.into_iter().find_map(|status| {
            let named = codes.container_name.as_ref().is_none_or(|n| *n == status.name);
            let code = status.state.pointer("/terminated/exitCode").and_then(Value::as_i64)?;
            (named && matches_code(codes, code)).then(|| {
                let key = pod.metadata.key();
                format!("Container {} for pod {key} failed with exit code {code}", status.name)
            })
        });
    }
    let holds = |kind: &str, status: &str| pod.status.conditions.iter().any(|c| c.kind == kind && c.status == status);
    let condition =
        rule.on_pod_conditions.iter().find(|c| holds(&c.kind, if c.status.is_empty() { "True" } else { &c.status }))?;
    Some(format!("Pod {} has condition {}", pod.metadata.key(), condition.kind))
}

fn matches_code(codes: &OnExitCodes, code: i64) -> bool {
    match codes.operator.as_str() {
        // Zero is no failure.
        _ if code == 0 => false,
        "In" => codes.values.contains(&code),
        "NotIn" => !codes.values.contains(&code),
        _ => false,
    }
}

/// The message of the first rule that is met, if one is.
pub fn of_success(policy: Option<&SuccessPolicy>, completions: i64, succeeded: &Indexes) -> Option<String> {
    if succeeded.0.is_empty() {
        return None;
    }
    let met = |rule: &crate::objects::SuccessRule| {
        let wanted = rule.succeeded_indexes.as_ref().map(|text| Indexes::parse(text, completions));
        let there = match &wanted {
            Some(wanted) => wanted.0.intersection(&succeeded.0).count(),
            None => succeeded.0.len(),
        };
        match (rule.succeeded_count, &wanted) {
            (Some(count), _) => there >= count,
            (None, Some(wanted)) => there == wanted.0.len(),
            (None, None) => false,
        }
    };
    let index = policy?.rules.iter().position(met)?;
    Some(format!("Matched rules at index {index}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn the_first_rule_decides() {
        let job: Job = serde_json::from_value(json!({"spec": {"podFailurePolicy": {"rules": [
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]},
            {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}},
        ]}}}))
        .unwrap();
        let pod = |status| -> Pod {
            serde_json::from_value(json!({"metadata": {"namespace": "ns", "name": "p"}, "status": status})).unwrap()
        };
        let exit =
            |code: i64| pod(json!({"containerStatuses": [{"name": "c", "state": {"terminated": {"exitCode": code}}}]}));
        assert_eq!(of_failure(&job, &exit(1)), Failure::Count);
        let message = "Container c for pod ns/p failed with exit code 42 matching FailJob rule at index 1";
        assert_eq!(of_failure(&job, &exit(42)), Failure::FailJob(message.into()));
        let disrupted = pod(json!({"conditions": [{"type": "DisruptionTarget", "status": "True"}]}));
        assert_eq!(of_failure(&job, &disrupted), Failure::Ignore);
    }

    #[test]
    fn a_success_policy_is_met_by_indexes_or_by_number() {
        let policy: SuccessPolicy =
            serde_json::from_value(json!({"rules": [{"succeededIndexes": "0,2"}, {"succeededCount": 3}]})).unwrap();
        let met = |text| of_success(Some(&policy), 10, &Indexes::parse(text, 10));
        assert_eq!(met("0"), None);
        assert_eq!(met("0,2").unwrap(), "Matched rules at index 0");
        assert_eq!(met("5-7").unwrap(), "Matched rules at index 1");
    }
}
