//! How policies judged, by upstream's names.

use std::time::Duration;

use kedge_base::exposition::{Counters, Exposition, Histograms, written};

use super::definition::Action;

/// In seconds: from an expression that reads a field to one that costs all that it may.
const BUCKETS: [f64; 5] = [0.0000005, 0.001, 0.01, 0.1, 1.0];

/// What is done about a validation that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Enforced {
    /// The policy failed, and lets requests pass then.
    Allow,
    Deny,
    Audit,
    Warn,
}

impl Enforced {
    pub(crate) fn of(action: Action) -> Self {
        match action {
            Action::Deny => Self::Deny,
            Action::Audit => Self::Audit,
            Action::Warn => Self::Warn,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Audit => "audit",
            Self::Warn => "warn",
        }
    }
}

/// Counters and histograms of both kinds of policies.
pub(crate) struct Meters {
    validated: Family,
    mutated: Family,
}

struct Family {
    checks: Counters,
    durations: Histograms<5>,
}

impl Family {
    fn new() -> Self {
        Self { checks: Counters::default(), durations: Histograms::new(&BUCKETS) }
    }

    fn observe(&self, labels: &[(&str, &str)], took: Duration) {
        let labels = written(labels);
        self.checks.add(labels.clone());
        self.durations.observe(labels, took.as_secs_f64());
    }
}

impl Default for Meters {
    fn default() -> Self {
        Self { validated: Family::new(), mutated: Family::new() }
    }
}

/// The kind of error that a message tells of, as upstream reads it.
fn error_type(message: &str) -> &'static str {
    if message.starts_with("compilation") {
        "compile_error"
    } else if message.starts_with("validation failed due to running out of cost budget") {
        "out_of_budget"
    } else {
        "invalid_error"
    }
}

impl Meters {
    /// Counts a validation that failed, for which `message` says why.
    pub(crate) fn validated(&self, policy: &str, binding: &str, message: &str, enforced: Enforced, took: Duration) {
        let labels = [
            ("policy", policy),
            ("policy_binding", binding),
            ("error_type", error_type(message)),
            ("enforcement_action", enforced.as_str()),
        ];
        self.validated.observe(&labels, took);
    }

    /// Counts a step of a mutation, or why there is none.
    pub(crate) fn mutated(&self, policy: &str, binding: &str, failed: Option<&str>, took: Duration) {
        let error = failed.map_or("no_error", error_type);
        let labels = [("policy", policy), ("policy_binding", binding), ("error_type", error)];
        self.mutated.observe(&labels, took);
    }

    pub(crate) fn show(&self, out: &mut Exposition) {
        let Family { checks, durations } = &self.mutated;
        durations.show(out, "apiserver_mutating_admission_policy_check_duration_seconds", "[ALPHA] Mutation admission latency for individual mutation expressions in seconds, labeled by policy and binding.");
        checks.show(
            out,
            "apiserver_mutating_admission_policy_check_total",
            "[ALPHA] Mutation admission policy check total, labeled by policy and further identified by binding.",
        );
        let Family { checks, durations } = &self.validated;
        durations.show(out, "apiserver_validating_admission_policy_check_duration_seconds", "[BETA] Validation admission latency for individual validation expressions in seconds, labeled by policy and further including binding and enforcement action taken.");
        checks.show(out, "apiserver_validating_admission_policy_check_total", "[BETA] Validation admission policy check total, labeled by policy and further identified by binding and enforcement action taken.");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_apart_by_what_they_say() {
        let meters = Meters::default();
        let exhausted = kedge_cel::EvalError::BudgetExhausted.to_string();
        for message in ["compilation error: compilation failed: x", &exhausted, "failed expression: a == b"] {
            meters.validated("p", "b", message, Enforced::Warn, Duration::from_micros(3));
        }
        meters.mutated("p", "b", None, Duration::from_secs(2));
        let mut out = Exposition::default();
        meters.show(&mut out);
        let text = out.into_text();
        for error in ["compile_error", "out_of_budget", "invalid_error"] {
            let line = format!(
                "apiserver_validating_admission_policy_check_total{{policy=\"p\",policy_binding=\"b\",error_type=\"{error}\",enforcement_action=\"warn\"}} 1\n"
            );
            assert!(text.contains(&line), "{text}");
        }
        let sum = "apiserver_mutating_admission_policy_check_duration_seconds_sum{policy=\"p\",policy_binding=\"b\",error_type=\"no_error\"} 2\n";
        assert!(text.contains(sum), "{text}");
    }
}
