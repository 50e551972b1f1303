//! One pass over one Deployment: finds or makes the ReplicaSet of its template, resizes, cleans up, writes the status.

use std::sync::Arc;

use kedge_client::{DeleteOptions, Error, EventType, Patch};
use kedge_meta::resources::{DEPLOYMENTS, REPLICA_SETS};
use kedge_meta::{ObjectReference, Status};
use serde_json::{Value, json};
use tracing::debug;

use super::annotations::{self, REVISION, revision};
use super::scaling::{self, Resize};
use super::{Controller, status};
use crate::context::ignore_not_found;
use crate::objects::{Deployment, DeploymentStatus, Meta, ReplicaSet, omit_zero};
use crate::serviceaccount::is_namespace_terminating;
use crate::workload::template::{HASH_LABEL, hash, normalized};
use crate::workload::{controller_ref, pod_control, reference};

type Set = Arc<ReplicaSet>;

pub(super) struct Rollout<'a> {
    c: &'a Controller,
    d: Arc<Deployment>,
    object: ObjectReference,
    template: Value,
    /// The ReplicaSet of the current template.
    new: Option<Set>,
    /// All others, oldest first.
    old: Vec<Set>,
    /// The stored status with the conditions that this pass adds.
    base: DeploymentStatus,
    /// Of the Deployment, as this pass last wrote or read it.
    version: String,
}

impl<'a> Rollout<'a> {
    /// With all ReplicaSets that the Deployment manages.
    pub(super) fn new(c: &'a Controller, d: Arc<Deployment>, mut sets: Vec<Set>) -> Self {
        sets.sort_by_cached_key(|s| (s.metadata.creation_timestamp.clone(), s.metadata.name.clone()));
        let template = normalized(&d.spec.template);
        let at = sets.iter().position(|s| normalized(&s.spec.template) == template);
        let new = at.map(|i| sets.remove(i));
        let (object, base) = (reference(&DEPLOYMENTS, &d.metadata), d.status.clone());
        let version = d.metadata.resource_version.clone();
        Self { c, d, object, template, new, old: sets, base, version }
    }

    pub(super) async fn run(mut self) -> Result<(), Error> {
        let now = self.c.ctx.clock.now();
        if self.d.metadata.is_deleting() {
            return self.write_counts().await;
        }
        status::note_pause(&self.d, &mut self.base.conditions, now);
        let all: Vec<Set> = self.old.iter().chain(&self.new).cloned().collect();
        if self.d.spec.paused || scaling::is_scaling(&self.d, &all) {
            self.adopt_revision().await?;
            let sizes = scaling::scale(&self.d, self.new.as_ref(), &self.old);
            self.resize(&sizes, true).await?;
            if self.d.spec.paused {
                self.clean_up().await?;
            }
            return self.write_counts().await;
        }
        if scaling::is_rolling(&self.d) {
            self.roll().await?
        } else {
            self.recreate().await?
        }
        self.write_rollout().await
    }

    async fn roll(&mut self) -> Result<(), Error> {
        let new = self.require_new().await?;
        let sizes = scaling::rolling(&self.d, &new, &self.old);
        if self.resize(&sizes, false).await? {
            return Ok(());
        }
        self.clean_up_when_complete().await
    }

    async fn recreate(&mut self) -> Result<(), Error> {
        self.adopt_revision().await?;
        if self.resize(&scaling::to_zero(&self.old), false).await? || self.old_pods_run() {
            return Ok(());
        }
        let new = self.require_new().await?;
        if new.spec.replicas != self.d.spec.replicas {
            let size = Resize { name: new.metadata.name.clone(), to: self.d.spec.replicas };
            self.resize(&[size], false).await?;
        }
        self.clean_up_when_complete().await
    }

    /// Whether a pod of an old template has not ended.
    fn old_pods_run(&self) -> bool {
        let pods = &self.c.ctx.pods_by_owner;
        self.old.iter().any(|set| pods.managed(&set.metadata.uid).iter().any(|p| !p.is_terminal()))
    }

