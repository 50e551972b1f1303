//! GET of one object: a copy of the stored bytes.

use std::sync::Arc;

use http::{Response, StatusCode};
use kedge_meta::Status;
use kedge_registry::verbs::store_failure;
use kedge_registry::{Served, convert};
use kedge_schema::ResourceInfo;
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
    let object = find(served, &key, &info.name).await?;
    show(server, admitted, served, &object, StatusCode::OK, accepted)
}

/// What cannot be read is not in the cache, but it is not gone: whoever hears that an owner is, removes what it owns.
async fn find(served: &Served, key: &str, name: &str) -> Result<Arc<Object>, Status> {
    if let Some(object) = served.store.get(key) {
        return Ok(object);
    }
    let stored = served.store.current(key).await.map_err(store_failure)?;
    stored.ok_or_else(|| Status::not_found(&served.group_resource(), name))
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
    shaped(server, &admitted.info, served.info, value, code, accepted)
}

/// An object, stored or not, in the negotiated form.
pub(crate) fn shaped(
    server: &ApiServer,
    info: &RequestInfo,
    resource: &ResourceInfo,
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
            let table = table::render(resource, rows, &table::ListMeta::at(version), options, server.clock.now());
            respond::object(code, &table, accepted.format)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::verbs::list::tests::config_maps_on;
    use kedge_kv::Kv as _;

    #[tokio::test]
    async fn what_cannot_be_read_is_not_said_to_be_gone() {
        let kv = Arc::new(kedge_kv::Embedded::memory(kedge_base::system_clock()).unwrap());
        let (served, _) = config_maps_on(kv.clone(), &["x"]).await;
        let put = kedge_kv::Op::Put { key: "/registry/configmaps/a/bad".into(), value: "?".into(), lease: 0 };
        kv.txn(kedge_kv::Txn { success: vec![put], ..Default::default() }).await.unwrap();
        assert!(find(&served, "a/x", "x").await.is_ok());
        assert_eq!(find(&served, "a/bad", "bad").await.unwrap_err().code, 500);
        assert_eq!(find(&served, "a/none", "none").await.unwrap_err().code, 404);
    }
}
