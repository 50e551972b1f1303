//! Who makes the volumes of a class, and who deletes a volume. What is neither of this process nor a plugin that upstream has kept is
//! somebody else's: an external provisioner, which is told by annotations.

use crate::objects::Volume;
use crate::objects::volume::{MIGRATED_TO, PROVISIONED_BY, Source};

/// What plugins of the tree are called.
const IN_TREE: &str = "kubernetes.io/";
const HOST_PATH: &str = "kubernetes.io/host-path";
const NFS: &str = "kubernetes.io/nfs";

/// Plugins whose place a driver has taken.
const MIGRATED: [(&str, &str); 7] = [
    ("kubernetes.io/aws-ebs", "ebs.csi.aws.com"),
    ("kubernetes.io/azure-disk", "disk.csi.azure.com"),
    ("kubernetes.io/azure-file", "file.csi.azure.com"),
    ("kubernetes.io/cinder", "cinder.csi.openstack.org"),
    ("kubernetes.io/gce-pd", "pd.csi.storage.gke.io"),
    ("kubernetes.io/portworx-volume", "pxd.portworx.com"),
    ("kubernetes.io/vsphere-volume", "csi.vsphere.vmware.com"),
];

/// The driver that has taken the place of a plugin.
pub(crate) fn migrated(plugin: &str) -> Option<&'static str> {
    MIGRATED.iter().find(|(name, _)| *name == plugin).map(|(_, driver)| *driver)
}

/// Who makes the volumes of a class.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Maker<'a> {
    /// The provisioner of that name, which is told so.
    External(&'a str),
    /// A plugin that is turned off, and why.
    Off(&'a str, String),
    /// Nobody, and why.
    Nobody(String),
}

pub(super) fn maker(provisioner: &str) -> Maker<'_> {
    if let Some(driver) = migrated(provisioner) {
        return Maker::External(driver);
    }
    match provisioner {
        HOST_PATH => {
            let why =
                format!("Failed to create provisioner: provisioning in volume plugin \"{HOST_PATH}\" is disabled");
            Maker::Off(HOST_PATH, why)
        }
        NFS => Maker::Nobody("no provisionable volume plugin matched".to_owned()),
        name if name.starts_with(IN_TREE) => Maker::Nobody(format!("no volume plugin matched name: {name}")),
        name => Maker::External(name),
    }
}

/// Who deletes a volume.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Deleter<'a> {
    External,
    /// This process, which removes a directory.
    Directory(&'a str),
    /// Nobody, and why.
    Nobody(String),
}

pub(super) fn deleter(volume: &Volume) -> Deleter<'_> {
    let provisioner = volume.annotation(PROVISIONED_BY).unwrap_or_default();
    match (provisioner, &volume.source) {
        (HOST_PATH, Source::HostPath(path)) => return Deleter::Directory(path),
        (HOST_PATH, _) => {
            let name = &volume.metadata.name;
            let why =
                format!("failed to create deleter for volume {name:?}: spec.PersistentVolumeSource.HostPath is nil");
            return Deleter::Nobody(why);
        }
        (NFS, _) => return Deleter::Nobody("no deletable volume plugin matched".to_owned()),
        ("", _) => {}
        (name, _) if name.starts_with(IN_TREE) => {
            return Deleter::Nobody(format!("no volume plugin matched name: {name}"));
        }
        _ => return Deleter::External,
    }
    let why = match &volume.source {
        _ if volume.annotation(MIGRATED_TO).is_some() => return Deleter::External,
        Source::Csi { .. } => return Deleter::External,
        Source::HostPath(path) => return Deleter::Directory(path),
        Source::Nfs => "no deletable volume plugin matched",
        Source::Migrated(_) | Source::Other => "no volume plugin matched",
    };
    Deleter::Nobody(format!("error getting deleter volume plugin for volume {:?}: {why}", volume.metadata.name))
}

/// The name by which metrics know who deletes a volume.
pub(super) fn deleter_name<'a>(volume: &Volume, provisioner_of_class: Option<&'a str>) -> &'a str {
    match deleter(volume) {
        Deleter::Directory(_) => HOST_PATH,
        Deleter::Nobody(_) => "N/A",
        // The annotation may say anything; classes are few.
        Deleter::External => provisioner_of_class.map_or("N/A", |name| migrated(name).unwrap_or(name)),
    }
}

/// The plugin of a volume, by which metrics count them.
pub(super) fn plugin_name(volume: &Volume) -> String {
    match &volume.source {
        // Upstream's controller has no plugin for these either.
        Source::Csi { .. } | Source::Migrated(_) | Source::Other => "N/A".to_owned(),
        Source::HostPath(_) => HOST_PATH.to_owned(),
        Source::Nfs => NFS.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn what_is_not_of_the_tree_is_external() {
        assert_eq!(maker("rancher.io/local-path"), Maker::External("rancher.io/local-path"));
        assert_eq!(maker("kubernetes.io/aws-ebs"), Maker::External("ebs.csi.aws.com"));
        let nobody = |name: &str, why: &str| assert_eq!(maker(name), Maker::Nobody(why.to_owned()));
        nobody("kubernetes.io/no-provisioner", "no volume plugin matched name: kubernetes.io/no-provisioner");
        nobody("kubernetes.io/nfs", "no provisionable volume plugin matched");
        assert!(matches!(maker("kubernetes.io/host-path"), Maker::Off(_, why) if why.ends_with(" is disabled")));
    }

    #[test]
    fn what_nobody_deletes_is_said() {
        let volume = |spec: Value, annotations: Value| -> Volume {
            let metadata = json!({"name": "v", "annotations": annotations});
            serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
        };
        let host = json!({"hostPath": {"path": "/tmp/x"}});
        let by = |name: &str| json!({"pv.kubernetes.io/provisioned-by": name});
        assert_eq!(deleter(&volume(host.clone(), json!({}))), Deleter::Directory("/tmp/x"));
        assert_eq!(deleter(&volume(host.clone(), by("rancher.io/local-path"))), Deleter::External);
        assert_eq!(deleter(&volume(host.clone(), by(HOST_PATH))), Deleter::Directory("/tmp/x"));
        assert_eq!(deleter(&volume(json!({"csi": {"driver": "d"}}), json!({}))), Deleter::External);
        let why = |spec: Value, annotations: Value| match deleter(&volume(spec, annotations)) {
            Deleter::Nobody(why) => why,
            other => panic!("{other:?}"),
        };
        let getting = "error getting deleter volume plugin for volume \"v\": ";
        assert_eq!(why(json!({"nfs": {}}), json!({})), format!("{getting}no deletable volume plugin matched"));
        assert_eq!(why(json!({"local": {}}), json!({})), format!("{getting}no volume plugin matched"));
        assert_eq!(why(host, by("kubernetes.io/x")), "no volume plugin matched name: kubernetes.io/x");
    }
}
