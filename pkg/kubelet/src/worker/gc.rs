//! Garbage collection: dead attempts of containers beyond the newest, dead sandboxes, and leftovers of pods that are
//! gone.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use kedge_base::TaskGroup;
use kedge_cri::{Error, v1};
use tracing::{debug, warn};

use super::Workers;
use super::cleanup::{clean_up, found};
use crate::kubelet::Kubelet;
use crate::runtime::labels;
use crate::stats::nanos;

/// Upstream's `ContainerGCPeriod`.
const PERIOD: Duration = Duration::from_secs(60);
/// While the runtime has not been heard of yet.
const WAIT: Duration = Duration::from_millis(500);

/// Starts to collect, once the pods of the API and of the runtime are known.
pub(crate) fn start(kubelet: Arc<Kubelet>, workers: Arc<Workers>, tasks: &TaskGroup) {
    tasks.spawn_worker("pod-gc", move || run(kubelet.clone(), workers.clone()));
}

async fn run(kubelet: Arc<Kubelet>, workers: Arc<Workers>) {
    kubelet.pods.synced().await;
    while kubelet.pleg.age().is_none() {
        kubelet.clock.sleep(WAIT).await;
    }
    loop {
        if let Err(error) = clean_up(&kubelet, &workers).await {
            warn!(%error, "cannot clear away what is left of pods");
        }
        if let Err(error) = collect(&kubelet, &Keep::of(&kubelet)).await {
            warn!(%error, "cannot collect dead containers");
        }
        kubelet.clock.sleep(PERIOD).await;
    }
}

/// What of dead containers is kept.
struct Keep {
    /// Attempts of each: the newest is the one whose end and log are shown. `None` keeps all.
    each: Option<usize>,
    /// Attempts of all together.
    all: Option<usize>,
    /// What was made after this, in nanoseconds since 1970.
    since: i64,
    /// Pods that have ended: of them nothing is.
    ended: HashSet<String>,
}

impl Keep {
    fn of(kubelet: &Kubelet) -> Keep {
        let args = &kubelet.config.args;
        let limit = |number: i64| usize::try_from(number).ok();
        let age = i64::try_from(args.container_min_age.as_nanos()).unwrap_or(i64::MAX);
        let since = nanos(kubelet.clock.now()).saturating_sub(age);
        Keep { each: limit(args.dead_per_container), all: limit(args.dead_containers), since, ended: HashSet::new() }
    }
}

/// Removes all dead containers that nobody needs, because the node is short of space: of pods that have ended all of them. Nothing before
/// it is known which pods there are: of one that goes on, the last attempts say what has been done.
///
/// # Errors
/// The runtime's.
pub(crate) async fn collect_all(kubelet: &Kubelet, workers: &Workers) -> Result<(), Error> {
    if !kubelet.pods.are_known() {
        return Ok(());
    }
    let listed = kubelet.pleg.pods().into_keys();
    let ended = |uid: &String| !workers.has(uid) || kubelet.statuses.has_finished(uid);
    let ended = listed.filter(ended).collect();
    let since = nanos(kubelet.clock.now());
    // Of a pod that runs, the last attempt tells how it ended; without it, one that shall not run again would.
    collect(kubelet, &Keep { each: Some(1), all: None, since, ended }).await
}

async fn collect(kubelet: &Kubelet, keep: &Keep) -> Result<(), Error> {
    let containers = kubelet.runtime.list_containers(HashMap::new()).await?;
    for id in surplus_containers(&containers, keep) {
        debug!(id, "removing a dead container");
        found(kubelet.runtime.remove_container(&id).await)?;
    }
    let containers = kubelet.runtime.list_containers(HashMap::new()).await?;
    let sandboxes = kubelet.runtime.list_pod_sandboxes(HashMap::new()).await?;
    for id in surplus_sandboxes(&sandboxes, &containers) {
        debug!(id, "removing a dead sandbox");
        found(kubelet.runtime.remove_pod_sandbox(&id).await)?;
    }
    Ok(())
}

