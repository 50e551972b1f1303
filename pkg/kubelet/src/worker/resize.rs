//! Changes of resources of running containers and of whole pods: applied in place, or by a restart where the container asks for that.

use std::path::Path;

use k8s_openapi::api::core::v1::{Container, Pod, PodStatus, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kedge_client::EventType;
use kedge_cri::v1;
use tracing::info;

use crate::cgroups::{self, Memory};
use crate::generate::container_resources;
use crate::kubelet::Kubelet;
use crate::pod::{PodExt, is_sidecar};
use crate::runtime::{PodRuntime, State};
use crate::sync::{Kill, KillReason};

/// A container whose resources are not those of the spec.
struct Change<'a> {
    container: &'a Container,
    id: String,
    restart: bool,
    /// The limit of memory, if it becomes less.
    lowered: Option<i64>,
}

/// CPU and memory, as far as they can be changed while a container runs.
fn resizable(resources: Option<&ResourceRequirements>) -> [[Option<crate::pod::Amount>; 2]; 2] {
    let of = |resource: &str| {
        let get = |list: Option<&std::collections::BTreeMap<String, _>>| {
            list.and_then(|l| l.get(resource)).map(crate::pod::amount)
        };
        [get(resources.and_then(|r| r.requests.as_ref())), get(resources.and_then(|r| r.limits.as_ref()))]
    };
    [of("cpu"), of("memory")]
}

/// The wanted limit, if it is less than the one that is in effect, or if there was none.
fn lowered(have: Option<crate::pod::Amount>, want: Option<crate::pod::Amount>) -> Option<i64> {
    let number = |limit: Option<crate::pod::Amount>| limit.map(|limit| limit.value()).filter(|limit| *limit > 0);
    let want = number(want)?;
    number(have).is_none_or(|have| want < have).then_some(want)
}

/// Compares the spec with what was last reported as being in effect.
fn changes<'a>(pod: &'a Pod, status: &PodStatus, runtime: &PodRuntime) -> Vec<Change<'a>> {
    let mut found = Vec::new();
    for container in PodExt::spec(pod).containers.iter().chain(pod.init_containers()) {
        let Some(run) = runtime.latest(&container.name).filter(|r| r.state == State::Running) else { continue };
        let lists = [&status.container_statuses, &status.init_container_statuses];
        let mut all = lists.into_iter().flatten().flatten();
        let Some(reported) = all.find(|s| s.name == container.name && s.container_id == Some(run.api_id())) else {
            continue;
        };
        let Some(have) = &reported.resources else { continue };
        let (have, want) = (resizable(Some(have)), resizable(container.resources.as_ref()));
        if have == want {
            continue;
        }
        let restarts = |name: &str| {
            let policies = container.resize_policy.iter().flatten();
            policies.into_iter().any(|p| p.resource_name == name && p.restart_policy == "RestartContainer")
        };
        // One that initializes the pod runs once: a second time would not be the same.
        let once = pod.init_containers().iter().any(|c| c.name == container.name) && !is_sidecar(container);
        let restart = !once && ((have[0] != want[0] && restarts("cpu")) || (have[1] != want[1] && restarts("memory")));
        let lowered = lowered(have[1][1], want[1][1]);
        found.push(Change { container, id: run.id.clone(), restart, lowered });
    }
    found
}

/// Whether the pod as a whole has other resources than those that are in effect.
fn pod_changed(pod: &Pod, status: &PodStatus) -> bool {
    let Some(have) = &status.resources else { return false };
    resizable(Some(have)) != resizable(PodExt::spec(pod).resources.as_ref())
}

