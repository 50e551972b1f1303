//! Why a node, or a part of it, could not start.

use std::path::PathBuf;

/// A failed step.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot {action} {path}: {source}")]
    Io { action: &'static str, path: PathBuf, source: std::io::Error },
    #[error("{program} is not installed: install the package {package}")]
    Missing { program: &'static str, package: &'static str },
    #[error("{program} failed: {what}")]
    Failed { program: &'static str, what: String },
    #[error("{what} {value:?} cannot be used: {why}")]
    Setting { what: &'static str, value: String, why: String },
    #[error(transparent)]
    Kubelet(#[from] kedge_kubelet::KubeletError),
    #[error(transparent)]
    Dns(#[from] kedge_dns::Error),
    #[error("no pause program is known for {0} machines; give an image with --pause-image")]
    Architecture(&'static str),
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}
