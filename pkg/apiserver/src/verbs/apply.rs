//! PATCH with a configuration: server-side apply.

use http::{Response, StatusCode};
use kedge_meta::Status;
use kedge_registry::value::ValueExt as _;
use kedge_registry::{Served, verbs};
use serde_json::Value;

use crate::admitted::Admitted;
use crate::body::Body;
use crate::input::configuration::Configuration;
use crate::input::negotiate::{self, Offer};
use crate::objects::registry_request;
use crate::output::object as shown;
use crate::server::ApiServer;

pub(crate) async fn handle(server: &ApiServer, admitted: Admitted, served: &Served) -> Result<Response<Body>, Status> {
    let accepted = negotiate::accepted(admitted.request.headers(), Offer::objects(&served.info))?;
    let configuration = Configuration::read(&admitted.request, &admitted.info).await?;
    let request = registry_request(server, &admitted, served)?;
    let request = verbs::Request { writer: verbs::Writer::Settled, ..request };
    let may_create = server.may_create(&admitted).await;
    let transform = |old: Option<&Value>| {
        let Configuration { value, manager, force, .. } = &configuration;
        let object = verbs::apply(&request, old, value, manager, *force)?;
        admitted.notes.warn_all(configuration.warnings()?);
        if old.is_none() {
            check_new(&object, served)?;
            verbs::check_name(&object, &admitted.info.name)?;
            may_create.clone()?;
        }
        Ok(object)
    };
    let options = verbs::UpdateOptions { create: true, ..verbs::UpdateOptions::default() };
    let written = verbs::update(&request, &transform, options).await?;
    let code = if written.created { StatusCode::CREATED } else { StatusCode::OK };
    shown::show_value(server, &admitted, served, &written.object, code, accepted)
}

/// What is meant for an object that was there does not make another.
fn check_new(object: &Value, served: &Served) -> Result<(), Status> {
    let uid = object.text(&["metadata", "uid"]);
    if uid.is_empty() {
        return Ok(());
    }
    let why = format!("uid mismatch: the provided object specified uid {uid}, and no existing object was found");
    Err(Status::conflict(&served.group_resource(), object.name(), &why))
}
