//! What a volume of a driver is: read from a persistent volume, or from a pod that has it in line.

use std::collections::HashMap;

use kedge_meta::nullable;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

/// Whose life a volume shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lifecycle {
    Persistent,
    Ephemeral,
}

impl Lifecycle {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Persistent => "Persistent",
            Self::Ephemeral => "Ephemeral",
        }
    }
}

/// Where a driver's password is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct SecretRef {
    #[serde(deserialize_with = "nullable")]
    pub(crate) namespace: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) name: String,
}

/// The field `csi` of a persistent volume.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PersistentSource {
    driver: String,
    volume_handle: String,
    #[serde(rename = "fsType", deserialize_with = "nullable")]
    fs_type: String,
    #[serde(deserialize_with = "nullable")]
    volume_attributes: HashMap<String, String>,
    node_stage_secret_ref: Option<SecretRef>,
    node_publish_secret_ref: Option<SecretRef>,
    node_expand_secret_ref: Option<SecretRef>,
}

/// The field `csi` of a pod's volume.
pub(crate) type Inline = k8s_openapi::api::core::v1::CSIVolumeSource;

/// What of a persistent volume is beside the field `csi`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Around {
    pub(crate) name: String,
    pub(crate) access_modes: Vec<String>,
    pub(crate) mount_options: Vec<String>,
    pub(crate) block: bool,
    pub(crate) read_only: bool,
}

/// A volume of a driver.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// Of the persistent volume, or of the volume in the pod.
    pub(super) name: String,
    pub(super) driver: String,
    pub(super) handle: String,
    pub(super) lifecycle: Lifecycle,
    pub(super) read_only: bool,
    pub(super) fs_type: String,
    pub(super) attributes: HashMap<String, String>,
    pub(super) access_modes: Vec<String>,
    pub(super) mount_options: Vec<String>,
    pub(super) stage_secret: Option<SecretRef>,
    pub(super) publish_secret: Option<SecretRef>,
    pub(super) expand_secret: Option<SecretRef>,
    pub(super) block: bool,
}

impl Source {
    pub(crate) fn persistent(source: PersistentSource, around: Around) -> Source {
        Source {
            name: around.name,
            driver: source.driver,
            handle: source.volume_handle,
            lifecycle: Lifecycle::Persistent,
            read_only: around.read_only,
            fs_type: source.fs_type,
            attributes: source.volume_attributes,
            access_modes: around.access_modes,
            mount_options: around.mount_options,
            stage_secret: source.node_stage_secret_ref,
            publish_secret: source.node_publish_secret_ref,
            expand_secret: source.node_expand_secret_ref,
            block: around.block,
        }
    }

    /// A volume that comes and goes with its pod.
    pub(crate) fn inline(source: &Inline, volume: &str, namespace: &str, uid: &str) -> Source {
        let secret = source.node_publish_secret_ref.as_ref();
        Source {
            name: volume.to_owned(),
            driver: source.driver.clone(),
            handle: inline_handle(uid, volume),
            lifecycle: Lifecycle::Ephemeral,
            read_only: source.read_only == Some(true),
            fs_type: source.fs_type.clone().unwrap_or_default(),
            attributes: source.volume_attributes.clone().unwrap_or_default().into_iter().collect(),
            access_modes: Vec::new(),
            mount_options: Vec::new(),
            stage_secret: None,
            publish_secret: secret.map(|s| SecretRef { namespace: namespace.to_owned(), name: s.name.clone() }),
            expand_secret: None,
            block: false,
        }
    }

    pub(super) fn is_ephemeral(&self) -> bool {
        self.lifecycle == Lifecycle::Ephemeral
    }
}

/// The name by which controllers and kubelets speak of a volume.
pub(super) fn unique_name(driver: &str, handle: &str) -> String {
    format!("kubernetes.io/csi/{driver}^{handle}")
}

/// The name of the `VolumeAttachment`.
pub(super) fn attachment_name(handle: &str, driver: &str, node: &str) -> String {
    format!("csi-{}", hex(&[handle, driver, node]))
}

/// The directory of a volume that pods share.
pub(super) fn handle_directory(handle: &str) -> String {
    hex(&[handle])
}

fn inline_handle(uid: &str, volume: &str) -> String {
    format!("csi-{}", hex(&[uid, volume]))
}

fn hex(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part.as_bytes()));
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn names_are_upstreams() {
        assert_eq!(unique_name("d.io", "v1"), "kubernetes.io/csi/d.io^v1");
        let name = attachment_name("v1", "d.io", "n1");
        assert_eq!((name.len(), &name[..4]), (68, "csi-"));
        assert_ne!(name, attachment_name("v1", "d.io", "n2"));
    }

    #[test]
    fn nothing_said_is_nothing() {
        let source: PersistentSource =
            serde_json::from_value(json!({"driver": "d", "volumeHandle": "h", "fsType": null,
            "nodeStageSecretRef": {"name": "s", "namespace": "n"}}))
            .unwrap();
        let source = Source::persistent(source, Around::default());
        assert_eq!((source.fs_type.as_str(), source.is_ephemeral()), ("", false));
        assert_eq!(source.stage_secret.unwrap().name, "s");
    }
}
