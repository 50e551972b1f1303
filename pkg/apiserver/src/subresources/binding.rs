//! Bindings: the scheduler puts a pod on a node.

use http::{Response, StatusCode};
use kedge_base::time;
use kedge_meta::field::{Error as FieldError, Path};
use kedge_meta::{Reason, Status};
use kedge_registry::NoAdmission;
use kedge_registry::value::ValueExt as _;
use kedge_registry::verbs::{self, UpdateOptions};
use serde_json::{Value, json};

use crate::admit;
use crate::admitted::Admitted;
use crate::body::Body;
use crate::input::decode::{self, posted};
use crate::input::negotiate::{self, Offer};
use crate::objects::registry_request;
use crate::output::respond;
use crate::server::ApiServer;

/// `POST …/pods/<name>/binding` or `POST …/bindings`.
pub(crate) async fn create(server: &ApiServer, mut admitted: Admitted) -> Result<Response<Body>, Status> {
    let accepted = negotiate::accepted(admitted.request.headers(), Offer::ANSWER)?;
    negotiate::body_format(admitted.request.headers())?;
    let bytes = admitted.request.body().read().await?;
    let body = posted(admitted.request.headers(), &bytes, &admitted.info, ("", "v1", "Binding"))?;
    let mut binding = body.object;
    decode::check_namespace(&mut binding, &admitted.info.namespace)?;
    let pod = binding.name().to_owned();
    if admitted.info.resource == "bindings" {
        admitted.info.resource = "pods".into();
        admitted.info.name.clone_from(&pod);
        admitted.info.subresource = "binding".into();
    }
    if pod.is_empty() || pod != admitted.info.name {
        return Err(Status::bad_request("name in URL does not match name in Binding object"));
    }
    check_target(&binding)?;
    let served = server.registry.builtin("", "v1", "pods").ok_or_else(Status::unknown_path)?.clone();
    let request = registry_request(server, &admitted, &served)?;
    let (binding, warnings) = admit::create(server, &admitted, &served.info, binding, request.dry_run).await?;
    // What is admitted is the binding: it is no update of the pod. As upstream, nobody comes to own the node of a pod, and its
    // condition, by binding it.
    let request = verbs::Request { admission: &NoAdmission, writer: verbs::Writer::Settled, ..request };
    let node = binding.text(&["target", "name"]).to_owned();
    let now = time::rfc3339(server.clock.now());
    let meant = |field: &str| binding.text(&["metadata", field]).to_owned();
    let (uid, version) = (meant("uid"), meant("resourceVersion"));
    let conflict = |why: &str| {
        Status::failure(
            409,
            Reason::Conflict,
            format!("Operation cannot be fulfilled on pods/binding {:?}: {why}", admitted.info.name),
        )
    };
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
    let written = verbs::update(&request, &transform, UpdateOptions::default()).await?;
    let success = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    let mut response = respond::value(StatusCode::CREATED, &success, accepted.format)?;
    respond::warn(&mut response, &[body.warnings, warnings, written.warnings].concat());
    Ok(response)
}

/// A binding needs a node. What is wrong with one is no Status in upstream, and so becomes a 500.
fn check_target(binding: &Value) -> Result<(), Status> {
    let mut errors = Vec::new();
    let target = Path::new("target");
    let kind = binding.text(&["target", "kind"]);
    if !matches!(kind, "" | "Node") {
        errors.push(FieldError::not_supported(&target.child("kind"), kind, &["Node", "<empty>"]));
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
