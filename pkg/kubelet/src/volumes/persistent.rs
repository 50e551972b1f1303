//! Claims: from a pod's claim to what its bound volume is.

use k8s_openapi::api::core::v1::{NFSVolumeSource, Pod, Volume};
use kedge_client::{Client, Error};
use kedge_meta::{ObjectMeta, StringMap, nullable, resources};
use serde::Deserialize;

use crate::csi::{Around, Growth, PersistentSource, Source};
use crate::pod::PodExt;

#[derive(Clone, Deserialize)]
pub(super) struct Claim {
    pub(super) metadata: ObjectMeta,
    #[serde(default)]
    spec: ClaimSpec,
    #[serde(default)]
    pub(super) status: ClaimStatus,
}

#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ClaimSpec {
    volume_name: String,
    volume_mode: Option<String>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct ClaimStatus {
    phase: String,
    #[serde(deserialize_with = "nullable")]
    pub(super) capacity: StringMap,
}

#[derive(Clone, Deserialize)]
pub(super) struct Persistent {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: PersistentSpec,
}

#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PersistentSpec {
    claim_ref: Option<ClaimRef>,
    #[serde(deserialize_with = "nullable")]
    capacity: StringMap,
    #[serde(deserialize_with = "nullable")]
    access_modes: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    mount_options: Vec<String>,
    host_path: Option<PathSource>,
    local: Option<PathSource>,
    nfs: Option<NFSVolumeSource>,
    csi: Option<PersistentSource>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct ClaimRef {
    uid: String,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct PathSource {
    pub(super) path: String,
    #[serde(rename = "type", deserialize_with = "nullable")]
    pub(super) kind: String,
}

/// What a claim stands for.
pub(super) enum Kind {
    HostPath(PathSource),
    /// A directory or a device of this node.
    Local(String),
    Nfs(NFSVolumeSource, Vec<String>),
    Csi(Box<Source>),
}

/// A claim with its volume.
pub(super) struct Bound {
    pub(super) kind: Kind,
    pub(super) claim: Claim,
    /// The name of the persistent volume.
    pub(super) name: String,
    /// What the volume holds.
    pub(super) capacity: String,
    pub(super) read_only: bool,
    /// Whether it is a device, and no file system.
    pub(super) block: bool,
}

impl Bound {
    /// What the claim has to be told, when its volume has become larger.
    pub(super) fn growth(&self) -> Growth {
        let meta = &self.claim.metadata;
        Growth {
            namespace: meta.namespace.clone(),
            claim: meta.name.clone(),
            have: self.claim.status.capacity.get("storage").unwrap_or_default().to_owned(),
            want: self.capacity.clone(),
        }
    }
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
    let name = claim.spec.volume_name.clone();
    if claim.status.phase != "Bound" || name.is_empty() {
        return Err(format!("error processing PVC {namespace}/{claim_name}: PVC is not bound"));
    }
    let volumes = &resources::PERSISTENT_VOLUMES;
    let found: Persistent = client
        .get(volumes, "", &name)
        .await
        .map_err(|error| format!("failed to fetch PV {name:?} from API server: {error}"))?;
    let uid = found.spec.claim_ref.as_ref().map(|r| r.uid.clone()).unwrap_or_default();
    if uid != claim.metadata.uid {
        return Err(format!(
            "found PV object {name:?} but its pv.Spec.ClaimRef is for {uid:?} and not the claim {:?}",
            claim.metadata.uid
        ));
    }
    let block = claim.spec.volume_mode.as_deref() == Some("Block");
    let capacity = found.spec.capacity.get("storage").unwrap_or_default().to_owned();
    let kind = kind(found, block, read_only).ok_or_else(|| format!("no volume plugin matched for PV {name:?}"))?;
    Ok(Bound { kind, claim, name, capacity, read_only, block })
}

fn kind(volume: Persistent, block: bool, read_only: bool) -> Option<Kind> {
    let PersistentSpec { access_modes, mount_options, host_path, local, nfs, csi, .. } = volume.spec;
    if let Some(source) = csi {
        let around = Around { name: volume.metadata.name, access_modes, mount_options, block, read_only };
        return Some(Kind::Csi(Box::new(Source::persistent(source, around))));
    }
    if let Some(source) = local {
        return Some(Kind::Local(source.path));
    }
    match (host_path, nfs) {
        // Of these nothing can be had as a device.
        _ if block => None,
        (Some(source), _) => Some(Kind::HostPath(source)),
        (None, Some(source)) => Some(Kind::Nfs(source, mount_options)),
        (None, None) => None,
    }
}