    fn next_revision(&self) -> i64 {
        self.old.iter().map(|s| revision(s)).max().unwrap_or_default() + 1
    }

    /// Brings revision and annotations of the current ReplicaSet, if there is one, up to date.
    async fn adopt_revision(&mut self) -> Result<(), Error> {
        let Some(set) = self.new.clone() else { return Ok(()) };
        let wanted = annotations::of_new_set(&self.d, &set.metadata.annotations, self.next_revision());
        if wanted != set.metadata.annotations || set.spec.min_ready_seconds != self.d.spec.min_ready_seconds {
            let patch = json!({
                "metadata": { "resourceVersion": set.metadata.resource_version, "annotations": wanted },
                "spec": { "minReadySeconds": self.d.spec.min_ready_seconds },
            });
            self.new = Some(self.patch_set(&set, patch).await?);
        }
        if let Some(revision) = wanted.get(REVISION) {
            self.write_revision(revision).await?;
        }
        if status::has_deadline(&self.d) && !status::has_progress(&self.base.conditions) {
            let message = format!("Found new replica set {:?}", set.metadata.name);
            self.note_progress("True", "FoundNewReplicaSet", message);
        }
        Ok(())
    }

    fn note_progress(&mut self, state: &'static str, reason: &str, message: String) {
        let now = self.c.ctx.clock.now();
        status::note_progress(&mut self.base.conditions, state, reason, message, now);
    }

    /// The ReplicaSet of the current template, made if need be.
    async fn require_new(&mut self) -> Result<Set, Error> {
        self.adopt_revision().await?;
        if let Some(set) = &self.new {
            return Ok(set.clone());
        }
        let collisions = self.d.status.collision_count.unwrap_or_default();
        let hash = hash(&self.template, collisions);
        let size = scaling::new_size(&self.d, &self.old, 0);
        let revision = self.next_revision();
        let body = self.new_set(&hash, size, revision);
        let created: Result<ReplicaSet, Error> =
            self.c.ctx.client.create(&REPLICA_SETS, &self.d.metadata.namespace, &body).await;
        let set = match created {
            Ok(set) => Arc::new(set),
            Err(err) if err.is_already_exists() => return Err(self.name_taken(&body, collisions).await),
            Err(err) => return Err(self.creation_failed(&body, err).await),
        };
        if size > 0 {
            let message = format!("Scaled up replica set {} from 0 to {size}", set.metadata.name);
            self.c.events.event(&self.object, EventType::Normal, "ScalingReplicaSet", message);
        }
        self.write_revision(&revision.to_string()).await?;
        if status::has_deadline(&self.d) {
            let message = format!("Created new replica set {:?}", set.metadata.name);
            self.note_progress("True", "NewReplicaSetCreated", message);
        }
        self.new = Some(set.clone());
        Ok(set)
    }

    fn new_set(&self, hash: &str, size: i64, revision: i64) -> Value {
        let (d, meta) = (&self.d, &self.d.metadata);
        let mut template = pod_control::template(&d.spec.template);
        template["metadata"]["labels"][HASH_LABEL] = hash.into();
        let mut selector = d.spec.selector.clone();
        selector["matchLabels"][HASH_LABEL] = hash.into();
        let mut notes = annotations::of_new_set(d, &Default::default(), revision);
        notes.insert(annotations::DESIRED.to_owned(), d.spec.replicas.to_string());
        notes.insert(annotations::MAX.to_owned(), (d.spec.replicas + scaling::max_surge(d)).to_string());
        json!({
            "apiVersion": REPLICA_SETS.api_version(),
            "kind": REPLICA_SETS.kind,
            "metadata": {
                "name": format!("{}-{hash}", meta.name),
                "namespace": meta.namespace,
                "labels": template["metadata"]["labels"],
                "annotations": notes,
                "ownerReferences": [controller_ref(&DEPLOYMENTS, meta)],
            },
            "spec": {
                "replicas": size,
                "minReadySeconds": d.spec.min_ready_seconds,
                "selector": selector,
                "template": template,
            },
        })
    }

