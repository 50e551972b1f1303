//! `serviceaccounts/token`: a token for a service account, bound to an object.

use http::{Response, StatusCode};
use kedge_auth::{Bindings, BoundObject};
use kedge_base::time;
use kedge_meta::field::{Error, ErrorList, Path};
use kedge_meta::{GroupKind, GroupResource, Status};
use kedge_registry::value::ValueExt as _;
use kedge_registry::verbs::{answered, store_failure};
use kedge_registry::{Served, convert};
use serde_json::{Value, json};

use crate::admit;
use crate::admitted::Admitted;
use crate::body::Body;
use crate::input::decode::posted;
use crate::input::negotiate::{self, Offer};
use crate::input::options::{WriteOptions, field_manager};
use crate::objects::stored;
use crate::output::respond;
use crate::server::ApiServer;

const DEFAULT_SECONDS: i64 = 3600;
const MIN_SECONDS: i64 = 600;
const MAX_SECONDS: i64 = 1 << 32;

const GROUP: &str = "authentication.k8s.io";
const KIND: &str = "TokenRequest";

/// Issues a token. A dry run gets one as well, as upstream: nothing is stored for it.
pub(crate) async fn create(server: &ApiServer, admitted: Admitted, served: &Served) -> Result<Response<Body>, Status> {
    let accepted = negotiate::accepted(admitted.request.headers(), Offer::ANSWER)?;
    negotiate::body_format(admitted.request.headers())?;
    let bytes = admitted.request.body().read().await?;
    let info = &admitted.info;
    let dry_run = WriteOptions::of(info)?.dry_run;
    let body = posted(admitted.request.headers(), &bytes, info, (GROUP, "v1", KIND))?;
    let mut review = body.object;
    if let Some(token) = served.info.subresource(&info.subresource) {
        let manager = field_manager(info, admitted.request.headers());
        answered(&token.kind, &token.name, &mut review, &manager, server.clock.now());
    }
    let (mut review, warnings) = admit::create(server, &admitted, &served.info, review, dry_run).await?;
    check_identity(&review, &info.namespace, &info.name)?;
    let account = stored(served, &served.key(&info.namespace, &info.name), &info.name)?;
    let account = convert::read(served, &account)?;
    check_account(&review, &account)?;
    let signer = server.authenticator.tokens();
    let now = server.now();
    complete(&mut review, &account, signer.default_audiences(), server.clock.now());
    let seconds = seconds(&review)?;
    let bindings = bind(server, &review, &account)?;
    let audiences = review.list(&["spec", "audiences"]).iter().filter_map(Value::as_str).map(str::to_owned).collect();
    let token = signer.issue(bindings, audiences, now, seconds).map_err(Status::internal)?;
    let expires = jiff::Timestamp::from_second(now + seconds).map_err(Status::internal)?;
    review.set("status", json!({ "token": token, "expirationTimestamp": time::rfc3339(expires) }));
    let mut response = respond::value(StatusCode::CREATED, &review, accepted.format)?;
    respond::warn(&mut response, &[body.warnings, warnings].concat());
    Ok(response)
}

/// What a request says of the account that it is for must be true.
fn check_identity(review: &Value, namespace: &str, name: &str) -> Result<(), Status> {
    let metadata = Path::new("metadata");
    for (field, is, what) in [("name", name, "name"), ("namespace", namespace, "namespace")] {
        let written = review.text(&["metadata", field]);
        if !written.is_empty() && written != is {
            let why = format!("must match the service account {what} if specified");
            let errors = vec![Error::invalid(&metadata.child(field), written, why)];
            return Err(Status::invalid(&GroupKind::new(GROUP, KIND), name, &errors));
        }
    }
    Ok(())
}

fn check_account(review: &Value, account: &Value) -> Result<(), Status> {
    let (written, is) = (review.text(&["metadata", "uid"]), account.text(&["metadata", "uid"]));
    if written.is_empty() || written == is {
        return Ok(());
    }
    let why = format!("the UID in the token request ({written}) does not match the UID of the service account ({is})");
    Err(Status::conflict(&GroupResource::new(GROUP, KIND), account.name(), &why))
}

/// Fills in what the request leaves open.
fn complete(review: &mut Value, account: &Value, audiences: &[String], now: jiff::Timestamp) {
    let metadata = review.entry("metadata");
    for field in ["name", "namespace", "uid"] {
        metadata.insert(field.into(), account.text(&["metadata", field]).into());
    }
    metadata.insert("creationTimestamp".into(), time::rfc3339(now).into());
    if review.list(&["spec", "audiences"]).is_empty() {
        review.entry("spec").insert("audiences".into(), audiences.to_vec().into());
    }
    if review.int(&["spec", "expirationSeconds"]).is_none() {
        review.entry("spec").insert("expirationSeconds".into(), DEFAULT_SECONDS.into());
    }
}

