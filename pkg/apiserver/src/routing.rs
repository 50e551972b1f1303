//! Which handler answers a request on a resource: [`resolve`] finds it, without doing anything yet; [`dispatch`] calls it.

use std::sync::Arc;

use http::{Method, Response};
use kedge_meta::Status;
use kedge_registry::{Catalogue, Entry, Served, verbs::store_failure};
use kedge_schema::ResourceInfo;

use crate::admitted::Admitted;
use crate::body::Body;
use crate::input::negotiate::{self, Offer};
use crate::input::options::{self, WriteOptions};
use crate::input::request_info::RequestInfo;
use crate::resource_metrics;
use crate::reviews;
use crate::server::ApiServer;
use crate::subresources::{binding, eviction, finalize, proxy, scale, streaming, token};
use crate::verbs::{apply, create, delete, get, list, patch, update, watch};
use crate::{deprecation, discovery};

/// How often a request follows a kind that is stored anew.
const MOVES: usize = 4;

/// What is done with stored objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Apply,
    Delete,
    DeleteCollection,
}

/// Subresources with a behaviour of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subresource {
    /// `log`, `exec`, `attach`, `portforward`.
    Stream,
    Proxy,
    Binding,
    Eviction,
    Token,
    Finalize,
    Scale,
    /// The object itself, of which a part is written.
    Object(Verb),
}

/// The handler of a request.
enum Route {
    Verb(Verb, Arc<Served>),
    Subresource(Subresource, Arc<Served>),
    /// `POST …/bindings`.
    Bindings,
    /// What nodes and pods use.
    Usage(Arc<ResourceInfo>),
    /// What is answered and not stored: reviews, the state of components.
    Review(Arc<ResourceInfo>),
}

/// Finds the handler of a request.
///
/// # Errors
/// 404 for what is not served, 405 for what cannot be done with it, 400 and 422 for options that every verb reads.
fn resolve(info: &RequestInfo, method: &Method, catalogue: &Catalogue) -> Result<Route, Status> {
    let entry = catalogue.get(&info.group, &info.version, &info.resource);
    let entry = entry.ok_or_else(|| match discovery::is_known(catalogue, &info.group, &info.version) {
        true => Status::unknown_path(),
        false => Status::no_page(),
    })?;
    if info.path.starts_with("//") {
        return Err(Status::no_page());
    }
    let resource = entry.info();
    let is_namespaces = resource.group.is_empty() && resource.plural == "namespaces";
    let nowhere = resource.namespaced && info.namespace.is_empty() && !info.name.is_empty();
    let misplaced = !resource.namespaced && !info.namespace.is_empty() && !is_namespaces;
    let is_custom = matches!(entry, Entry::Stored(served) if served.custom.is_some());
    // Behind a subresource there is nothing, but what is proxied to.
    let too_deep = !info.rest.is_empty() && info.subresource != "proxy";
    if nowhere || misplaced || too_deep {
        return Err(if nowhere && is_custom { Status::no_page() } else { Status::unknown_path() });
    }
    // Nothing is written by the old form of a watch.
    if info.verb == "watch" && !matches!(*method, Method::GET | Method::HEAD) {
        return Err(Status::method_not_allowed());
    }
    // Upstream routes GET alone, but of what definitions make; what is proxied may take any method.
    if *method == Method::HEAD && info.subresource != "proxy" && (!is_custom || info.verb == "watch") {
        return Err(Status::method_not_allowed());
    }
    let served = match entry {
        Entry::Stored(served) => served,
        Entry::Answered(resource) if resource.plural == "bindings" => {
            return match info.verb.as_str() {
                _ if !info.name.is_empty() => Err(Status::unknown_path()),
                "create" => Ok(Route::Bindings),
                _ => Err(Status::method_not_allowed()),
            };
        }
        Entry::Answered(resource) if resource.group == resource_metrics::GROUP => {
            return Ok(Route::Usage(resource.clone()));
        }
        Entry::Answered(resource) => return Ok(Route::Review(resource.clone())),
    };
    // The query of what is proxied is for somebody else.
    if info.subresource != "proxy" {
        options::check_numbers(info)?;
    }
    if info.verb == "deletecollection" {
        // Also where there is nothing to delete.
        WriteOptions::of(info)?;
    }
    match info.subresource.is_empty() {
        true => verb(info, served).map(|verb| Route::Verb(verb, served.clone())),
        false => subresource(info, served).map(|subresource| Route::Subresource(subresource, served.clone())),
    }
}

