//! PUT of a whole object, or of its status.

use http::{Response, StatusCode};
use kedge_meta::Status;
use kedge_registry::{Served, verbs};
use serde_json::Value;

use crate::admitted::Admitted;
use crate::body::Body;
use crate::input::decode;
use crate::input::negotiate::{self, Offer};
use crate::objects::registry_request;
use crate::output::object;
use crate::server::ApiServer;

pub(crate) async fn handle(server: &ApiServer, admitted: Admitted, served: &Served) -> Result<Response<Body>, Status> {
    let accepted = negotiate::accepted(admitted.request.headers(), Offer::objects(&served.info))?;
    let bytes = admitted.request.body().read().await?;
    let body = decode::object(admitted.request.headers(), &bytes, &admitted.info, &served.info)?;
    admitted.notes.warn_all(body.warnings);
    verbs::check_name(&body.object, &admitted.info.name)?;
    let request = registry_request(server, &admitted, served)?;
    let create = served.strategy.allow_create_on_update();
    let options = verbs::UpdateOptions { create, meant_by_uid: true, decoded: true, view: None };
    let wanted = body.object;
    let may_create = if create { server.may_create(&admitted).await } else { Ok(()) };
    let transform = |old: Option<&Value>| {
        if old.is_none() {
            may_create.clone()?;
        }
        Ok(wanted.clone())
    };
    let written = verbs::update(&request, &transform, options).await?;
    let code = if written.created { StatusCode::CREATED } else { StatusCode::OK };
    object::show_value(server, &admitted, served, &written.object, code, accepted)
}
