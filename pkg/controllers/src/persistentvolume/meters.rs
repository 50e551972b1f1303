//! How many volumes and claims there are, how long making and deleting volumes takes, and what failed: metrics by upstream's names.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kedge_base::SharedClock;
use kedge_base::exposition::{Counters, Exposition, Histograms, Shown, written};
use kedge_client::Informer;
use parking_lot::Mutex;

use super::provisioners::plugin_name;
use crate::objects::volume::VolumePhase;
use crate::objects::{Claim, ClaimPhase, Volume};

const SECONDS: [f64; 13] = [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 25.0, 50.0, 120.0, 300.0, 600.0];

/// Something that has begun.
struct Operation {
    plugin: String,
    name: &'static str,
    since: Duration,
}

/// The binder's metrics.
pub(super) struct Meters {
    clock: SharedClock,
    claims: Informer<Claim>,
    volumes: Informer<Volume>,
    /// By claim (`namespace/name`) what is being made, by volume what is being deleted.
    operations: Mutex<HashMap<String, Operation>>,
    seconds: Histograms<13>,
    errors: Counters,
    assigned: AtomicU64,
    not_assigned: AtomicU64,
}

impl Meters {
    pub(super) fn new(clock: &SharedClock, claims: &Informer<Claim>, volumes: &Informer<Volume>) -> Self {
        Self {
            clock: clock.clone(),
            claims: claims.clone(),
            volumes: volumes.clone(),
            operations: Mutex::default(),
            seconds: Histograms::new(&SECONDS),
            errors: Counters::default(),
            assigned: AtomicU64::default(),
            not_assigned: AtomicU64::default(),
        }
    }

    /// Something begins, unless it has.
    pub(super) fn begin(&self, key: String, plugin: &str, name: &'static str) {
        let since = self.clock.monotonic();
        self.operations.lock().entry(key).or_insert_with(|| Operation { plugin: plugin.to_owned(), name, since });
    }

    /// It is done.
    pub(super) fn done(&self, key: &str) {
        let Some(Operation { plugin, name, since }) = self.operations.lock().remove(key) else { return };
        let labels = written(&[("plugin_name", &plugin), ("operation_name", name)]);
        self.seconds.observe(labels, self.clock.monotonic().saturating_sub(since).as_secs_f64());
    }

    /// It failed, and is tried again.
    pub(super) fn failed(&self, key: &str) {
        let operations = self.operations.lock();
        let Some(Operation { plugin, name, .. }) = operations.get(key) else { return };
        self.errors.add(written(&[("plugin_name", plugin), ("operation_name", name)]));
    }

    /// It is no more.
    pub(super) fn forget(&self, key: &str) {
        self.operations.lock().remove(key);
    }

    /// A claim got the default class, or did not.
    pub(super) fn assigned(&self, done: bool) {
        self.assigned.fetch_add(1, Ordering::Relaxed);
        self.not_assigned.fetch_add(u64::from(!done), Ordering::Relaxed);
    }

    fn show_volumes(&self, out: &mut Exposition) {
        let (mut total, mut bound, mut unbound) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for volume in self.volumes.list() {
            let mode = if volume.block { "Block" } else { "Filesystem" };
            *total.entry((plugin_name(&volume), mode)).or_insert(0_u64) += 1;
            let of = if volume.phase == VolumePhase::Bound { &mut bound } else { &mut unbound };
            *of.entry(volume.storage_class.clone()).or_insert(0_u64) += 1;
        }
        let name = "pv_collector_total_pv_count";
        out.family(name, "gauge", "[ALPHA] Gauge measuring total number of persistent volumes");
        for ((plugin, mode), count) in total {
            out.sample(name, &[("plugin_name", &plugin), ("volume_mode", mode)], count as f64);
        }
        for (name, state, counts) in
            [("pv_collector_bound_pv_count", "bound", bound), ("pv_collector_unbound_pv_count", "unbound", unbound)]
        {
            let help = format!("[ALPHA] Gauge measuring number of persistent volume currently {state}");
            out.family(name, "gauge", &help);
            for (class, count) in counts {
                out.sample(name, &[("storage_class", &class)], count as f64);
            }
        }
    }

