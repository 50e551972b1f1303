//! POST of a new object.

use http::{Response, StatusCode};
use kedge_meta::Status;
use kedge_registry::{Served, verbs};

use crate::admitted::Admitted;
use crate::body::Body;
use crate::input::decode;
use crate::input::negotiate::{self, Offer};
use crate::objects::registry_request;
use crate::output::object;
use crate::server::ApiServer;

pub(crate) async fn handle(server: &ApiServer, admitted: Admitted, served: &Served) -> Result<Response<Body>, Status> {
    let accepted = negotiate::accepted(admitted.request.headers(), Offer::objects(&served.info))?;
    negotiate::body_format(admitted.request.headers())?;
    let bytes = admitted.request.body().read().await?;
    let body = decode::object(admitted.request.headers(), &bytes, &admitted.info, &served.info)?;
    admitted.notes.warn_all(body.warnings);
    let request = registry_request(server, &admitted, served)?;
    let written = verbs::create(&request, body.object).await?;
    object::show_value(server, &admitted, served, &written.object, StatusCode::CREATED, accepted)
}