/// Applies what can be applied, and returns the containers that must be restarted for their change.
///
/// # Errors
/// A message; the resources in effect are as before.
pub(super) async fn apply(
    kubelet: &Kubelet,
    pod: &Pod,
    status: &PodStatus,
    runtime: &PodRuntime,
) -> Result<Vec<Kill>, String> {
    let changes = changes(pod, status, runtime);
    if changes.is_empty() && !pod_changed(pod, status) {
        return Ok(Vec::new());
    }
    let failed = |error: String| {
        kubelet.pod_warning(pod, "ResizeError", message(pod, "error", Some(&error)));
        error
    };
    let wanted = cgroups::pod_limits(pod).memory;
    let memory = pod_memory(kubelet, pod).await.map_err(failed)?;
    // With less than it uses, the kernel would kill it.
    let shrinks = memory.as_ref().filter(|memory| is_lowered(wanted, memory));
    let fits = shrinks.is_none_or(|memory| is_enough(wanted, memory.usage));
    let restarts = changes.iter().any(|change| change.restart);
    // What is restarted gives back what it has: then it is not known yet whether it fits.
    let of_pod = shrinks.filter(|_| !restarts).map(|memory| (wanted, memory.usage));
    check_memory(kubelet, pod, of_pod, &changes).await.map_err(failed)?;
    // A pod that grows does so before its containers, and one that shrinks after them: the kernel lets no group have more than the
    // one that it is in. For CPU, which of both it is shows by whether it works.
    let before = limit_pod(kubelet, pod, shrinks.is_none()).await;
    let mut kills = Vec::new();
    for Change { container, id, restart, .. } in changes {
        let name = &container.name;
        if restart {
            let message = format!("Container {name} resize requires restart");
            kills.push(Kill { id, name: name.clone(), message, reason: KillReason::Other });
            continue;
        }
        let resources = container_resources(pod, container, &kubelet.machine);
        let updated = kubelet.runtime.update_container_resources(&id, resources).await;
        updated.map_err(|error| failed(error.to_string()))?;
        info!(pod = pod.display(), container = name, "the container's resources were changed");
    }
    let lowers = shrinks.is_some() && fits;
    if before.is_err() || lowers {
        limit_pod(kubelet, pod, shrinks.is_none() || lowers).await.map_err(failed)?;
    }
    if !fits {
        info!(pod = pod.display(), "the pod as a whole keeps its memory limit: what restarts uses more");
    }
    kubelet.event(&pod.reference(), EventType::Normal, "ResizeCompleted", message(pod, "completed", None));
    Ok(kills)
}

/// What the pod's group says of its memory, where it limits any.
async fn pod_memory(kubelet: &Kubelet, pod: &Pod) -> Result<Option<Memory>, String> {
    let Some(cgroups) = kubelet.cgroups.clone() else { return Ok(None) };
    let path = cgroups::pod_path(pod);
    let group = path.clone();
    let read = move || cgroups.detail(&group).and_then(|detail| detail.memory);
    kubelet.files.of_pod(pod.uid(), "read", Path::new(&path), read).await.map_err(|error| error.to_string())
}

/// Whether a group gets less memory than it may use now.
fn is_lowered(wanted: i64, now: &Memory) -> bool {
    let wanted = u64::try_from(wanted).unwrap_or_default();
    wanted > 0 && now.limit.is_none_or(|limit| wanted < limit)
}

/// As upstream has it, what is just used up is too little.
fn is_enough(limit: i64, used: u64) -> bool {
    u64::try_from(limit).is_ok_and(|limit| used < limit)
}

