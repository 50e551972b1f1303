//! One pass over one StatefulSet.

use std::collections::HashSet;
use std::sync::Arc;

use kedge_client::{DeleteOptions, Error, EventType, Patch};
use kedge_meta::labels::Selector;
use kedge_meta::resources::{PERSISTENT_VOLUME_CLAIMS, PODS, STATEFUL_SETS};
use kedge_meta::{ObjectKey, ObjectMeta, ObjectReference, Status};
use serde_json::{Value, json};
use tracing::warn;

use super::plan::{REVISION_LABEL, Step, View, Why, ordinal};
use super::{Controller, identity};
use crate::context::ignore_not_found;
use crate::objects::{Meta, Pod, StatefulSet, StatefulSetStatus, omit_zero};
use crate::serviceaccount::is_namespace_terminating;
use crate::workload::claim::claim;
use crate::workload::expectations::TIMEOUT;
use crate::workload::history::{self, ControllerRevision, History, Owner};
use crate::workload::pod_control::template;
use crate::workload::reference;

const HASH_LABEL: &str = "controller.kubernetes.io/hash";

/// Why a pod has not the claims that it needs.
#[derive(Debug, thiserror::Error)]
enum ClaimError {
    #[error("pvc {0} is being deleted")]
    Leaving(String),
    #[error("failed to create PVC {name}: {source}")]
    Create { name: String, source: Error },
}

impl From<ClaimError> for Error {
    fn from(err: ClaimError) -> Self {
        match err {
            // It is tried again when it has gone.
            ClaimError::Leaving(name) => {
                Status::conflict(&PERSISTENT_VOLUME_CLAIMS.group_resource(), &name, "it is being deleted").into()
            }
            ClaimError::Create { source, .. } => source,
        }
    }
}

/// What a pass works with.
struct Pass<'a> {
    key: &'a ObjectKey,
    set: &'a StatefulSet,
    object: ObjectReference,
    current: Arc<ControllerRevision>,
    update: Arc<ControllerRevision>,
}

impl Controller {
    pub(super) async fn reconcile(&self, key: ObjectKey) -> Result<(), Error> {
        let Some(set) = self.sets.get(&key.namespace, &key.name) else {
            self.expectations.forget(&key);
            return Ok(());
        };
        let selector = match Selector::from_label_selector(&set.spec.selector) {
            Ok(selector) => selector,
            Err(err) => {
                warn!(statefulset = %key, error = %err, "the selector cannot be used");
                return Ok(());
            }
        };
        match self.sync(&key, &set, &selector).await {
            Err(err) if is_namespace_terminating(&err) => Ok(()),
            other => other,
        }
    }

    async fn sync(&self, key: &ObjectKey, set: &StatefulSet, selector: &Selector) -> Result<(), Error> {
        let client = &self.ctx.client;
        let owner = Owner {
            kind: &STATEFUL_SETS,
            meta: &set.metadata,
            selector,
            template: &set.spec.template,
            label: HASH_LABEL,
            collisions: set.status.collision_count.unwrap_or_default(),
        };
        let history = match history::history(client, &self.revisions, &owner).await {
            Err(err) if history::is_collision(&err) => return history::count_collision(client, &owner).await,
            other => other?,
        };
        let seen_all = self.expectations.satisfied(key);
        let mut candidates = self.ctx.pods_by_owner.candidates(&set.metadata);
        candidates.retain(|p| ordinal(set, &p.metadata.name).is_some());
        let pods = claim(client, &STATEFUL_SETS, &set.metadata, &PODS, selector, candidates).await?;
        let update = history.current.clone();
        let named = |r: &&Arc<ControllerRevision>| r.metadata.name == set.status.current_revision;
        let current = history.old.iter().find(named).unwrap_or(&update).clone();
        let object = reference(&STATEFUL_SETS, &set.metadata);
        let pass = Pass { key, set, object, current, update };
        let view = View {
            set,
            pods: &pods,
            current: &pass.current.metadata.name,
            update: &pass.update.metadata.name,
            now: self.ctx.clock.now(),
        };
        let mut done = Ok(());
        if !seen_all {
            self.queue.add_after(key.clone(), TIMEOUT);
        } else if !set.metadata.is_deleting() {
            self.keep_claims(&pass, &pods).await?;
            for step in view.steps(|p| self.needs_repair(set, p), |n| self.is_held_up(set, n)) {
                done = self.step(&pass, step).await;
                if done.is_err() {
                    break;
                }
            }
        }
        if let Some(wait) = view.next_availability() {
            self.queue.add_after(key.clone(), wait);
        }
        self.write_status(set, &view.status()).await?;
        self.trim(&pass, &history, &pods).await?;
        done
    }

