//! PATCH of an object by a change of it: JSON patch, merge patch, strategic merge patch.

use http::{Response, StatusCode};
use kedge_meta::Status;
use kedge_registry::{Served, verbs};
use serde_json::Value;

use crate::admitted::Admitted;
use crate::body::Body;
use crate::input::negotiate::{self, Offer};
use crate::input::patch::{Patch, Target};
use crate::objects::registry_request;
use crate::output::object;
use crate::server::ApiServer;

pub(crate) async fn handle(server: &ApiServer, admitted: Admitted, served: &Served) -> Result<Response<Body>, Status> {
    Patch::check_form(admitted.request.headers())?;
    let accepted = negotiate::accepted(admitted.request.headers(), Offer::objects(&served.info))?;
    let patch = Patch::read(&admitted.request, &admitted.info).await?;
    let target = Target::of(&served.info, &*admitted.catalogue, &*served.conversion);
    let transform = |old: Option<&Value>| {
        let old = old.ok_or_else(|| Status::not_found(&served.group_resource(), &admitted.info.name))?;
        patch.transform(old, &target)
    };
    let request = registry_request(server, &admitted, served)?;
    let options = verbs::UpdateOptions { decoded: true, ..verbs::UpdateOptions::default() };
    let written = verbs::update(&request, &transform, options).await;
    // Also when it failed afterwards.
    admitted.notes.warn_all(patch.warnings());
    let written = written?;
    object::show_value(server, &admitted, served, &written.object, StatusCode::OK, accepted)
}
