//! The registry as a request uses it.

use std::sync::Arc;

use kedge_meta::{GroupResource, Status, names};
use kedge_registry::Served;
use kedge_registry::verbs::{self, store_failure};
use kedge_storage::Object;

use crate::admitted::Admitted;
use crate::input::options::{self, WriteOptions};
use crate::server::ApiServer;

/// The registry's view of a request.
pub(crate) fn registry_request<'a>(
    server: &'a ApiServer,
    admitted: &'a Admitted,
    served: &'a Served,
) -> Result<verbs::Request<'a>, Status> {
    Ok(verbs::Request {
        registry: &server.registry,
        served,
        admission: &*server.admission,
        user: &admitted.user,
        namespace: if served.info.namespaced { &admitted.info.namespace } else { "" },
        name: &admitted.info.name,
        subresource: &admitted.info.subresource,
        dry_run: WriteOptions::of(&admitted.info)?.dry_run,
        options: options::asked(&admitted.info),
        writer: verbs::Writer::Manager(options::field_manager(&admitted.info, admitted.request.headers())),
        later: verbs::Later::default(),
        notes: admitted.notes.clone(),
    })
}

/// The object under a key, which must be there and be one.
///
/// # Errors
/// 404, or 500 for what cannot be read.
pub(crate) fn stored(served: &Served, key: &str, name: &str) -> Result<Arc<Object>, Status> {
    let object = served.store.get(key).map_err(store_failure)?;
    object.ok_or_else(|| Status::not_found(&served.group_resource(), name))
}

/// What can be no name is not looked for.
///
/// # Errors
/// 400.
pub(crate) fn named(name: &str) -> Result<(), Status> {
    match names::is_path_segment_name(name) {
        wrong if wrong.is_empty() => Ok(()),
        wrong => Err(Status::bad_request(format!("Name parameter invalid: {name:?}: {}", wrong.join(";")))),
    }
}

/// Group and plural of a request, for messages.
pub(crate) fn group_resource(admitted: &Admitted) -> GroupResource {
    GroupResource::new(&admitted.info.group, &admitted.info.resource)
}
