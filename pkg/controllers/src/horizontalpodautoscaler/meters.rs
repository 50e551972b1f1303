//! What the autoscalers' controller has done, counted under upstream's names.

use std::collections::BTreeMap;
use std::time::Duration;

use kedge_base::exposition::{Counters, Exposition, Histograms, written};
use kedge_meta::ObjectKey;
use parking_lot::Mutex;

/// `ExponentialBuckets(0.001, 2, 15)`.
const BOUNDS: [f64; 15] =
    [0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192, 16.384];
const LABELS: &str = "The label 'action' should be either 'scale_down', 'scale_up', or 'none'. Also, the label 'error' should be either 'spec', 'internal', or 'none'.";

/// Counts of one controller.
#[derive(Debug)]
pub struct Meters {
    passes: Counters,
    pass_seconds: Histograms<15>,
    metrics: Counters,
    metric_seconds: Histograms<15>,
    desired: Mutex<BTreeMap<ObjectKey, i32>>,
}

impl Meters {
    /// Nothing yet.
    pub fn new() -> Self {
        Self {
            passes: Counters::default(),
            pass_seconds: Histograms::new(&BOUNDS),
            metrics: Counters::default(),
            metric_seconds: Histograms::new(&BOUNDS),
            desired: Mutex::default(),
        }
    }

    /// A pass over an autoscaler.
    pub fn pass(&self, action: &str, error: &str, took: Duration) {
        let labels = written(&[("action", action), ("error", error)]);
        self.passes.add(labels.clone());
        self.pass_seconds.observe(labels, took.as_secs_f64());
    }

    /// A look at a metric.
    pub fn metric(&self, action: &str, error: &str, kind: &str, took: Duration) {
        let labels = written(&[("action", action), ("error", error), ("metric_type", kind)]);
        self.metrics.add(labels.clone());
        self.metric_seconds.observe(labels, took.as_secs_f64());
    }

    /// How many pods an autoscaler wants.
    pub fn desired(&self, key: &ObjectKey, replicas: i32) {
        self.desired.lock().insert(key.clone(), replicas);
    }

    /// An autoscaler is gone.
    pub fn forget(&self, key: &ObjectKey) {
        self.desired.lock().remove(key);
    }

    /// Writes all of it, `count` being how many autoscalers there are.
    pub fn show(&self, out: &mut Exposition, count: usize) {
        let name = |of: &str| format!("horizontal_pod_autoscaler_controller_{of}");
        let help = |what: &str| format!("{what} {LABELS}");
        self.passes.show(out, &name("reconciliations_total"), &help("Number of reconciliations of HPA controller."));
        self.pass_seconds.show(
            out,
            &name("reconciliation_duration_seconds"),
            &help("The time(seconds) that the HPA controller takes to reconcile once."),
        );
        self.metrics.show(out, &name("metric_computation_total"), &help("Number of metric computations."));
        self.metric_seconds.show(
            out,
            &name("metric_computation_duration_seconds"),
            &help("The time(seconds) that the HPA controller takes to calculate one metric."),
        );
        let family = name("num_horizontal_pod_autoscalers");
        out.single(&family, "gauge", "Current number of controlled HPA objects.", count as f64);
        let family = name("desired_replicas");
        out.family(&family, "gauge", "Current desired replica count for HPA objects.");
        for (key, replicas) in &*self.desired.lock() {
            out.sample(&family, &[("hpa_name", &key.name), ("namespace", &key.namespace)], f64::from(*replicas));
        }
    }
}
