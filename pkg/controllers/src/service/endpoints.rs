//! Keeps the Endpoints objects of services with a selector, for clients that do not know EndpointSlices.

use std::sync::Arc;

use kedge_client::{DeleteOptions, Error, EventRecorder, EventType, Informer};
use kedge_meta::{ObjectKey, ObjectMeta, StringMap, resources};
use serde::Deserialize;
use serde_json::{Value, json};

use super::subsets::{Subset, of_pods, repacked, truncate};
use super::trigger::Trigger;
use super::{HEADLESS_LABEL, TRIGGER_TIME, follow_pods};
use crate::context::{Context, enqueue_changes, ignore_not_found};
use crate::objects::{Meta, Pod, Service, keyed, nullable};
use crate::serviceaccount::is_namespace_terminating;
use crate::workload::reference;

const MANAGED_BY_LABEL: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Endpoints {
    pub metadata: ObjectMeta,
    #[serde(deserialize_with = "nullable")]
    pub subsets: Vec<Subset>,
}
keyed!(Endpoints);

struct Controller {
    ctx: Context,
    events: EventRecorder,
    endpoints: Informer<Endpoints>,
    trigger: Trigger,
}

/// Starts the controller.
pub fn start(ctx: &Context, endpoints: &Informer<Endpoints>) {
    let queue = ctx.queue();
    enqueue_changes(&ctx.services, &queue);
    enqueue_changes(endpoints, &queue);
    follow_pods(ctx, &queue);
    let events = ctx.recorder("endpoint-controller");
    let controller =
        Arc::new(Controller { ctx: ctx.clone(), events, endpoints: endpoints.clone(), trigger: Trigger::default() });
    let c = controller.clone();
    let synced = async move {
        c.ctx.services.synced().await;
        c.ctx.pods.synced().await;
        c.endpoints.synced().await;
    };
    ctx.work("endpoints", &queue, 5, synced, controller, |c, key| async move { c.reconcile(key).await });
}

fn labels(service: &Service) -> StringMap {
    let mut labels = service.metadata.labels.clone();
    labels.remove(HEADLESS_LABEL);
    if !service.has_ip() {
        labels.insert(HEADLESS_LABEL.to_owned(), String::new());
    }
    labels.insert(MANAGED_BY_LABEL.to_owned(), MANAGER.to_owned());
    labels
}

/// The object as it should be, or none when it is. `at` is when what it shows changed.
fn plan(service: &Service, pods: &[Arc<Pod>], current: Option<&Endpoints>, at: Option<String>) -> Option<Value> {
    let mut subsets = of_pods(service, pods);
    let truncated = truncate(&mut subsets);
    let labels = labels(service);
    let mut metadata = current.map(|c| c.metadata.clone()).unwrap_or_default();
    let marked = metadata.annotations.contains_key(OVER_CAPACITY);
    let same = |c: &Endpoints| repacked(&c.subsets) == subsets && c.metadata.labels == labels && marked == truncated;
    if current.is_some_and(same) {
        return None;
    }
    (metadata.name, metadata.namespace) = (service.metadata.name.clone(), service.metadata.namespace.clone());
    metadata.labels = labels;
    for (key, value) in [(TRIGGER_TIME, at), (OVER_CAPACITY, truncated.then(|| "truncated".to_owned()))] {
        match value {
            Some(value) => metadata.annotations.insert(key.to_owned(), value),
            None => metadata.annotations.remove(key),
        };
    }
    Some(json!({ "apiVersion": "v1", "kind": "Endpoints", "metadata": metadata, "subsets": subsets }))
}

impl Controller {
    async fn reconcile(&self, key: ObjectKey) -> Result<(), Error> {
        let current = self.endpoints.get(&key.namespace, &key.name);
        let Some(service) = self.ctx.services.get(&key.namespace, &key.name) else {
            self.trigger.forget(&key);
            return self.delete(current.as_deref()).await;
        };
        if !service.is_selecting() {
            return Ok(());
        }
        let pods = self.ctx.pods.list_namespace(&key.namespace);
        let pods: Vec<Arc<Pod>> = pods.into_iter().filter(|p| service.selects(p)).collect();
        let at = self.trigger.last_change(&service, &pods).map(|t| t.to_string());
        let Some(body) = plan(&service, &pods, current.as_deref(), at) else {
            return Ok(());
        };
        let client = &self.ctx.client;
        let written: Result<Meta, Error> = match current {
            Some(_) => client.update(&resources::ENDPOINTS, &key.namespace, &key.name, &body).await,
            None => client.create(&resources::ENDPOINTS, &key.namespace, &body).await,
        };
        match written {
            Ok(_) => Ok(()),
            Err(err) if is_namespace_terminating(&err) => Ok(()),
            // The cache will show it, and then it is looked at again.
            Err(err) if err.is_already_exists() || err.is_conflict() => Ok(()),
            Err(err) => {
                self.report(&service, current.is_none(), &err);
                Err(err)
            }
        }
    }

    fn report(&self, service: &Service, creating: bool, err: &Error) {
        let object = reference(&resources::ENDPOINTS, &service.metadata);
        let key = service.metadata.key();
        let (reason, message) = if creating {
            ("FailedToCreateEndpoint", format!("Failed to create endpoint for service {key}: {err}"))
        } else {
            ("FailedToUpdateEndpoint", format!("Failed to update endpoint {key}: {err}"))
        };
        self.events.event(&object, EventType::Warning, reason, message);
    }

    /// Removes what was made for a service that is gone. Objects of others stay.
    async fn delete(&self, current: Option<&Endpoints>) -> Result<(), Error> {
        let ours = |e: &&Endpoints| e.metadata.labels.get(MANAGED_BY_LABEL).is_some_and(|m| m == MANAGER);
        let Some(current) = current.filter(ours) else { return Ok(()) };
        let meta = &current.metadata;
        let options = DeleteOptions::with_uid(&meta.uid);
        let deleted = self.ctx.client.delete(&resources::ENDPOINTS, &meta.namespace, &meta.name, &options).await;
        ignore_not_found(deleted)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_object_that_is_right_is_left_alone() {
        let service: Service = serde_json::from_value(json!({
            "metadata": {"name": "s", "namespace": "ns", "labels": {"a": "b"}},
            "spec": {"clusterIP": "None", "selector": {"x": "y"}},
        }))
        .unwrap();
        let body = plan(&service, &[], None, None).unwrap();
        assert_eq!(body["metadata"]["labels"][MANAGED_BY_LABEL], MANAGER);
        assert_eq!(body["metadata"]["labels"][HEADLESS_LABEL], "");
        let current: Endpoints = serde_json::from_value(body).unwrap();
        assert!(plan(&service, &[], Some(&current), Some("t".into())).is_none());
    }
}
