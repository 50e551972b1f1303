//! Empties namespaces that are being deleted, then takes the `kubernetes` finalizer off them.
//!
//! Invariant: the finalizer goes only after a round in which every namespaced resource was listed and found empty.

mod conditions;

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use http_body_util::BodyExt;
use jiff::Timestamp;
use kedge_client::{Client, DeleteOptions, Error, ListParams, Patch, WorkQueue};
use kedge_meta::{ObjectKey, ObjectMeta, Reason, Resource, Status, resources};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::context::{Context, ignore_not_found};
use crate::discovery::discover;
use crate::objects::{Meta, Namespace, parse_time};
use conditions::Findings;

const FINALIZER: &str = "kubernetes";
/// How long finalizers of content are given before the next look, in seconds.
const FINALIZER_ESTIMATE: i64 = 15;
/// The next look comes within this time, in seconds.
const MAX_WAIT: i64 = 5;

struct Controller {
    ctx: Context,
    queue: WorkQueue<ObjectKey>,
}

/// Starts the controller.
pub fn start(ctx: &Context) {
    let queue = ctx.queue();
    let q = queue.clone();
    ctx.namespaces.on_change(move |change| {
        if change.new.as_ref().is_some_and(|ns| ns.metadata.is_deleting()) {
            q.add(change.key());
        }
    });
    // The last pod to go is what most namespaces wait for.
    let (q, namespaces) = (queue.clone(), ctx.namespaces.clone());
    ctx.pods.on_change(move |change| {
        let namespace = change.key().namespace;
        if change.new.is_none() && namespaces.get("", &namespace).is_some_and(|ns| ns.metadata.is_deleting()) {
            q.add(ObjectKey::new("", namespace));
        }
    });
    let namespaces = ctx.namespaces.clone();
    let synced = async move { namespaces.synced().await };
    let controller = Arc::new(Controller { ctx: ctx.clone(), queue: queue.clone() });
    ctx.work("namespace", &queue, 4, synced, controller, |c, key| async move { c.reconcile(key).await });
}

impl Controller {
    async fn reconcile(&self, key: ObjectKey) -> Result<(), Error> {
        let client = &self.ctx.client;
        let namespace: Namespace = match client.get(&resources::NAMESPACES, "", &key.name).await {
            Ok(namespace) => namespace,
            Err(err) if err.is_not_found() => return Ok(()),
            Err(err) => return Err(err),
        };
        if !namespace.metadata.is_deleting() || namespace.spec.finalizers.is_empty() {
            return Ok(());
        }
        let (findings, wait) = self.delete_content(&namespace).await?;
        self.write_conditions(&namespace, &findings).await?;
        let failed = findings.discovery_failures.iter().chain(&findings.content_failures).next().cloned();
        if let Some(why) = failed {
            return Err(Status::internal(why).into());
        }
        if findings.remaining.is_empty() {
            return self.finalize(&key.name).await;
        }
        let seconds = (wait / 2 + 1).clamp(1, MAX_WAIT);
        self.queue.add_after(key, Duration::from_secs(seconds.unsigned_abs()));
        Ok(())
    }

    /// Deletes what can be deleted. Pods go first, and while there are any nothing else goes. Also returns an estimate,
    /// in seconds, of when the rest will be gone.
    async fn delete_content(&self, namespace: &Namespace) -> Result<(Findings, i64), Error> {
        let discovery = discover(&self.ctx.client).await?;
        let mut findings = Findings { discovery_failures: discovery.failures, ..Findings::default() };
        let now = self.ctx.clock.now();
        let mut wait = 0;
        let mut kinds: Vec<_> = discovery
            .resources
            .into_iter()
            .filter(|d| d.resource.namespaced && d.can("delete") && d.can("list"))
            .collect();
        kinds.sort_by_key(|d| d.resource.group_resource() != resources::PODS.group_resource());
        for kind in kinds {
            let collection = kind.can("deletecollection");
            match empty(&self.ctx.client, &kind.resource, &namespace.metadata, collection, now).await {
                Ok(left) => wait = wait.max(note(&mut findings, &kind.resource, &left)),
                Err(Stuck::Api(err)) => findings.content_failures.push(err.to_string()),
                Err(Stuck::Remains(left, why)) => {
                    note(&mut findings, &kind.resource, &left);
                    findings.content_failures.push(why);
                }
            }
            if kind.resource.plural == resources::PODS.plural && !findings.remaining.is_empty() {
                break;
            }
        }
        Ok((findings, wait))
    }

    async fn write_conditions(&self, namespace: &Namespace, findings: &Findings) -> Result<(), Error> {
        let old = &namespace.status;
        let updated = conditions::updated(&old.conditions, findings, self.ctx.clock.now());
        if updated.is_none() && old.phase == "Terminating" {
            return Ok(());
        }
        let conditions = updated.unwrap_or_else(|| old.conditions.clone());
        let patch = json!({ "status": { "phase": "Terminating", "conditions": conditions } });
        let name = &namespace.metadata.name;
        let patched =
            self.ctx.client.patch(&resources::NAMESPACES, "", name, Patch::Merge(patch), Some("status")).await;
        ignore_not_found(patched.map(|_: Meta| ()))
    }