    fn needs_repair(&self, set: &StatefulSet, pod: &Pod) -> bool {
        let missing = |n: i64| {
            let claims = identity::claims(set, n);
            claims.iter().any(|(_, name)| self.ctx.claims.get(&set.metadata.namespace, name).is_none())
        };
        let claims = pod.status.phase == "Pending" && ordinal(set, &pod.metadata.name).is_some_and(missing);
        claims || !identity::wrong_labels(set, pod).is_empty()
    }

    /// Whether a pod with that ordinal has to wait until a claim of an earlier one is gone.
    fn is_held_up(&self, set: &StatefulSet, ordinal: i64) -> bool {
        identity::claims(set, ordinal).iter().any(|(_, name)| {
            let claim = self.ctx.claims.get(&set.metadata.namespace, name);
            claim.is_some_and(|claim| identity::is_of_earlier_pod(set, &claim.metadata, ordinal))
        })
    }

    async fn step(&self, pass: &Pass<'_>, step: Step) -> Result<(), Error> {
        match step {
            Step::Create { ordinal, current } => {
                if let Err(err) = self.create_claims(pass, ordinal).await {
                    let what = format!("Create Pod {0}-{ordinal} in StatefulSet {0}", pass.key.name);
                    let message = format!("{what} failed error: {err}");
                    self.events.event(&pass.object, EventType::Warning, "FailedCreate", message);
                    return Err(err.into());
                }
                self.create_pod(pass, ordinal, if current { &pass.current } else { &pass.update }).await
            }
            Step::Delete(pod, why) => self.delete_pod(pass, &pod, why).await,
            Step::Repair(pod) => {
                if let Some(ordinal) = ordinal(pass.set, &pod.metadata.name) {
                    self.create_claims(pass, ordinal).await?;
                }
                let labels = identity::wrong_labels(pass.set, &pod);
                if labels.is_empty() {
                    return Ok(());
                }
                let patch = Patch::Merge(json!({ "metadata": { "uid": pod.metadata.uid, "labels": labels } }));
                let name = &pod.metadata.name;
                let patched = self.ctx.client.patch(&PODS, &pass.key.namespace, name, patch, None).await;
                ignore_not_found(patched.map(|_: Meta| ()))
            }
        }
    }

    async fn create_claims(&self, pass: &Pass<'_>, ordinal: i64) -> Result<(), ClaimError> {
        let (namespace, set) = (&pass.key.namespace, &pass.key.name);
        for (name, body) in identity::claim_bodies(pass.set, ordinal) {
            if let Some(claim) = self.ctx.claims.get(namespace, &name) {
                if claim.metadata.is_deleting() {
                    return Err(ClaimError::Leaving(name));
                }
                self.tell_of_others(pass, &claim.metadata, ordinal);
                continue;
            }
            match self.ctx.client.create::<Meta>(&PERSISTENT_VOLUME_CLAIMS, namespace, &body).await {
                Ok(_) => {
                    let message = format!("Create Claim {name} Pod {set}-{ordinal} in StatefulSet {set} success");
                    self.events.event(&pass.object, EventType::Normal, "SuccessfulCreate", message);
                }
                Err(err) if err.is_already_exists() => {}
                Err(source) => {
                    let what = format!("Create Claim {name} for Pod {set}-{ordinal} in StatefulSet {set}");
                    let message = format!("{what} failed error: {source}");
                    self.events.event(&pass.object, EventType::Warning, "FailedCreate", message);
                    return Err(ClaimError::Create { name, source });
                }
            }
        }
        Ok(())
    }

    /// Says that the retention policy is not kept where somebody else manages a claim.
    fn tell_of_others(&self, pass: &Pass<'_>, claim: &ObjectMeta, ordinal: i64) {
        if identity::is_managed_by_others(pass.set, claim, ordinal) {
            // The word is upstream's.
            let why = "has a conflicting OwnerReference that acts as a manging controller, the retention policy is ignored for this claim";
            let message = format!("PersistentVolumeClaim {} {why}", claim.name);
            self.events.event(&pass.object, EventType::Warning, "ConflictingController", message);
        }
    }

    async fn create_pod(&self, pass: &Pass<'_>, ordinal: i64, revision: &ControllerRevision) -> Result<(), Error> {
        let of_update = revision.metadata.name == pass.update.metadata.name;
        let template = if of_update { template(&pass.set.spec.template) } else { revision.template() };
        let pod = identity::pod(pass.set, &template, ordinal, &revision.metadata.name);
        let what = format!("Create Pod {0}-{ordinal} in StatefulSet {0}", pass.key.name);
        self.expectations.expect_creations(pass.key, 1);
        match self.ctx.client.create::<Meta>(&PODS, &pass.key.namespace, &pod).await {
            Ok(_) => {
                self.events.event(&pass.object, EventType::Normal, "SuccessfulCreate", format!("{what} successful"));
                Ok(())
            }
            Err(err) => {
                self.expectations.creation_observed(pass.key);
                if !err.is_already_exists() && !is_namespace_terminating(&err) {
                    let message = format!("{what} failed error: {err}");
                    self.events.event(&pass.object, EventType::Warning, "FailedCreate", message);
                }
                Err(err)
            }
        }
    }

