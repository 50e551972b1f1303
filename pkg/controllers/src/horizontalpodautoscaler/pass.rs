//! One look at one autoscaler: find what it scales, weigh its metrics, scale, and say what was done.

use std::sync::Arc;

use kedge_client::{EventType, Patch};
use kedge_meta::labels::Selector;
use kedge_meta::quantity::Quantity;
use kedge_meta::resources::HORIZONTAL_POD_AUTOSCALERS;
use kedge_meta::{ObjectKey, ObjectReference};
use serde_json::{Value, json};
use tracing::warn;

use super::Controller;
use super::calculator::{Tolerances, Workload};
use super::history;
use super::metrics::Metrics;
use super::proposals::{Basis, Failed, Failure, matching};
use super::types::{
    ABLE_TO_SCALE, Autoscaler, Behavior, Metric, SCALED_TO_ZERO, SCALING_ACTIVE, SCALING_LIMITED, Status,
};
use crate::objects::{Meta, Pod};
use crate::scales::{self, Scale};
use crate::workload::reference;

pub(super) struct Pass<'a> {
    controller: &'a Controller,
    key: ObjectKey,
    object: ObjectReference,
    autoscaler: Autoscaler,
    before: Status,
    /// The size before and after, when it was changed.
    scaled: Option<(i32, i32)>,
}

/// What all metrics together propose.
struct Verdict {
    replicas: i32,
    /// Of the metric that proposes it.
    name: String,
    statuses: Vec<Value>,
    /// Some metric proposes nothing.
    failure: Option<String>,
}

/// What is to be done.
#[derive(Default)]
struct Decision {
    desired: i32,
    reason: String,
    statuses: Vec<Value>,
    rescale: bool,
    failure: Option<String>,
}

const BELOW_LEAST: &str = "Current number of replicas below Spec.MinReplicas";
const ABOVE_MOST: &str = "Current number of replicas above Spec.MaxReplicas";

impl<'a> Pass<'a> {
    pub(super) fn new(controller: &'a Controller, key: ObjectKey, autoscaler: &Autoscaler) -> Self {
        Self {
            controller,
            key,
            object: reference(&HORIZONTAL_POD_AUTOSCALERS, &autoscaler.metadata),
            autoscaler: autoscaler.clone(),
            before: autoscaler.status.clone(),
            scaled: None,
        }
    }

