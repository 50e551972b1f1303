//! Claims: from a pod's claim to the directory of its bound volume on this node.

use std::path::PathBuf;

use k8s_openapi::api::core::v1::{Pod, Volume};
use kedge_client::{Client, Error};
use kedge_meta::{ObjectMeta, resources};
use serde::Deserialize;

use crate::pod::PodExt;

#[derive(Deserialize)]
struct Claim {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: ClaimSpec,
    #[serde(default)]
    status: Phase,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ClaimSpec {
    volume_name: String,
    volume_mode: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Phase {
    phase: String,
}

#[derive(Deserialize)]
struct Persistent {
    #[serde(default)]
    spec: PersistentSpec,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PersistentSpec {
    claim_ref: Option<ClaimRef>,
    host_path: Option<PathSource>,
    local: Option<PathSource>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ClaimRef {
    uid: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PathSource {
    path: String,
    #[serde(rename = "type")]
    kind: String,
}

/// A directory of the node that a claim stands for.
pub(super) struct Bound {
    pub(super) path: PathBuf,
    pub(super) read_only: bool,
    /// The type to check of a `hostPath`, which belongs to the node; none for a volume that is given to the pod's group.
    pub(super) host_path_type: Option<String>,
}

/// The name of a volume's claim; one of its own is named after pod and volume.
pub(super) fn claim_name(pod: &Pod, volume: &Volume) -> Option<(String, bool)> {
    if let Some(source) = &volume.persistent_volume_claim {
        return Some((source.claim_name.clone(), source.read_only == Some(true)));
    }
    volume.ephemeral.as_ref().map(|_| (format!("{}-{}", pod.name(), volume.name), false))
}

/// Looks up a claim and its volume. What is on the node is not looked at.
///
/// # Errors
/// The message for the pod's events.
pub(super) async fn bound(
    client: &Client,
    pod: &Pod,
    volume: &Volume,
    (claim_name, read_only): (String, bool),
) -> Result<Bound, String> {
    let namespace = pod.namespace();
    let failed = |error: Error| {
        format!("error processing PVC {namespace}/{claim_name}: failed to fetch PVC from API server: {error}")
    };
    let claims = &resources::PERSISTENT_VOLUME_CLAIMS;
    let claim: Claim = client.get(claims, namespace, &claim_name).await.map_err(failed)?;
    if volume.ephemeral.is_some() && !claim.metadata.is_controlled_by(pod.uid()) {
        return Err(format!(
            "PVC {namespace}/{claim_name} was not created for pod {namespace}/{} (pod is not owner)",
            pod.name()
        ));
    }
    if claim.metadata.is_deleting() {
        return Err(format!("error processing PVC {namespace}/{claim_name}: PVC is being deleted"));
    }
    let name = &claim.spec.volume_name;
    if claim.status.phase != "Bound" || name.is_empty() {
        return Err(format!("error processing PVC {namespace}/{claim_name}: PVC is not bound"));
    }
    if claim.spec.volume_mode.as_deref() == Some("Block") {
        return Err("block volumes are not supported by this kubelet".to_string());
    }
    let volumes = &resources::PERSISTENT_VOLUMES;
    let found: Persistent = client
        .get(volumes, "", name)
        .await
        .map_err(|error| format!("failed to fetch PV {name:?} from API server: {error}"))?;
    let uid = found.spec.claim_ref.map(|r| r.uid).unwrap_or_default();
    if uid != claim.metadata.uid {
        return Err(format!(
            "found PV object {name:?} but its pv.Spec.ClaimRef is for {uid:?} and not the claim {:?}",
            claim.metadata.uid
        ));
    }
    if let Some(source) = found.spec.host_path {
        let path = PathBuf::from(source.path);
        return Ok(Bound { path, read_only, host_path_type: Some(source.kind) });
    }
    if let Some(source) = found.spec.local {
        let path = PathBuf::from(source.path);
        return Ok(Bound { path, read_only, host_path_type: None });
    }
    Err(format!("no volume plugin matched for PV {name:?}"))
}
