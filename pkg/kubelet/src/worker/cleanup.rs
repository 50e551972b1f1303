//! Removing what is left of pods that are gone: after their worker has ended them, and at start those of an earlier run.

use std::collections::HashSet;
use std::io;
use std::path::Path;

use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kedge_base::BlockingError;
use kedge_cri::{Error, v1};
use kedge_meta::ObjectKey;
use tracing::{info, warn};

use super::Workers;
use super::kill::kill_pod;
use crate::cgroups;
use crate::kubelet::Kubelet;
use crate::logs;
use crate::pod::PodExt;
use crate::runtime::list_pod;

/// Removes a pod's containers, sandboxes and logs, after all of it has ended and its object is gone.
///
/// # Errors
/// A message of what could not be removed.
pub(super) async fn forget(kubelet: &Kubelet, pod: &Pod) -> Result<(), String> {
    remove_from_runtime(kubelet, pod.uid()).await.map_err(|error| error.to_string())?;
    let directory = logs::pod_log_dir(&kubelet.config.pod_log_dir, pod.namespace(), pod.name(), pod.uid());
    let (removed, links) = (directory.clone(), kubelet.config.container_log_dir.clone());
    let remove = move || {
        let gone = remove_directory(&removed).map_err(|error| format!("cannot remove {}: {error}", removed.display()));
        if let (Ok(()), Some(links)) = (&gone, links) {
            remove_dangling(&links);
        }
        gone
    };
    let done = kubelet.files.of_pod(pod.uid(), "remove", &directory, remove).await;
    done.map_err(|error| error.to_string())?
}

async fn remove_from_runtime(kubelet: &Kubelet, uid: &str) -> Result<(), Error> {
    let (sandboxes, containers) = list_pod(kubelet.runtime.as_ref(), uid).await?;
    for container in containers {
        found(kubelet.runtime.remove_container(&container.id).await)?;
    }
    for sandbox in sandboxes {
        if sandbox.state == v1::PodSandboxState::SandboxReady as i32 {
            found(kubelet.runtime.stop_pod_sandbox(&sandbox.id).await)?;
        }
        found(kubelet.runtime.remove_pod_sandbox(&sandbox.id).await)?;
    }
    Ok(())
}

/// What is not there any more need not be removed.
pub(super) fn found(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

fn remove_directory(directory: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Links whose log is gone.
pub(super) fn remove_dangling(directory: &Path) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_symlink()
            && !path.exists()
            && let Err(error) = std::fs::remove_file(&path)
        {
            warn!(link = %path.display(), %error, "cannot remove a dangling log link");
        }
    }
}

/// Ends and removes everything on this node that belongs to pods of this kubelet without a worker. Only to be called
/// once the pods of the API and of the runtime are known.
///
/// What is ours shows by our own directories and our runtime: groups and logs may be those of another kubelet.
///
/// # Errors
/// When it cannot be told what there is; what hangs of one pod does not hold up the others.
pub(crate) async fn clean_up(kubelet: &Kubelet, workers: &Workers) -> Result<(), BlockingError> {
    let volumes = kubelet.volumes.clone();
    let known = kubelet.files.of_node("gc", "list", &kubelet.directories.pods(), move || volumes.known_pods()).await?;
    let mut ours: HashSet<String> = known.into_iter().collect();
    for (uid, listed) in kubelet.pleg.pods() {
        if workers.has(&uid) {
            continue;
        }
        match end_orphan(kubelet, &uid, &listed.key).await {
            Ok(()) => {
                ours.insert(uid);
            }
            Err(error) => {
                warn!(pod = %listed.key, uid, %error, "cannot end a pod that is not in the API any more");
                ours.remove(&uid);
            }
        }
    }
    ours.retain(|uid| !workers.has(uid));
    if ours.is_empty() {
        return Ok(());
    }
    let groups = kubelet.cgroups.clone();
    let list = move || groups.map(|groups| cgroups::pods(groups.as_ref())).unwrap_or_default();
    let groups = kubelet.files.of_node("gc", "list", Path::new(cgroups::KUBEPODS), list).await?;
    join_all(ours.iter().map(|uid| clear(kubelet, uid, &groups))).await;
    let (logs, links) = (kubelet.config.pod_log_dir.clone(), kubelet.config.container_log_dir.clone());
    let remove = move || remove_logs(&logs, links.as_deref(), &ours);
    kubelet.files.of_node("gc", "remove from", &kubelet.config.pod_log_dir, remove).await
}

/// Takes down the volumes and the group of a pod without a worker.
async fn clear(kubelet: &Kubelet, uid: &str, groups: &[(String, String)]) {
    let group = groups.iter().find(|(of, _)| of == uid).map(|(_, path)| path.clone());
    kubelet.refreshing.end(uid);
    if let Err(error) = kubelet.volumes.tear_down(uid).await {
        warn!(uid, error, "cannot take down the volumes of a pod that is gone");
    }
    let (cgroups, of) = (kubelet.cgroups.clone(), uid.to_string());
    let work = move || {
        if let (Some(cgroups), Some(path)) = (cgroups, group)
            && let Err(error) = cgroups.remove(&path)
        {
            warn!(uid = of, path, %error, "cannot remove the cgroup of a pod that is gone");
        }
    };
    if let Err(error) = kubelet.files.of_pod(uid, "take down", &kubelet.directories.pod(uid), work).await {
        warn!(uid, %error, "cannot clear away a pod that is gone");
    }
}

fn remove_logs(directory: &Path, links: Option<&Path>, uids: &HashSet<String>) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        // `<namespace>_<name>_<uid>`; anything else is not ours.
        let uid = name.splitn(3, '_').nth(2).unwrap_or_default();
        if uids.contains(uid)
            && let Err(error) = remove_directory(&entry.path())
        {
            warn!(uid, directory = name, %error, "cannot remove the logs of a pod that is gone");
        }
    }
    if let Some(links) = links {
        remove_dangling(links);
    }
}

async fn end_orphan(kubelet: &Kubelet, uid: &str, key: &ObjectKey) -> Result<(), Error> {
    let runtime = kubelet.observe(uid).await?;
    if runtime.is_empty() {
        return Ok(());
    }
    info!(pod = %key, uid, "ending a pod that is not in the API any more");
    kubelet.metrics.orphaned_pods.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let mut pod = Pod::default();
    pod.metadata.uid = Some(uid.to_string());
    pod.metadata.namespace = Some(key.namespace.clone());
    pod.metadata.name = Some(key.name.clone());
    // As upstream: nobody can ask any more how long it may take.
    kill_pod(kubelet, &pod, &runtime, Some(1)).await?;
    remove_from_runtime(kubelet, uid).await
}
