//! What becomes of a claim: who does not run any more is no user of it, and what nobody uses is given up.

use kedge_client::{DeleteOptions, Error, Patch};
use kedge_meta::ObjectKey;
use kedge_meta::resources::{PODS, RESOURCE_CLAIMS};
use serde_json::{Value, json};

use super::Controller;
use super::types::{Claim, Consumer, FINALIZER, is_done};
use crate::context::ignore_not_found;
use crate::objects::Meta;

impl Controller {
    pub(super) async fn claim(&self, key: &ObjectKey) -> Result<(), Error> {
        let Some(claim) = self.claims.get(&key.namespace, &key.name) else { return Ok(()) };
        let mut remaining = Vec::with_capacity(claim.status.reserved_for.len());
        for user in &claim.status.reserved_for {
            // Users of other kinds are somebody else's.
            if !user.is_pod() || self.may_run(&key.namespace, user).await? {
                remaining.push(user);
            }
        }
        let unused = remaining.is_empty();
        if remaining.len() < claim.status.reserved_for.len() {
            // What is not used any more can be allocated anew, wherever the next user runs.
            let given_up = unused && claim.is_kept();
            let mut status = json!({"reservedFor": if unused { Value::Null } else { json!(remaining) }});
            if given_up {
                status["allocation"] = Value::Null;
            }
            let written = self.write(&claim, json!({"status": status}), Some("status")).await?;
            if written.is_kept() && !written.status.allocation {
                self.let_go(&written).await?;
            }
        } else if claim.is_kept() && claim.metadata.is_deleting() && unused {
            let written = match claim.status.allocation {
                true => self.write(&claim, json!({"status": {"allocation": null}}), Some("status")).await?,
                false => (*claim).clone(),
            };
            self.let_go(&written).await?;
        }
        if unused { self.delete_generated(&claim).await } else { Ok(()) }
    }

    /// Whether a pod that uses a claim is still there and may run.
    async fn may_run(&self, namespace: &str, user: &Consumer) -> Result<bool, Error> {
        if self.gone.lock().uids.contains(&user.uid) {
            return Ok(false);
        }
        if let Some(pod) = self.ctx.pods.get(namespace, &user.name) {
            return Ok(pod.metadata.uid == user.uid && !is_done(&pod));
        }
        // It may not be in the cache yet.
        match self.ctx.client.get::<Meta>(&PODS, namespace, &user.name).await {
            Ok(pod) => Ok(pod.metadata.uid == user.uid),
            Err(err) if err.is_not_found() => Ok(false),
            Err(err) => Err(err),
        }
    }

    /// Changes a claim over the version that was looked at.
    async fn write(&self, claim: &Claim, mut patch: Value, subresource: Option<&str>) -> Result<Claim, Error> {
        let metadata = &claim.metadata;
        patch["metadata"]["resourceVersion"] = metadata.resource_version.as_str().into();
        let patch = Patch::Merge(patch);
        self.ctx.client.patch(&RESOURCE_CLAIMS, &metadata.namespace, &metadata.name, patch, subresource).await
    }

    /// Takes away what keeps a claim.
    async fn let_go(&self, claim: &Claim) -> Result<(), Error> {
        let others: Vec<&String> = claim.metadata.finalizers.iter().filter(|f| *f != FINALIZER).collect();
        let patch = json!({"metadata": {"finalizers": others}});
        ignore_not_found(self.write(claim, patch, None).await.map(drop))
    }

    /// A claim that was made for a pod which is not going to run is deleted, though the pod may stay.
    async fn delete_generated(&self, claim: &Claim) -> Result<(), Error> {
        let Some(owner) = claim.owner() else { return Ok(()) };
        let namespace = &claim.metadata.namespace;
        // Of pods that are not there the garbage collector knows whether they are gone.
        let Some(pod) = self.ctx.pods.get(namespace, &owner.name) else { return Ok(()) };
        if pod.metadata.uid == owner.uid && !is_done(&pod) {
            return Ok(());
        }
        let options = DeleteOptions::with_uid(&claim.metadata.uid);
        let deleted = self.ctx.client.delete(&RESOURCE_CLAIMS, namespace, &claim.metadata.name, &options).await;
        match ignore_not_found(deleted) {
            // Another one has that name by now.
            Err(err) if err.is_conflict() => Ok(()),
            other => other,
        }
    }
}
