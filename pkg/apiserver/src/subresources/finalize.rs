//! `namespaces/finalize`: the namespace controller lets go of an empty namespace.

use http::{Response, StatusCode};
use kedge_meta::Status;
use kedge_registry::value::ValueExt as _;
use kedge_registry::{Served, verbs};
use serde_json::Value;

use crate::admitted::Admitted;
use crate::body::Body;
use crate::input::decode::posted;
use crate::input::negotiate::{self, Offer};
use crate::objects::registry_request;
use crate::output::respond;
use crate::server::ApiServer;

pub(crate) async fn handle(server: &ApiServer, admitted: Admitted, served: &Served) -> Result<Response<Body>, Status> {
    let accepted = negotiate::accepted(admitted.request.headers(), Offer::ANSWER)?;
    let bytes = admitted.request.body().read().await?;
    let body = posted(admitted.request.headers(), &bytes, &admitted.info, ("", "v1", "Namespace"))?;
    let wanted = body.object;
    verbs::check_name(&wanted, &admitted.info.name)?;
    let finalizers = wanted.at(&["spec", "finalizers"]).cloned();
    let meant = ["uid", "resourceVersion"].map(|field| (field, wanted.at(&["metadata", field]).cloned()));
    let request = registry_request(server, &admitted, served)?;
    let transform = |old: Option<&Value>| {
        let mut namespace = old.cloned().unwrap_or_default();
        match &finalizers {
            Some(list) => namespace.entry("spec").insert("finalizers".into(), list.clone()),
            None => namespace.entry("spec").remove("finalizers"),
        };
        for (field, value) in &meant {
            if let Some(value) = value {
                namespace["metadata"].set(field, value.clone());
            }
        }
        Ok(namespace)
    };
    let options = verbs::UpdateOptions { meant_by_uid: true, ..verbs::UpdateOptions::default() };
    let written = verbs::update(&request, &transform, options).await?;
    let mut response = respond::value(StatusCode::OK, &written.object, accepted.format)?;
    respond::warn(&mut response, &[body.warnings, written.warnings].concat());
    Ok(response)
}
