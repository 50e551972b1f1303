//! Evicts pods whose volumes on disk grew over their limits. Limits of containers and pods are the business of `eviction`.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, Volume};
use kedge_base::{Blocking, BlockingError, BoxFuture, Call, TaskGroup};
use tracing::{debug, info, warn};

use super::Workers;
use super::admit::Failure;
use crate::eviction::is_critical;
use crate::kubelet::Kubelet;
use crate::pod::{Amount, PodExt, RawPod, amount};
use crate::volumes::Directories;

/// Upstream's period of eviction.
const PERIOD: Duration = Duration::from_secs(10);
/// Files counted in one volume; the rest is taken as nothing rather than reading on for ever.
const MAX_FILES: usize = 1_000_000;
const MAX_DEPTH: usize = 128;

/// How long one pod is waited for; counting goes on after that, and evicts all the same.
const LIMIT: Duration = Duration::from_secs(10);
/// Pods that are measured at a time, and threads at most: of volumes that hang, one each.
const ACTIVE: usize = 4;
const MOST: usize = 512;

/// Starts to look at limited volumes.
pub(crate) fn start(kubelet: Arc<Kubelet>, workers: Arc<Workers>, tasks: &TaskGroup) {
    let threads = Blocking::new("storage-limits", kubelet.clock.clone(), tasks.ledger(), ACTIVE, MOST);
    tasks.spawn_worker("storage-limits", move || {
        let (kubelet, workers, threads) = (kubelet.clone(), workers.clone(), threads.clone());
        async move {
            loop {
                kubelet.clock.sleep(PERIOD).await;
                round(&kubelet, &workers, &threads).await;
            }
        }
    });
}

async fn round(kubelet: &Kubelet, workers: &Arc<Workers>, threads: &Blocking) {
    let pods = kubelet.pods.list();
    let decoded = pods.iter().filter(|raw| may_be_limited(raw)).filter_map(|raw| raw.decode().ok());
    // One that hangs does not keep the others from being measured.
    let measured = decoded.filter(is_limited).map(|pod| async move {
        let (uid, name) = (pod.uid().to_string(), pod.display());
        let (directories, workers) = (kubelet.directories.clone(), workers.clone());
        let path = directories.volumes(&uid);
        let measure = {
            let (uid, name) = (uid.clone(), name.clone());
            move || {
                if let Some(message) = over_limit(&pod, &directories) {
                    info!(pod = name, message, "evicting a pod");
                    workers.evict(&uid, Failure { reason: "Evicted".into(), message });
                }
            }
        };
        let call = Call { operation: "measure", path: &path, limit: LIMIT };
        match threads.run(&uid, call, measure).await {
            Ok(()) => {}
            // Said when it began to hang.
            Err(error @ BlockingError::StillHung { .. }) => debug!(pod = name, %error, "not measured"),
            Err(error) => warn!(pod = name, %error, "the pod's volumes are not measured"),
        }
    });
    // The wait for a place counts against a call's time: so only as many are begun as have one, and each pod has its turn.
    let mut measured: Vec<BoxFuture<'_, ()>> = measured.map(|one| Box::pin(one) as BoxFuture<'_, ()>).collect();
    while !measured.is_empty() {
        let some = measured.drain(..ACTIVE.min(measured.len()));
        futures::future::join_all(some).await;
    }
}

/// Decoding every pod each time would be most of what an idle kubelet does.
fn may_be_limited(raw: &RawPod) -> bool {
    raw.json().contains("sizeLimit")
}

/// The limit of an `emptyDir` on disk; those in memory are limited by the kernel.
fn limit(volume: &Volume) -> Option<Amount> {
    let source = volume.empty_dir.as_ref()?;
    let on_disk = source.medium.as_deref().unwrap_or_default().is_empty();
    source.size_limit.as_ref().filter(|_| on_disk).map(amount).filter(|limit| !limit.is_zero())
}

fn is_limited(pod: &Pod) -> bool {
    // What is critical stays, however much it has.
    !pod.is_terminal() && !is_critical(pod) && pod.volumes().iter().any(|v| limit(v).is_some())
}

/// Upstream's message, if a limit is exceeded.
fn over_limit(pod: &Pod, directories: &Directories) -> Option<String> {
    pod.volumes().iter().find_map(|volume| {
        let limit = limit(volume)?;
        let used = disk_usage(&directories.volume(pod.uid(), "kubernetes.io~empty-dir", &volume.name));
        let over = i64::try_from(used).unwrap_or(i64::MAX) > limit.value();
        over.then(|| format!("Usage of EmptyDir volume {:?} exceeds the limit {:?}. ", volume.name, limit.to_string()))
    })
}

/// Bytes on disk below a directory, without what is mounted there and without following links.
fn disk_usage(root: &Path) -> u64 {
    let Ok(top) = fs::symlink_metadata(root) else { return 0 };
    let (device, mut sum, mut files) = (top.dev(), 0_u64, 0);
    let mut waiting = vec![(root.to_path_buf(), 0)];
    while let Some((directory, depth)) = waiting.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            files += 1;
            if files > MAX_FILES {
                return sum;
            }
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.dev() != device {
                continue;
            }
            sum = sum.saturating_add(metadata.blocks().saturating_mul(512));
            if metadata.is_dir() && depth < MAX_DEPTH {
                waiting.push((entry.path(), depth + 1));
            }
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::pod::testing::{pod, pod_with};
    use serde_json::json;

    #[test]
    fn critical_and_static_pods_are_not_limited() {
        let limited = |annotations: serde_json::Value, priority: i32| {
            let volumes = json!([{"name": "v", "emptyDir": {"sizeLimit": "1Ki"}}]);
            let spec = json!({"containers": [], "priority": priority, "volumes": volumes});
            is_limited(&pod_with(json!({"annotations": annotations}), spec, json!({})))
        };
        assert!(limited(json!({}), 7));
        assert!(!limited(json!({}), 2_000_000_000));
        assert!(!limited(json!({"kubernetes.io/config.source": "file"}), 0));
    }

    #[test]
    fn a_volume_over_its_limit_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let directories = Directories::new(dir.path());
        let path = directories.volume("u", "kubernetes.io~empty-dir", "v");
        fs::create_dir_all(path.join("sub")).unwrap();
        let pod = pod(json!({"containers": [], "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "64Ki"}}]}));
        assert!(is_limited(&pod));
        assert_eq!(over_limit(&pod, &directories), None);
        fs::write(path.join("sub/f"), vec![1; 100_000]).unwrap();
        let message = over_limit(&pod, &directories).unwrap();
        assert_eq!(message, "Usage of EmptyDir volume \"v\" exceeds the limit \"64Ki\". ");
    }
}