    fn show_claims(&self, out: &mut Exposition) {
        let (mut bound, mut unbound) = (BTreeMap::new(), BTreeMap::new());
        for claim in self.claims.list() {
            let attributes = claim.attributes_class.clone().unwrap_or_default();
            let labels = (claim.metadata.namespace.clone(), claim.class().to_owned(), attributes);
            let of = if claim.phase == ClaimPhase::Bound { &mut bound } else { &mut unbound };
            *of.entry(labels).or_insert(0_u64) += 1;
        }
        for (name, state, counts) in
            [("pv_collector_bound_pvc_count", "bound", bound), ("pv_collector_unbound_pvc_count", "unbound", unbound)]
        {
            let help = format!("[ALPHA] Gauge measuring number of persistent volume claim currently {state}");
            out.family(name, "gauge", &help);
            for ((namespace, class, attributes), count) in counts {
                let labels = [
                    ("namespace", namespace.as_str()),
                    ("storage_class", &class),
                    ("volume_attributes_class", &attributes),
                ];
                out.sample(name, &labels, count as f64);
            }
        }
    }
}

impl Shown for Meters {
    fn show(&self, out: &mut Exposition) {
        self.show_volumes(out);
        self.show_claims(out);
        let seconds = "[ALPHA] Storage operation end to end duration in seconds";
        self.seconds.show(out, "volume_operation_total_seconds", seconds);
        let errors = "[ALPHA] Total volume operation errors";
        self.errors.show(out, "volume_operation_errors_total", errors);
        self.errors.show(out, "volume_operation_total_errors", &format!("{errors} (Deprecated since 1.36.0)"));
        out.single(
            "retroactive_storageclass_total",
            "counter",
            "[ALPHA] Total number of retroactive StorageClass assignments to persistent volume claim",
            self.assigned.load(Ordering::Relaxed) as f64,
        );
        out.single(
            "retroactive_storageclass_errors_total",
            "counter",
            "[ALPHA] Total number of failed retroactive StorageClass assignments to persistent volume claim",
            self.not_assigned.load(Ordering::Relaxed) as f64,
        );
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use kedge_base::system_clock;
    use kedge_meta::resources;
    use serde_json::json;

    #[test]
    fn volumes_and_claims_are_counted_by_upstreams_names() {
        let volume = json!({"metadata": {"name": "v"}, "status": {"phase": "Bound"},
            "spec": {"storageClassName": "s", "hostPath": {"path": "/x"}}});
        let claim = json!({"metadata": {"name": "c", "namespace": "n"}, "spec": {"storageClassName": "s"}});
        let claims: Informer<Claim> =
            Informer::fixed(&resources::PERSISTENT_VOLUME_CLAIMS, vec![serde_json::from_value(claim).unwrap()]);
        let volumes: Informer<Volume> =
            Informer::fixed(&resources::PERSISTENT_VOLUMES, vec![serde_json::from_value(volume).unwrap()]);
        let meters = Meters::new(&system_clock(), &claims, &volumes);
        meters.begin("n/c".to_owned(), "p", "provision");
        meters.failed("n/c");
        meters.done("n/c");
        meters.failed("n/c");
        meters.assigned(false);
        let mut out = Exposition::default();
        meters.show(&mut out);
        let text = out.into_text();
        for line in [
            "pv_collector_total_pv_count{plugin_name=\"kubernetes.io/host-path\",volume_mode=\"Filesystem\"} 1",
            "pv_collector_bound_pv_count{storage_class=\"s\"} 1",
            "pv_collector_unbound_pvc_count{namespace=\"n\",storage_class=\"s\",volume_attributes_class=\"\"} 1",
            "volume_operation_errors_total{plugin_name=\"p\",operation_name=\"provision\"} 1",
            "volume_operation_total_seconds_count{plugin_name=\"p\",operation_name=\"provision\"} 1",
            "retroactive_storageclass_errors_total 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
