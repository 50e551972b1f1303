//! What the kubelet counts of its own work, by upstream's names: `/metrics`.
//!
//! Gauges are read when somebody asks; what is counted here are numbers, bounded by the kinds of things there are.

use std::sync::atomic::{AtomicU64, Ordering};

use kedge_base::exposition::{Counters, Exposition, Histogram, Histograms, written};

/// Prometheus' own.
const DEFAULT: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Upstream's of calls to the runtime: from 5 ms, each two and a half times the one before.
const CALLS: [f64; 14] = [
    0.005,
    0.0125,
    0.03125,
    0.078_125,
    0.195_312_5,
    0.488_281_25,
    1.220_703_125,
    3.051_757_812_5,
    7.629_394_531_25,
    19.073_486_328_125,
    47.683_715_820_312_5,
    119.209_289_550_781_25,
    298.023_223_876_953_1,
    745.058_059_692_382_8,
];
/// Upstream's of starts of pods.
const STARTS: [f64; 25] = [
    0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 20.0, 30.0, 45.0, 60.0, 120.0, 180.0, 240.0, 300.0, 360.0, 480.0,
    600.0, 900.0, 1200.0, 1800.0, 2700.0, 3600.0,
];
/// Upstream's of pulls.
const PULLS: [f64; 18] = [
    1.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 180.0, 240.0, 300.0, 360.0, 480.0, 600.0, 900.0, 1200.0, 1800.0, 2700.0,
    3600.0,
];

/// One label, written out.
pub(crate) fn label(name: &str, value: &str) -> String {
    written(&[(name, value)])
}

/// Everything that is counted.
pub(crate) struct Metrics {
    pub(crate) runtime_operations: Counters,
    pub(crate) runtime_errors: Counters,
    pub(crate) runtime_durations: Histograms<14>,
    pub(crate) pod_start: Histogram<25>,
    pub(crate) pod_start_total: Histogram<25>,
    pub(crate) pod_worker: Histograms<11>,
    pub(crate) pleg_relist: Histogram<11>,
    pub(crate) pleg_interval: Histogram<11>,
    pub(crate) image_pull: Histograms<18>,
    pub(crate) images_collected: Counters,
    pub(crate) evictions: Counters,
    pub(crate) preemptions: Counters,
    pub(crate) started_containers: Counters,
    pub(crate) failed_containers: Counters,
    pub(crate) http_requests: Counters,
    pub(crate) started_pods: AtomicU64,
    pub(crate) failed_pods: AtomicU64,
    pub(crate) orphaned_pods: AtomicU64,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics {
            runtime_operations: Counters::default(),
            runtime_errors: Counters::default(),
            runtime_durations: Histograms::new(&CALLS),
            pod_start: Histogram::new(&STARTS),
            pod_start_total: Histogram::new(&STARTS),
            pod_worker: Histograms::new(&DEFAULT),
            pleg_relist: Histogram::new(&DEFAULT),
            pleg_interval: Histogram::new(&DEFAULT),
            image_pull: Histograms::new(&PULLS),
            images_collected: Counters::default(),
            evictions: Counters::default(),
            preemptions: Counters::default(),
            started_containers: Counters::default(),
            failed_containers: Counters::default(),
            http_requests: Counters::default(),
            started_pods: AtomicU64::new(0),
            failed_pods: AtomicU64::new(0),
            orphaned_pods: AtomicU64::new(0),
        }
    }
}

impl Metrics {
    /// Writes what was counted.
    pub(crate) fn show(&self, out: &mut Exposition) {
        let counters = [
            (
                &self.runtime_operations,
                "kubelet_runtime_operations_total",
                "Cumulative number of runtime operations by operation type.",
            ),
            (
                &self.runtime_errors,
                "kubelet_runtime_operations_errors_total",
                "Cumulative number of runtime operation errors by operation type.",
            ),
            (
                &self.images_collected,
                "kubelet_image_garbage_collected_total",
                "Total number of images garbage collected by the kubelet, whether through disk usage or image age.",
            ),
            (&self.evictions, "kubelet_evictions", "Cumulative number of pod evictions by eviction signal"),
            (&self.preemptions, "kubelet_preemptions", "Cumulative number of pod preemptions by preemption resource"),
            (&self.started_containers, "kubelet_started_containers_total", "Cumulative number of containers started"),
            (
                &self.failed_containers,
                "kubelet_started_containers_errors_total",
                "Cumulative number of errors when starting containers",
            ),
            (
                &self.http_requests,
                "kubelet_http_requests_total",
                "Number of the http requests received since the server started",
            ),
        ];
        for (counters, name, help) in counters {
            counters.show(out, name, help);
        }
        self.show_durations(out);
        self.show_numbers(out);
    }

    fn show_durations(&self, out: &mut Exposition) {
        self.runtime_durations.show(
            out,
            "kubelet_runtime_operations_duration_seconds",
            "Duration in seconds of runtime operations. Broken down by operation type.",
        );
        let help = "Duration in seconds to sync a single pod. Broken down by operation type: create, update, or sync";
        self.pod_worker.show(out, "kubelet_pod_worker_duration_seconds", help);
        self.image_pull.show(out, "kubelet_image_pull_duration_seconds", "Duration in seconds to pull an image.");
        histogram(
            out,
            &self.pod_start,
            "kubelet_pod_start_duration_seconds",
            "Duration in seconds from kubelet seeing a pod for the first time to the pod starting to run",
        );
        histogram(
            out,
            &self.pod_start_total,
            "kubelet_pod_start_total_duration_seconds",
            "Duration in seconds to start a pod since creation, including time to pull images and run init containers",
        );
        histogram(
            out,
            &self.pleg_relist,
            "kubelet_pleg_relist_duration_seconds",
            "Duration in seconds for relisting pods in PLEG.",
        );
        histogram(
            out,
            &self.pleg_interval,
            "kubelet_pleg_relist_interval_seconds",
            "Interval in seconds between relisting in PLEG.",
        );
    }

    fn show_numbers(&self, out: &mut Exposition) {
        let numbers = [
            (&self.started_pods, "kubelet_started_pods_total", "Cumulative number of pods started"),
            (&self.failed_pods, "kubelet_started_pods_errors_total", "Cumulative number of errors when starting pods"),
            (
                &self.orphaned_pods,
                "kubelet_orphaned_runtime_pods_total",
                "Number of pods that have been detected in the container runtime without being already known to the pod worker.",
            ),
        ];
        for (number, name, help) in numbers {
            out.single(name, "counter", help, number.load(Ordering::Relaxed) as f64);
        }
    }
}

fn histogram<const N: usize>(out: &mut Exposition, histogram: &Histogram<N>, name: &str, help: &str) {
    out.family(name, "histogram", help);
    histogram.show(out, name, "");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_shown_by_upstreams_names() {
        let metrics = Metrics::default();
        metrics.runtime_operations.add(label("operation_type", "version"));
        metrics.runtime_durations.observe(label("operation_type", "version"), 0.02);
        metrics.started_pods.fetch_add(2, Ordering::Relaxed);
        let mut out = Exposition::default();
        metrics.show(&mut out);
        let text = out.into_text();
        for line in [
            "kubelet_runtime_operations_total{operation_type=\"version\"} 1",
            "kubelet_runtime_operations_duration_seconds_bucket{operation_type=\"version\",le=\"0.03125\"} 1",
            "kubelet_started_pods_total 2",
            "# TYPE kubelet_pleg_relist_duration_seconds histogram",
        ] {
            assert!(text.lines().any(|have| have == line), "{line} is not in\n{text}");
        }
    }
}
