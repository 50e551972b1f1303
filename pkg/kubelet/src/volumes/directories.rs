//! Where the kubelet keeps what belongs to a pod; the layout is upstream's.

use std::path::{Path, PathBuf};

/// The kubelet's root directory.
#[derive(Clone, Debug)]
pub(crate) struct Directories {
    root: PathBuf,
}

impl Directories {
    pub(crate) fn new(root: &Path) -> Directories {
        Directories { root: root.to_path_buf() }
    }

    pub(crate) fn pods(&self) -> PathBuf {
        self.root.join("pods")
    }

    pub(crate) fn pod(&self, uid: &str) -> PathBuf {
        self.pods().join(uid)
    }

    pub(crate) fn volumes(&self, uid: &str) -> PathBuf {
        self.pod(uid).join("volumes")
    }

    /// Block devices that a pod has.
    pub(crate) fn devices(&self, uid: &str) -> PathBuf {
        self.pod(uid).join("volumeDevices")
    }

    /// What plug-ins keep, and where volumes are that pods share.
    pub(crate) fn plugins(&self) -> PathBuf {
        self.root.join("plugins")
    }

    /// Where plug-ins register.
    pub(crate) fn registrations(&self) -> PathBuf {
        self.root.join("plugins_registry")
    }

    /// `plugin` is such as `kubernetes.io~empty-dir`.
    pub(crate) fn volume(&self, uid: &str, plugin: &str, name: &str) -> PathBuf {
        self.volumes(uid).join(plugin).join(name)
    }

    pub(crate) fn subpath(&self, uid: &str, volume: &str, container: &str, index: usize) -> PathBuf {
        let base = self.pod(uid).join("volume-subpaths");
        base.join(volume).join(container).join(index.to_string())
    }

    pub(crate) fn container(&self, uid: &str, container: &str) -> PathBuf {
        self.pod(uid).join("containers").join(container)
    }

    pub(crate) fn hosts_file(&self, uid: &str) -> PathBuf {
        self.pod(uid).join("etc-hosts")
    }

    pub(crate) fn seccomp(&self) -> PathBuf {
        self.root.join("seccomp")
    }
}
