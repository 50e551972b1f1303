//! `scale`: replicas of a workload as `autoscaling/v1` Scale.

use http::{Response, StatusCode};
use kedge_meta::field::{Error, Path};
use kedge_meta::{GroupKind, Status, labels};
use kedge_registry::value::ValueExt as _;
use kedge_registry::{Served, convert, verbs};
use serde_json::{Value, json};

use crate::body::{self, Body};
use crate::chain::Admitted;
use crate::negotiate;
use crate::respond;
use crate::server::ApiServer;
use crate::verbs::{message, patch_body, registry_request, stored};

fn scale_of(object: &Value) -> Value {
    let metadata = object.get("metadata").cloned().unwrap_or_default();
    let copy = |field: &str| metadata.get(field).cloned().unwrap_or(Value::Null);
    let mut meta = json!({});
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        meta.set(field, copy(field));
    }
    let selector = object.at(&["spec", "selector"]).cloned().unwrap_or_default();
    // Replication controllers have a plain map.
    let structured = selector.get("matchLabels").is_some() || selector.get("matchExpressions").is_some();
    let selector = if structured { selector } else { json!({ "matchLabels": selector }) };
    let selector = labels::Selector::from_label_selector(&selector).map(|s| s.to_string()).unwrap_or_default();
    let mut spec = json!({});
    if let Some(replicas) = object.int(&["spec", "replicas"]).filter(|r| *r > 0) {
        spec.set("replicas", replicas);
    }
    let replicas = object.int(&["status", "replicas"]).unwrap_or_default();
    json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": meta,
        "spec": spec,
        "status": { "replicas": replicas, "selector": selector },
    })
}

pub(crate) async fn handle(server: &ApiServer, admitted: Admitted, served: &Served) -> Result<Response<Body>, Status> {
    let accepted = negotiate::accepted(admitted.request.headers())?;
    let (namespace, name) = (&admitted.info.namespace, &admitted.info.name);
    let current = stored(served, &served.key(namespace, name), name)?;
    let current = scale_of(&convert::read(served, &current)?);
    if admitted.info.verb == "get" {
        return respond::object(StatusCode::OK, &current, accepted.format);
    }
    let bytes = body::read(admitted.request.body().take()).await?;
    let scale_type = kedge_schema::kind("autoscaling", "v1", "Scale");
    let wanted = match admitted.info.verb.as_str() {
        "patch" => patch_body(admitted.request.headers(), &bytes)?.0.apply(&current, scale_type)?,
        _ => message(admitted.request.headers(), &bytes, ("autoscaling", "v1", "Scale"))?,
    };
    if !wanted.name().is_empty() && wanted.name() != admitted.info.name {
        return Err(Status::bad_request("the name of the object does not match the name on the URL"));
    }
    let replicas = replicas(&wanted, &admitted.info.name)?;
    let version = match admitted.info.verb.as_str() {
        "patch" if wanted.at(&["metadata", "resourceVersion"]) == current.at(&["metadata", "resourceVersion"]) => None,
        _ => wanted.at(&["metadata", "resourceVersion"]).cloned(),
    };
    let mut request = registry_request(server, &admitted, served)?;
    request.subresource = "scale";
    let transform = |old: Option<&Value>| {
        let mut object = old.cloned().unwrap_or_default();
        object.entry("spec").insert("replicas".into(), replicas.into());
        object["metadata"].set_or_remove("resourceVersion", version.clone());
        Ok(object)
    };
    let written = verbs::update(&request, &transform, verbs::UpdateOptions::default()).await?;
    respond::object(StatusCode::OK, &scale_of(&written.object), accepted.format)
}

fn replicas(scale: &Value, name: &str) -> Result<i64, Status> {
    let path = Path::new("spec").child("replicas");
    let error = match scale.at(&["spec", "replicas"]) {
        None | Some(Value::Null) => return Ok(0),
        Some(value) => match value.as_i64() {
            Some(n) if (0..=i64::from(i32::MAX)).contains(&n) => return Ok(n),
            Some(n) => Error::invalid(&path, n, "must be greater than or equal to 0"),
            None => return Err(Status::bad_request(format!("spec.replicas: {value} is no number"))),
        },
    };
    Err(Status::invalid(&GroupKind::new("autoscaling", "Scale"), name, &vec![error]))
}
