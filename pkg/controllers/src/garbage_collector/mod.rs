//! Deletes objects whose owners are gone, and carries out foreground and orphaning deletion.
//!
//! Invariant: nothing is deleted before the API server itself has said that its owners are gone, and only as the very
//! object (uid and version) that was looked at.

mod graph;
mod monitors;
mod plan;

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use kedge_client::{DeleteOptions, Error, Patch, Preconditions, WorkQueue};
use kedge_meta::{ObjectMeta, OwnerReference, Resource, Status};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tracing::debug;

use crate::context::{Context, ignore_not_found};
use crate::objects::Meta;
use crate::resourcequota::Notice;
use graph::{FOREGROUND, Graph, Node, ORPHAN, Work};
use monitors::Monitors;
use plan::{Owner, Verdict, verdict};

struct Controller {
    ctx: Context,
    queue: WorkQueue<Work>,
    graph: Mutex<Graph>,
    monitors: Monitors,
    notice: Notice,
    absent: Mutex<Absent>,
}

/// Owners of which the API server has said that they are gone, as they were asked for: a uid never comes back, and an owner of
/// thousands is asked for once. A reference that has the uid of an owner and another name says nothing about that owner.
#[derive(Default)]
struct Absent {
    owners: HashSet<Sought>,
    order: VecDeque<Sought>,
}

/// An owner as a dependent refers to it.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Sought {
    api_version: String,
    kind: String,
    /// Empty when the owner is of the cluster.
    namespace: String,
    name: String,
    uid: String,
}

impl Absent {
    /// As upstream's.
    const MOST: usize = 500;

    fn add(&mut self, owner: Sought) {
        if self.owners.insert(owner.clone()) {
            self.order.push_back(owner);
        }
        if self.order.len() > Self::MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.owners.remove(&oldest);
        }
    }
}

/// Starts the collector.
///
/// Every object that goes is told to `notice`, since the collector is the one that follows all resources.
pub fn start(ctx: &Context, notice: Notice) {
    let queue = ctx.queue();
    let controller = Arc::new(Controller {
        ctx: ctx.clone(),
        queue: queue.clone(),
        graph: Mutex::default(),
        monitors: Monitors::default(),
        notice,
        absent: Mutex::default(),
    });
    let (first, synced) = tokio::sync::oneshot::channel();
    let (discovering, first) = (controller.clone(), Arc::new(Mutex::new(Some(first))));
    ctx.tasks.spawn_worker("garbage collector discovery", move || monitors::run(discovering.clone(), first.clone()));
    let synced = async move {
        // The sender ends with the process only.
        let _ = synced.await;
    };
    ctx.work("garbage-collector", &queue, 20, synced, controller, |c, work| async move { c.process(work).await });
}

