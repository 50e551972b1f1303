//! `namespaces/finalize`: the namespace controller lets go of an empty namespace.

use http::{Response, StatusCode};
use kedge_meta::Status;
use kedge_registry::subresources::finalize::finalize;
use kedge_registry::{Served, verbs};

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
    admitted.notes.warn_all(body.warnings);
    let wanted = body.object;
    verbs::check_name(&wanted, &admitted.info.name)?;
    let request = registry_request(server, &admitted, served)?;
    let written = finalize(&request, &wanted).await?;
    respond::value(StatusCode::OK, &written.object, accepted.format)
}
