//! Bindings: a pod is put on a node.

use kedge_base::time;
use kedge_meta::field::{Error as FieldError, Path};
use kedge_meta::{GroupResource, Reason, Status};
use serde_json::{Value, json};

use crate::attributes::NoAdmission;
use crate::ownership::Writer;
use crate::value::ValueExt as _;
use crate::verbs::{self, Request, UpdateOptions, Written};

/// Binds the pod of a request as an admitted `Binding` says.
///
/// # Errors
/// 409 for a pod that is another than was meant, is bound already, or is not to be.
pub async fn bind(request: &Request<'_>, binding: &Value) -> Result<Written, Status> {
    // What has been admitted is the binding: it is no update of the pod. As upstream, nobody comes to own the node of a pod, and its
    // condition, by binding it.
    let request = Request { admission: &NoAdmission, writer: Writer::Settled, ..request.clone() };
    let node = binding.text(&["target", "name"]).to_owned();
    let now = time::rfc3339(request.registry.clock.now());
    let meant = |field: &str| binding.text(&["metadata", field]).to_owned();
    let (uid, version) = (meant("uid"), meant("resourceVersion"));
    let conflict = |why: &str| Status::conflict(&GroupResource::new("", "pods/binding"), request.name, why);
    let transform = |old: Option<&Value>| {
        let mut pod = old.cloned().unwrap_or_default();
        if !uid.is_empty() && uid != pod.text(&["metadata", "uid"]) {
            let is = pod.text(&["metadata", "uid"]);
            return Err(conflict(&format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {is}"
            )));
        }
        if !version.is_empty() && version != pod.text(&["metadata", "resourceVersion"]) {
            let is = pod.text(&["metadata", "resourceVersion"]);
            return Err(conflict(&format!(
                "Precondition failed: ResourceVersion in precondition: {version}, ResourceVersion in object meta: {is}"
            )));
        }
        if !pod.text(&["metadata", "deletionTimestamp"]).is_empty() {
            return Err(conflict(&format!("pod {} is being deleted, cannot be assigned to a host", pod.name())));
        }
        let bound = pod.text(&["spec", "nodeName"]);
        if !bound.is_empty() {
            return Err(conflict(&format!("pod {} is already assigned to node {bound:?}", pod.name())));
        }
        if !pod.list(&["spec", "schedulingGates"]).is_empty() {
            return Err(conflict(&format!("pod {} has non-empty .spec.schedulingGates", pod.name())));
        }
        pod.entry("spec").insert("nodeName".into(), node.clone().into());
        for field in ["labels", "annotations"] {
            for (key, value) in binding.map(&["metadata", field]).into_iter().flatten() {
                let metadata = pod.entry("metadata");
                metadata.entry(field).or_insert_with(|| json!({})).set(key, value.clone());
            }
        }
        set_scheduled(&mut pod, &now);
        Ok(pod)
    };
    verbs::update(&request, &transform, UpdateOptions::default()).await
}

/// A binding needs a node.
///
/// # Errors
/// What is wrong with it is no Status in upstream, and so becomes a 500.
pub fn check_target(binding: &Value) -> Result<(), Status> {
    let mut errors = Vec::new();
    let target = Path::new("target");
    let kind = binding.text(&["target", "kind"]);
    if !matches!(kind, "" | "Node") {
        errors.push(FieldError::not_supported_of(&target.child("kind"), kind, &["Node", "<empty>"]));
    }
    if binding.text(&["target", "name"]).is_empty() {
        errors.push(FieldError::required(&target.child("name"), ""));
    }
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    match texts.as_slice() {
        [] => Ok(()),
        [one] => Err(Status::failure(500, Reason::Unknown, one)),
        many => Err(Status::failure(500, Reason::Unknown, format!("[{}]", many.join(", ")))),
    }
}

fn set_scheduled(pod: &mut Value, now: &str) {
    let generation = pod.int(&["metadata", "generation"]);
    let status = pod.entry("status");
    let conditions = status.entry("conditions").or_insert_with(|| json!([]));
    if let Value::Array(list) = conditions {
        list.retain(|c| c.text(&["type"]) != "PodScheduled");
        let mut condition =
            json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": now});
        if let Some(generation) = generation {
            condition.set("observedGeneration", generation);
        }
        list.push(condition);
    }
}