/// How long the token is to be valid.
fn seconds(review: &Value) -> Result<i64, Status> {
    let seconds = review.int(&["spec", "expirationSeconds"]).unwrap_or(DEFAULT_SECONDS);
    let path = Path::new("spec").child("expirationSeconds");
    let mut errors = ErrorList::new();
    if seconds < MIN_SECONDS {
        errors.push(Error::invalid(&path, seconds, "may not specify a duration less than 10 minutes"));
    }
    if seconds > MAX_SECONDS {
        errors.push(Error::invalid(&path, seconds, "may not specify a duration larger than 2^32 seconds"));
    }
    if errors.is_empty() { Ok(seconds) } else { Err(Status::invalid(&GroupKind::new(GROUP, KIND), "", &errors)) }
}

/// What the token says of its account, and of the object that it dies with.
fn bind(server: &ApiServer, review: &Value, account: &Value) -> Result<Bindings, Status> {
    let life = |value: &Value| BoundObject { name: value.name().into(), uid: value.text(&["metadata", "uid"]).into() };
    let namespace = account.namespace();
    let mut bindings = Bindings { namespace: namespace.into(), serviceaccount: life(account), ..Bindings::default() };
    let Some(reference) = review.at(&["spec", "boundObjectRef"]).filter(|r| !r.is_null()) else { return Ok(bindings) };
    let (kind, name, uid) = (reference.text(&["kind"]), reference.text(&["name"]), reference.text(&["uid"]));
    let (group, version) =
        reference.text(&["apiVersion"]).split_once('/').unwrap_or(("", reference.text(&["apiVersion"])));
    let plural = match (group, kind) {
        ("", "Pod") => "pods",
        ("", "Secret") => "secrets",
        ("", "Node") => "nodes",
        _ => {
            let message = format!("cannot bind token to object of type {group}/{version}, Kind={kind}");
            return Err(Status::bad_request(message));
        }
    };
    let served = server.registry.builtin("", "v1", plural).ok_or_else(Status::unknown_path)?;
    let object = convert::read(served, &*stored(served, &served.key(namespace, name), name)?)?;
    let bound = life(&object);
    if plural == "pods" && object.text(&["spec", "serviceAccountName"]) != account.name() {
        return Err(Status::bad_request(format!(
            "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
            account.name()
        )));
    }
    if !uid.is_empty() && uid != bound.uid {
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        );
        return Err(Status::conflict(&GroupResource::new(group, kind), name, &why));
    }
    match plural {
        "pods" => {
            bindings.node = node_of(server, object.text(&["spec", "nodeName"]))?;
            bindings.pod = Some(bound);
        }
        "secrets" => bindings.secret = Some(bound),
        _ => bindings.node = Some(bound),
    }
    Ok(bindings)
}

/// The node of a pod. One that is gone is still named.
fn node_of(server: &ApiServer, name: &str) -> Result<Option<BoundObject>, Status> {
    let Some(nodes) = server.registry.builtin("", "v1", "nodes").filter(|_| !name.is_empty()) else { return Ok(None) };
    let node = nodes.store.get(name).map_err(store_failure)?.map(|object| convert::read(nodes, &object)).transpose()?;
    let uid = node.map(|node| node.text(&["metadata", "uid"]).to_owned()).unwrap_or_default();
    Ok(Some(BoundObject { name: name.to_owned(), uid }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_request_is_for_the_account_of_the_path_and_for_a_sensible_time() {
        let account = json!({"metadata": {"name": "a", "namespace": "n", "uid": "1"}});
        let mut review = json!({"metadata": {"name": "a"}});
        check_identity(&review, "n", "a").unwrap();
        complete(&mut review, &account, &["api".to_owned()], jiff::Timestamp::UNIX_EPOCH);
        assert_eq!((&review["metadata"]["uid"], &review["spec"]["audiences"]), (&json!("1"), &json!(["api"])));
        assert_eq!(seconds(&review).unwrap(), 3600);
        for (field, code) in [("name", 422), ("namespace", 422)] {
            assert_eq!(check_identity(&json!({"metadata": {field: "x"}}), "n", "a").unwrap_err().code, code);
        }
        assert_eq!(check_account(&json!({"metadata": {"uid": "2"}}), &account).unwrap_err().code, 409);
        for wrong in [0, 599, MAX_SECONDS + 1] {
            let refused = seconds(&json!({"spec": {"expirationSeconds": wrong}})).unwrap_err();
            assert_eq!((refused.code, refused.details.unwrap().causes.len()), (422, 1));
        }
    }
}
