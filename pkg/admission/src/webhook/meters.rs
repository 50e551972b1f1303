//! What webhooks were asked, by upstream's names.

use std::time::Duration;

use kedge_base::exposition::{Counters, Exposition, Histograms, written};
use kedge_registry::Operation;

const BUCKETS: [f64; 8] = [0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 25.0];
const DURATION: &str = "apiserver_admission_webhook_admission_duration_seconds";
const REJECTIONS: &str = "apiserver_admission_webhook_rejection_count";
const OPENED: &str = "apiserver_admission_webhook_fail_open_count";
const REQUESTS: &str = "apiserver_admission_webhook_request_total";

/// Whose webhooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Admit,
    Validating,
}

impl Step {
    fn as_str(self) -> &'static str {
        match self {
            Self::Admit => "admit",
            Self::Validating => "validating",
        }
    }
}

/// What became of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    Allowed,
    /// With the code of the refusal.
    Denied(u16),
    /// It could not be asked, and the request went on.
    Opened(u16),
    /// It could not be asked, and the request failed.
    Closed(u16),
    /// What it answered could not be done.
    Failed,
}

/// Counters and histograms.
pub(crate) struct Meters {
    durations: Histograms<8>,
    rejections: Counters,
    opened: Counters,
    requests: Counters,
}

impl Default for Meters {
    fn default() -> Self {
        Self {
            durations: Histograms::new(&BUCKETS),
            rejections: Counters::default(),
            opened: Counters::default(),
            requests: Counters::default(),
        }
    }
}

impl Meters {
    /// Counts a call.
    pub(crate) fn observe(&self, hook: &str, step: Step, operation: Operation, took: Duration, ended: Ended) {
        let rejected = !matches!(ended, Ended::Allowed | Ended::Opened(_));
        let code = match ended {
            Ended::Allowed => 200,
            Ended::Denied(code) | Ended::Opened(code) | Ended::Closed(code) => code.min(600),
            Ended::Failed => 0,
        };
        let (code, rejected) = (code.to_string(), rejected.to_string());
        let kind = [("name", hook), ("type", step.as_str()), ("operation", operation.as_str())];
        let labels = |more: &[(&str, &str)]| written(&[&kind[..], more].concat());
        self.requests.add(labels(&[("code", &code), ("rejected", &rejected)]));
        let error = match ended {
            Ended::Allowed => None,
            Ended::Opened(_) => {
                self.opened.add(written(&kind[..2]));
                None
            }
            Ended::Denied(_) => Some("no_error"),
            Ended::Closed(_) => Some("calling_webhook_error"),
            Ended::Failed => Some("apiserver_internal_error"),
        };
        if let Some(error) = error {
            self.rejections.add(labels(&[("error_type", error), ("rejection_code", &code)]));
        }
        self.durations.observe(labels(&[("rejected", &rejected)]), took.as_secs_f64());
    }

    pub(crate) fn show(&self, out: &mut Exposition) {
        self.durations.show(out, DURATION, "[STABLE] Admission webhook latency histogram in seconds, identified by name and broken out for each operation and API resource and type (validate or admit).");
        self.opened.show(out, OPENED, "[ALPHA] Admission webhook fail open count, identified by name and broken out for each admission type (validating or admit).");
        self.rejections.show(out, REJECTIONS, "[ALPHA] Admission webhook rejection count, identified by name and broken out for each admission type (validating or admit) and operation. Additional labels specify an error type (calling_webhook_error or apiserver_internal_error if an error occurred; no_error otherwise) and optionally a non-zero rejection code if the webhook rejects the request with an HTTP status code (honored by the apiserver when the code is greater or equal to 400). Codes greater than 600 are truncated to 600, to keep the metrics cardinality bounded.");
        self.requests.show(out, REQUESTS, "[ALPHA] Admission webhook request total, identified by name and broken out for each admission type (validating or admit) and operation. Additional labels specify whether the request was rejected or not and an HTTP status code. Codes greater than 600 are truncated to 600, to keep the metrics cardinality bounded.");
    }
}
