//! What is counted of authorizers, by upstream's names.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kedge_base::exposition::{Counters, Exposition, Histograms, written};
use parking_lot::Mutex;

/// Upstream's buckets, in seconds.
const ROUND_TRIP: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
const CONDITIONS: [f64; 7] = [0.001, 0.005, 0.01, 0.025, 0.1, 0.2, 0.25];
/// Authorizers that have ever been configured while the server ran; those beyond are asked and not counted.
const MOST: usize = 1_024;

/// Figures of all authorizers, those that have been replaced among them.
pub struct AuthorizationMeters {
    evaluations: Counters,
    durations: Histograms<11>,
    failed_open: Counters,
    condition_errors: Counters,
    exclusions: Counters,
    conditions: Histograms<7>,
    decisions: Mutex<BTreeMap<(String, String), Arc<Decisions>>>,
}

/// How often one of them has decided.
#[derive(Debug, Default)]
pub(crate) struct Decisions {
    pub(crate) allowed: AtomicU64,
    pub(crate) denied: AtomicU64,
}

impl Default for AuthorizationMeters {
    fn default() -> Self {
        Self {
            evaluations: Counters::default(),
            durations: Histograms::new(&ROUND_TRIP),
            failed_open: Counters::default(),
            condition_errors: Counters::default(),
            exclusions: Counters::default(),
            conditions: Histograms::new(&CONDITIONS),
            decisions: Mutex::default(),
        }
    }
}

impl AuthorizationMeters {
    /// The decisions of an authorizer by its type and name.
    pub(crate) fn decisions(&self, kind: &str, name: &str) -> Arc<Decisions> {
        let mut all = self.decisions.lock();
        if all.len() >= MOST {
            return all.get(&(kind.to_owned(), name.to_owned())).cloned().unwrap_or_default();
        }
        all.entry((kind.to_owned(), name.to_owned())).or_default().clone()
    }

    pub(super) fn round_trip(&self, name: &str, result: &str, took: Duration) {
        let labels = written(&[("name", name), ("result", result)]);
        self.evaluations.add(labels.clone());
        self.durations.observe(labels, took.as_secs_f64());
    }

    pub(super) fn failed_open(&self, name: &str, result: &str) {
        self.failed_open.add(written(&[("name", name), ("result", result)]));
    }

    pub(super) fn conditions(&self, name: &str, held: &Result<bool, String>, took: Duration) {
        let labels = written(&[("type", "Webhook"), ("name", name)]);
        self.conditions.observe(labels.clone(), took.as_secs_f64());
        match held {
            Ok(true) => {}
            Ok(false) => self.exclusions.add(labels),
            Err(_) => self.condition_errors.add(labels),
        }
    }

    /// Writes them out.
    pub fn show(&self, out: &mut Exposition) {
        let decisions = "apiserver_authorization_decisions_total";
        out.family(decisions, "counter", "[ALPHA] Total number of terminal decisions made by an authorizer split by authorizer type, name, and decision.");
        for ((kind, name), counted) in &*self.decisions.lock() {
            for (decision, count) in [("allowed", &counted.allowed), ("denied", &counted.denied)] {
                let count = count.load(Ordering::Relaxed);
                if count > 0 {
                    out.sample(decisions, &[("decision", decision), ("name", name), ("type", kind)], count as f64);
                }
            }
        }
        self.condition_errors.show(out, "apiserver_authorization_match_condition_evaluation_errors_total", "[ALPHA] Total number of errors when an authorization webhook encounters a match condition error split by authorizer type and name.");
        self.conditions.show(
            out,
            "apiserver_authorization_match_condition_evaluation_seconds",
            "[ALPHA] Authorization match condition evaluation time in seconds, split by authorizer type and name.",
        );
        self.exclusions.show(out, "apiserver_authorization_match_condition_exclusions_total", "[ALPHA] Total number of exclusions when an authorization webhook is skipped because match conditions exclude it.");
        self.durations.show(
            out,
            "apiserver_authorization_webhook_duration_seconds",
            "[ALPHA] Request latency in seconds.",
        );
        self.failed_open.show(
            out,
            "apiserver_authorization_webhook_evaluations_fail_open_total",
            "[ALPHA] NoOpinion results due to webhook timeout or error.",
        );
        self.evaluations.show(
            out,
            "apiserver_authorization_webhook_evaluations_total",
            "[ALPHA] Round-trips to authorization webhooks.",
        );
    }
}
