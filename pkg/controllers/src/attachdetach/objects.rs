//! Attachments and drivers, as far as attaching looks at them.

use kedge_meta::ObjectMeta;
use ring::digest::{SHA256, digest};
use serde::Deserialize;
use std::fmt::Write as _;

use crate::objects::volume::{AccessMode, Source};
use crate::objects::{Volume, keyed};

/// What a volume of a driver is called on nodes.
const UNIQUE: &str = "kubernetes.io/csi/";
/// Between a driver's name and that of its volume.
const SEPARATOR: char = '^';

/// A `VolumeAttachment`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Attachment {
    pub metadata: ObjectMeta,
    pub spec: AttachmentSpec,
    pub status: AttachmentStatus,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct AttachmentSpec {
    pub node_name: String,
    pub source: AttachmentSource,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct AttachmentSource {
    pub persistent_volume_name: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct AttachmentStatus {
    pub attached: bool,
    pub attach_error: Option<VolumeError>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct VolumeError {
    pub message: String,
    pub time: Option<String>,
}

/// A `CSIDriver`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Driver {
    pub metadata: ObjectMeta,
    pub spec: DriverSpec,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct DriverSpec {
    pub attach_required: Option<bool>,
}

keyed!(Attachment, Driver);

/// A volume of a driver, whichever persistent volumes it is behind, on a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Place {
    /// By its name on nodes.
    pub volume: String,
    pub node: String,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} on {}", self.volume, self.node)
    }
}

impl Place {
    pub(super) fn new(volume: &str, node: &str) -> Self {
        Self { volume: volume.to_owned(), node: node.to_owned() }
    }

    /// The name of its attachment; none where the volume is no driver's.
    pub(super) fn attachment(&self) -> Option<String> {
        let (driver, handle) = split(&self.volume)?;
        let sum = digest(&SHA256, [handle, driver, &self.node].concat().as_bytes());
        let mut name = "csi-".to_owned();
        for byte in sum.as_ref() {
            // Writing to a string cannot fail.
            let _ = write!(name, "{byte:02x}");
        }
        Some(name)
    }
}

/// Driver and handle of a volume that is called so on nodes. Upstream takes no handle that has the separator in it.
pub(super) fn split(unique: &str) -> Option<(&str, &str)> {
    unique.strip_prefix(UNIQUE)?.split_once(SEPARATOR)
}

/// What a volume is called on nodes; none where it is no driver's.
pub(super) fn unique_name(volume: &Volume) -> Option<String> {
    match &volume.source {
        Source::Csi { driver, handle } => Some(format!("{UNIQUE}{driver}{SEPARATOR}{handle}")),
        _ => None,
    }
}

/// Whether a volume may be on one node only.
pub(super) fn is_exclusive(volume: &Volume) -> bool {
    let shared = |mode: &AccessMode| matches!(mode, AccessMode::ReadWriteMany | AccessMode::ReadOnlyMany);
    !volume.access_modes.is_empty() && !volume.access_modes.iter().any(shared)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn names_are_those_that_drivers_look_for() {
        let volume: Volume =
            serde_json::from_value(json!({"spec": {"csi": {"driver": "d", "volumeHandle": "h"}}})).unwrap();
        let unique = unique_name(&volume).unwrap();
        assert_eq!(unique, "kubernetes.io/csi/d^h");
        // The digest of "hdn".
        assert_eq!(
            Place::new(&unique, "n").attachment().unwrap(),
            "csi-9072ed11cc1acb5fa433a877ff339b6311d013f33bddd1d0092711a8ace5b16d"
        );
        assert_eq!(Place::new("kubernetes.io/x/y", "n").attachment(), None);
    }
}
