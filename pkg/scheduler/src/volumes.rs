//! Binds the volumes of a pod before the pod: existing ones by their claim reference, new ones by naming the node.

use std::sync::Arc;
use std::time::Duration;

use kedge_base::{SharedClock, time};
use kedge_client::{Client, Error, Patch};
use kedge_meta::{ObjectKey, resources};
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::api::{Claim, SELECTED_NODE, Volume};
use crate::listers::Listers;
use crate::plugins::VolumeDecision;

/// How long binding or provisioning may take before another node is tried.
const TIMEOUT: Duration = Duration::from_secs(600);

/// Why the volumes of a pod could not be had.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    #[error("{0}")]
    Api(#[from] Error),
    #[error("binding volumes: context deadline exceeded")]
    Timeout,
    #[error("provisioning failed for PVC \"{0}\"")]
    Provisioning(ObjectKey),
    #[error("persistentvolumeclaim \"{0}\" not found")]
    ClaimGone(ObjectKey),
    #[error("the pod has ended meanwhile")]
    PodGone,
}

/// Binds volumes and waits until all are there.
pub struct VolumeBinder<'a> {
    pub client: &'a Client,
    pub clock: &'a SharedClock,
    pub listers: &'a Listers,
    /// Changes whenever a claim or the pod may have changed.
    pub changed: watch::Receiver<u64>,
}

fn claim_reference(claim: &Claim, volume: &Volume) -> Value {
    let meta = &claim.metadata;
    json!({
        // Another binder may be at work: only the volume as it was decided upon is taken.
        "metadata": {
            "resourceVersion": volume.metadata.resource_version,
            "annotations": { "pv.kubernetes.io/bound-by-controller": "yes" },
        },
        "spec": { "claimRef": {
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "namespace": meta.namespace, "name": meta.name, "uid": meta.uid,
            "resourceVersion": meta.resource_version,
        } },
    })
}

fn selected_node(claim: &Claim, node: &str) -> Value {
    json!({ "metadata": { "uid": claim.metadata.uid, "annotations": { SELECTED_NODE: node } } })
}

impl VolumeBinder<'_> {
    /// Writes what was decided and waits for it.
    ///
    /// # Errors
    /// [`VolumeError`]; the claims may then be bound in part, which the next attempt goes on from.
    pub async fn run(
        mut self,
        decision: &VolumeDecision,
        node: &str,
        gone: impl Fn() -> bool,
    ) -> Result<(), VolumeError> {
        for (claim, volume) in &decision.bind {
            let patch = Patch::Merge(claim_reference(claim, volume));
            let name = &volume.metadata.name;
            let _: IgnoredAny = self.client.patch(&resources::PERSISTENT_VOLUMES, "", name, patch, None).await?;
        }
        for claim in &decision.provision {
            let patch = Patch::Merge(selected_node(claim, node));
            let key = claim.metadata.key();
            let claims = &resources::PERSISTENT_VOLUME_CLAIMS;
            let _: IgnoredAny = self.client.patch(claims, &key.namespace, &key.name, patch, None).await?;
        }
        let deadline = self.clock.monotonic() + TIMEOUT;
        loop {
            self.changed.mark_unchanged();
            if gone() {
                return Err(VolumeError::PodGone);
            }
            if bound(self.listers, decision, node)? {
                return Ok(());
            }
            let left = deadline.saturating_sub(self.clock.monotonic());
            let changed = time::timeout(left, self.changed.changed()).await;
            if changed.is_err() || left.is_zero() {
                return Err(VolumeError::Timeout);
            }
        }
    }
}

/// Whether all claims are bound.
fn bound(listers: &Listers, decision: &VolumeDecision, node: &str) -> Result<bool, VolumeError> {
    let mut all = true;
    for claim in decision.claims() {
        let key = claim.metadata.key();
        let now = listers.claims.get(&key.namespace, &key.name).filter(|c| c.metadata.uid == claim.metadata.uid);
        let now: Arc<Claim> = now.ok_or_else(|| VolumeError::ClaimGone(key.clone()))?;
        if now.is_bound() {
            continue;
        }
        all = false;
        let provisioned = decision.provision.iter().any(|c| c.metadata.uid == claim.metadata.uid);
        // A provisioner that cannot serve the node takes the annotation away; until our own write is seen it is absent
        // too, which the version tells apart.
        let seen = now.metadata.resource_version != claim.metadata.resource_version;
        if provisioned && seen && now.selected_node() != Some(node) {
            return Err(VolumeError::Provisioning(key));
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn claim(version: &str, annotations: Value) -> Value {
        let meta = json!({
            "name": "c", "namespace": "n", "uid": "u", "resourceVersion": version, "annotations": annotations,
        });
        json!({"metadata": meta, "spec": {"volumeName": if version == "3" { "v" } else { "" }}})
    }

    #[test]
    fn provisioning_is_waited_for_and_may_be_refused() {
        let decided: Claim = serde_json::from_value(claim("1", json!({}))).unwrap();
        let decision = VolumeDecision { provision: vec![Arc::new(decided)], ..VolumeDecision::default() };
        let state = |now: Value| {
            let listers = Listers::default().with_storage(vec![now], vec![], vec![]);
            bound(&listers, &decision, "node").map_err(|e| e.to_string())
        };
        assert_eq!(state(claim("1", json!({}))), Ok(false), "our own write is not seen yet");
        assert_eq!(state(claim("2", json!({SELECTED_NODE: "node"}))), Ok(false));
        assert_eq!(state(claim("2", json!({}))), Err("provisioning failed for PVC \"n/c\"".into()));
        assert_eq!(state(claim("3", json!({"pv.kubernetes.io/bind-completed": "yes"}))), Ok(true));
        let none = bound(&Listers::default(), &decision, "node").unwrap_err();
        assert_eq!(none.to_string(), "persistentvolumeclaim \"n/c\" not found");
    }
}
