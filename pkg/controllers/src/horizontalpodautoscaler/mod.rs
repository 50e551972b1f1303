//! Scales workloads by what is measured of them.
//!
//! Each autoscaler is looked at once in a period, however often it changes. What its metrics propose goes through the limits that
//! its rules and its own past set. Invariant: without a count of pods that some metric could justify nothing is scaled down.

mod calculator;
mod history;
mod meters;
mod metrics;
mod pass;
mod pods;
mod proposals;
mod types;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use kedge_base::exposition::{self, Exposition};
use kedge_client::{Error, EventRecorder, Informer, WorkQueue};
use kedge_meta::ObjectKey;
use kedge_meta::labels::Selector;
use kedge_meta::resources::HORIZONTAL_POD_AUTOSCALERS;
use parking_lot::Mutex;
use tracing::warn;

use crate::context::Context;
use history::History;
use meters::Meters;
use pass::Pass;
use types::Autoscaler;

/// Autoscalers that are looked at at once.
const WORKERS: usize = 5;

/// Settings of the controller manager that concern autoscalers; each has upstream's default.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Between two looks at one autoscaler.
    pub sync_period: Duration,
    /// How long high recommendations count.
    pub downscale_stabilization: Duration,
    /// How far usage may be off its target, as a share of it.
    pub tolerance: f64,
    /// How long after their start pods may use more CPU than later.
    pub cpu_initialization_period: Duration,
    /// A pod that becomes unready within this time of its start has not been ready.
    pub initial_readiness_delay: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            sync_period: Duration::from_secs(15),
            downscale_stabilization: Duration::from_secs(300),
            tolerance: 0.1,
            cpu_initialization_period: Duration::from_secs(300),
            initial_readiness_delay: Duration::from_secs(30),
        }
    }
}

struct Controller {
    ctx: Context,
    settings: Settings,
    events: EventRecorder,
    queue: WorkQueue<ObjectKey>,
    autoscalers: Informer<Autoscaler>,
    /// Of those that exist.
    histories: Mutex<HashMap<ObjectKey, History>>,
    /// By namespace and name: which pods an autoscaler has, as it was last seen.
    selectors: Mutex<HashMap<String, HashMap<String, Selector>>>,
    meters: Meters,
}

impl exposition::Shown for Controller {
    fn show(&self, out: &mut Exposition) {
        self.meters.show(out, self.autoscalers.len());
    }
}

/// Starts the controller.
pub fn start(ctx: &Context) {
    let queue = ctx.queue();
    let autoscalers: Informer<Autoscaler> = ctx.informer(&HORIZONTAL_POD_AUTOSCALERS);
    let controller = Arc::new(Controller {
        ctx: ctx.clone(),
        settings: ctx.settings.autoscalers.clone(),
        events: ctx.recorder("horizontal-pod-autoscaler"),
        queue: queue.clone(),
        autoscalers: autoscalers.clone(),
        histories: Mutex::default(),
        selectors: Mutex::default(),
        meters: Meters::new(),
    });
    exposition::list("horizontal pod autoscalers", &controller);
    let weak = Arc::downgrade(&controller);
    autoscalers.on_change(move |change| {
        // The controller keeps the informer, and so this.
        let Some(c) = weak.upgrade() else { return };
        let key = change.key();
        if change.new.is_none() {
            c.forget_selector(&key);
        }
        c.queue.add_after(key, c.settings.sync_period);
    });
    let c = controller.clone();
    let synced = async move {
        c.autoscalers.synced().await;
        c.ctx.pods.synced().await;
    };
    ctx.work(
        "horizontalpodautoscaler",
        &queue,
        WORKERS,
        synced,
        controller,
        |c, key| async move { c.reconcile(key).await },
    );
}

impl Controller {
    /// Failures are told by events and conditions, and tried again after the period like everything else.
    async fn reconcile(&self, key: ObjectKey) -> Result<(), Error> {
        let Some(autoscaler) = self.autoscalers.get(&key.namespace, &key.name) else {
            self.histories.lock().remove(&key);
            self.meters.forget(&key);
            self.forget_selector(&key);
            return Ok(());
        };
        let begun = self.ctx.clock.monotonic();
        let mut pass = Pass::new(self, key.clone(), &autoscaler);
        let outcome = pass.run().await;
        let error = match &outcome {
            Ok(()) => "none",
            Err(failure) if failure.spec => "spec",
            Err(_) => "internal",
        };
        self.meters.pass(pass.action(), error, self.ctx.clock.monotonic().saturating_sub(begun));
        if let Err(failure) = outcome {
            warn!(autoscaler = %key, error = %failure, "cannot be scaled");
        }
        self.queue.add_after(key, self.settings.sync_period);
        Ok(())
    }

    /// Notes which pods an autoscaler has, and names all that have one of `pods`. One that is gone by now has none.
    fn selecting(&self, key: &ObjectKey, selector: &Selector, pods: &[Arc<crate::objects::Pod>]) -> Vec<String> {
        let mut all = self.selectors.lock();
        // Looked up under the lock: one that goes after this has its selector forgotten after this, too.
        if self.autoscalers.get(&key.namespace, &key.name).is_some() {
            all.entry(key.namespace.clone()).or_default().insert(key.name.clone(), selector.clone());
        }
        let Some(own) = all.get(&key.namespace) else { return Vec::new() };
        let of = |selector: &Selector| pods.iter().any(|pod| selector.matches(&pod.metadata.labels));
        let mut names: Vec<String> = own
            .iter()
            .filter(|(_, selector)| of(selector))
            .map(|(name, _)| ObjectKey::new(&key.namespace, name).to_string())
            .collect();
        names.sort();
        names
    }

    fn forget_selector(&self, key: &ObjectKey) {
        let mut all = self.selectors.lock();
        let Some(own) = all.get_mut(&key.namespace) else { return };
        own.remove(&key.name);
        if own.is_empty() {
            all.remove(&key.namespace);
        }
    }
}

#[cfg(test)]
mod tests;
