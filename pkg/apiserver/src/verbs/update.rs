//! PUT of a whole object, or of its status.

use http::{Response, StatusCode};
use kedge_auth::{Decision, Request};
use kedge_meta::Status;
use kedge_registry::{Served, verbs};
use serde_json::Value;

use super::registry_request;
use crate::body::Body;
use crate::chain::{Admitted, forbidden};
use crate::input::decode;
use crate::input::negotiate::{self, Offer};
use crate::output::object as get;
use crate::output::respond;
use crate::server::ApiServer;

/// Who may change what is there may not therefore make what is not.
pub(super) fn may_create(server: &ApiServer, admitted: &Admitted) -> Result<(), Status> {
    let info = &admitted.info;
    let asked = Request { verb: "create", ..info.authorization(&admitted.user, &info.name) };
    match server.authorizer.authorize(&asked) {
        Decision::Allow(_) => Ok(()),
        Decision::Deny(reason) | Decision::NoOpinion(reason) => Err(forbidden(&asked, &admitted.user, &reason)),
    }
}

pub(crate) async fn handle(server: &ApiServer, admitted: Admitted, served: &Served) -> Result<Response<Body>, Status> {
    let accepted = negotiate::accepted(admitted.request.headers(), Offer::objects(&served.info))?;
    let bytes = admitted.request.body().read().await?;
    let body = decode::object(admitted.request.headers(), &bytes, &admitted.info, &served.info)?;
    verbs::check_name(&body.object, &admitted.info.name)?;
    let request = registry_request(server, &admitted, served)?;
    let create = served.strategy.allow_create_on_update();
    let options = verbs::UpdateOptions { create, meant_by_uid: true, view: None };
    let wanted = body.object;
    let transform = |old: Option<&Value>| {
        if old.is_none() {
            may_create(server, &admitted)?;
        }
        Ok(wanted.clone())
    };
    let written = verbs::update(&request, &transform, options).await?;
    let code = if written.created { StatusCode::CREATED } else { StatusCode::OK };
    let mut response = get::show_value(server, &admitted, served, &written.object, code, accepted)?;
    respond::warn(&mut response, &[body.warnings, written.warnings].concat());
    Ok(response)
}
