//! Keeps the EndpointSlices of services with a selector.
//!
//! Invariant: while a created slice is not in the cache, nothing is planned for its service, so none is made twice.

use std::collections::HashSet;
use std::sync::Arc;

use futures::future::try_join_all;
use kedge_client::{DeleteOptions, Error, EventRecorder, EventType, Informer, ListParams, WorkQueue};
use kedge_meta::{ObjectKey, Resource, Status, resources};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::hints::{self, Said, Shares};
use super::slices::{EndpointSlice, MANAGED_BY_LABEL, MANAGER, SERVICE_LABEL, Topology, plan};
use super::trigger::Trigger;
use super::{TRIGGER_TIME, follow_pods};
use crate::context::{Context, enqueue_changes, ignore_not_found};
use crate::objects::{Meta, Node, Pod, Service};
use crate::serviceaccount::is_namespace_terminating;
use crate::workload::expectations::{Expectations, TIMEOUT};
use crate::workload::reference;

static SLICES: &Resource = &resources::ENDPOINT_SLICES;

struct Controller {
    ctx: Context,
    events: EventRecorder,
    queue: WorkQueue<ObjectKey>,
    slices: Informer<EndpointSlice>,
    expectations: Expectations,
    trigger: Trigger,
    /// What each zone has of the CPU, while some service asks for it.
    shares: Mutex<Option<Shares>>,
    /// Services whose endpoints have hints by that.
    hinted: Mutex<HashSet<ObjectKey>>,
}

/// Starts the controller.
pub fn start(ctx: &Context) {
    let ours = ListParams::labels(format!("{MANAGED_BY_LABEL}={MANAGER}"));
    let slices: Informer<EndpointSlice> = Informer::start(&ctx.client, &ctx.tasks, SLICES, ours);
    let queue = ctx.queue();
    let controller = Arc::new(Controller {
        ctx: ctx.clone(),
        events: ctx.recorder("endpoint-slice-controller"),
        queue: queue.clone(),
        slices: slices.clone(),
        expectations: Expectations::new(ctx.clock.clone()),
        trigger: Trigger::default(),
        shares: Mutex::default(),
        hinted: Mutex::default(),
    });
    let c = controller.clone();
    ctx.nodes.on_change(move |change| {
        let part = |node: &Option<Arc<Node>>| {
            node.as_ref().and_then(|n| hints::part(n).map(|(zone, cpu)| (zone.to_owned(), cpu)))
        };
        if part(&change.old) != part(&change.new) {
            c.look_at_shares();
        }
    });
    enqueue_changes(&ctx.services, &queue);
    follow_pods(ctx, &queue);
    let c = controller.clone();
    slices.on_change(move |change| {
        let Some(key) = change.object().and_then(|s| service_of(s)) else { return };
        if change.old.is_none() {
            c.expectations.creation_observed(&key);
        }
        c.queue.add(key);
    });
    let c = controller.clone();
    let synced = async move {
        c.ctx.services.synced().await;
        c.ctx.pods.synced().await;
        c.ctx.nodes.synced().await;
        c.slices.synced().await;
    };
    ctx.work("endpointslice", &queue, 5, synced, controller, |c, key| async move { c.reconcile(key).await });
}

fn service_of(slice: &EndpointSlice) -> Option<ObjectKey> {
    let name = slice.metadata.labels.get(SERVICE_LABEL)?;
    Some(ObjectKey::new(&slice.metadata.namespace, name))
}

