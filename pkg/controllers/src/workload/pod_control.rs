//! Pods made from templates, and deleted, with the events that upstream writes.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::join_all;
use kedge_client::{Client, DeleteOptions, Error, EventRecorder, EventType};
use kedge_meta::{ObjectKey, ObjectReference, OwnerReference, resources};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::expectations::Expectations;
use crate::objects::{Meta, Pod};
use crate::serviceaccount::is_namespace_terminating;

/// Creates and deletes pods on behalf of the owners of one kind.
#[derive(Clone)]
pub struct PodControl {
    pub client: Client,
    pub events: EventRecorder,
}

/// The pod that a template makes; its name is left to the caller or to `generateName`.
pub fn from_template(template: &Value, namespace: &str, owner: &OwnerReference) -> Value {
    let mut metadata = Map::new();
    for field in ["labels", "annotations", "finalizers"] {
        if let Some(value) = template.pointer(&format!("/metadata/{field}")).filter(|v| !v.is_null()) {
            metadata.insert(field.to_owned(), value.clone());
        }
    }
    metadata.insert("namespace".to_owned(), namespace.into());
    metadata.insert("ownerReferences".to_owned(), json!([owner]));
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"] })
}

/// Reads a stored template. One that cannot be read is an empty one, which the API server will refuse with the reason.
pub fn template(raw: &RawValue) -> Value {
    serde_json::from_str(raw.get()).unwrap_or_default()
}

impl PodControl {
    /// Creates a pod and records the event about `owner`. In a namespace that goes away nothing is created or recorded,
    /// and that is no error.
    ///
    /// # Errors
    /// When the pod was refused; then that is recorded too.
    pub async fn create(&self, namespace: &str, pod: &Value, owner: &ObjectReference) -> Result<(), Error> {
        match self.client.create::<Meta>(&resources::PODS, namespace, pod).await {
            Ok(created) => {
                let message = format!("Created pod: {}", created.metadata.name);
                self.events.event(owner, EventType::Normal, "SuccessfulCreate", message);
                Ok(())
            }
            Err(err) => {
                if !is_namespace_terminating(&err) {
                    self.events.event(owner, EventType::Warning, "FailedCreate", format!("Error creating: {err}"));
                }
                Err(err)
            }
        }
    }

    /// Deletes a pod and records the event about `owner`.
    ///
    /// # Errors
    /// When it could not be deleted, also because it is gone.
    pub async fn delete(&self, pod: &Pod, owner: &ObjectReference) -> Result<(), Error> {
        let meta = &pod.metadata;
        let options = DeleteOptions::with_uid(&meta.uid);
        match self.client.delete(&resources::PODS, &meta.namespace, &meta.name, &options).await {
            Ok(()) => {
                let message = format!("Deleted pod: {}", meta.name);
                self.events.event(owner, EventType::Normal, "SuccessfulDelete", message);
                Ok(())
            }
            Err(err) => {
                if !err.is_not_found() {
                    self.events.event(owner, EventType::Warning, "FailedDelete", format!("Error deleting: {err}"));
                }
                Err(err)
            }
        }
    }

    /// Deletes pods side by side; `failed` hears of each that was not deleted.
    ///
    /// # Errors
    /// The first failure; pods that are gone are none.
    pub async fn delete_all(
        &self,
        pods: &[Arc<Pod>],
        owner: &ObjectReference,
        failed: impl Fn(&Pod),
    ) -> Result<(), Error> {
        let results = join_all(pods.iter().map(|pod| self.delete(pod, owner))).await;
        let mut first = Ok(());
        for (pod, result) in pods.iter().zip(results) {
            if let Err(err) = result {
                failed(pod);
                if !err.is_not_found() && first.is_ok() {
                    first = Err(err);
                }
            }
        }
        first
    }
}

/// Creates `n` objects for `owner` in growing batches, each expected before and given up when it fails. A namespace that
/// goes away is no failure. Returns how many were created, and the first failure.
pub async fn create_expected<F, Fut>(
    expectations: &Expectations,
    owner: &ObjectKey,
    n: usize,
    create: F,
) -> (usize, Result<(), Error>)
where
    F: Fn(usize) -> Fut,
    Fut: Future<Output = Result<(), Error>>,
{
    expectations.expect_creations(owner, n);
    let attempted = AtomicUsize::new(0);
    let one = |i| {
        attempted.fetch_add(1, Ordering::Relaxed);
        let creation = create(i);
        async move {
            let created = creation.await;
            if created.is_err() {
                expectations.creation_observed(owner);
            }
            match created {
                Err(err) if is_namespace_terminating(&err) => Ok(()),
                other => other,
            }
        }
    };
    let result = slow_start(n, one).await;
    // Those that were not even tried will not be seen.
    (attempted.into_inner()..n).for_each(|_| expectations.creation_observed(owner));
    result
}

/// Calls `create` `n` times in batches that double while all goes well, so that what is bound to fail fails once and not
/// `n` times. Returns how many calls succeeded, and the first failure.
pub async fn slow_start<F, Fut>(n: usize, create: F) -> (usize, Result<(), Error>)
where
    F: Fn(usize) -> Fut,
    Fut: Future<Output = Result<(), Error>>,
{
    let (mut done, mut batch) = (0, 1);
    while done < n {
        let size = batch.min(n - done);
        let results = join_all((done..done + size).map(&create)).await;
        let failures = results.iter().filter(|r| r.is_err()).count();
        done += size - failures;
        if let Some(err) = results.into_iter().find_map(Result::err) {
            return (done, Err(err));
        }
        batch *= 2;
    }
    (done, Ok(()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use kedge_meta::Status;

    #[tokio::test]
    async fn a_failure_stops_the_batches() {
        let calls = AtomicUsize::new(0);
        let (done, result) = slow_start(100, |i| {
            calls.fetch_add(1, Ordering::Relaxed);
            async move { if i == 2 { Err(Status::internal("quota").into()) } else { Ok(()) } }
        })
        .await;
        assert!(result.is_err());
        assert_eq!((done, calls.load(Ordering::Relaxed)), (2, 3), "one, then two of which one failed");
        assert_eq!(slow_start(5, |_| async { Ok(()) }).await.0, 5);
    }

    #[test]
    fn a_pod_takes_labels_and_spec_of_its_template() {
        let template = json!({
            "metadata": {"labels": {"a": "b"}, "name": "ignored", "creationTimestamp": null}, "spec": {"containers": []}
        });
        let pod = from_template(&template, "ns", &OwnerReference { uid: "u".into(), ..OwnerReference::default() });
        assert_eq!(pod["metadata"]["labels"]["a"], "b");
        assert_eq!(pod["metadata"]["ownerReferences"][0]["uid"], "u");
        assert!(pod["metadata"].get("name").is_none());
        assert_eq!(pod["spec"], json!({"containers": []}));
    }
}
