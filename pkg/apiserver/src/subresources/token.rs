//! `serviceaccounts/token`: a token for a service account, bound to an object.

use http::{Response, StatusCode};
use kedge_auth::{Bindings, BoundObject};
use kedge_base::time;
use kedge_meta::field::{Error, Path};
use kedge_meta::{GroupKind, GroupResource, Status};
use kedge_registry::value::ValueExt as _;
use kedge_registry::verbs::store_failure;
use kedge_registry::{Served, convert};
use serde_json::{Value, json};

use crate::body::{self, Body};
use crate::chain::Admitted;
use crate::negotiate::Format;
use crate::respond;
use crate::server::ApiServer;
use crate::verbs::{message, stored};

const DEFAULT_SECONDS: i64 = 3600;
const MIN_SECONDS: i64 = 600;
const MAX_SECONDS: i64 = 1 << 32;

pub(crate) async fn create(server: &ApiServer, admitted: Admitted, served: &Served) -> Result<Response<Body>, Status> {
    let bytes = body::read(admitted.request.body().take()).await?;
    let mut review = message(admitted.request.headers(), &bytes, ("authentication.k8s.io", "v1", "TokenRequest"))?;
    let info = &admitted.info;
    let account = stored(served, &served.key(&info.namespace, &info.name), &info.name)?;
    let account = convert::read(served, &account)?;
    let seconds = match review.int(&["spec", "expirationSeconds"]) {
        None => DEFAULT_SECONDS,
        Some(n) if (MIN_SECONDS..=MAX_SECONDS).contains(&n) => n,
        Some(n) => {
            let path = Path::new("spec").child("expirationSeconds");
            let detail = if n < MIN_SECONDS {
                "may not specify a duration less than 10 minutes"
            } else {
                "may not specify a duration larger than 2^32 seconds"
            };
            let error = Error::invalid(&path, n, detail);
            return Err(Status::invalid(&GroupKind::new("authentication.k8s.io", "TokenRequest"), "", &vec![error]));
        }
    };
    let signer = server.authenticator.tokens();
    let audiences: Vec<String> =
        review.list(&["spec", "audiences"]).iter().filter_map(Value::as_str).map(str::to_owned).collect();
    let audiences = if audiences.is_empty() { signer.default_audiences().to_vec() } else { audiences };
    let bound = |value: &Value| BoundObject { name: value.name().into(), uid: value.text(&["metadata", "uid"]).into() };
    let mut bindings =
        Bindings { namespace: info.namespace.clone(), serviceaccount: bound(&account), ..Bindings::default() };
    bind(server, info.namespace.as_str(), &review, &mut bindings)?;
    let now = server.now();
    let token = signer.issue(bindings, audiences.clone(), now, seconds).map_err(Status::internal)?;
    let expires = jiff::Timestamp::from_second(now + seconds).map_err(Status::internal)?;
    review.entry("spec").insert("audiences".into(), audiences.into());
    review.entry("spec").insert("expirationSeconds".into(), seconds.into());
    review.set("kind", "TokenRequest");
    review.set("apiVersion", "authentication.k8s.io/v1");
    review.set("metadata", json!({ "name": info.name, "namespace": info.namespace, "creationTimestamp": time::rfc3339(server.clock.now()) }));
    review.set("status", json!({ "token": token, "expirationTimestamp": time::rfc3339(expires) }));
    respond::object(StatusCode::CREATED, &review, Format::Json)
}

fn bind(server: &ApiServer, namespace: &str, review: &Value, bindings: &mut Bindings) -> Result<(), Status> {
    let Some(reference) = review.at(&["spec", "boundObjectRef"]).filter(|r| !r.is_null()) else { return Ok(()) };
    let (kind, name, uid) = (reference.text(&["kind"]), reference.text(&["name"]), reference.text(&["uid"]));
    let plural = match kind {
        "Pod" => "pods",
        "Secret" => "secrets",
        "Node" => "nodes",
        other => return Err(Status::bad_request(format!("cannot bind token for serviceaccount to type {other}"))),
    };
    let served = server.registry.get("", "v1", plural).ok_or_else(Status::unknown_path)?;
    let resource = GroupResource::new("", plural);
    let object = stored(served, &served.key(namespace, name), name)?;
    let object = convert::read(served, &object)?;
    let is = object.text(&["metadata", "uid"]);
    if !uid.is_empty() && uid != is {
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        );
        return Err(Status::conflict(&resource, name, &why));
    }
    let bound = BoundObject { name: name.to_owned(), uid: is.to_owned() };
    match kind {
        "Pod" => {
            let node = object.text(&["spec", "nodeName"]);
            let nodes = server.registry.get("", "v1", "nodes");
            let node_object = nodes.map(|nodes| nodes.store.get(node)).transpose().map_err(store_failure)?.flatten();
            let node_uid = node_object.and_then(|o| o.to_value().ok()).map(|n| n.text(&["metadata", "uid"]).to_owned());
            bindings.node = node_uid.map(|uid| BoundObject { name: node.to_owned(), uid });
            bindings.pod = Some(bound);
        }
        "Secret" => bindings.secret = Some(bound),
        _ => bindings.node = Some(bound),
    }
    Ok(())
}