    /// The name is taken: by our own ReplicaSet that the cache does not show yet, or by another template with this hash.
    /// Both are tried again; in the latter case under another name.
    async fn name_taken(&mut self, body: &Value, collisions: i64) -> Error {
        let name = body["metadata"]["name"].as_str().unwrap_or_default();
        let namespace = &self.d.metadata.namespace;
        let set: ReplicaSet = match self.c.ctx.client.get(&REPLICA_SETS, namespace, name).await {
            Ok(set) => set,
            Err(err) => return err,
        };
        let conflict = |why| Status::conflict(&REPLICA_SETS.group_resource(), name, why).into();
        if set.metadata.is_controlled_by(&self.d.metadata.uid) && normalized(&set.spec.template) == self.template {
            return conflict("the cache does not show it yet");
        }
        debug!(replicaset = name, "another template has this hash, trying another one");
        let count = json!({ "collisionCount": collisions + 1 });
        let patch = json!({ "metadata": { "resourceVersion": self.version }, "status": count });
        match self.patch_deployment(patch).await {
            Ok(()) => conflict("another template has this hash"),
            Err(err) => err,
        }
    }

    async fn creation_failed(&mut self, body: &Value, err: Error) -> Error {
        if is_namespace_terminating(&err) {
            return err;
        }
        let name = body["metadata"]["name"].as_str().unwrap_or_default();
        let message = format!("Failed to create new replica set {name:?}: {err}");
        if status::has_deadline(&self.d) {
            self.note_progress("False", "ReplicaSetCreateError", message.clone());
            let conditions = json!({ "status": { "conditions": self.base.conditions } });
            if let Err(err) = self.patch_deployment(conditions).await {
                debug!(deployment = self.d.metadata.name, error = %err, "status not written");
            }
        }
        self.c.events.event(&self.object, EventType::Warning, "ReplicaSetCreateError", message);
        err
    }

    /// Writes the sizes that differ; with `annotate`, also the annotations of those that do not. Returns whether a size
    /// changed.
    async fn resize(&mut self, sizes: &[Resize], annotate: bool) -> Result<bool, Error> {
        let mut resized = false;
        for Resize { name, to } in sizes {
            let found = self.old.iter().chain(&self.new).find(|s| s.metadata.name == *name);
            let Some(set) = found.cloned() else { continue };
            let desired = self.d.spec.replicas;
            let max = desired + scaling::max_surge(&self.d);
            let annotated = annotations::number(&set, annotations::DESIRED) == Some(desired)
                && annotations::number(&set, annotations::MAX) == Some(max);
            let from = set.spec.replicas;
            if from == *to && (annotated || !annotate) {
                continue;
            }
            let notes = json!({ annotations::DESIRED: desired.to_string(), annotations::MAX: max.to_string() });
            let patch = json!({
                "metadata": { "resourceVersion": set.metadata.resource_version, "annotations": notes },
                "spec": { "replicas": to },
            });
            let written = self.patch_set(&set, patch).await?;
            for slot in self.old.iter_mut().chain(&mut self.new) {
                if slot.metadata.name == *name {
                    *slot = written.clone();
                }
            }
            if from != *to {
                let direction = if from < *to { "up" } else { "down" };
                let message = format!("Scaled {direction} replica set {name} from {from} to {to}");
                self.c.events.event(&self.object, EventType::Normal, "ScalingReplicaSet", message);
                resized = true;
            }
        }
        Ok(resized)
    }

    async fn clean_up_when_complete(&mut self) -> Result<(), Error> {
        if status::is_complete(&self.d, &self.d.status) { self.clean_up().await } else { Ok(()) }
    }

