//! How often probes succeeded and failed, and how long they took, as long as they run.

use std::collections::HashSet;
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
    /// One for all pods of a name, since upstream tells them by that alone.
    took: Arc<Histogram<11>>,
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
        let kind = kind.as_str();
        let mut all = self.0.lock();
        all.retain(|count| count.strong_count() > 0);
        // One that ends may overlap with the next of its name, which goes on where it was.
        let is_same = |count: &Arc<Count>| {
            (count.kind, count.container.as_str()) == (kind, container)
                && (count.pod.as_str(), count.namespace.as_str()) == (pod.name(), pod.namespace())
        };
        let same = all.iter().filter_map(Weak::upgrade).find(is_same);
        let took = same.map_or_else(|| Arc::new(Histogram::new(&BOUNDS)), |count| count.took.clone());
        let count = Arc::new(Count {
            kind,
            container: container.to_owned(),
            pod: pod.name().to_owned(),
            namespace: pod.namespace().to_owned(),
            uid: pod.uid().to_owned(),
            tried: Default::default(),
            took,
        });
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
        let mut shown = HashSet::new();
        for count in all.iter().filter(|count| count.took.count() > 0) {
            if !shown.insert(Arc::as_ptr(&count.took)) {
                continue;
            }
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
        // Another of its name has the same durations, which are told once.
        let mut next = pod.clone();
        next.metadata.uid = Some("next".to_owned());
        let other = counts.begin(ProbeKind::Readiness, &next, "c");
        other.add(Tried::Failed, 0.02);
        let told = text(&counts);
        let all = format!("prober_probe_duration_seconds_count{{{labels},probe_type=\"Readiness\"}}");
        let lines: Vec<&str> = told.lines().filter(|line| line.starts_with(&all)).collect();
        assert_eq!(lines, [format!("{all} 2")]);
        assert!(told.contains("pod_uid=\"next\""), "{told}");
        drop((count, other));
        assert!(!text(&counts).contains("prober_probe_total{"));
    }
}