    async fn delete_pod(&self, pass: &Pass<'_>, pod: &Pod, why: Why) -> Result<(), Error> {
        let (key, name) = (pass.key, &pod.metadata.name);
        let recreating = match why {
            Why::Failed => Some((EventType::Warning, "RecreatingFailedPod", "failed")),
            Why::Succeeded => Some((EventType::Normal, "RecreatingTerminatedPod", "terminated")),
            Why::ScaleDown | Why::Update => None,
        };
        if let Some((kind, reason, state)) = recreating {
            let message = format!("StatefulSet {key} is recreating {state} Pod {name}");
            self.events.event(&pass.object, kind, reason, message);
        }
        self.expectations.expect_deletions(key, [pod.metadata.uid.clone()]);
        let options = DeleteOptions::with_uid(&pod.metadata.uid);
        let deleted = self.ctx.client.delete(&PODS, &key.namespace, name, &options).await;
        let what = format!("Delete Pod {name} in StatefulSet {}", key.name);
        match deleted {
            Ok(()) => {
                self.events.event(&pass.object, EventType::Normal, "SuccessfulDelete", format!("{what} successful"));
                Ok(())
            }
            Err(err) => {
                self.expectations.deletion_observed(key, &pod.metadata.uid);
                if !err.is_not_found() {
                    let message = format!("{what} failed error: {err}");
                    self.events.event(&pass.object, EventType::Warning, "FailedDelete", message);
                }
                ignore_not_found(Err(err))
            }
        }
    }

    /// Sets the owners of claims as the retention policy says.
    async fn keep_claims(&self, pass: &Pass<'_>, pods: &[Arc<Pod>]) -> Result<(), Error> {
        let (set, namespace) = (pass.set, &pass.key.namespace);
        let wanted = set.spec.ordinals.start..set.spec.ordinals.start + set.spec.replicas;
        for pod in pods {
            let Some(n) = ordinal(set, &pod.metadata.name) else { continue };
            for (_, name) in identity::claims(set, n) {
                let Some(claim) = self.ctx.claims.get(namespace, &name) else { continue };
                let owners = identity::claim_owners(set, &claim.metadata, pod, (n, !wanted.contains(&n)));
                let Some(owners) = owners else { continue };
                self.tell_of_others(pass, &claim.metadata, n);
                let version = &claim.metadata.resource_version;
                let patch = json!({ "metadata": { "resourceVersion": version, "ownerReferences": owners } });
                let client = &self.ctx.client;
                let patched =
                    client.patch(&PERSISTENT_VOLUME_CLAIMS, namespace, &name, Patch::Merge(patch), None).await;
                ignore_not_found(patched.map(|_: Meta| ()))?;
            }
        }
        Ok(())
    }

    async fn write_status(&self, set: &StatefulSet, status: &StatefulSetStatus) -> Result<(), Error> {
        if *status == set.status {
            return Ok(());
        }
        let patch = json!({ "metadata": { "resourceVersion": set.metadata.resource_version }, "status": {
            "observedGeneration": omit_zero(status.observed_generation),
            "replicas": status.replicas,
            "readyReplicas": omit_zero(status.ready_replicas),
            "currentReplicas": omit_zero(status.current_replicas),
            "updatedReplicas": omit_zero(status.updated_replicas),
            "currentRevision": status.current_revision,
            "updateRevision": status.update_revision,
            "collisionCount": status.collision_count.map_or(json!(0), Value::from),
            "availableReplicas": status.available_replicas,
        } });
        let (namespace, name) = (&set.metadata.namespace, &set.metadata.name);
        let patched = self.ctx.client.patch(&STATEFUL_SETS, namespace, name, Patch::Merge(patch), Some("status")).await;
        ignore_not_found(patched.map(|_: Meta| ()))
    }

    async fn trim(&self, pass: &Pass<'_>, history: &History, pods: &[Arc<Pod>]) -> Result<(), Error> {
        let mut live: HashSet<&str> = pods.iter().filter_map(|p| p.metadata.labels.get(REVISION_LABEL)).collect();
        live.insert(&pass.current.metadata.name);
        let limit = pass.set.spec.revision_history_limit.unwrap_or(10);
        history::trim(&self.ctx.client, &history.old, limit, |r| live.contains(r.metadata.name.as_str())).await
    }
}
