//! Subresources with a behaviour of their own, one a file.

pub(crate) mod binding;
mod budget;
mod eviction;
mod finalize;
mod log_options;
pub(crate) mod proxy;
mod scale;
mod streaming;
mod token;

use std::sync::Arc;

use http::Response;
use kedge_meta::Status;
use kedge_registry::Served;
use kedge_registry::value::ValueExt as _;
use serde_json::Value;

use crate::body::Body;
use crate::chain::Admitted;
use crate::server::ApiServer;
use crate::verbs;

/// Serves a request on a subresource.
pub(crate) async fn dispatch(
    server: &Arc<ApiServer>,
    admitted: Admitted,
    served: Arc<Served>,
) -> Result<Response<Body>, Status> {
    let info = &admitted.info;
    let Some(subresource) = served.info.subresource(&info.subresource) else { return Err(Status::unknown_path()) };
    let verb = info.verb.as_str();
    let core = if served.info.group.is_empty() { served.info.plural.as_str() } else { "" };
    let connects = matches!(info.subresource.as_str(), "exec" | "attach" | "portforward" | "proxy");
    if connects && !core.is_empty() && info.params("dryRun").next().is_some() {
        return Err(Status::bad_request("dryRun is not supported"));
    }
    match (core, info.subresource.as_str(), verb) {
        ("pods", "log" | "exec" | "attach" | "portforward", _) if !subresource.verbs.iter().any(|v| v == verb) => {
            Err(Status::method_not_allowed())
        }
        ("pods", "log" | "exec" | "attach" | "portforward", _) => streaming::handle(server, admitted, &served).await,
        ("pods" | "services" | "nodes", "proxy", _) => proxy::handle(server, admitted, &served).await,
        ("pods", "binding", "create") => binding::create(server, admitted).await,
        ("pods", "eviction", "create") => eviction::create(server, admitted, &served).await,
        ("serviceaccounts", "token", "create") => token::create(server, admitted, &served).await,
        ("namespaces", "finalize", "update") => finalize::handle(server, admitted, &served).await,
        (_, "scale", "get" | "update" | "patch") => scale::handle(server, admitted, &served).await,
        _ if !subresource.verbs.iter().any(|v| v == verb) => Err(verbs::not_supported(&served, verb)),
        (_, _, "get") => verbs::get_object(server, &admitted, &served).await,
        (_, _, "update") => verbs::update_object(server, admitted, &served).await,
        (_, _, "patch") => verbs::patch_object(server, admitted, &served).await,
        _ => Err(Status::method_not_allowed()),
    }
}

/// The namespace of what is created under a subresource must be that of the request, or absent.
pub(crate) fn check_namespace(object: &mut Value, namespace: &str) -> Result<(), Status> {
    if !object.namespace().is_empty() && object.namespace() != namespace {
        let message = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(Status::bad_request(message));
    }
    object.entry("metadata").insert("namespace".into(), namespace.into());
    Ok(())
}
