//! One object, stored or not, in the form that the client asked for.

use std::sync::Arc;

use http::{Response, StatusCode};
use kedge_meta::Status;
use kedge_registry::printers::Print;
use kedge_registry::{Served, convert};
use kedge_storage::Object;

use crate::admitted::Admitted;
use crate::body::Body;
use crate::input::decode;
use crate::input::negotiate::{Accepted, Format, Shape};
use crate::input::request_info::RequestInfo;
use crate::output::{protobuf, respond, table};
use crate::server::ApiServer;

/// A stored object in the negotiated form.
pub(crate) async fn show(
    server: &ApiServer,
    admitted: &Admitted,
    served: &Served,
    object: &Object,
    code: StatusCode,
    accepted: Accepted,
) -> Result<Response<Body>, Status> {
    if accepted.shape == Shape::Object && served.shows(object) {
        if let (Format::Protobuf, Some(ty)) = (accepted.format, served.info.schema.builtin()) {
            return protobuf::answer(code, served, ty, object);
        }
        return respond::stored(code, object.to_json(), accepted.format);
    }
    let value = convert::read_later(served, object).await?;
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
        Shape::Object => respond::value(code, value, accepted.format),
        Shape::Metadata => {
            respond::value(code, &table::partial_metadata(value, &accepted.meta_version()), accepted.format)
        }
        Shape::MetadataList => {
            let kind = decode::go_type(info, value["kind"].as_str().unwrap_or_default());
            let why = "you requested PartialObjectMetadataList, but the requested object is not a list";
            Err(Status::not_acceptable_as(format!("{why} ({kind})")))
        }
        Shape::Table => {
            let rows = table::Rows::new(printer, table::Options::from_query(info)?, accepted, server.clock.now());
            let version = value["metadata"]["resourceVersion"].as_str().unwrap_or_default();
            let table = rows.table(std::slice::from_ref(value), &table::ListMeta::at(version));
            respond::value(code, &table, accepted.format)
        }
    }
}
