//! One file a verb; this one finds the resource and the verb of a request.

mod apply;
mod create;
mod delete;
mod update;
mod watch;

use std::sync::Arc;

use http::{Method, Response};
use kedge_meta::{GroupResource, Status};
use kedge_registry::{Entry, Served, verbs};

use crate::body::Body;
use crate::chain::Admitted;
use crate::input::request_info::RequestInfo;
use crate::input::{options, patch};
use crate::output::object as get;
use crate::server::ApiServer;
use crate::{listing as list, reviews, subresources};

pub(crate) use crate::input::decode::posted;
pub(crate) use crate::input::options::{WriteOptions, field_manager};
pub(crate) use crate::input::patch::{Patch, Target};
pub(crate) use crate::output::object::stored;
pub(crate) use apply::Configuration;

/// Serves a request on a resource.
pub(crate) async fn dispatch(server: &Arc<ApiServer>, admitted: Admitted) -> Result<Response<Body>, Status> {
    let info = &admitted.info;
    let entry = admitted.catalogue.get(&info.group, &info.version, &info.resource).cloned();
    let entry = entry.ok_or_else(Status::unknown_path)?;
    let resource = entry.info();
    let is_namespaces = resource.group.is_empty() && resource.plural == "namespaces";
    if !resource.namespaced && !info.namespace.is_empty() && !is_namespaces {
        return Err(Status::unknown_path());
    }
    // Upstream routes GET alone; what is proxied may take any method.
    if *admitted.request.method() == Method::HEAD && info.subresource != "proxy" {
        return Err(Status::method_not_allowed());
    }
    let served = match &entry {
        Entry::Stored(served) => served.clone(),
        Entry::Answered(resource) if resource.plural == "bindings" => {
            if info.verb != "create" {
                return Err(Status::unknown_path());
            }
            return subresources::binding::create(server, admitted).await;
        }
        Entry::Answered(resource) => return reviews::handle(server, admitted, &resource.clone()).await,
    };
    // The query of what is proxied is for somebody else.
    if info.subresource != "proxy" {
        options::check_numbers(info)?;
    }
    if info.verb == "deletecollection" {
        // Also where there is nothing to delete.
        WriteOptions::of(info)?;
    }
    if !info.subresource.is_empty() {
        // What a subresource reads is what everybody has been acknowledged.
        served.store.fresh().await.map_err(verbs::store_failure)?;
        return subresources::dispatch(server, admitted, served).await;
    }
    let verb = info.verb.as_str();
    let named_by_namespace = !resource.namespaced || !info.namespace.is_empty();
    match verb {
        _ if !resource.has_verb_named(verb) => Err(not_supported(&served, verb)),
        "get" => get::handle(server, &admitted, &served).await,
        "list" => list::handle(server, &admitted, &served).await,
        "watch" => watch::handle(server, &admitted, &served).await,
        _ if !named_by_namespace => Err(Status::method_not_allowed()),
        "create" if info.name.is_empty() => create::handle(server, admitted, &served).await,
        "update" if !info.name.is_empty() => update::handle(server, admitted, &served).await,
        "patch" if !info.name.is_empty() && info.applies => apply::handle(server, admitted, &served).await,
        "patch" if !info.name.is_empty() => patch::handle(server, admitted, &served).await,
        "delete" => delete::one(server, admitted, &served).await,
        "deletecollection" => delete::collection(server, admitted, &served).await,
        _ => Err(Status::method_not_allowed()),
    }
}

/// 405 for a verb that the resource lacks.
pub(crate) fn not_supported(served: &Served, verb: &str) -> Status {
    Status::method_not_supported(&served.group_resource(), verb)
}

/// A look-up of verbs by their name.
trait HasVerb {
    fn has_verb_named(&self, verb: &str) -> bool;
}

impl HasVerb for kedge_schema::ResourceInfo {
    fn has_verb_named(&self, verb: &str) -> bool {
        self.verbs.iter().any(|v| v == verb)
    }
}

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
        options: asked(&admitted.info),
        writer: verbs::Writer::Manager(options::field_manager(&admitted.info, admitted.request.headers())),
    })
}

/// What the client says of a write itself, for admission.
pub(crate) fn asked(info: &RequestInfo) -> kedge_registry::WriteOptions<'_> {
    kedge_registry::WriteOptions {
        field_manager: info.param("fieldManager"),
        field_validation: info.param("fieldValidation"),
    }
}

/// Group and plural of a request, for messages.
pub(crate) fn group_resource(admitted: &Admitted) -> GroupResource {
    GroupResource::new(&admitted.info.group, &admitted.info.resource)
}

/// The object itself, for subresources that show it.
pub(crate) async fn get_object(
    server: &ApiServer,
    admitted: &Admitted,
    served: &Served,
) -> Result<Response<Body>, Status> {
    get::handle(server, admitted, served).await
}

/// A write of the object through a subresource.
pub(crate) async fn update_object(
    server: &ApiServer,
    admitted: Admitted,
    served: &Served,
) -> Result<Response<Body>, Status> {
    update::handle(server, admitted, served).await
}

/// A patch of the object through a subresource.
pub(crate) async fn patch_object(
    server: &ApiServer,
    admitted: Admitted,
    served: &Served,
) -> Result<Response<Body>, Status> {
    if admitted.info.applies {
        return apply::handle(server, admitted, served).await;
    }
    patch::handle(server, admitted, served).await
}