    /// What was done, as metrics call it.
    pub(super) fn action(&self) -> &'static str {
        match self.scaled {
            Some((before, after)) if after > before => "scale_up",
            Some(_) => "scale_down",
            None => "none",
        }
    }

    fn event(&self, kind: EventType, reason: &str, message: impl Into<String>) {
        self.controller.events.event(&self.object, kind, reason, message);
    }

    fn set(&mut self, kind: &str, holds: bool, reason: &str, message: impl Into<String>) {
        let now = self.controller.ctx.clock.now();
        self.autoscaler.status.set(kind, holds, reason, message, now);
    }

    /// Does it.
    pub(super) async fn run(&mut self) -> Result<(), Failure> {
        let mut scale = self.scale().await?;
        let message = "the HPA controller was able to get the target's current scale";
        self.set(ABLE_TO_SCALE, true, "SucceededGetScale", message);
        let current = scale.wanted();
        let now = self.controller.ctx.clock.monotonic();
        self.controller.histories.lock().entry(self.key.clone()).or_default().begin(current, now);
        let mut decision = self.decide(&scale, current).await?;
        if decision.rescale {
            self.rescale(&mut scale, current, &mut decision).await?;
        } else {
            decision.desired = current;
        }
        let rescaled = decision.rescale.then(|| self.controller.ctx.clock.now());
        self.autoscaler.status.renew(current, decision.desired, decision.statuses, rescaled);
        self.controller.meters.desired(&self.key, decision.desired);
        self.write().await?;
        decision.failure.map_or(Ok(()), |why| Err(Failure::internal(why)))
    }

    /// The scale of what is to be scaled.
    async fn scale(&mut self) -> Result<Scale, Failure> {
        let (client, discovery) = (&self.controller.ctx.client, &self.controller.ctx.discovery);
        let target = self.autoscaler.spec.scale_target_ref.clone();
        let namespace = self.key.namespace.clone();
        let group = match scales::group_of(&target.api_version) {
            Ok(group) => group,
            Err(why) => {
                self.no_scale(&why).await;
                let message = format!("invalid API version in scale target reference: {why}");
                return Err(Failure { message, spec: true });
            }
        };
        let kinds = match scales::find(discovery, group, &target.kind).await {
            Ok(kinds) => kinds,
            Err(why) => {
                self.no_scale(&why).await;
                return Err(Failure::internal(format!(
                    "unable to determine resource for scale target reference: {why}"
                )));
            }
        };
        match Scale::read(client, &kinds, &namespace, &target.name).await {
            Ok(scale) => Ok(scale),
            Err(err) => {
                let why = scales::reason(&err);
                self.no_scale(&why).await;
                let of = self.target();
                Err(Failure::internal(format!("failed to query scale subresource for {of}: {why}")))
            }
        }
    }

    async fn no_scale(&mut self, why: &str) {
        self.event(EventType::Warning, "FailedGetScale", why);
        let message = format!("the HPA controller was unable to get the target's current scale: {why}");
        self.set(ABLE_TO_SCALE, false, "FailedGetScale", message);
        self.write_or_warn().await;
    }

    /// What is scaled, in messages.
    fn target(&self) -> String {
        let target = &self.autoscaler.spec.scale_target_ref;
        format!("{}/{}/{}", target.kind, self.key.namespace, target.name)
    }

    async fn decide(&mut self, scale: &Scale, current: i32) -> Result<Decision, Failure> {
        let least = self.autoscaler.spec.min_replicas.unwrap_or(1);
        let most = self.autoscaler.spec.max_replicas;
        if current == 0 {
            let message = "scaling is disabled since the replica count of the target is zero";
            self.set(SCALING_ACTIVE, false, "ScalingDisabled", message);
            self.autoscaler.status.unset(SCALED_TO_ZERO);
            return Ok(Decision::default());
        }
        if current > most || current < least {
            let (desired, reason) = if current > most { (most, ABOVE_MOST) } else { (least, BELOW_LEAST) };
            return Ok(Decision { desired, reason: reason.to_owned(), rescale: true, ..Decision::default() });
        }
        let verdict = match self.weigh(scale).await {
            Ok(verdict) => verdict,
            Err((statuses, why)) => {
                let desired = self.autoscaler.status.desired_replicas;
                self.autoscaler.status.renew(current, desired, statuses, None);
                self.write_or_warn().await;
                self.event(EventType::Warning, "FailedComputeMetricsReplicas", why.as_str());
                let of = self.target();
                return Err(Failure::internal(format!(
                    "failed to compute desired number of replicas based on listed metrics for {of}: {why}"
                )));
            }
        };
        let proposed = verdict.replicas.max(0);
        let reason = match proposed.cmp(&current) {
            std::cmp::Ordering::Greater => format!("{} above target", verdict.name),
            std::cmp::Ordering::Less => "All metrics below target".to_owned(),
            std::cmp::Ordering::Equal => String::new(),
        };
        let desired = self.normalize(current, proposed, (least, most));
        let Verdict { statuses, failure, .. } = verdict;
        Ok(Decision { desired, reason, statuses, rescale: desired != current, failure })
    }

    fn normalize(&mut self, current: i32, desired: i32, (least, most): (i32, i32)) -> i32 {
        let controller = self.controller;
        let proposal = history::Proposal {
            current,
            desired,
            least,
            most,
            behavior: self.autoscaler.spec.behavior.as_ref(),
            window: controller.settings.downscale_stabilization,
        };
        let now = controller.ctx.clock.monotonic();
        let normal = controller.histories.lock().entry(self.key.clone()).or_default().normalize(&proposal, now);
        let (limited, why) = normal.limited;
        self.set(ABLE_TO_SCALE, true, normal.able.0, normal.able.1);
        self.set(SCALING_LIMITED, limited, why.0, why.1);
        normal.replicas
    }

    /// What the metrics propose together: the most that one of them does. Down it goes only when all are known.
    async fn weigh(&mut self, scale: &Scale) -> Result<Verdict, (Vec<Value>, String)> {
        let (selector, pods) = self.selected(scale).map_err(|why| (Vec::new(), why))?;
        let tolerance = self.controller.settings.tolerance;
        let settings = &self.controller.settings;
        let (client, discovery) = (&self.controller.ctx.client, &self.controller.ctx.discovery);
        let metrics = std::mem::take(&mut self.autoscaler.spec.metrics);
        let mut best: Option<(i32, String)> = None;
        let (mut statuses, mut failures) = (Vec::with_capacity(metrics.len()), 0_usize);
        let mut first = None;
        let namespace = self.key.namespace.clone();
        for metric in &metrics {
            let workload = Workload {
                pods: &pods,
                replicas: scale.wanted(),
                tolerances: tolerances(tolerance, self.autoscaler.spec.behavior.as_ref()),
                cpu_initialization: settings.cpu_initialization_period,
                initial_readiness: settings.initial_readiness_delay,
                now: self.controller.ctx.clock.now(),
            };
            let metrics = Metrics { client, discovery, namespace: &namespace };
            let basis = Basis { metrics, workload, status_replicas: scale.current(), selector: &selector };
            match self.propose(&basis, metric).await {
                Ok(proposal) => {
                    statuses.push(proposal.status);
                    if best.as_ref().is_none_or(|(most, _)| *most == 0 || proposal.replicas > *most) {
                        best = Some((proposal.replicas, proposal.name));
                    }
                }
                Err(failed) => {
                    statuses.push(json!({"type": ""}));
                    failures += 1;
                    first.get_or_insert(failed);
                }
            }
        }
        let count = metrics.len();
        self.autoscaler.spec.metrics = metrics;
        let failure = first.as_ref().map(|failed| {
            format!("invalid metrics ({failures} invalid out of {count}), first error is: {}", failed.message)
        });
        let (replicas, name) = best.unwrap_or_default();
        if failures >= count || (failures > 0 && replicas < scale.wanted()) {
            let Failed { reason, cause, .. } = first.unwrap_or_else(|| Failed::plain(String::new()));
            let message = format!("the HPA was unable to compute the replica count: {cause}");
            self.set(SCALING_ACTIVE, false, reason, message);
            return Err((statuses, failure.unwrap_or_default()));
        }
        let message = format!("the HPA was able to successfully calculate a replica count from {name}");
        self.set(SCALING_ACTIVE, true, "ValidMetricFound", message);
        Ok(Verdict { replicas, name, statuses, failure })
    }

    async fn propose(&self, basis: &Basis<'_>, metric: &Metric) -> Result<super::proposals::Proposal, Failed> {
        let clock = &self.controller.ctx.clock;
        let begun = clock.monotonic();
        let proposal = basis.propose(metric).await;
        let current = self.autoscaler.status.current_replicas;
        let (action, error) = match &proposal {
            Ok(proposal) if proposal.replicas > current => ("scale_up", "none"),
            Ok(proposal) if proposal.replicas < current => ("scale_down", "none"),
            Ok(_) => ("none", "none"),
            Err(failed) if failed.spec => ("none", "spec"),
            Err(_) => ("none", "internal"),
        };
        let took = clock.monotonic().saturating_sub(begun);
        self.controller.meters.metric(action, error, &metric.kind, took);
        if let Err(failed) = &proposal {
            self.event(EventType::Warning, failed.reason, failed.cause.as_str());
        }
        proposal
    }

    /// The pods of the workload, which must not be another autoscaler's as well.
    fn selected(&mut self, scale: &Scale) -> Result<(String, Vec<Arc<Pod>>), String> {
        let text = scale.selector().to_owned();
        if text.is_empty() {
            let why = "selector is required";
            self.event(EventType::Warning, "SelectorRequired", why);
            let message = "the HPA target's scale is missing a selector";
            self.set(SCALING_ACTIVE, false, "InvalidSelector", message);
            return Err(why.to_owned());
        }
        let selector = Selector::parse(&text).map_err(|err| {
            let why = format!("couldn't convert selector into a corresponding internal selector object: {err}");
            self.inactive("InvalidSelector", why)
        })?;
        let pods = matching(self.controller.ctx.pods.list_namespace(&self.key.namespace), &selector);
        let selecting = self.controller.selecting(&self.key, &selector, &pods);
        if selecting.len() > 1 {
            let all = selecting.join(" ");
            let why = format!("pods by selector {text} are controlled by multiple HPAs: [{all}]");
            return Err(self.inactive("AmbiguousSelector", why));
        }
        Ok((text, pods))
    }

    fn inactive(&mut self, reason: &str, why: String) -> String {
        self.event(EventType::Warning, reason, why.as_str());
        self.set(SCALING_ACTIVE, false, reason, why.as_str());
        why
    }

    async fn rescale(&mut self, scale: &mut Scale, current: i32, decision: &mut Decision) -> Result<(), Failure> {
        let Decision { desired, reason, .. } = decision;
        let (desired, controller) = (*desired, self.controller);
        if let Err(err) = scale.write(&controller.ctx.client, &controller.ctx.clock, desired).await {
            let why = scales::reason(&err);
            let message = format!("New size: {desired}; reason: {reason}; error: {why}");
            self.event(EventType::Warning, "FailedRescale", message);
            let message = format!("the HPA controller was unable to update the target scale: {why}");
            self.set(ABLE_TO_SCALE, false, "FailedUpdateScale", message);
            let before = self.autoscaler.status.desired_replicas;
            self.autoscaler.status.renew(current, before, std::mem::take(&mut decision.statuses), None);
            self.write_or_warn().await;
            let of = self.target();
            return Err(Failure::internal(format!("failed to rescale {of}: {why}")));
        }
        let message = format!("the HPA controller was able to update the target scale to {desired}");
        self.set(ABLE_TO_SCALE, true, "SucceededRescale", message);
        self.event(EventType::Normal, "SuccessfulRescale", format!("New size: {desired}; reason: {reason}"));
        let (behavior, now) = (self.autoscaler.spec.behavior.as_ref(), controller.ctx.clock.monotonic());
        controller.histories.lock().entry(self.key.clone()).or_default().scaled(behavior, current, desired, now);
        self.autoscaler.status.unset(SCALED_TO_ZERO);
        self.scaled = Some((current, desired));
        Ok(())
    }

    /// Writes the status if it says something new, over the version that was looked at.
    async fn write(&self) -> Result<(), Failure> {
        let status = &self.autoscaler.status;
        if *status == self.before {
            return Ok(());
        }
        let ObjectKey { namespace, name } = &self.key;
        let version = &self.autoscaler.metadata.resource_version;
        let patch = json!({"metadata": {"resourceVersion": version}, "status": status.written()});
        let patched: Result<Meta, _> = self
            .controller
            .ctx
            .client
            .patch(&HORIZONTAL_POD_AUTOSCALERS, namespace, name, Patch::Merge(patch), Some("status"))
            .await;
        patched.map(drop).map_err(|err| {
            let why = scales::reason(&err);
            self.event(EventType::Warning, "FailedUpdateStatus", why.as_str());
            Failure::internal(format!("failed to update status for {name}: {why}"))
        })
    }

    /// The same where something else has failed already, which is what is told.
    async fn write_or_warn(&self) {
        if let Err(failure) = self.write().await {
            warn!(autoscaler = %self.key, error = %failure, "the status cannot be written");
        }
    }
}

/// Those of the rules, or else the general one.
fn tolerances(general: f64, behavior: Option<&Behavior>) -> Tolerances {
    let of = |rules: Option<&super::types::Rules>| {
        let text = rules.and_then(|rules| rules.tolerance.as_deref());
        text.and_then(|text| Quantity::parse(text).ok()).map_or(general, |q| q.approximate())
    };
    Tolerances {
        down: of(behavior.and_then(|b| b.scale_down.as_ref())),
        up: of(behavior.and_then(|b| b.scale_up.as_ref())),
    }
}