    async fn finalize(&self, name: &str) -> Result<(), Error> {
        let mut namespace: Value = match self.ctx.client.get(&resources::NAMESPACES, "", name).await {
            Ok(namespace) => namespace,
            Err(err) if err.is_not_found() => return Ok(()),
            Err(err) => return Err(err),
        };
        if let Some(finalizers) = namespace.pointer_mut("/spec/finalizers").and_then(Value::as_array_mut) {
            finalizers.retain(|f| f != FINALIZER);
        }
        let uri = format!("/api/v1/namespaces/{name}/finalize");
        let body = serde_json::to_vec(&namespace)?.into();
        let answer = self.ctx.client.send(Method::PUT, &uri, "application/json", body).await?;
        let code = answer.status();
        if code.is_success() || code.as_u16() == 404 {
            return Ok(());
        }
        let bytes = answer.into_body().collect().await.map_err(Error::Transport)?.to_bytes();
        let unknown = |_| Status::failure(code.as_u16(), Reason::Unknown, "the namespace was not finalized");
        Err(serde_json::from_slice::<Status>(&bytes).unwrap_or_else(unknown).into())
    }
}

/// Records what is left of one resource; returns the estimate.
fn note(findings: &mut Findings, resource: &Resource, left: &Left) -> i64 {
    if left.count > 0 {
        findings.remaining.push((*resource, left.count));
    }
    for finalizer in &left.finalizers {
        *findings.finalizers.entry(finalizer.clone()).or_default() += 1;
    }
    left.estimate
}

#[derive(Debug, Default)]
struct Left {
    count: usize,
    finalizers: Vec<String>,
    estimate: i64,
}

enum Stuck {
    Api(Error),
    Remains(Left, String),
}

impl From<Error> for Stuck {
    fn from(err: Error) -> Self {
        Self::Api(err)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Item {
    metadata: ObjectMeta,
    spec: Value,
    status: Value,
}

/// Deletes all objects of one resource in the namespace; returns what is still there and may need time.
async fn empty(
    client: &Client,
    resource: &Resource,
    namespace: &ObjectMeta,
    collection: bool,
    now: Timestamp,
) -> Result<Left, Stuck> {
    let items = list(client, resource, &namespace.name).await?;
    if items.is_empty() {
        return Ok(Left::default());
    }
    let options = DeleteOptions { propagation_policy: Some("Background"), ..DeleteOptions::default() };
    let grace = grace_left(resource, &items, namespace, now);
    if collection {
        client.delete_collection(resource, &namespace.name, &ListParams::default(), &options).await?;
    } else {
        for item in &items {
            ignore_not_found(client.delete(resource, &namespace.name, &item.metadata.name, &options).await)?;
        }
    }
    let items = list(client, resource, &namespace.name).await?;
    let finalizers: Vec<String> = items.iter().flat_map(|i| i.metadata.finalizers.clone()).collect();
    let mut left = Left { count: items.len(), finalizers, estimate: grace };
    if left.count == 0 || grace > 0 {
        return Ok(left);
    }
    if left.finalizers.is_empty() {
        let gvr = format!("{}/{}, Resource={}", resource.group, resource.version, resource.plural);
        let why = format!("unexpected items still remain in namespace: {} for gvr: {gvr}", namespace.name);
        return Err(Stuck::Remains(left, why));
    }
    left.estimate = FINALIZER_ESTIMATE;
    Ok(left)
}

async fn list(client: &Client, resource: &Resource, namespace: &str) -> Result<Vec<Item>, Error> {
    match client.list::<Item>(resource, namespace, &ListParams::default()).await {
        Ok(list) => Ok(list.items),
        // The resource, such as a custom one, may have gone since it was discovered; or it cannot be listed.
        Err(err) if err.is_not_found() || err.status().is_some_and(|s| s.code == 405) => Ok(Vec::new()),
        Err(err) => Err(err),
    }
}

/// How long, in seconds, pods may still take to end; zero for everything else and when that time is over.
fn grace_left(resource: &Resource, items: &[Item], namespace: &ObjectMeta, now: Timestamp) -> i64 {
    if resource.group_resource() != resources::PODS.group_resource() {
        return 0;
    }
    let ended = |item: &&Item| !matches!(item.status["phase"].as_str(), Some("Succeeded" | "Failed"));
    let grace = |item: &Item| item.spec["terminationGracePeriodSeconds"].as_i64().unwrap_or_default();
    let longest = items.iter().filter(ended).map(grace).max().unwrap_or_default();
    let since = parse_time(namespace.deletion_timestamp.as_ref()).unwrap_or(now);
    if now.duration_since(since).as_secs() >= longest { 0 } else { longest }
}

/// Whether the namespace takes new objects.
pub fn is_active(namespace: &Namespace) -> bool {
    !namespace.metadata.is_deleting() && namespace.status.phase != "Terminating"
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn pods_are_waited_for_as_long_as_they_may_take_after_the_deletion() {
        let pod: Item = serde_json::from_value(json!({
            "metadata": {"name": "a"}, "spec": {"terminationGracePeriodSeconds": 30}, "status": {"phase": "Running"}
        }))
        .unwrap();
        let namespace = ObjectMeta { deletion_timestamp: Some("1970-01-01T00:00:00Z".into()), ..ObjectMeta::default() };
        let at = |s| Timestamp::from_second(s).unwrap();
        let pods = [pod];
        assert_eq!(grace_left(&resources::PODS, &pods, &namespace, at(10)), 30);
        assert_eq!(grace_left(&resources::PODS, &pods, &namespace, at(30)), 0);
        assert_eq!(grace_left(&resources::SECRETS, &pods, &namespace, at(0)), 0);
    }
}
