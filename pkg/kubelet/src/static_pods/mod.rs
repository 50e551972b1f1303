//! Static pods: what files in a directory tell this node to run, whether there is an API or not, and their images in the API.
//!
//! `manifest` makes a pod of a file, `validate` says what is wrong with it, `directory` reads all files, `source` follows them, and
//! `mirror` keeps the images. Only the last of them knows the API.

mod directory;
mod manifest;
mod mirror;
mod source;
mod validate;

use std::path::PathBuf;
use std::sync::Arc;

use kedge_base::TaskGroup;

use crate::kubelet::Kubelet;
use crate::worker::Workers;

/// Reads the files, and follows them until shutdown. Returns when those that are there have been taken in.
pub(crate) async fn start(kubelet: &Arc<Kubelet>, workers: &Arc<Workers>, path: PathBuf, tasks: &TaskGroup) {
    source::start(kubelet, workers, path, tasks).await;
    mirror::start(kubelet.clone(), workers.clone(), tasks);
}

/// The images of static pods alone: what an earlier run left of files that are followed no longer is taken back.
pub(crate) fn without_files(kubelet: &Arc<Kubelet>, workers: &Arc<Workers>, tasks: &TaskGroup) {
    kubelet.pods.without_files();
    mirror::start(kubelet.clone(), workers.clone(), tasks);
}
