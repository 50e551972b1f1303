//! Empties namespaces that are being deleted, then takes the `kubernetes` finalizer off them.
//!
//! Invariant: the finalizer goes only after a round in which every namespaced resource was listed and found empty.

mod conditions;

use std::collections::BTreeMap;
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
        // What there is now, so that nothing of a kind that has just come is left behind.
        let discovery = self.ctx.discovery.refresh().await?;
        let mut findings = Findings { discovery_failures: discovery.failures.clone(), ..Findings::default() };
        let now = self.ctx.clock.now();
        let mut wait = 0;
        let mut kinds: Vec<_> =
            discovery.resources.iter().filter(|d| d.resource.namespaced && d.can("delete") && d.can("list")).collect();
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
            if kind.resource.group_resource() == resources::PODS.group_resource() && !findings.remaining.is_empty() {
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
        findings.remaining.push((resource.group_resource(), left.count));
    }
    for (finalizer, count) in &left.finalizers {
        *findings.finalizers.entry(finalizer.clone()).or_default() += count;
    }
    left.estimate
}

#[derive(Debug, Default)]
struct Left {
    count: usize,
    finalizers: BTreeMap<String, usize>,
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
    metadata: ItemMeta,
    spec: ItemSpec,
    status: ItemStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ItemMeta {
    name: String,
    finalizers: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ItemSpec {
    termination_grace_period_seconds: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ItemStatus {
    phase: String,
}

/// Objects listed, and deleted, at a time: however many there are, only these are in memory.
const PAGE: u64 = 500;

/// Deletes all objects of one resource in the namespace; returns what is still there and may need time.
async fn empty(
    client: &Client,
    resource: &Resource,
    namespace: &ObjectMeta,
    collection: bool,
    now: Timestamp,
) -> Result<Left, Stuck> {
    let pods = resource.group_resource() == resources::PODS.group_resource();
    let before = if pods || !collection { survey(client, resource, &namespace.name).await? } else { Survey::default() };
    let grace = if pods { grace_left(before.longest_grace, namespace, now) } else { 0 };
    let options = DeleteOptions { propagation_policy: Some("Background"), ..DeleteOptions::default() };
    if collection {
        delete_all(client, resource, &namespace.name, &options).await?;
    } else {
        for name in &before.names {
            ignore_not_found(client.delete(resource, &namespace.name, name, &options).await)?;
        }
    }
    let Survey { count, finalizers, .. } = survey(client, resource, &namespace.name).await?;
    let mut left = Left { count, finalizers, estimate: grace };
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

/// How often deleting page by page is begun anew in one go.
const STARTS: usize = 100;

/// Deletes the objects of a resource page by page. What is left after that is for the next round.
async fn delete_all(
    client: &Client,
    resource: &Resource,
    namespace: &str,
    options: &DeleteOptions,
) -> Result<(), Error> {
    let mut params = ListParams { limit: PAGE, ..ListParams::default() };
    let mut starts = 1;
    loop {
        match client.delete_collection(resource, namespace, &params, options).await {
            Ok(next) if next.is_empty() => return Ok(()),
            Ok(next) => params.continue_ = next,
            // So much was deleted meanwhile that the state which the pages are of has been forgotten. What was deleted is gone.
            Err(err) if err.is_gone() && !params.continue_.is_empty() && starts < STARTS => {
                params.continue_.clear();
                starts += 1;
            }
            // The resource, such as a custom one, may have gone since it was discovered; or it cannot be listed.
            Err(err) if cannot_be_listed(&err) => return Ok(()),
            Err(err) => return Err(err),
        }
    }
}

/// What there is of a resource in a namespace.
#[derive(Debug, Default)]
struct Survey {
    count: usize,
    /// One for each object that has it, so that they can be counted.
    finalizers: BTreeMap<String, usize>,
    /// Where objects have to be deleted one by one, which only few resources want.
    names: Vec<String>,
    /// Of the pods that have not ended, in seconds.
    longest_grace: i64,
}

impl Survey {
    fn add(&mut self, item: Item) {
        self.count += 1;
        for finalizer in item.metadata.finalizers {
            *self.finalizers.entry(finalizer).or_default() += 1;
        }
        if !matches!(item.status.phase.as_str(), "Succeeded" | "Failed") {
            self.longest_grace = self.longest_grace.max(item.spec.termination_grace_period_seconds);
        }
        self.names.push(item.metadata.name);
    }
}

async fn survey(client: &Client, resource: &Resource, namespace: &str) -> Result<Survey, Error> {
    let mut params = ListParams { limit: PAGE, ..ListParams::default() };
    let (mut survey, mut starts) = (Survey::default(), 1);
    loop {
        match client.list::<Item>(resource, namespace, &params).await {
            Ok(page) => {
                page.items.into_iter().for_each(|item| survey.add(item));
                if page.continue_.is_empty() {
                    return Ok(survey);
                }
                params.continue_ = page.continue_;
            }
            Err(err) if err.is_gone() && !params.continue_.is_empty() && starts < STARTS => {
                params.continue_.clear();
                survey = Survey::default();
                starts += 1;
            }
            Err(err) if cannot_be_listed(&err) => return Ok(Survey::default()),
            Err(err) => return Err(err),
        }
    }
}

/// Not so a path that is not found: a kind that goes on in another version still has its objects. What there is is asked anew then.
fn cannot_be_listed(err: &Error) -> bool {
    err.status().is_some_and(|s| s.code == 405)
}

/// How long, in seconds, pods may still take to end; zero when that time is over.
fn grace_left(longest: i64, namespace: &ObjectMeta, now: Timestamp) -> i64 {
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
        let mut survey = Survey::default();
        for (phase, grace, finalizers) in [("Running", 30, json!(["a/b"])), ("Succeeded", 900, json!(["a/b", "c/d"]))] {
            let pod = json!({"metadata": {"name": "a", "finalizers": finalizers},
                "spec": {"terminationGracePeriodSeconds": grace}, "status": {"phase": phase}});
            survey.add(serde_json::from_value(pod).unwrap());
        }
        assert_eq!((survey.count, survey.longest_grace), (2, 30));
        assert_eq!(survey.finalizers, BTreeMap::from([("a/b".to_owned(), 2), ("c/d".to_owned(), 1)]));
        let namespace = ObjectMeta { deletion_timestamp: Some("1970-01-01T00:00:00Z".into()), ..ObjectMeta::default() };
        let at = |s| Timestamp::from_second(s).unwrap();
        assert_eq!(grace_left(30, &namespace, at(10)), 30);
        assert_eq!(grace_left(30, &namespace, at(30)), 0);
    }
}