fn verb(info: &RequestInfo, served: &Served) -> Result<Verb, Status> {
    let resource = &served.info;
    let verb = info.verb.as_str();
    let named_by_namespace = !resource.namespaced || !info.namespace.is_empty();
    match verb {
        // For other methods upstream has no routes, but for what definitions make.
        "" if served.custom.is_none() => Err(Status::method_not_allowed()),
        "" => Err(not_supported(served, verb)),
        // A kind on its way out offers fewer, and says itself why it refuses the others.
        _ if served.custom.is_none() && !resource.verbs.iter().any(|known| known == verb) => {
            Err(not_supported(served, verb))
        }
        "get" => Ok(Verb::Get),
        "list" => Ok(Verb::List),
        "watch" => Ok(Verb::Watch),
        _ if !named_by_namespace => Err(Status::method_not_allowed()),
        "create" if info.name.is_empty() => Ok(Verb::Create),
        "update" if !info.name.is_empty() => Ok(Verb::Update),
        "update" if served.custom.is_some() => Err(Status::bad_request("name must be provided")),
        "patch" if !info.name.is_empty() => Ok(patching(info)),
        "delete" => Ok(Verb::Delete),
        "deletecollection" => Ok(Verb::DeleteCollection),
        _ => Err(Status::method_not_allowed()),
    }
}

fn patching(info: &RequestInfo) -> Verb {
    if info.applies { Verb::Apply } else { Verb::Patch }
}

fn subresource(info: &RequestInfo, served: &Served) -> Result<Subresource, Status> {
    let Some(subresource) = served.info.subresource(&info.subresource) else {
        // What a definition leaves out is missing of the object, so to speak.
        let optional = served.custom.is_some() && matches!(info.subresource.as_str(), "status" | "scale");
        return Err(if optional {
            Status::not_found(&served.group_resource(), &info.name)
        } else {
            Status::unknown_path()
        });
    };
    let verb = info.verb.as_str();
    let core = if served.info.group.is_empty() { served.info.plural.as_str() } else { "" };
    let connects = matches!(info.subresource.as_str(), "exec" | "attach" | "portforward" | "proxy");
    if connects && !core.is_empty() && info.params("dryRun").next().is_some() {
        return Err(Status::bad_request("dryRun is not supported"));
    }
    let offered = subresource.verbs.iter().any(|known| known == verb);
    match (core, info.subresource.as_str(), verb) {
        ("pods", "log" | "exec" | "attach" | "portforward", _) if !offered => Err(Status::method_not_allowed()),
        ("pods", "log" | "exec" | "attach" | "portforward", _) => Ok(Subresource::Stream),
        ("pods" | "services" | "nodes", "proxy", _) => Ok(Subresource::Proxy),
        ("pods", "binding", "create") => Ok(Subresource::Binding),
        ("pods", "eviction", "create") => Ok(Subresource::Eviction),
        ("serviceaccounts", "token", "create") => Ok(Subresource::Token),
        ("namespaces", "finalize", "update") => Ok(Subresource::Finalize),
        (_, "scale", "get" | "update" | "patch") => Ok(Subresource::Scale),
        _ if !offered => Err(Status::method_not_allowed()),
        (_, _, "get") => Ok(Subresource::Object(Verb::Get)),
        (_, _, "update") => Ok(Subresource::Object(Verb::Update)),
        (_, _, "patch") => Ok(Subresource::Object(patching(info))),
        _ => Err(Status::method_not_allowed()),
    }
}

/// 405 for a verb that the resource lacks.
fn not_supported(served: &Served, verb: &str) -> Status {
    Status::method_not_supported(&served.group_resource(), verb)
}

