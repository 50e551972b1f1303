//! The subresource `resize`: CPU and memory of a pod that may be running.

use kedge_meta::field::{Error, ErrorList, Path};
use serde_json::Value;

use super::super::validation::{At, container};
use super::pod::{keep_all_but_spec, qos_class, validate_pod};
use super::pod_update::MIRROR;
use crate::value::ValueExt;

const LISTS: [&str; 2] = ["containers", "initContainers"];
const AMOUNTS: [&str; 2] = ["requests", "limits"];

/// Only what containers ask for and how they take its change is the writer's.
pub(super) fn keep_all_but_resources(new: &mut Value, old: &Value) {
    let wanted = new.get("spec").cloned().unwrap_or_default();
    let same_containers = LISTS.iter().all(|list| {
        let names = |spec: &Value| spec.list(&[list]).iter().map(|c| c.text(&["name"]).to_owned()).collect::<Vec<_>>();
        names(&wanted) == names(&old["spec"])
    });
    if !same_containers {
        // Left as it is, so that validation can say what is wrong with it.
        return;
    }
    keep_all_but_spec(new, old);
    for list in LISTS {
        let containers = new["spec"].get_mut(list).and_then(Value::as_array_mut).into_iter().flatten();
        for (container, wanted) in containers.zip(wanted.list(&[list])) {
            for field in ["resources", "resizePolicy"] {
                container.set_or_remove(field, wanted.get(field).cloned());
            }
        }
    }
    new["spec"].set_or_remove("resources", wanted.get("resources").cloned());
}

/// Amounts of CPU and memory change; none is taken away, and the class of the pod stays.
pub(super) fn validate(new: &Value, old: &Value) -> ErrorList {
    let whole = |why: &str| vec![Error::forbidden(&Path::new(""), why)];
    if old.at(&["metadata", "annotations", MIRROR]).is_some() {
        return whole("static pods cannot be resized");
    }
    if old.text(&["spec", "os", "name"]) == "windows" {
        return whole("windows pods cannot be resized");
    }
    let mut errors = validate_pod(new);
    let (spec, was) = (At::field(new, "spec"), At::field(old, "spec"));
    let class = old.text(&["status", "qosClass"]);
    if qos_class(new) != class {
        errors.push(Error::invalid(&spec.path, class, "Pod QOS Class may not change as a result of resizing"));
    }
    if !is_supported(old) {
        errors.push(spec.forbidden("Pod running on node without support for resize"));
    }
    of_pod(&spec, &was, &mut errors);
    if !old.list(&["status", "nodeAllocatableResourceClaimStatuses"]).is_empty() {
        errors.push(spec.forbidden("pods with node allocatable resource claims cannot be resized"));
    }
    if !in_order(&spec, &was, &mut errors) {
        return errors;
    }
    let pairs = |list| spec.child(list).items().zip(was.child(list).items()).collect::<Vec<_>>();
    let (containers, init) = (pairs("containers"), pairs("initContainers"));
    for (now, before) in init.iter().chain(&containers) {
        let (now, before) = (now.child("resources"), before.child("resources"));
        for (kind, removed) in
            [("requests", "resource requests cannot be removed"), ("limits", "resource limits cannot be removed")]
        {
            if is_less(&now, &before, kind) {
                errors.push(now.child(kind).forbidden(removed));
            }
        }
    }
    for (now, before) in &containers {
        if without_cpu_and_memory(now.value) != without_cpu_and_memory(before.value) {
            errors.push(spec.forbidden("only cpu and memory resources are mutable"));
        }
    }
    for (now, before) in &init {
        if without_cpu_and_memory(now.value) != without_cpu_and_memory(before.value) {
            errors.push(now.forbidden("only cpu and memory resources for init or sidecar containers are mutable"));
        }
        let restarts =
            now.child("resizePolicy").items().any(|policy| policy.child("restartPolicy").text() == "RestartContainer");
        if now.value != before.value && !container::is_sidecar(now.value) && restarts {
            let why = "non-sidecar init containers with a resize policy of RestartContainer cannot be resized";
            errors.push(now.forbidden(why));
        }
    }
    errors
}

/// Nodes that can resize report what containers have.
fn is_supported(pod: &Value) -> bool {
    let statuses = pod.list(&["status", "containerStatuses"]).iter();
    let mut running = statuses.filter(|status| status.at(&["state", "running"]).is_some());
    running.next().is_none_or(|status| status.get("resources").is_some_and(|resources| !resources.is_null()))
}

/// What the pod as a whole asks for.
fn of_pod(spec: &At<'_>, was: &At<'_>, errors: &mut ErrorList) {
    let (now, before) = (spec.child("resources"), was.child("resources"));
    let asks = |at: &At<'_>| AMOUNTS.iter().any(|kind| at.child(kind).entries().next().is_some());
    if !asks(&now) && !asks(&before) {
        return;
    }
    if before.is_set() && !now.is_set() {
        errors.push(now.forbidden("pod-level resources cannot be removed"));
        return;
    }
    for (kind, removed) in [
        ("requests", "pod-level resource requests cannot be removed"),
        ("limits", "pod-level resource limits cannot be removed"),
    ] {
        if is_less(&now, &before, kind) {
            errors.push(now.child(kind).forbidden(removed));
        }
    }
    if others(now.value) != others(before.value) {
        errors.push(spec.forbidden("only cpu and memory resources are mutable at pod-level"));
    }
}

