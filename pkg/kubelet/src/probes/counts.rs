//! How often probes succeeded and failed, and how long they took, as long as they run.

use std::sync::Arc;
use std::sync::Weak;
use std::sync::atomic::{AtomicU64, Ordering};

use k8s_openapi::api::core::v1::Pod;
use kedge_base::exposition::{Exposition, Histogram, written};
use parking_lot::Mutex;

use super::ProbeKind;
use crate::pod::PodExt;

const BOUNDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// What came of one try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tried {
    Succeeded,
    Failed,
    Unknown,
}

/// The counts of one probe of one container; they go with it.
pub(super) struct Count {
    kind: &'static str,
    container: String,
    pod: String,
    namespace: String,
    uid: String,
    tried: [AtomicU64; 3],
    took: Histogram<11>,
}

impl Count {
    pub(super) fn add(&self, tried: Tried, seconds: f64) {
        self.tried[tried as usize].fetch_add(1, Ordering::Relaxed);
        // Upstream times only those that came to an end.
        if tried != Tried::Unknown {
            self.took.observe(seconds);
        }
    }
}

/// The probes that run.
#[derive(Default)]
pub(super) struct Counts(Mutex<Vec<Weak<Count>>>);

impl Counts {
    pub(super) fn begin(&self, kind: ProbeKind, pod: &Pod, container: &str) -> Arc<Count> {
        let count = Arc::new(Count {
            kind: kind.as_str(),
            container: container.to_owned(),
            pod: pod.name().to_owned(),
            namespace: pod.namespace().to_owned(),
            uid: pod.uid().to_owned(),
            tried: Default::default(),
            took: Histogram::new(&BOUNDS),
        });
        let mut all = self.0.lock();
        all.retain(|count| count.strong_count() > 0);
        all.push(Arc::downgrade(&count));
        count
    }

    /// Writes them out.
    pub(super) fn show(&self, out: &mut Exposition) {
        let all: Vec<Arc<Count>> = self.0.lock().iter().filter_map(Weak::upgrade).collect();
        let help = "Cumulative number of a liveness, readiness or startup probe for a container by result.";
        out.family("prober_probe_total", "counter", help);
        for count in &all {
            for (result, number) in ["successful", "failed", "unknown"].into_iter().zip(&count.tried) {
                let number = number.load(Ordering::Relaxed);
                let labels = [
                    ("container", count.container.as_str()),
                    ("namespace", &count.namespace),
                    ("pod", &count.pod),
                    ("pod_uid", &count.uid),
                    ("probe_type", count.kind),
                    ("result", result),
                ];
                if number > 0 {
                    out.sample("prober_probe_total", &labels, number as f64);
                }
            }
        }
        out.family("prober_probe_duration_seconds", "histogram", "Duration in seconds for a probe response.");
        for count in all.iter().filter(|count| count.took.count() > 0) {
            let labels = written(&[
                ("container", &count.container),
                ("namespace", &count.namespace),
                ("pod", &count.pod),
                ("probe_type", count.kind),
            ]);
            count.took.show(out, "prober_probe_duration_seconds", &labels);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::testing::pod;
    use serde_json::json;

    #[test]
    fn counts_are_shown_as_long_as_the_probe_runs() {
        let (counts, pod) = (Counts::default(), pod(json!({"containers": []})));
        let text = |counts: &Counts| {
            let mut out = Exposition::default();
            counts.show(&mut out);
            out.into_text()
        };
        let count = counts.begin(ProbeKind::Readiness, &pod, "c");
        count.add(Tried::Succeeded, 0.02);
        count.add(Tried::Unknown, 9.0);
        let told = text(&counts);
        let labels = "container=\"c\",namespace=\"ns\",pod=\"p\"";
        for line in [
            format!("prober_probe_total{{{labels},pod_uid=\"u\",probe_type=\"Readiness\",result=\"successful\"}} 1"),
            format!("prober_probe_total{{{labels},pod_uid=\"u\",probe_type=\"Readiness\",result=\"unknown\"}} 1"),
            format!("prober_probe_duration_seconds_count{{{labels},probe_type=\"Readiness\"}} 1"),
        ] {
            assert!(told.lines().any(|have| have == line), "{line} is not in\n{told}");
        }
        drop(count);
        assert!(!text(&counts).contains("prober_probe_total{"));
    }
}