/// Warns of what is deprecated. As upstream, who takes a wrong way there, or asks for a form that there is none of, does not use it.
fn warn(admitted: &Admitted) {
    let (info, catalogue) = (&admitted.info, &admitted.catalogue);
    let warning = deprecation::warning(info, catalogue);
    let Some((text, entry)) = warning.zip(catalogue.get(&info.group, &info.version, &info.resource)) else { return };
    let resource = entry.info();
    let offer = if info.verb == "watch" { Offer::stream(resource) } else { Offer::objects(resource) };
    if negotiate::accepted(admitted.request.headers(), offer).is_ok() {
        admitted.notes.warn(text.to_string());
    }
}

/// Serves a request on a resource.
pub(crate) async fn dispatch(server: &Arc<ApiServer>, admitted: Admitted) -> Result<Response<Body>, Status> {
    let route = resolve(&admitted.info, admitted.request.method(), &admitted.catalogue)?;
    warn(&admitted);
    match route {
        Route::Verb(verb @ (Verb::Get | Verb::List | Verb::Watch), served) => {
            read(server, &admitted, served, verb).await
        }
        Route::Verb(verb, served) => object(server, admitted, &served, verb).await,
        Route::Subresource(subresource, served) => {
            // What a subresource reads is what everybody has been acknowledged.
            served.store.fresh().await.map_err(store_failure)?;
            match subresource {
                Subresource::Stream => streaming::handle(server, admitted, &served).await,
                Subresource::Proxy => proxy::handle(server, admitted, &served).await,
                Subresource::Binding => binding::create(server, admitted).await,
                Subresource::Eviction => eviction::create(server, admitted, &served).await,
                Subresource::Token => token::create(server, admitted, &served).await,
                Subresource::Finalize => finalize::handle(server, admitted, &served).await,
                Subresource::Scale => scale::handle(server, admitted, &served).await,
                Subresource::Object(verb) => object(server, admitted, &served, verb).await,
            }
        }
        Route::Bindings => binding::create(server, admitted).await,
        Route::Usage(resource) => resource_metrics::handle(server, &admitted, &resource).await,
        Route::Review(resource) => reviews::handle(server, admitted, &resource).await,
    }
}

/// Reads objects. What is stored in another form since the request began is read there: nobody is told that a kind is not served
/// because its storage version has changed.
async fn read(
    server: &Arc<ApiServer>,
    admitted: &Admitted,
    mut served: Arc<Served>,
    verb: Verb,
) -> Result<Response<Body>, Status> {
    let info = &admitted.info;
    for _ in 0..MOVES {
        let answer = match verb {
            Verb::Watch => watch::handle(server, admitted, &served).await,
            Verb::List => list::handle(server, admitted, &served).await,
            _ => get::handle(server, admitted, &served).await,
        };
        if answer.is_ok() || !served.store.is_removed() {
            return answer;
        }
        let catalogue = server.registry.settled(Some(&info.group)).await;
        match catalogue.get(&info.group, &info.version, &info.resource) {
            Some(Entry::Stored(moved)) => served = moved.clone(),
            _ => return answer,
        }
    }
    Err(Status::timeout("the resource is being changed", 1))
}

async fn object(
    server: &Arc<ApiServer>,
    admitted: Admitted,
    served: &Arc<Served>,
    verb: Verb,
) -> Result<Response<Body>, Status> {
    match verb {
        Verb::Get | Verb::List | Verb::Watch => read(server, &admitted, served.clone(), verb).await,
        Verb::Create => create::handle(server, admitted, served).await,
        Verb::Update => update::handle(server, admitted, served).await,
        Verb::Patch => patch::handle(server, admitted, served).await,
        Verb::Apply => apply::handle(server, admitted, served).await,
        Verb::Delete => delete::one(server, admitted, served).await,
        Verb::DeleteCollection => delete::collection(server, admitted, served).await,
    }
}

#[cfg(test)]
#[path = "routing_tests.rs"]
mod tests;