/// The group of an `apiVersion`.
fn group(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

impl Controller {
    async fn process(&self, work: Work) -> Result<(), Error> {
        match work {
            Work::Delete(uid) => self.attempt_to_delete(&uid).await,
            Work::Orphan(uid) => self.orphan_dependents(&uid).await,
        }
    }

    fn node(&self, uid: &str) -> Option<Node> {
        self.graph.lock().get(uid).cloned()
    }

    /// The object as it is now; none when it is gone or another one has taken its name.
    async fn latest(&self, node: &Node) -> Result<Option<ObjectMeta>, Error> {
        let meta = &node.object.metadata;
        match self.ctx.client.get::<Meta>(&node.resource, &meta.namespace, &meta.name).await {
            Ok(found) if found.metadata.uid == meta.uid => Ok(Some(found.metadata)),
            Ok(_) => Ok(None),
            Err(err) if err.is_object_not_found(&meta.name) => Ok(None),
            // Also that the kind is not served any more: what becomes of it is seen when its other versions are followed.
            Err(err) => Err(err),
        }
    }

    async fn attempt_to_delete(&self, uid: &str) -> Result<(), Error> {
        let Some(node) = self.node(uid) else { return Ok(()) };
        if node.object.metadata.is_deleting() && !node.object.waits_for_deletion() {
            return Ok(());
        }
        let Some(latest) = self.latest(&node).await? else {
            return Ok(());
        };
        if node.object.waits_for_deletion() {
            return self.wait_for_dependents(&node, &latest).await;
        }
        if latest.owner_references.is_empty() {
            return Ok(());
        }
        let mut owners = Vec::new();
        for reference in &latest.owner_references {
            owners.push(self.state_of(reference, &latest, node.resource.namespaced).await?);
        }
        let dependents = self.graph.lock().dependents(uid);
        let cycle = dependents.iter().any(|d| d.object.waits_for_deletion());
        match verdict(&latest, &owners, !dependents.is_empty(), cycle) {
            Verdict::Keep => Ok(()),
            Verdict::Release(references) => self.write_owners(&node.resource, &latest, &references).await,
            Verdict::Delete { policy, unblock } => {
                if unblock {
                    let mut references = latest.owner_references.clone();
                    references.iter_mut().for_each(|r| r.block_owner_deletion = Some(false));
                    return self.write_owners(&node.resource, &latest, &references).await;
                }
                debug!(kind = node.resource.kind.as_str(), object = %latest.key(), policy, "deleting garbage");
                self.delete(&node.resource, &latest, policy).await
            }
        }
    }

    async fn delete(&self, resource: &Resource, object: &ObjectMeta, policy: &'static str) -> Result<(), Error> {
        let preconditions =
            Preconditions { uid: Some(object.uid.clone()), resource_version: Some(object.resource_version.clone()) };
        let options = DeleteOptions {
            preconditions: Some(preconditions),
            propagation_policy: Some(policy),
            ..DeleteOptions::default()
        };
        ignore_not_found(self.ctx.client.delete(resource, &object.namespace, &object.name, &options).await)
    }

    /// Lets go of an object that waits for its dependents, or sees to it that they go.
    async fn wait_for_dependents(&self, node: &Node, latest: &ObjectMeta) -> Result<(), Error> {
        let dependents = {
            let graph = self.graph.lock();
            if graph.is_blocked(&latest.uid) { graph.dependents(&latest.uid) } else { Vec::new() }
        };
        if dependents.is_empty() {
            return self.remove_finalizer(&node.resource, latest, FOREGROUND).await;
        }
        for dependent in dependents.iter().filter(|d| !d.object.waits_for_deletion()) {
            self.queue.add(Work::Delete(dependent.object.metadata.uid.clone()));
        }
        Ok(())
    }

    /// What is known of an owner, from the graph or else from the API server.
    async fn state_of(
        &self,
        reference: &OwnerReference,
        dependent: &ObjectMeta,
        namespaced: bool,
    ) -> Result<Owner, Error> {
        if let Some(owner) = self.node(&reference.uid) {
            let meta = &owner.object.metadata;
            let meant = owner.resource.kind == reference.kind
                && owner.resource.group == group(&reference.api_version)
                && meta.name == reference.name
                && (!owner.resource.namespaced || meta.namespace == dependent.namespace);
            if meant {
                return Ok(if owner.object.waits_for_deletion() { Owner::Waiting } else { Owner::Solid });
            }
        }
        let Some(resource) = self.monitors.resource(group(&reference.api_version), &reference.kind) else {
            let what = format!("{}, Kind={}", reference.api_version, reference.kind);
            return Err(Status::internal(format!("no resource is known for owner {what} {}", reference.name)).into());
        };
        if resource.namespaced && !namespaced {
            // Such a reference says nothing: there is no namespace to look in.
            return Ok(Owner::Solid);
        }
        let namespace = if resource.namespaced { dependent.namespace.as_str() } else { "" };
        let sought = Sought {
            api_version: reference.api_version.clone(),
            kind: reference.kind.clone(),
            namespace: namespace.to_owned(),
            name: reference.name.clone(),
            uid: reference.uid.clone(),
        };
        if self.absent.lock().owners.contains(&sought) {
            return Ok(Owner::Gone);
        }
        match self.ctx.client.get::<Meta>(&resource, namespace, &reference.name).await {
            Ok(owner) if owner.metadata.uid != reference.uid => {
                self.absent.lock().add(sought);
                Ok(Owner::Gone)
            }
            Ok(owner) => {
                let waits = owner.metadata.is_deleting() && owner.metadata.finalizers.iter().any(|f| f == FOREGROUND);
                Ok(if waits { Owner::Waiting } else { Owner::Solid })
            }
            Err(err) if err.is_object_not_found(&reference.name) => {
                self.absent.lock().add(sought);
                Ok(Owner::Gone)
            }
            // A path that is not served says nothing of an owner: its dependents must not go for that.
            Err(err) => Err(err),
        }
    }

    async fn orphan_dependents(&self, uid: &str) -> Result<(), Error> {
        let Some(owner) = self.node(uid) else { return Ok(()) };
        let Some(latest) = self.latest(&owner).await? else {
            return Ok(());
        };
        let dependents = self.graph.lock().dependents(uid);
        for dependent in dependents {
            let Some(object) = self.latest(&dependent).await? else { continue };
            let mut references = object.owner_references.clone();
            references.retain(|r| r.uid != uid);
            if references != object.owner_references {
                self.write_owners(&dependent.resource, &object, &references).await?;
            }
        }
        self.remove_finalizer(&owner.resource, &latest, ORPHAN).await
    }

    async fn write_owners(
        &self,
        resource: &Resource,
        object: &ObjectMeta,
        references: &[OwnerReference],
    ) -> Result<(), Error> {
        self.patch_metadata(resource, object, "ownerReferences", json!(references)).await
    }

    async fn remove_finalizer(&self, resource: &Resource, object: &ObjectMeta, name: &str) -> Result<(), Error> {
        let finalizers: Vec<&String> = object.finalizers.iter().filter(|f| *f != name).collect();
        if finalizers.len() == object.finalizers.len() {
            return Ok(());
        }
        self.patch_metadata(resource, object, "finalizers", json!(finalizers)).await
    }

    async fn patch_metadata(
        &self,
        resource: &Resource,
        object: &ObjectMeta,
        field: &str,
        value: Value,
    ) -> Result<(), Error> {
        let value = if value.as_array().is_some_and(Vec::is_empty) { Value::Null } else { value };
        let patch = json!({ "metadata": { "resourceVersion": object.resource_version, field: value } });
        let (namespace, name) = (&object.namespace, &object.name);
        let patched = self.ctx.client.patch(resource, namespace, name, Patch::Merge(patch), None).await;
        ignore_not_found(patched.map(|_: Meta| ()))
    }
}
