//! DELETE of an object, or of all that match.

use bytes::Bytes;
use http::{Response, StatusCode};
use kedge_meta::Status;
use kedge_registry::value::ValueExt as _;
use kedge_registry::{Served, verbs};
use serde_json::json;

use super::decode::message;
use super::{get, list, registry_request};
use crate::body::{self, Body};
use crate::chain::Admitted;
use crate::negotiate::{self, Shape};
use crate::respond;
use crate::server::ApiServer;

/// Kinds that answer a delete with the object itself, as upstream.
const SHOWN: [&str; 7] = [
    "pods",
    "services",
    "persistentvolumes",
    "persistentvolumeclaims",
    "podtemplates",
    "resourcequotas",
    "serviceaccounts",
];

pub(crate) async fn one(server: &ApiServer, admitted: Admitted, served: &Served) -> Result<Response<Body>, Status> {
    let accepted = negotiate::accepted(admitted.request.headers())?;
    let bytes = body::read(admitted.request.body().take()).await?;
    let options = options(&admitted, &bytes)?;
    let mut request = registry_request(server, &admitted, served)?;
    request.dry_run |= options.dry_run.iter().any(|d| d == "All");
    match verbs::delete(&request, &options).await? {
        verbs::Deleted::Gone(object) if !(served.info.group.is_empty() && SHOWN.contains(&served.info.plural)) => {
            let uid = object.text(&["metadata", "uid"]);
            let status = Status::deleted(&served.group_resource(), &admitted.info.name, uid);
            respond::object(StatusCode::OK, &status, accepted.format)
        }
        verbs::Deleted::Gone(object) | verbs::Deleted::Marked(object) => {
            get::show_value(server, &admitted, served, &object, StatusCode::OK, accepted)
        }
    }
}

pub(crate) async fn collection(
    server: &ApiServer,
    admitted: Admitted,
    served: &Served,
) -> Result<Response<Body>, Status> {
    let accepted = negotiate::accepted(admitted.request.headers())?;
    let bytes = body::read(admitted.request.body().take()).await?;
    let mut options = options(&admitted, &bytes)?;
    options.preconditions = None;
    let matcher = list::matcher(&admitted.info, served)?;
    served.store.fresh().await.map_err(verbs::store_failure)?;
    let listing = served.store.list(&served.scope(&admitted.info.namespace), &matcher, 0);
    let listing = listing.map_err(verbs::store_failure)?;
    let mut items = Vec::new();
    for (key, _) in &listing.objects {
        let (namespace, name) = key.split_once('/').unwrap_or(("", key));
        let mut request = registry_request(server, &admitted, served)?;
        (request.namespace, request.name) = (namespace, name);
        request.dry_run |= options.dry_run.iter().any(|d| d == "All");
        match verbs::delete(&request, &options).await {
            Ok(verbs::Deleted::Gone(object) | verbs::Deleted::Marked(object)) => items.push(object),
            // Somebody else deleted it first.
            Err(status) if status.code == 404 => {}
            Err(status) => return Err(status),
        }
    }
    let list = json!({
        "kind": kedge_schema::list_kind(served.info.kind),
        "apiVersion": served.info.api_version(),
        "metadata": { "resourceVersion": listing.revision.to_string() },
        "items": items,
    });
    let format = if accepted.shape == Shape::Object { accepted.format } else { negotiate::Format::Json };
    respond::object(StatusCode::OK, &list, format)
}

/// The options: from the body, or from the query.
fn options(admitted: &Admitted, bytes: &Bytes) -> Result<verbs::DeleteOptions, Status> {
    if !bytes.is_empty() {
        let value = message(admitted.request.headers(), bytes, ("", "v1", "DeleteOptions"))?;
        return serde_json::from_value(value)
            .map_err(|e| Status::bad_request(format!("error decoding DeleteOptions: {e}")));
    }
    let info = &admitted.info;
    let mut options = verbs::DeleteOptions::default();
    match info.param("gracePeriodSeconds") {
        "" => {}
        text => {
            let seconds =
                text.parse().map_err(|_| Status::bad_request(format!("invalid gracePeriodSeconds {text:?}")))?;
            options.grace_period_seconds = Some(seconds);
        }
    }
    let policy = info.param("propagationPolicy");
    options.propagation_policy = (!policy.is_empty()).then(|| policy.to_owned());
    if !info.param("orphanDependents").is_empty() {
        options.orphan_dependents = Some(info.flag("orphanDependents"));
    }
    Ok(options)
}
