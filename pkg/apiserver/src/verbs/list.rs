//! LIST: stored bytes one after the other, paged at one version.

use std::sync::Arc;

use http::Response;
use kedge_meta::Status;
use kedge_registry::Served;

use crate::admitted::Admitted;
use crate::body::Body;
use crate::input::negotiate::{self, Offer};
use crate::listing::{limit, list_meta, select, selection};
use crate::output::items;
use crate::server::ApiServer;

pub(crate) async fn handle(
    server: &ApiServer,
    admitted: &Admitted,
    served: &Arc<Served>,
) -> Result<Response<Body>, Status> {
    let info = &admitted.info;
    let accepted = negotiate::accepted(admitted.request.headers(), Offer::objects(&served.info))?;
    let selection = selection(info, served)?;
    let limit = limit(info)?;
    let scope = served.scope(&info.namespace);
    let listing = select(info, served, &scope, &selection, limit).await?;
    let meta = list_meta(&listing, &scope, limit, &selection);
    items::respond(info, served, listing.objects, &meta, accepted, server.clock.now()).await
}