/// Refuses limits of memory below what is used now: of the pod, as (limit, used), and of containers that go on running.
async fn check_memory(
    kubelet: &Kubelet,
    pod: &Pod,
    of_pod: Option<(i64, u64)>,
    changes: &[Change<'_>],
) -> Result<(), String> {
    let lowered: Vec<(&str, &str, i64)> = changes
        .iter()
        .filter(|change| !change.restart)
        .filter_map(|change| Some((change.container.name.as_str(), change.id.as_str(), change.lowered?)))
        .collect();
    let mut containers = Vec::new();
    if !lowered.is_empty() {
        let stats = kubelet.runtime.list_container_stats().await;
        let stats = stats.map_err(|_| format!("unable to read memory usage for pod {:?}", pod.display()))?;
        for (name, id, limit) in lowered {
            // Of one that the runtime does not tell of it has just ended.
            let is_its = |stats: &&v1::ContainerStats| stats.attributes.as_ref().is_some_and(|of| of.id == id);
            if let Some(stats) = stats.iter().find(is_its) {
                containers.push((name, limit, used(stats)));
            }
        }
    }
    refusal(of_pod, &containers).map_or(Ok(()), Err)
}

/// Bytes with all that could be reclaimed, where the runtime tells.
fn used(stats: &v1::ContainerStats) -> Option<u64> {
    let memory = stats.memory.as_ref()?;
    memory.usage_bytes.as_ref().or(memory.working_set_bytes.as_ref()).map(|bytes| bytes.value)
}

/// Upstream's message, if a limit is below what is used; containers as (name, limit, used).
fn refusal(of_pod: Option<(i64, u64)>, containers: &[(&str, i64, Option<u64>)]) -> Option<String> {
    let mut errors = Vec::new();
    if let Some((limit, used)) = of_pod.filter(|(limit, used)| !is_enough(*limit, *used)) {
        errors.push(format!("attempting to set pod memory limit ({limit}) below current usage ({used})"));
    }
    for (name, limit, used) in containers {
        match used {
            None => errors.push(format!("missing container {name:?} memory usage")),
            Some(used) if !is_enough(*limit, *used) => errors.push(format!(
                "attempting to set container {name:?} memory limit ({limit}) below current usage ({used})"
            )),
            Some(_) => {}
        }
    }
    let told = match errors.as_slice() {
        [] => return None,
        [one] => one.clone(),
        all => format!("[{}]", all.join(", ")),
    };
    Some(format!("cannot decrease memory limits: {told}"))
}

/// Gives the pod's group the pod's limits, that of memory only if it is asked for.
async fn limit_pod(kubelet: &Kubelet, pod: &Pod, with_memory: bool) -> Result<(), String> {
    let Some(cgroups) = kubelet.cgroups.clone() else { return Ok(()) };
    let (path, mut limits) = (cgroups::pod_path(pod), cgroups::pod_limits(pod));
    if !with_memory {
        limits.memory = 0;
    }
    let group = path.clone();
    let ensure = move || cgroups.ensure(&group, &limits);
    let ensured = kubelet.files.of_pod(pod.uid(), "limit", Path::new(&path), ensure).await;
    ensured.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}

/// Upstream's message, with the fields in its order.
fn message(pod: &Pod, what: &str, error: Option<&str>) -> String {
    let quote = |text: &str| serde_json::Value::from(text).to_string();
    let list = |name: &str, list: Option<&std::collections::BTreeMap<String, Quantity>>| {
        let list = list.filter(|l| !l.is_empty())?;
        let items: Vec<String> = list.iter().map(|(k, q)| format!("{}:{}", quote(k), quote(&q.0))).collect();
        Some(format!("\"{name}\":{{{}}}", items.join(",")))
    };
    let containers = |name: &str, containers: Vec<&Container>| {
        let one = |c: &&Container| {
            let of = c.resources.as_ref();
            let limits = list("limits", of.and_then(|r| r.limits.as_ref()));
            let requests = list("requests", of.and_then(|r| r.requests.as_ref()));
            let resources: Vec<String> = limits.into_iter().chain(requests).collect();
            format!("{{\"name\":{},\"resources\":{{{}}}}}", quote(&c.name), resources.join(","))
        };
        let items: Vec<String> = containers.iter().map(one).collect();
        (!items.is_empty()).then(|| format!("\"{name}\":[{}]", items.join(",")))
    };
    let init = containers("initContainers", pod.init_containers().iter().collect());
    let mut parts: Vec<String> = init.into_iter().collect();
    parts.extend(containers("containers", PodExt::spec(pod).containers.iter().collect()));
    parts.push(format!("\"generation\":{}", pod.metadata.generation.unwrap_or_default()));
    parts.extend(error.map(|error| format!("\"error\":{}", quote(error))));
    format!("Pod resize {what}: {{{}}}", parts.join(","))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::pod::testing::pod_with;
    use crate::runtime::ContainerRun;
    use jiff::Timestamp;
    use serde_json::{Value, json};

    fn of(reported: Value, wanted: Value, policy: Value) -> Vec<(String, bool)> {
        let spec = json!({"containers": [{"name": "a", "resources": wanted, "resizePolicy": policy}]});
        let status = json!({"containerStatuses": [{"name": "a", "containerID": "r://id", "resources": reported,
            "ready": true, "image": "", "imageID": "", "restartCount": 0}]});
        let pod = pod_with(json!({}), spec, status);
        let run = ContainerRun {
            id: "id".into(),
            sandbox_id: "s".into(),
            name: "a".into(),
            runtime: "r".into(),
            state: State::Running,
            created_at: Timestamp::UNIX_EPOCH,
            started_at: None,
            finished_at: None,
            exit_code: 0,
            reason: String::new(),
            message: String::new(),
            image: String::new(),
            image_ref: String::new(),
            hash: 0,
            restart_count: 0,
            stop_signal: None,
            user: None,
        };
        let runtime = PodRuntime { sandboxes: Vec::new(), containers: vec![run] };
        let found = changes(&pod, pod.status(), &runtime);
        found.iter().map(|c| (c.container.name.clone(), c.restart)).collect()
    }

    #[test]
    fn the_message_is_upstreams() {
        let resources = json!({"requests": {"memory": "1Gi", "cpu": "1"}});
        let pod = pod_with(json!({}), json!({"containers": [{"name": "c1", "resources": resources}]}), json!({}));
        assert_eq!(
            message(&pod, "completed", None),
            r#"Pod resize completed: {"containers":[{"name":"c1","resources":{"requests":{"cpu":"1","memory":"1Gi"}}}],"generation":1}"#
        );
    }

    #[test]
    fn less_memory_than_is_used_is_refused() {
        assert_eq!(refusal(Some((100, 99)), &[("a", 50, Some(49))]), None);
        assert_eq!(
            refusal(Some((100, 100)), &[]).as_deref(),
            Some("cannot decrease memory limits: attempting to set pod memory limit (100) below current usage (100)")
        );
        assert_eq!(
            refusal(Some((100, 200)), &[("a", 50, Some(60)), ("b", 50, None)]).as_deref(),
            Some(
                "cannot decrease memory limits: [attempting to set pod memory limit (100) below current usage (200), \
                 attempting to set container \"a\" memory limit (50) below current usage (60), \
                 missing container \"b\" memory usage]"
            )
        );
    }

    #[test]
    fn a_limit_is_lowered_by_a_smaller_one_and_by_a_first() {
        let amount = |number: i64| Some(crate::pod::Amount::from_value(number));
        assert_eq!(lowered(amount(10), amount(9)), Some(9));
        assert_eq!(lowered(None, amount(9)), Some(9));
        assert_eq!((lowered(amount(9), amount(9)), lowered(amount(9), None)), (None, None));
        let group = |limit| Memory { limit, ..Memory::default() };
        assert!(is_lowered(9, &group(Some(10))) && is_lowered(9, &group(None)));
        assert!(!is_lowered(10, &group(Some(10))) && !is_lowered(0, &group(None)), "without a limit nothing is set");
    }

    #[test]
    fn a_pod_as_a_whole_is_compared_with_what_is_in_effect() {
        let changed = |have: Value, want: &str| {
            let spec = json!({"containers": [], "resources": {"limits": {"cpu": want}}});
            let pod = pod_with(json!({}), spec, json!({"resources": have}));
            pod_changed(&pod, pod.status())
        };
        assert!(!changed(json!({"limits": {"cpu": "1"}}), "1000m"));
        assert!(changed(json!({"limits": {"cpu": "1"}}), "2"));
        assert!(!changed(Value::Null, "2"), "nothing was put into effect yet");
    }

    #[test]
    fn differences_are_found_and_policies_followed() {
        let cpu = |value: &str| json!({"requests": {"cpu": value}});
        let restart = json!([{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]);
        assert!(of(cpu("1"), cpu("1000m"), json!([])).is_empty());
        assert_eq!(of(cpu("1"), cpu("2"), json!([])), [("a".to_string(), false)]);
        assert_eq!(of(cpu("1"), cpu("2"), restart.clone()), [("a".to_string(), true)]);
        let memory = |value: &str| json!({"limits": {"memory": value}});
        assert_eq!(of(memory("1Gi"), memory("2Gi"), restart), [("a".to_string(), false)]);
    }
}
