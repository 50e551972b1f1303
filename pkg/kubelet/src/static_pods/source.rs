//! Follows the manifests: they are read when the directory changes, and now and then for changes that nobody tells of.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kedge_base::{Changes, DirWatch, TaskGroup};
use kedge_client::EventType;
use parking_lot::Mutex;
use tracing::{debug, info, warn};

use super::directory::Manifests;
use crate::kubelet::Kubelet;
use crate::node;
use crate::worker::Workers;

/// Upstream's `fileCheckFrequency`.
const PERIOD: Duration = Duration::from_secs(20);
/// Several files that are copied one after the other are taken in together.
const GATHER: Duration = Duration::from_millis(100);

struct Source {
    kubelet: Arc<Kubelet>,
    workers: Arc<Workers>,
    path: PathBuf,
    manifests: Arc<Mutex<Manifests>>,
}

/// Reads what is there, then follows it until shutdown.
pub(super) async fn start(kubelet: &Arc<Kubelet>, workers: &Arc<Workers>, path: PathBuf, tasks: &TaskGroup) {
    let manifests = Arc::new(Mutex::new(Manifests::new(&kubelet.config.node_name)));
    let (kubelet, workers) = (kubelet.clone(), workers.clone());
    info!(path = %path.display(), "static pods are run from manifests");
    let source = Arc::new(Source { kubelet, workers, path, manifests });
    // What keeps the manifests from being read keeps nothing else from starting.
    if let Err(error) = tasks.catch("static-pods", source.round()).await {
        warn!(%error, "the manifests of static pods are read later");
    }
    tasks.spawn_worker("static-pods", move || follow(source.clone()));
}

async fn follow(source: Arc<Source>) {
    let clock = source.kubelet.clock.clone();
    loop {
        // A directory that was replaced by another is watched anew; what happened in between is read now.
        let watch = source.watch().await;
        source.round().await;
        let until = clock.monotonic() + PERIOD;
        while let Some(left) = until.checked_sub(clock.monotonic()) {
            let changed = async {
                match &watch {
                    Some(watch) => watch.changed().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = clock.sleep(left) => break,
                changed = changed => if let Err(error) = changed {
                    debug!(%error, "the manifests are not watched");
                    clock.sleep(left).await;
                    break;
                },
            }
            clock.sleep(GATHER).await;
            source.round().await;
        }
    }
}

impl Source {
    /// A watch on the directory, or on that of the one file. Without one the period has to do.
    async fn watch(&self) -> Option<DirWatch> {
        let parent = self.path.parent().unwrap_or(Path::new("/"));
        for directory in [self.path.as_path(), parent] {
            match DirWatch::open(directory, Changes::Settled).await {
                Ok(watch) => return Some(watch),
                Err(error) => debug!(directory = %directory.display(), %error, "not watched"),
            }
        }
        None
    }

    async fn round(&self) {
        let (kubelet, path) = (&self.kubelet, self.path.clone());
        let (manifests, now) = (self.manifests.clone(), kubelet.clock.now().to_string());
        let read = move || manifests.lock().read(&path, &now);
        let found = match kubelet.files.of_node("static-pods", "read", &self.path, read).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => {
                warn!(path = %self.path.display(), %error, "Unable to read config path");
                return;
            }
            Err(error) => {
                warn!(%error, "the manifests of static pods cannot be read");
                return;
            }
        };
        for problem in found.problems {
            warn!(problem, "a manifest of a static pod cannot be used");
            let node = node::reference(&kubelet.config.node_name);
            kubelet.event(&node, EventType::Warning, "FailedValidation", problem);
        }
        for change in kubelet.pods.set_static(found.pods) {
            info!(pod = %change.key(), gone = change.new.is_none(), "the manifest of a static pod changed");
            self.workers.on_static(&change);
        }
    }
}
