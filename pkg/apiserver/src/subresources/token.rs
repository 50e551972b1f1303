//! `serviceaccounts/token`: a token for a service account, bound to an object.

use http::{Response, StatusCode};
use kedge_auth::{Bindings, BoundObject};
use kedge_base::time;
use kedge_meta::Status;
use kedge_registry::Served;
use kedge_registry::subresources::token::{self, Grant, Life};
use kedge_registry::value::ValueExt as _;
use kedge_registry::verbs::answered;
use serde_json::{Value, json};

use crate::admit;
use crate::admitted::Admitted;
use crate::body::Body;
use crate::input::decode::posted;
use crate::input::negotiate::{self, Offer};
use crate::input::options::{WriteOptions, field_manager};
use crate::output::respond;
use crate::server::ApiServer;

/// Issues a token. A dry run gets one as well, as upstream: nothing is stored for it.
pub(crate) async fn create(server: &ApiServer, admitted: Admitted, served: &Served) -> Result<Response<Body>, Status> {
    let accepted = negotiate::accepted(admitted.request.headers(), Offer::ANSWER)?;
    negotiate::body_format(admitted.request.headers())?;
    let bytes = admitted.request.body().read().await?;
    let info = &admitted.info;
    let dry_run = WriteOptions::of(info)?.dry_run;
    let body = posted(admitted.request.headers(), &bytes, info, (token::GROUP, "v1", token::KIND))?;
    let mut review = body.object;
    if let Some(token) = served.info.subresource(&info.subresource) {
        let manager = field_manager(info, admitted.request.headers());
        answered(&token.kind, &token.name, &mut review, &manager, server.clock.now());
    }
    let mut review = admit::create(server, &admitted, &served.info, review, dry_run).await?;
    let (signer, now) = (server.authenticator.tokens(), server.clock.now());
    let (registry, limits) = (&server.registry, &server.token_limits);
    let asked = token::Asked { registry, served, namespace: &info.namespace, name: &info.name, limits };
    let grant = token::grant(&asked, &mut review, signer.default_audiences(), now)?;
    let (seconds, lasting) = (grant.seconds, grant.lasting);
    admitted.notes.warn_all(grant.warning.clone());
    let audiences = review.list(&["spec", "audiences"]).iter().filter_map(Value::as_str).map(str::to_owned).collect();
    let token = signer.issue(bindings(grant, now.as_second()), audiences, now.as_second(), lasting);
    let token = token.map_err(Status::internal)?;
    let expires = jiff::Timestamp::from_second(now.as_second() + seconds).map_err(Status::internal)?;
    review.set("status", json!({ "token": token, "expirationTimestamp": time::rfc3339(expires) }));
    let mut response = respond::value(StatusCode::CREATED, &review, accepted.format)?;
    respond::warn(&mut response, &body.warnings);
    Ok(response)
}

/// What the token says.
fn bindings(grant: Grant, now: i64) -> Bindings {
    let warnafter = grant.warn_after().map(|seconds| now + seconds);
    let bound = |life: Life| BoundObject { name: life.name, uid: life.uid };
    Bindings {
        namespace: grant.namespace,
        serviceaccount: bound(grant.account),
        pod: grant.pod.map(bound),
        secret: grant.secret.map(bound),
        node: grant.node.map(bound),
        warnafter,
    }
}
