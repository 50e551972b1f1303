//! GET of one object: a copy of the stored bytes.

use http::{Response, StatusCode};
use kedge_meta::Status;
use kedge_registry::Served;

use crate::admitted::Admitted;
use crate::body::Body;
use crate::input::negotiate::{self, Offer};
use crate::listing::not_older_than;
use crate::objects::{named, stored};
use crate::output::object::show;
use crate::server::ApiServer;

pub(crate) async fn handle(server: &ApiServer, admitted: &Admitted, served: &Served) -> Result<Response<Body>, Status> {
    let info = &admitted.info;
    let accepted = negotiate::accepted(admitted.request.headers(), Offer::objects(&served.info))?;
    named(&info.name)?;
    let key = served.key(&info.namespace, &info.name);
    // Any version will do for a client that says so, or any from a version on; otherwise what everybody has been
    // acknowledged is shown.
    not_older_than(served, info.param("resourceVersion")).await?;
    let object = stored(served, &key, &info.name)?;
    show(server, admitted, served, &object, StatusCode::OK, accepted).await
}