impl Controller {
    async fn reconcile(&self, key: ObjectKey) -> Result<(), Error> {
        // The slices of a deleted service go with it, by their owner references.
        let Some(service) = self.ctx.services.get(&key.namespace, &key.name) else {
            self.expectations.forget(&key);
            self.trigger.forget(&key);
            self.hinted.lock().remove(&key);
            return Ok(());
        };
        if !service.is_selecting() || service.metadata.is_deleting() {
            return Ok(());
        }
        if !self.expectations.satisfied(&key) {
            self.queue.add_after(key, TIMEOUT);
            return Ok(());
        }
        let in_namespace = self.slices.list_namespace(&key.namespace);
        let slices = in_namespace.into_iter().filter(|s| service_of(s).as_ref() == Some(&key));
        let slices = slices.filter(|s| !s.metadata.is_deleting()).collect();
        let pods = self.ctx.pods.list_namespace(&key.namespace);
        let pods: Vec<Arc<Pod>> = pods.into_iter().filter(|p| service.selects(p)).collect();
        let topology = Topology { shares: self.shares.lock().clone(), hinted: self.hinted.lock().contains(&key) };
        let changes = plan(&service, &pods, |node| self.ctx.nodes.get("", node), slices, &topology);
        let (hinted, said) = (changes.hinted, changes.said.clone());
        let at = self.trigger.last_change(&service, &pods).map(|t| t.to_string());
        let creates = changes.create.into_iter().map(|slice| self.create(&key, slice, at.as_deref()));
        let updates = changes.update.into_iter().map(|slice| self.update(slice, at.as_deref()));
        let deletes = changes.delete.iter().map(|slice| self.delete(slice));
        let written = futures::try_join!(try_join_all(creates), try_join_all(updates), try_join_all(deletes));
        match written {
            Err(err) if is_namespace_terminating(&err) => Ok(()),
            Err(err) => {
                self.report(&service, &err);
                Err(err)
            }
            Ok(_) => {
                self.say(&service, hinted, said);
                match changes.homeless.first() {
                    Some(pod) => {
                        let message = format!("skipping Pod {pod} for Service {key}: its Node is not found");
                        Err(Status::not_found(&resources::NODES.group_resource(), &message).into())
                    }
                    None => Ok(()),
                }
            }
        }
    }

    /// Looks at the nodes again, and at all services for which they count.
    fn look_at_shares(&self) {
        let shares = hints::shares(self.ctx.nodes.list().iter());
        if std::mem::replace(&mut *self.shares.lock(), shares.clone()) == shares {
            return;
        }
        for service in self.ctx.services.list() {
            if hints::are_wanted(&service.metadata.annotations) {
                self.queue.add(service.metadata.key());
            }
        }
    }

    /// Says what became of hints, and remembers it.
    fn say(&self, service: &Service, hinted: bool, said: Vec<Said>) {
        let key = service.metadata.key();
        if hinted {
            self.hinted.lock().insert(key);
        } else {
            self.hinted.lock().remove(&key);
        }
        let object = reference(&resources::SERVICES, &service.metadata);
        for (kind, reason, message) in said {
            self.events.event(&object, kind, reason, message);
        }
    }

    fn report(&self, service: &Service, err: &Error) {
        if err.is_conflict() || err.is_not_found() {
            return;
        }
        let object = reference(&resources::SERVICES, &service.metadata);
        let key = service.metadata.key();
        let message = format!("Error updating Endpoint Slices for Service {key}: {err}");
        self.events.event(&object, EventType::Warning, "FailedToUpdateEndpointSlices", message);
    }

    async fn create(&self, key: &ObjectKey, slice: EndpointSlice, at: Option<&str>) -> Result<(), Error> {
        self.expectations.expect_creations(key, 1);
        let created: Result<Meta, Error> = self.ctx.client.create(SLICES, &key.namespace, &body(slice, at)?).await;
        if created.is_err() {
            self.expectations.creation_observed(key);
        }
        created.map(|_| ())
    }

    async fn update(&self, slice: EndpointSlice, at: Option<&str>) -> Result<(), Error> {
        let (namespace, name) = (slice.metadata.namespace.clone(), slice.metadata.name.clone());
        let _: Meta = self.ctx.client.update(SLICES, &namespace, &name, &body(slice, at)?).await?;
        Ok(())
    }

    async fn delete(&self, slice: &EndpointSlice) -> Result<(), Error> {
        let meta = &slice.metadata;
        let options = DeleteOptions::with_uid(&meta.uid);
        ignore_not_found(self.ctx.client.delete(SLICES, &meta.namespace, &meta.name, &options).await)
    }
}

fn body(mut slice: EndpointSlice, at: Option<&str>) -> Result<Value, Error> {
    match at {
        Some(at) => slice.metadata.annotations.insert(TRIGGER_TIME.to_owned(), at.to_owned()),
        None => slice.metadata.annotations.remove(TRIGGER_TIME),
    };
    let mut body = serde_json::to_value(slice)?;
    body["apiVersion"] = json!(SLICES.api_version());
    body["kind"] = json!(SLICES.kind);
    Ok(body)
}