    /// Deletes old ReplicaSets beyond the number that is kept for rollbacks.
    async fn clean_up(&self) -> Result<(), Error> {
        let Some(limit) = self.d.spec.revision_history_limit.filter(|l| *l != i64::from(i32::MAX)) else {
            return Ok(());
        };
        let mut sets: Vec<&Set> = self.old.iter().filter(|s| !s.metadata.is_deleting()).collect();
        let surplus = sets.len().saturating_sub(usize::try_from(limit).unwrap_or_default());
        sets.sort_by_key(|s| revision(s));
        for set in &sets[..surplus] {
            let busy = set.status.replicas != 0
                || set.spec.replicas != 0
                || set.metadata.generation > set.status.observed_generation;
            if !busy {
                let options = DeleteOptions::with_uid(&set.metadata.uid);
                let (namespace, name) = (&set.metadata.namespace, &set.metadata.name);
                ignore_not_found(self.c.ctx.client.delete(&REPLICA_SETS, namespace, name, &options).await)?;
            }
        }
        Ok(())
    }

    /// As upstream, not with what is wanted: there an annotation counts as a change of it, and the first generation was the second at once.
    async fn write_revision(&mut self, revision: &str) -> Result<(), Error> {
        if self.d.metadata.annotations.get(REVISION).is_some_and(|r| r == revision) {
            return Ok(());
        }
        let patch = json!({
            "metadata": { "resourceVersion": self.version, "annotations": { REVISION: revision } }
        });
        self.patch_deployment(patch).await
    }

    async fn write_counts(&mut self) -> Result<(), Error> {
        let now = self.c.ctx.clock.now();
        let status = status::counts(&self.d, &self.base, self.new.as_ref(), &self.old, now);
        self.write_status(&status).await
    }

    async fn write_rollout(&mut self) -> Result<(), Error> {
        let now = self.c.ctx.clock.now();
        let status = status::rollout(&self.d, &self.base, self.new.as_ref(), &self.old, now);
        if let Some(wait) = status::check_in(&self.d, &status, now) {
            self.c.queue.add_after(self.d.metadata.key(), wait);
        }
        self.write_status(&status).await
    }

    async fn write_status(&mut self, status: &DeploymentStatus) -> Result<(), Error> {
        if *status == self.d.status {
            return Ok(());
        }
        let patch = json!({ "metadata": { "resourceVersion": self.version }, "status": {
            "observedGeneration": omit_zero(status.observed_generation),
            "replicas": omit_zero(status.replicas),
            "updatedReplicas": omit_zero(status.updated_replicas),
            "readyReplicas": omit_zero(status.ready_replicas),
            "availableReplicas": omit_zero(status.available_replicas),
            "unavailableReplicas": omit_zero(status.unavailable_replicas),
            "terminatingReplicas": status.terminating_replicas,
            "collisionCount": status.collision_count,
            "conditions": status.conditions,
        } });
        ignore_not_found(self.patch_deployment(patch).await)
    }

    /// What it writes of a deployment is its status, and what belongs to that.
    async fn patch_deployment(&mut self, patch: Value) -> Result<(), Error> {
        let (namespace, name) = (&self.d.metadata.namespace, &self.d.metadata.name);
        let written: Meta =
            self.c.ctx.client.patch(&DEPLOYMENTS, namespace, name, Patch::Merge(patch), Some("status")).await?;
        self.version = written.metadata.resource_version;
        Ok(())
    }

    async fn patch_set(&self, set: &ReplicaSet, patch: Value) -> Result<Set, Error> {
        let (namespace, name) = (&set.metadata.namespace, &set.metadata.name);
        let written: ReplicaSet =
            self.c.ctx.client.patch(&REPLICA_SETS, namespace, name, Patch::Merge(patch), None).await?;
        Ok(Arc::new(written))
    }
}
