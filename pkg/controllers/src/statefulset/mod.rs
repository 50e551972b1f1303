//! Keeps the pods of a StatefulSet, each with its own name and claims.

mod identity;
mod plan;
mod sync;

use std::sync::Arc;

use kedge_client::{Change, EventRecorder, Informer, WorkQueue};
use kedge_meta::labels::Selector;
use kedge_meta::resources::STATEFUL_SETS;
use kedge_meta::{ObjectKey, resources};

use crate::context::{Context, enqueue_changes};
use crate::objects::{Pod, StatefulSet};
use crate::workload::expectations::Expectations;
use crate::workload::history::ControllerRevision;
use crate::workload::index::OwnerIndex;
use crate::workload::manager;

struct Controller {
    ctx: Context,
    events: EventRecorder,
    queue: WorkQueue<ObjectKey>,
    sets: Informer<StatefulSet>,
    revisions: OwnerIndex<ControllerRevision>,
    expectations: Expectations,
}

/// Starts the controller.
pub fn start(ctx: &Context, history: &Informer<ControllerRevision>, revisions: &OwnerIndex<ControllerRevision>) {
    let queue = ctx.queue();
    let sets: Informer<StatefulSet> = ctx.informer(&STATEFUL_SETS);
    let controller = Arc::new(Controller {
        ctx: ctx.clone(),
        events: ctx.recorder("statefulset-controller"),
        queue: queue.clone(),
        sets: sets.clone(),
        revisions: revisions.clone(),
        expectations: Expectations::new(ctx.clock.clone()),
    });
    enqueue_changes(&sets, &queue);
    let c = controller.clone();
    ctx.pods.on_change(move |change| c.pod_changed(change));
    let c = controller.clone();
    ctx.claims.on_change(move |change| {
        if change.new.is_none() {
            c.claim_gone(&change.key());
        }
    });
    let (c, history) = (controller.clone(), history.clone());
    let synced = async move {
        c.sets.synced().await;
        c.ctx.claims.synced().await;
        c.ctx.pods.synced().await;
        history.synced().await;
    };
    ctx.work("statefulset", &queue, 5, synced, controller, |c, key| async move { c.reconcile(key).await });
}

impl Controller {
    /// A set may have waited for that.
    fn claim_gone(&self, claim: &ObjectKey) {
        for set in self.sets.list_namespace(&claim.namespace) {
            let ordinal = claim.name.rsplit_once('-').and_then(|(_, n)| n.parse().ok());
            if ordinal.is_some_and(|n| identity::claims(&set, n).iter().any(|(_, name)| *name == claim.name)) {
                self.queue.add(set.metadata.key());
            }
        }
    }

    fn pod_changed(&self, change: &Change<Pod>) {
        let owner = |pod: &Option<Arc<Pod>>| {
            let meta = &pod.as_ref()?.metadata;
            manager(&resources::STATEFUL_SETS, meta).map(|o| ObjectKey::new(&meta.namespace, &o.name))
        };
        let (old, new) = (owner(&change.old), owner(&change.new));
        let Some(pod) = change.object() else { return };
        for key in old.iter().chain(&new) {
            if change.new.is_none() || pod.metadata.is_deleting() {
                self.expectations.deletion_observed(key, &pod.metadata.uid);
            }
            self.queue.add(key.clone());
        }
        if let Some(key) = new.filter(|_| change.old.is_none()) {
            self.expectations.creation_observed(&key);
        }
        if change.new.is_some() && pod.metadata.controller().is_none() && !pod.metadata.labels.is_empty() {
            for set in self.sets.list_namespace(&pod.metadata.namespace) {
                let selector = Selector::from_label_selector(&set.spec.selector);
                let named = plan::ordinal(&set, &pod.metadata.name).is_some();
                if named && selector.is_ok_and(|s| s.matches(&pod.metadata.labels)) {
                    self.queue.add(set.metadata.key());
                }
            }
        }
    }
}
