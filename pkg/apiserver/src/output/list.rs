//! Objects that are not stored as a list, and what lists have in common.

use std::sync::Arc;

use http::{Response, StatusCode};
use kedge_meta::Status;
use kedge_registry::printers::Print;
use kedge_schema::ResourceInfo;
use serde_json::{Value, json};

use super::{respond, table};
use crate::body::Body;
use crate::input::decode;
use crate::input::negotiate::{Accepted, Shape};
use crate::input::request_info::RequestInfo;
use crate::server::ApiServer;

/// Objects as a list in the negotiated form.
pub(crate) fn shaped(
    server: &ApiServer,
    info: &RequestInfo,
    (resource, printer): (&ResourceInfo, &Arc<dyn Print>),
    mut items: Vec<Value>,
    meta: &table::ListMeta,
    accepted: Accepted,
) -> Result<Response<Body>, Status> {
    let (format, version) = (accepted.format, accepted.meta_version());
    match accepted.shape {
        Shape::Table => {
            let rows = table::Rows::new(printer, table::Options::from_query(info)?, accepted, server.clock.now());
            respond::value(StatusCode::OK, &rows.table(&items, meta), format)
        }
        Shape::MetadataList => {
            let items: Vec<Value> = items.iter().map(|item| table::partial_metadata(item, &version)).collect();
            let kind = "PartialObjectMetadataList";
            let list = json!({"kind": kind, "apiVersion": version, "metadata": meta, "items": items});
            respond::value(StatusCode::OK, &list, format)
        }
        Shape::Metadata => Err(no_object(info, resource)),
        Shape::Object => {
            if resource.schema.builtin().is_some() {
                items.iter_mut().for_each(without_type);
            }
            let kind = &resource.list_kind;
            let list = json!({"kind": kind, "apiVersion": resource.api_version(), "metadata": meta, "items": items});
            respond::value(StatusCode::OK, &list, format)
        }
    }
}

/// 406 for the metadata of a list.
pub(crate) fn no_object(info: &RequestInfo, resource: &ResourceInfo) -> Status {
    let why = "you requested PartialObjectMetadata, but the requested object is a list";
    Status::not_acceptable_as(format!("{why} ({})", decode::go_type(info, &resource.list_kind)))
}

/// The items of a list of a built-in kind do not repeat what they are.
pub(crate) fn without_type(item: &mut Value) {
    if let Some(fields) = item.as_object_mut() {
        fields.remove("apiVersion");
        fields.remove("kind");
    }
}
