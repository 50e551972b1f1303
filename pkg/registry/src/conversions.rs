//! How webhooks converted, by upstream's names.

use std::time::Duration;

use kedge_base::exposition::{Counters, Exposition, Histograms, written};

/// In seconds, of whole requests to webhooks.
const REQUESTS: [f64; 15] = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0];
/// In seconds, of one definition's conversions.
const DEFINITIONS: [f64; 15] =
    [0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192, 16.384];

/// Why a conversion failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConversionFailure {
    /// The webhook could not be asked.
    Call,
    /// Its answer is none.
    Malformed,
    /// It answered with fewer or more objects than it was given.
    Partial,
    /// One of the objects is not what it was asked for.
    Invalid,
}

impl ConversionFailure {
    fn as_str(self) -> &'static str {
        match self {
            Self::Call => "conversion_webhook_call_failure",
            Self::Malformed => "conversion_webhook_malformed_response_failure",
            Self::Partial => "conversion_webhook_partial_response_failure",
            Self::Invalid => "conversion_webhook_invalid_converted_object_failure",
        }
    }
}

/// Counters and histograms.
pub struct Conversions {
    requests: Counters,
    durations: Histograms<15>,
    definitions: Histograms<15>,
}

impl Default for Conversions {
    fn default() -> Self {
        Self {
            requests: Counters::default(),
            durations: Histograms::new(&REQUESTS),
            definitions: Histograms::new(&DEFINITIONS),
        }
    }
}

impl Conversions {
    /// Counts a request to the webhook of a definition, for objects of the version `from`.
    pub fn observe(&self, definition: &str, [from, to]: [&str; 2], failure: Option<ConversionFailure>, took: Duration) {
        let (result, failure) = match failure {
            None => ("success", ""),
            Some(failure) => ("failure", failure.as_str()),
        };
        let labels = written(&[("failure_type", failure), ("result", result)]);
        self.requests.add(labels.clone());
        self.durations.observe(labels, took.as_secs_f64());
        let succeeded = if failure.is_empty() { "true" } else { "false" };
        let labels = [("crd_name", definition), ("from_version", from), ("succeeded", succeeded), ("to_version", to)];
        self.definitions.observe(written(&labels), took.as_secs_f64());
    }

    /// Writes them out.
    pub fn show(&self, out: &mut Exposition) {
        self.durations.show(
            out,
            "apiserver_conversion_webhook_duration_seconds",
            "[ALPHA] Conversion webhook request latency",
        );
        self.requests.show(
            out,
            "apiserver_conversion_webhook_request_total",
            "[ALPHA] Counter for conversion webhook requests with success/failure and failure error type",
        );
        self.definitions.show(
            out,
            "apiserver_crd_conversion_webhook_duration_seconds",
            "[ALPHA] CRD webhook conversion duration in seconds",
        );
    }
}
