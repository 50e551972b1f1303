//! Bindings: the scheduler puts a pod on a node.

use http::{Response, StatusCode};
use kedge_meta::Status;
use kedge_registry::subresources::binding;
use kedge_registry::value::ValueExt as _;
use serde_json::json;

use crate::admit;
use crate::admitted::Admitted;
use crate::body::Body;
use crate::input::decode::{self, posted};
use crate::input::negotiate::{self, Offer};
use crate::objects::registry_request;
use crate::output::respond;
use crate::server::ApiServer;

/// `POST …/pods/<name>/binding` or `POST …/bindings`.
pub(crate) async fn create(server: &ApiServer, mut admitted: Admitted) -> Result<Response<Body>, Status> {
    let accepted = negotiate::accepted(admitted.request.headers(), Offer::ANSWER)?;
    negotiate::body_format(admitted.request.headers())?;
    let bytes = admitted.request.body().read().await?;
    let body = posted(admitted.request.headers(), &bytes, &admitted.info, ("", "v1", "Binding"))?;
    let mut wanted = body.object;
    decode::check_namespace(&mut wanted, &admitted.info.namespace)?;
    let pod = wanted.name().to_owned();
    if admitted.info.resource == "bindings" {
        admitted.info.resource = "pods".into();
        admitted.info.name.clone_from(&pod);
        admitted.info.subresource = "binding".into();
    }
    if pod.is_empty() || pod != admitted.info.name {
        return Err(Status::bad_request("name in URL does not match name in Binding object"));
    }
    binding::check_target(&wanted)?;
    let served = server.registry.builtin("", "v1", "pods").ok_or_else(Status::unknown_path)?.clone();
    let request = registry_request(server, &admitted, &served)?;
    let wanted = admit::create(server, &admitted, &served.info, wanted, request.dry_run).await?;
    admitted.notes.warn_all(body.warnings);
    binding::bind(&request, &wanted).await?;
    let success = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    respond::value(StatusCode::CREATED, &success, accepted.format)
}