/// Dead containers of ours, without those that are kept of each name in each pod.
fn surplus_containers(containers: &[v1::Container], keep: &Keep) -> Vec<String> {
    let mut dead: HashMap<(&str, &str), Vec<&v1::Container>> = HashMap::new();
    for container in containers {
        let label = |key: &str| container.labels.get(key).map(String::as_str);
        let (Some(uid), Some(name)) = (label(labels::POD_UID), label(labels::CONTAINER_NAME)) else { continue };
        if container.state == v1::ContainerState::ContainerExited as i32 && container.created_at <= keep.since {
            dead.entry((uid, name)).or_default().push(container);
        }
    }
    let mut each = keep.each.unwrap_or(usize::MAX);
    if let Some(all) = keep.all.filter(|_| !dead.is_empty()) {
        // Each keeps its share, and at least the newest as long as there is room.
        each = each.min((all / dead.len()).max(1));
    }
    let (mut surplus, mut kept) = (Vec::new(), Vec::new());
    for ((uid, _), mut attempts) in dead {
        attempts.sort_by_key(|c| std::cmp::Reverse(c.created_at));
        let stay = if keep.ended.contains(uid) { 0 } else { each.min(attempts.len()) };
        kept.extend_from_slice(&attempts[..stay]);
        surplus.extend(attempts[stay..].iter().map(|c| c.id.clone()));
    }
    // The oldest go, if they are still too many.
    kept.sort_by_key(|c| std::cmp::Reverse(c.created_at));
    surplus.extend(kept.into_iter().skip(keep.all.unwrap_or(usize::MAX)).map(|c| c.id.clone()));
    surplus
}

/// Dead sandboxes of ours that hold no container, without the newest of each pod.
fn surplus_sandboxes(sandboxes: &[v1::PodSandbox], containers: &[v1::Container]) -> Vec<String> {
    let mut of_pod: HashMap<&str, Vec<&v1::PodSandbox>> = HashMap::new();
    for sandbox in sandboxes {
        if let Some(uid) = sandbox.labels.get(labels::POD_UID) {
            of_pod.entry(uid).or_default().push(sandbox);
        }
    }
    let ready = v1::PodSandboxState::SandboxReady as i32;
    let used = |id: &str| containers.iter().any(|c| c.pod_sandbox_id == id);
    let mut surplus = Vec::new();
    for mut all in of_pod.into_values() {
        all.sort_by_key(|s| std::cmp::Reverse(s.created_at));
        let old = all.into_iter().skip(1).filter(|s| s.state != ready && !used(&s.id));
        surplus.extend(old.map(|s| s.id.clone()));
    }
    surplus
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels_of(name: &str) -> HashMap<String, String> {
        let pairs = [(labels::POD_UID, "u"), (labels::CONTAINER_NAME, name)];
        pairs.map(|(k, v)| (k.to_string(), v.to_string())).into()
    }

    #[test]
    fn the_newest_dead_attempt_is_kept() {
        let container = |id: &str, name: &str, created_at, state| v1::Container {
            id: id.into(),
            created_at,
            state: state as i32,
            labels: labels_of(name),
            pod_sandbox_id: "new".into(),
            ..Default::default()
        };
        let dead = v1::ContainerState::ContainerExited;
        let all = [
            container("a1", "a", 1, dead),
            container("a2", "a", 2, dead),
            container("a3", "a", 3, v1::ContainerState::ContainerRunning),
            container("b1", "b", 1, dead),
        ];
        let keep = |each, of_all| Keep { each, all: of_all, since: 10, ended: HashSet::new() };
        assert_eq!(surplus_containers(&all, &keep(Some(1), None)), ["a1"]);
        assert!(surplus_containers(&all, &keep(None, None)).is_empty(), "no limit");
        assert_eq!(surplus_containers(&all, &keep(Some(0), None)).len(), 3);
        assert_eq!(surplus_containers(&all, &keep(Some(1), Some(1))), ["a1", "b1"], "the oldest go");
        assert!(surplus_containers(&all, &Keep { since: 0, ..keep(Some(1), None) }).is_empty(), "too young");
        let ended = HashSet::from(["u".to_string()]);
        assert_eq!(surplus_containers(&all, &Keep { ended, ..keep(Some(1), None) }).len(), 3);
        let sandbox = |id: &str, created_at| v1::PodSandbox {
            id: id.into(),
            created_at,
            state: v1::PodSandboxState::SandboxNotready as i32,
            labels: labels_of("x"),
            ..Default::default()
        };
        let sandboxes = [sandbox("newest", 3), sandbox("new", 2), sandbox("old", 1)];
        assert_eq!(surplus_sandboxes(&sandboxes, &all), ["old"]);
    }
}
