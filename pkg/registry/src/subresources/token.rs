//! Tokens for service accounts: how long they live, and what they die with.

use kedge_base::time;
use kedge_meta::field::{Error, ErrorList, Path};
use kedge_meta::{GroupKind, GroupResource, Status};
use serde_json::Value;

use crate::convert;
use crate::registry::Registry;
use crate::served::Served;
use crate::value::ValueExt as _;
use crate::verbs::store_failure;

const DEFAULT_SECONDS: i64 = 3600;
const MIN_SECONDS: i64 = 600;
const MAX_SECONDS: i64 = 1 << 32;
/// What kubelets ask for when a pod wants a token and says nothing of its time.
const USUAL_SECONDS: i64 = 3607;
/// A year: so long the usual tokens of pods are taken, since there are clients that read theirs once.
const EXTENDED_SECONDS: i64 = 365 * 24 * 3600;

pub const GROUP: &str = "authentication.k8s.io";
pub const KIND: &str = "TokenRequest";

/// Whom a token is asked for.
pub struct Asked<'a> {
    pub registry: &'a Registry,
    /// Service accounts.
    pub served: &'a Served,
    pub namespace: &'a str,
    pub name: &'a str,
    pub limits: &'a Limits,
}

/// For how long tokens are given.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Whether the usual tokens of pods are taken for a year.
    pub extended: bool,
    /// In seconds; who asks for more gets this.
    pub longest: Option<i64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { extended: true, longest: None }
    }
}

/// One life of an object.
#[derive(Debug, PartialEq, Eq)]
pub struct Life {
    pub name: String,
    pub uid: String,
}

impl Life {
    fn of(object: &Value) -> Self {
        Self { name: object.name().into(), uid: object.text(&["metadata", "uid"]).into() }
    }
}

/// What a token may say, and for how long.
#[derive(Debug, PartialEq, Eq)]
pub struct Grant {
    pub namespace: String,
    pub account: Life,
    pub pod: Option<Life>,
    pub secret: Option<Life>,
    pub node: Option<Life>,
    /// What was asked for, and is said.
    pub seconds: i64,
    /// How long the token is taken.
    pub lasting: i64,
    /// What to tell who asked.
    pub warning: Option<String>,
}

impl Grant {
    /// After how many seconds whoever still shows the token should have taken a new one, if it lasts longer than is said.
    pub fn warn_after(&self) -> Option<i64> {
        (self.lasting != self.seconds).then_some(self.seconds)
    }

    /// Holds the token to the limits. `usual` says whether it is for nobody but the API server.
    fn limit(&mut self, limits: &Limits, usual: bool) {
        if let Some(longest) = limits.longest.filter(|longest| self.seconds > *longest) {
            let asked = std::mem::replace(&mut self.seconds, longest);
            self.warning = Some(format!("requested expiration of {asked} seconds shortened to {longest} seconds"));
        }
        let extended = limits.extended && self.pod.is_some() && self.seconds == USUAL_SECONDS && usual;
        self.lasting = if extended { EXTENDED_SECONDS } else { self.seconds };
    }
}

/// Judges an admitted `TokenRequest`, and fills in what it leaves open.
///
/// # Errors
/// 404 for an account or an object that is not there, 400, 409 and 422 for a request that does not fit it.
pub fn grant(
    asked: &Asked<'_>,
    review: &mut Value,
    audiences: &[String],
    now: jiff::Timestamp,
) -> Result<Grant, Status> {
    check_identity(review, asked.namespace, asked.name)?;
    let account = asked.served.get(asked.namespace, asked.name)?;
    check_account(review, &account)?;
    complete(review, &account, audiences, now);
    let seconds = seconds(review)?;
    let mut grant = Grant {
        namespace: account.namespace().into(),
        account: Life::of(&account),
        pod: None,
        secret: None,
        node: None,
        seconds,
        lasting: seconds,
        warning: None,
    };
    bind(asked.registry, review, &account, &mut grant)?;
    grant.limit(asked.limits, is_for(review, audiences));
    review.entry("spec").insert("expirationSeconds".into(), grant.seconds.into());
    Ok(grant)
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

/// Whether a token is for nobody but the API server.
fn is_for(review: &Value, audiences: &[String]) -> bool {
    let known = |wanted: &Value| audiences.iter().any(|audience| wanted.as_str() == Some(audience));
    review.list(&["spec", "audiences"]).iter().all(known)
}

/// Names what the token dies with beside its account.
fn bind(registry: &Registry, review: &Value, account: &Value, grant: &mut Grant) -> Result<(), Status> {
    let Some(reference) = review.at(&["spec", "boundObjectRef"]).filter(|r| !r.is_null()) else { return Ok(()) };
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
    let served = registry.builtin("", "v1", plural).ok_or_else(Status::unknown_path)?;
    let object = served.get(account.namespace(), name)?;
    let bound = Life::of(&object);
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
            grant.node = node_of(registry, object.text(&["spec", "nodeName"]))?;
            grant.pod = Some(bound);
        }
        "secrets" => grant.secret = Some(bound),
        _ => grant.node = Some(bound),
    }
    Ok(())
}

/// The node of a pod. One that is gone is still named.
fn node_of(registry: &Registry, name: &str) -> Result<Option<Life>, Status> {
    let Some(nodes) = registry.builtin("", "v1", "nodes").filter(|_| !name.is_empty()) else { return Ok(None) };
    let node = nodes.store.get(name).map_err(store_failure)?.map(|object| convert::read(nodes, &object)).transpose()?;
    let uid = node.map(|node| node.text(&["metadata", "uid"]).to_owned()).unwrap_or_default();
    Ok(Some(Life { name: name.to_owned(), uid }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn a_token_lasts_as_long_as_the_limits_say() {
        let granted = |limits: &Limits, seconds: i64, usual: bool| {
            let life = || Life { name: "a".into(), uid: "u".into() };
            let mut grant = Grant {
                namespace: "n".into(),
                account: life(),
                pod: Some(life()),
                secret: None,
                node: None,
                seconds,
                lasting: seconds,
                warning: None,
            };
            grant.limit(limits, usual);
            (grant.seconds, grant.lasting, grant.warning)
        };
        let usual = Limits::default();
        assert_eq!(granted(&usual, USUAL_SECONDS, true), (USUAL_SECONDS, EXTENDED_SECONDS, None));
        assert_eq!(granted(&usual, USUAL_SECONDS, false), (USUAL_SECONDS, USUAL_SECONDS, None));
        let plain = Limits { extended: false, longest: Some(7200) };
        assert_eq!(granted(&plain, USUAL_SECONDS, true), (USUAL_SECONDS, USUAL_SECONDS, None));
        let warning = "requested expiration of 7201 seconds shortened to 7200 seconds".to_owned();
        assert_eq!(granted(&plain, 7201, true), (7200, 7200, Some(warning)));
    }

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