/// Whether both have the same containers in the same order.
fn in_order(spec: &At<'_>, was: &At<'_>, errors: &mut ErrorList) -> bool {
    let before = errors.len();
    for list in LISTS {
        let (now, was) = (spec.child(list), was.child(list));
        if now.len() != was.len() {
            errors.push(now.forbidden(format!("{list} may not be added or removed on resize")));
            continue;
        }
        for (now, was) in now.items().zip(was.items()) {
            let name = now.child("name");
            if name.text() != was.child("name").text() {
                errors.push(name.forbidden("containers may not be renamed or reordered on resize"));
            }
        }
    }
    errors.len() == before
}

/// Whether an amount that was there is gone.
fn is_less(now: &At<'_>, before: &At<'_>, kind: &str) -> bool {
    let now = now.child(kind);
    before.child(kind).entries().any(|(name, _)| !now.child(name).is_set())
}

/// Resources but CPU and memory.
fn others(resources: &Value) -> Value {
    let mut rest = resources.clone();
    let Some(map) = rest.as_object_mut() else { return serde_json::json!({}) };
    for kind in AMOUNTS {
        let Some(amounts) = map.get_mut(kind).and_then(Value::as_object_mut) else { continue };
        amounts.remove("cpu");
        amounts.remove("memory");
        if amounts.is_empty() {
            map.remove(kind);
        }
    }
    rest
}

fn without_cpu_and_memory(container: &Value) -> Value {
    let mut rest = container.clone();
    let resources = others(container.get("resources").unwrap_or(&Value::Null));
    rest.set("resources", resources);
    rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod() -> Value {
        let container = |name: &str| {
            json!({"name": name, "image": "x", "terminationMessagePolicy": "File", "imagePullPolicy": "Always",
                "resources": {"requests": {"cpu": "1", "ephemeral-storage": "1Gi"}}})
        };
        json!({"metadata": {"name": "p"}, "spec": {"terminationGracePeriodSeconds": 30, "restartPolicy": "Always",
            "dnsPolicy": "ClusterFirst", "containers": [container("c")], "initContainers": [container("i")]},
            "status": {"qosClass": "Burstable"}})
    }

    fn refused(change: impl FnOnce(&mut Value)) -> Vec<String> {
        let mut new = pod();
        change(&mut new);
        keep_all_but_resources(&mut new, &pod());
        validate(&new, &pod()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn cpu_and_memory_change_and_nothing_else_does() {
        let mut new = pod();
        new["spec"]["containers"][0]["resources"]["requests"]["cpu"] = json!("2");
        new["spec"]["containers"][0]["resources"]["limits"] = json!({"memory": "1Gi"});
        new["spec"]["initContainers"][0]["resources"]["requests"]["memory"] = json!("1Gi");
        new["spec"]["containers"][0]["image"] = json!("y");
        new["metadata"]["labels"] = json!({"a": "b"});
        keep_all_but_resources(&mut new, &pod());
        assert!(validate(&new, &pod()).is_empty());
        assert_eq!((&new["spec"]["containers"][0]["image"], new["metadata"].get("labels")), (&json!("x"), None));
    }

    #[test]
    fn what_cannot_be_resized_is_named() {
        let at = |list: &'static str| move |pod: &mut Value| pod["spec"][list][0]["resources"] = json!({});
        assert_eq!(
            refused(at("containers")),
            [
                "spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed",
                "spec: Forbidden: only cpu and memory resources are mutable"
            ]
        );
        assert_eq!(
            refused(at("initContainers"))[1],
            "spec.initContainers[0]: Forbidden: only cpu and memory resources for init or sidecar containers are mutable"
        );
        let class = refused(|pod| {
            for list in LISTS {
                pod["spec"][list][0]["resources"] = json!({"requests": {"ephemeral-storage": "1Gi"}});
            }
        });
        assert!(
            class.contains(
                &"spec: Invalid value: \"Burstable\": Pod QOS Class may not change as a result of resizing".to_owned()
            ),
            "{class:?}"
        );
        let policy = refused(|pod| {
            pod["spec"]["containers"][0]["resizePolicy"] =
                json!([{"resourceName": "cpu", "restartPolicy": "NotRequired"}]);
        });
        assert_eq!(policy, ["spec: Forbidden: only cpu and memory resources are mutable"]);
        let renamed = refused(|pod| pod["spec"]["containers"][0]["name"] = json!("d"));
        assert_eq!(
            renamed,
            ["spec.containers[0].name: Forbidden: containers may not be renamed or reordered on resize"]
        );
        let removed = refused(|pod| pod["spec"]["initContainers"] = json!([]));
        assert_eq!(removed, ["spec.initContainers: Forbidden: initContainers may not be added or removed on resize"]);
        let mut old = pod();
        old["metadata"]["annotations"] = json!({MIRROR: "x"});
        assert_eq!(validate(&pod(), &old)[0].to_string(), "<nil>: Forbidden: static pods cannot be resized");
    }
}
