//! `namespaces/finalize`: the namespace controller lets go of an empty namespace.

use http::{Response, StatusCode};
use kedge_meta::Status;
use kedge_registry::value::ValueExt as _;
use kedge_registry::{Served, verbs};
use serde_json::Value;

use crate::body::{self, Body};
use crate::chain::Admitted;
use crate::negotiate::Format;
use crate::respond;
use crate::server::ApiServer;
use crate::verbs::{message, registry_request};

pub(crate) async fn handle(server: &ApiServer, admitted: Admitted, served: &Served) -> Result<Response<Body>, Status> {
    let bytes = body::read(admitted.request.body().take()).await?;
    let wanted = message(admitted.request.headers(), &bytes, ("", "v1", "Namespace"))?;
    if wanted.name() != admitted.info.name {
        return Err(Status::bad_request("the name of the object does not match the name on the URL"));
    }
    let finalizers = wanted.at(&["spec", "finalizers"]).cloned();
    let version = wanted.at(&["metadata", "resourceVersion"]).cloned();
    let request = registry_request(server, &admitted, served)?;
    let transform = |old: Option<&Value>| {
        let mut namespace = old.cloned().unwrap_or_default();
        match &finalizers {
            Some(list) => namespace.entry("spec").insert("finalizers".into(), list.clone()),
            None => namespace.entry("spec").remove("finalizers"),
        };
        if let Some(version) = &version {
            namespace["metadata"].set("resourceVersion", version.clone());
        }
        Ok(namespace)
    };
    let written = verbs::update(&request, &transform, verbs::UpdateOptions::default()).await?;
    respond::object(StatusCode::OK, &written.object, Format::Json)
}
