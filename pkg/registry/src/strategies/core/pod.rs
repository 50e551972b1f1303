//! Pods: born pending, deleted gracefully, and hardly changeable.

use kedge_meta::field::ErrorList;
use serde_json::{Value, json};

use super::super::validation::pod_spec::{Owner, pod_spec};
use super::super::validation::{At, container};
use super::{pod_annotations, pod_resize, pod_scheduling, pod_status, pod_update};
use crate::strategy::{Context, Strategy};
use crate::value::ValueExt;

pub(crate) struct Pod;

impl Strategy for Pod {
    fn prepare_for_create(&self, ctx: &Context<'_>, pod: &mut Value) {
        pod_annotations::app_armor(ctx, pod);
        pod_scheduling::merge_label_keys(pod);
        let mut status = json!({ "phase": "Pending", "qosClass": qos_class(pod) });
        if !pod.list(&["spec", "schedulingGates"]).is_empty() {
            status["conditions"] = json!([{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates"}]);
        }
        pod.set("status", status);
    }

    fn prepare_for_update(&self, ctx: &Context<'_>, new: &mut Value, old: &Value) {
        match ctx.subresource {
            "status" => {
                let class = old.at(&["status", "qosClass"]).cloned();
                let status = new.entry("status");
                if let (true, Some(class)) = (status.get("qosClass").is_none_or(Value::is_null), class) {
                    status.insert("qosClass".into(), class);
                }
                pod_status::keep_observed_generation(new, old);
            }
            "ephemeralcontainers" => {
                let wanted = new.at(&["spec", "ephemeralContainers"]).cloned();
                keep_all_but_spec(new, old);
                new["spec"].set_or_remove("ephemeralContainers", wanted);
            }
            "resize" => pod_resize::keep_all_but_resources(new, old),
            _ => {}
        }
    }

    fn validate(&self, _ctx: &Context<'_>, pod: &Value) -> ErrorList {
        let mut errors = validate_pod(pod);
        let spec = At::field(pod, "spec");
        let ephemeral = spec.child("ephemeralContainers");
        if ephemeral.len() > 0 {
            errors.push(ephemeral.forbidden("cannot be set on create"));
        }
        let node = spec.child("nodeName");
        if !node.text().is_empty() && spec.child("schedulingGates").len() > 0 {
            errors.push(node.forbidden("cannot be set until all schedulingGates have been cleared"));
        }
        errors
    }

    fn validate_update(&self, ctx: &Context<'_>, new: &Value, old: &Value) -> ErrorList {
        match ctx.subresource {
            // The scheduler's decision, which only the binding itself can make.
            "binding" => ErrorList::new(),
            "ephemeralcontainers" => pod_update::validate_ephemeral_containers(new, old),
            "resize" => pod_resize::validate(new, old),
            _ => pod_update::validate(new, old),
        }
    }

    fn validate_status_update(&self, _ctx: &Context<'_>, new: &Value, old: &Value) -> ErrorList {
        pod_status::validate(new, old)
    }

    /// A pod that runs nowhere, or runs no more, goes at once.
    fn grace_period(&self, pod: &Value, requested: Option<i64>) -> Option<i64> {
        let unscheduled = pod.text(&["spec", "nodeName"]).is_empty();
        let finished = matches!(pod.text(&["status", "phase"]), "Failed" | "Succeeded");
        if unscheduled || finished {
            return Some(0);
        }
        let own = pod.int(&["spec", "terminationGracePeriodSeconds"]).unwrap_or(30);
        // A negative period means the shortest one, as upstream has it.
        let period = requested.unwrap_or(own);
        Some(if period < 0 { 1 } else { period })
    }
}

/// What is checked on create and on every change.
pub(super) fn validate_pod(pod: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let spec = At::field(pod, "spec");
    let mirror = At::field(pod, "metadata").child("annotations");
    if let Some((_, at)) = mirror.entries().find(|(key, _)| *key == pod_update::MIRROR)
        && spec.child("nodeName").text().is_empty()
    {
        errors.push(at.invalid("must set spec.nodeName if mirror pod annotation is set"));
    }
    pod_annotations::profiles(&mirror, spec.value, &mut errors);
    pod_spec(&spec, Owner::Pod(pod.name()), &mut errors);
    pod_annotations::seccomp_agrees(&mirror, &spec, &mut errors);
    if spec.child("serviceAccountName").text().is_empty() {
        for volume in spec.child("volumes").items() {
            for source in volume.child("projected").child("sources").items() {
                let token = source.child("serviceAccountToken");
                if token.is_set() {
                    errors.push(token.forbidden("must not be specified when serviceAccountName is not set"));
                }
            }
        }
    }
    for list in ["containers", "initContainers"] {
        spec.child(list).items().for_each(|one| container::image_without_blanks(&one, &mut errors));
    }
    errors
}

/// Everything is as it was; the caller puts back what its subresource is about.
pub(super) fn keep_all_but_spec(new: &mut Value, old: &Value) {
    let version = new.at(&["metadata", "resourceVersion"]).cloned();
    let owners = new.at(&["metadata", "managedFields"]).cloned();
    *new = old.clone();
    if let Some(version) = version {
        new["metadata"].set("resourceVersion", version);
    }
    new["metadata"].set_or_remove("managedFields", owners);
}

/// The class by which the node treats the pod when memory runs short.
pub(super) fn qos_class(pod: &Value) -> &'static str {
    let own = pod.at(&["spec", "resources"]).filter(|own| own.is_object());
    let containers = pod.list(&["spec", "containers"]).iter().chain(pod.list(&["spec", "initContainers"]));
    let all: Vec<&Value> = match own {
        Some(own) if own.get("requests").is_some() || own.get("limits").is_some() => vec![own],
        _ => containers.map(|container| container.get("resources").unwrap_or(&Value::Null)).collect(),
    };
    let (mut any, mut guaranteed) = (false, true);
    for resources in all {
        for resource in ["cpu", "memory"] {
            let request = resources.text(&["requests", resource]);
            let limit = resources.text(&["limits", resource]);
            let set = |text: &str| !text.is_empty() && text != "0";
            any |= set(request) || set(limit);
            guaranteed &= set(limit) && (request == limit || request.is_empty());
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn good() -> Value {
        json!({"metadata": {"name": "p", "namespace": "default"}, "spec": {"terminationGracePeriodSeconds": 30,
            "restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "containers": [{"name": "c", "image": "x",
                "terminationMessagePolicy": "File", "imagePullPolicy": "Always"}]}})
    }

    fn texts(pod: &Value) -> Vec<String> {
        validate_pod(pod).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_good_pod_passes() {
        assert!(texts(&good()).is_empty());
    }

    #[test]
    fn what_is_missing_is_named() {
        let mut pod = good();
        pod["spec"]["containers"] = json!([]);
        pod["spec"]["restartPolicy"] = json!("Sometimes");
        assert_eq!(
            texts(&pod),
            [
                "spec.containers: Required value",
                "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\"",
            ]
        );
    }

    #[test]
    fn containers_and_ports_have_names_of_their_own() {
        let mut pod = good();
        let mut other = pod["spec"]["containers"][0].clone();
        other["ports"] = json!([{"name": "a", "containerPort": 80, "hostPort": 80, "protocol": "TCP"},
            {"name": "a", "containerPort": 81, "hostPort": 80, "protocol": "TCP"}]);
        if let Value::Array(list) = &mut pod["spec"]["containers"] {
            list.push(other);
        }
        assert_eq!(
            texts(&pod),
            [
                "spec.containers[1].ports[1].name: Duplicate value: \"a\"",
                "spec.containers[1].name: Duplicate value: \"c\"",
                "spec.containers[1].ports[1].hostPort: Duplicate value: \"TCP//80\"",
            ]
        );
    }

    #[test]
    fn the_class_follows_from_requests_and_limits() {
        let with = |resources: Value| {
            let mut pod = good();
            pod["spec"]["containers"][0]["resources"] = resources;
            qos_class(&pod)
        };
        assert_eq!(with(json!({})), "BestEffort");
        assert_eq!(with(json!({"requests": {"cpu": "1"}})), "Burstable");
        let all = json!({"cpu": "1", "memory": "1Gi"});
        assert_eq!(with(json!({"requests": all, "limits": all})), "Guaranteed");
    }
}
