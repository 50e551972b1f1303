//! Binds the volumes of a pod before the pod: existing ones by their claim reference, new ones by naming the node.

use std::collections::HashMap;
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
    #[error("binding volumes: provisioning failed for PVC {0:?}")]
    Provisioning(String),
    #[error("binding volumes: ClaimRef got reset for pv {0:?}")]
    Unbound(String),
    #[error("binding volumes: pv {0:?} node affinity doesn't match node {1:?}: no matching NodeSelectorTerms")]
    Elsewhere(String, String),
    #[error("binding volumes: failed to check binding: could not find v1.PersistentVolumeClaim \"{0}\"")]
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
        reaches: impl Fn(&Volume) -> bool,
    ) -> Result<(), VolumeError> {
        let mut written = HashMap::new();
        for (claim, volume) in &decision.bind {
            let patch = Patch::Merge(claim_reference(claim, volume));
            let name = &volume.metadata.name;
            let volume: Volume = self.client.patch(&resources::PERSISTENT_VOLUMES, "", name, patch, None).await?;
            written.insert(name.as_str(), volume.metadata.resource_version);
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
            let waiting = Bindings { listers: self.listers, decision, node, written: &written };
            if waiting.are_done(&reaches)? {
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

/// What is waited for.
struct Bindings<'a> {
    listers: &'a Listers,
    decision: &'a VolumeDecision,
    node: &'a str,
    /// Volumes that were bound, at the version that this gave them.
    written: &'a HashMap<&'a str, String>,
}

fn version(text: &str) -> u64 {
    text.parse().unwrap_or_default()
}

impl Bindings<'_> {
    /// Whether all claims are bound to volumes that the node reaches.
    fn are_done(&self, reaches: &impl Fn(&Volume) -> bool) -> Result<bool, VolumeError> {
        let mut all = true;
        for (claim, volume) in &self.decision.bind {
            let name = &volume.metadata.name;
            let Some(volume) = self.listers.volumes.get("", name) else {
                return Err(VolumeError::Unbound(name.clone()));
            };
            let written = self.written.get(name.as_str()).map_or(0, |text| version(text));
            if version(&volume.metadata.resource_version) < written {
                // Our own write is not seen yet.
                all = false;
                continue;
            }
            self.check(&volume, reaches)?;
            if volume.claim.as_ref().is_none_or(|of| of.uid.is_empty()) {
                return Err(VolumeError::Unbound(name.clone()));
            }
            all &= self.now(claim)?.is_bound();
        }
        for claim in &self.decision.provision {
            let now = self.now(claim)?;
            // A provisioner that cannot serve the node takes the annotation away; until our own write is seen it is absent
            // too, which the version tells apart.
            let seen = now.metadata.resource_version != claim.metadata.resource_version;
            if seen && now.selected_node() != Some(self.node) {
                return Err(VolumeError::Provisioning(now.metadata.name.clone()));
            }
            match self.listers.volumes.get("", &now.volume_name) {
                Some(volume) => self.check(&volume, reaches)?,
                // It may not have been seen yet.
                None => all = false,
            }
            all &= seen && now.is_bound();
        }
        Ok(all)
    }

    /// A claim as it is.
    fn now(&self, claim: &Claim) -> Result<Arc<Claim>, VolumeError> {
        let key = claim.metadata.key();
        let now = self.listers.claims.get(&key.namespace, &key.name);
        now.filter(|now| now.metadata.uid == claim.metadata.uid).ok_or(VolumeError::ClaimGone(key))
    }

    fn check(&self, volume: &Volume, reaches: &impl Fn(&Volume) -> bool) -> Result<(), VolumeError> {
        if reaches(volume) {
            Ok(())
        } else {
            Err(VolumeError::Elsewhere(volume.metadata.name.clone(), self.node.to_owned()))
        }
    }
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
        let written = HashMap::new();
        let state = |now: Value, volumes, reached: bool| {
            let listers = Listers::default().with_storage(vec![now], volumes, vec![]);
            let waiting = Bindings { listers: &listers, decision: &decision, node: "node", written: &written };
            waiting.are_done(&|_: &Volume| reached).map_err(|e| e.to_string())
        };
        assert_eq!(state(claim("1", json!({})), vec![], true), Ok(false), "our own write is not seen yet");
        let selected = json!({SELECTED_NODE: "node", "pv.kubernetes.io/bind-completed": "yes"});
        assert_eq!(state(claim("2", json!({SELECTED_NODE: "node"})), vec![], true), Ok(false));
        let failed = "binding volumes: provisioning failed for PVC \"c\"";
        assert_eq!(state(claim("2", json!({})), vec![], true), Err(failed.into()));
        let volume = || vec![json!({"metadata": {"name": "v"}})];
        assert_eq!(state(claim("3", selected.clone()), vec![], true), Ok(false), "the volume is not seen yet");
        assert_eq!(state(claim("3", selected.clone()), volume(), true), Ok(true));
        let elsewhere =
            "binding volumes: pv \"v\" node affinity doesn't match node \"node\": no matching NodeSelectorTerms";
        assert_eq!(state(claim("3", selected), volume(), false), Err(elsewhere.into()));
        let listers = Listers::default();
        let waiting = Bindings { listers: &listers, decision: &decision, node: "node", written: &written };
        let gone = waiting.are_done(&|_: &Volume| true).unwrap_err();
        assert!(gone.to_string().ends_with("could not find v1.PersistentVolumeClaim \"n/c\""));
    }

    #[test]
    fn a_binding_that_was_taken_back_is_no_binding() {
        let decided: Arc<Claim> = Arc::new(serde_json::from_value(claim("1", json!({}))).unwrap());
        let volume = |version: &str, uid: &str| {
            let reference = json!({"namespace": "n", "name": "c", "uid": uid});
            json!({"metadata": {"name": "v", "resourceVersion": version}, "spec": {"claimRef": reference}})
        };
        let before: Arc<Volume> = Arc::new(serde_json::from_value(volume("4", "")).unwrap());
        let decision = VolumeDecision { bind: vec![(decided, before)], ..VolumeDecision::default() };
        let written = HashMap::from([("v", "5".to_owned())]);
        let state = |now: Value, volume: Value| {
            let listers = Listers::default().with_storage(vec![now], vec![volume], vec![]);
            let waiting = Bindings { listers: &listers, decision: &decision, node: "node", written: &written };
            waiting.are_done(&|_: &Volume| true).map_err(|e| e.to_string())
        };
        assert_eq!(state(claim("1", json!({})), volume("4", "")), Ok(false), "our own write is not seen yet");
        assert_eq!(state(claim("1", json!({})), volume("5", "u")), Ok(false));
        let reset = "binding volumes: ClaimRef got reset for pv \"v\"";
        assert_eq!(state(claim("1", json!({})), volume("6", "")), Err(reset.into()));
        let done = claim("3", json!({"pv.kubernetes.io/bind-completed": "yes"}));
        assert_eq!(state(done, volume("7", "u")), Ok(true));
    }
}
