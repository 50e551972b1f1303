//! GET of one object: a copy of the stored bytes.

use std::sync::Arc;

use http::{Response, StatusCode};
use kedge_meta::Status;
use kedge_registry::printers::Print;
use kedge_registry::verbs::store_failure;
use kedge_registry::{Served, convert};
use kedge_storage::Object;

use crate::body::Body;
use crate::chain::Admitted;
use crate::negotiate::{self, Accepted, Shape};
use crate::request_info::RequestInfo;
use crate::server::ApiServer;
use crate::verbs::list;
use crate::{respond, table};

pub(crate) async fn handle(server: &ApiServer, admitted: &Admitted, served: &Served) -> Result<Response<Body>, Status> {
    let info = &admitted.info;
    let accepted = negotiate::accepted(admitted.request.headers())?;
    let key = served.key(&info.namespace, &info.name);
    // Any version will do for a client that says so, or any from a version on; otherwise what everybody has been
    // acknowledged is shown.
    list::not_older_than(served, info.param("resourceVersion")).await?;
    let object = stored(served, &key, &info.name)?;
    show(server, admitted, served, &object, StatusCode::OK, accepted)
}

/// The object under a key, which must be there and be one.
///
/// # Errors
/// 404, or 500 for what cannot be read.
pub(crate) fn stored(served: &Served, key: &str, name: &str) -> Result<Arc<Object>, Status> {
    let object = served.store.get(key).map_err(store_failure)?;
    object.ok_or_else(|| Status::not_found(&served.group_resource(), name))
}

/// A stored object in the negotiated form.
pub(crate) fn show(
    server: &ApiServer,
    admitted: &Admitted,
    served: &Served,
    object: &Object,
    code: StatusCode,
    accepted: Accepted,
) -> Result<Response<Body>, Status> {
    if accepted.shape == Shape::Object && !served.needs_conversion() {
        return respond::encoded(code, object.to_json(), accepted.format);
    }
    let value = convert::read(served, object)?;
    show_value(server, admitted, served, &value, code, accepted)
}

/// An object in the negotiated form.
pub(crate) fn show_value(
    server: &ApiServer,
    admitted: &Admitted,
    served: &Served,
    value: &serde_json::Value,
    code: StatusCode,
    accepted: Accepted,
) -> Result<Response<Body>, Status> {
    shaped(server, &admitted.info, &served.printer, value, code, accepted)
}

/// An object, stored or not, in the negotiated form.
pub(crate) fn shaped(
    server: &ApiServer,
    info: &RequestInfo,
    printer: &Arc<dyn Print>,
    value: &serde_json::Value,
    code: StatusCode,
    accepted: Accepted,
) -> Result<Response<Body>, Status> {
    match accepted.shape {
        Shape::Object => respond::object(code, value, accepted.format),
        Shape::Metadata => respond::object(code, &table::partial_metadata(value), accepted.format),
        Shape::Table => {
            let options = table::Options::from_query(info)?;
            let version = value["metadata"]["resourceVersion"].as_str().unwrap_or_default();
            let rows = std::slice::from_ref(value);
            let table = table::render(printer, rows, &table::ListMeta::at(version), options, server.clock.now());
            respond::object(code, &table, accepted.format)
        }
    }
}
