//! LIST: stored bytes one after the other, paged at one version.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Response, StatusCode};
use kedge_meta::{Status, fields, labels};
use kedge_registry::verbs::store_failure;
use kedge_registry::{Served, convert};
use kedge_schema::ResourceInfo;
use kedge_storage::{Error as StorageError, Listing, Matcher};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::body::Body;
use crate::chain::Admitted;
use crate::negotiate::{self, Accepted, Shape};
use crate::request_info::RequestInfo;
use crate::server::ApiServer;
use crate::{respond, table};

/// Upstream's continue token, which its servers on the same store read too: the version of the list, and the key to start
/// from, below what is listed.
#[derive(Debug, Serialize, Deserialize)]
struct Token {
    v: String,
    rv: u64,
    start: String,
}

const TOKEN_VERSION: &str = "meta.k8s.io/v1";

/// The selectors of a list or watch. A name in the path selects by name.
pub(crate) fn matcher(info: &RequestInfo, served: &Served) -> Result<Matcher, Status> {
    let labels =
        labels::Selector::parse(info.param("labelSelector")).map_err(|e| Status::bad_request(e.to_string()))?;
    let mut fields =
        fields::Selector::parse(info.param("fieldSelector")).map_err(|e| Status::bad_request(e.to_string()))?;
    if !info.name.is_empty() {
        let value = info.name.clone();
        fields.requirements.push(fields::Requirement { field: "metadata.name".into(), value, equal: true });
    }
    for requirement in &mut fields.requirements {
        // The newer group's events are selected by their own names of the same fields.
        if let Some(rest) = requirement.field.strip_prefix("regarding.")
            && served.needs_conversion()
        {
            requirement.field = format!("involvedObject.{rest}");
        }
        // Events are selected by `source`, which is a field of that name.
        if requirement.field == "source" && served.info.plural == "events" {
            requirement.field = "source.component".into();
        }
        if !served.store.is_selectable(&requirement.field) {
            return Err(Status::bad_request(format!("field label not supported: {}", requirement.field)));
        }
    }
    Ok(Matcher { labels, fields })
}

pub(crate) async fn handle(server: &ApiServer, admitted: &Admitted, served: &Served) -> Result<Response<Body>, Status> {
    let info = &admitted.info;
    let accepted = negotiate::accepted(admitted.request.headers())?;
    let matcher = matcher(info, served)?;
    let limit = match info.param("limit") {
        "" => 0,
        text => text.parse().map_err(|_| Status::bad_request(format!("invalid limit {text:?}")))?,
    };
    let scope = served.scope(&info.namespace);
    let listing = select(info, served, &scope, &matcher, limit).await?;
    let meta = list_meta(&listing, &scope, limit, &matcher);
    if accepted.shape == Shape::Object && !served.needs_conversion() {
        return respond::encoded(StatusCode::OK, encode(served, &listing, &meta)?, accepted.format);
    }
    let mut items = Vec::with_capacity(listing.objects.len());
    for (_, object) in &listing.objects {
        items.push(convert::read(served, object)?);
    }
    shaped(server, info, served.info, items, &meta, accepted)
}

/// Objects as a list in the negotiated form.
pub(crate) fn shaped(
    server: &ApiServer,
    info: &RequestInfo,
    resource: &ResourceInfo,
    mut items: Vec<Value>,
    meta: &table::ListMeta,
    accepted: Accepted,
) -> Result<Response<Body>, Status> {
    match accepted.shape {
        Shape::Table => {
            let options = table::Options::from_query(info)?;
            let table = table::render(resource, &items, meta, options, server.clock.now());
            respond::object(StatusCode::OK, &table, accepted.format)
        }
        Shape::Metadata => {
            let items: Vec<Value> = items.iter().map(table::partial_metadata).collect();
            let kind = "PartialObjectMetadataList";
            let list = json!({"kind": kind, "apiVersion": "meta.k8s.io/v1", "metadata": meta, "items": items});
            respond::object(StatusCode::OK, &list, accepted.format)
        }
        Shape::Object => {
            items.iter_mut().for_each(without_type);
            let kind = kedge_schema::list_kind(resource.kind);
            let list = json!({"kind": kind, "apiVersion": resource.api_version(), "metadata": meta, "items": items});
            respond::object(StatusCode::OK, &list, accepted.format)
        }
    }
}

async fn select(
    info: &RequestInfo,
    served: &Served,
    scope: &str,
    matcher: &Matcher,
    limit: usize,
) -> Result<Listing, Status> {
    let token = info.param("continue");
    if !token.is_empty() {
        let bad = || Status::bad_request("continue key is not valid: the token cannot be read");
        let bytes = URL_SAFE_NO_PAD.decode(token.trim_end_matches('=')).map_err(|_| bad())?;
        let token: Token = serde_json::from_slice(&bytes).map_err(|_| bad())?;
        if token.v != TOKEN_VERSION || token.rv == 0 {
            return Err(bad());
        }
        let start = format!("{scope}{}", below(&token.start).ok_or_else(bad)?);
        check_version_match(info)?;
        if !matches!(info.param("resourceVersion"), "" | "0") {
            return Err(Status::bad_request("specifying resource version is not allowed when using continue"));
        }
        let expired = "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter.";
        return served.store.list_at(scope, &start, matcher, limit, token.rv).await.map_err(|err| match err {
            StorageError::TooOld { .. } => Status::expired(expired),
            other => store_failure(other),
        });
    }
    check_version_match(info)?;
    let (text, rule) = (info.param("resourceVersion"), info.param("resourceVersionMatch"));
    // As upstream: a page at a version without a rule is one of exactly that version.
    let exact = rule == "Exact" || (rule.is_empty() && limit > 0);
    let version = not_older_than(served, text).await?;
    let answer = match exact && version > 0 {
        true => served.store.list_at(scope, scope, matcher, limit, version).await,
        false => Ok(served.store.list(scope, matcher, limit)),
    };
    answer.map_err(|err| match err {
        StorageError::TooOld { .. } => Status::expired("The resourceVersion for the provided list is too old."),
        StorageError::Future { .. } => Status::timeout(err.to_string(), 1),
        other => store_failure(other),
    })
}

/// The start of a token when it is a clean path, which leads nowhere else.
fn below(start: &str) -> Option<&str> {
    let path = start.strip_prefix('/').unwrap_or(start);
    path.split('/').all(|part| !matches!(part, "" | "." | "..")).then_some(path)
}

/// Waits until the cache has what a client knows to have happened, on whatever server that was: everything when it names no
/// version. Returns the version, 0 for any.
pub(crate) async fn not_older_than(served: &Served, version: &str) -> Result<u64, Status> {
    if version.is_empty() {
        served.store.fresh().await.map_err(store_failure)?;
        return Ok(0);
    }
    let requested: u64 =
        version.parse().map_err(|_| Status::bad_request(format!("invalid resource version {version:?}")))?;
    if requested > served.store.revision() {
        served.store.fresh().await.map_err(store_failure)?;
    }
    let current = served.store.revision();
    match requested > current {
        true => Err(store_failure(StorageError::Future { requested, current })),
        false => Ok(requested),
    }
}

/// What upstream's options of a list may not say together.
fn check_version_match(info: &RequestInfo) -> Result<(), Status> {
    let (rule, version) = (info.param("resourceVersionMatch"), info.param("resourceVersion"));
    if rule.is_empty() {
        return Ok(());
    }
    let path = kedge_meta::field::Path::new("resourceVersionMatch");
    let forbidden = |detail: &str| kedge_meta::field::Error::forbidden(&path, detail);
    let mut errors = kedge_meta::field::ErrorList::new();
    if version.is_empty() {
        errors.push(forbidden("resourceVersionMatch is forbidden unless resourceVersion is provided"));
    }
    if !info.param("continue").is_empty() {
        errors.push(forbidden("resourceVersionMatch is forbidden when continue is provided"));
    }
    if !matches!(rule, "Exact" | "NotOlderThan") {
        errors.push(kedge_meta::field::Error::not_supported(&path, rule, &["Exact", "NotOlderThan", ""]));
    }
    if rule == "Exact" && version == "0" {
        errors.push(forbidden("resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\""));
    }
    match errors.is_empty() {
        true => Ok(()),
        false => Err(Status::invalid(&kedge_meta::GroupKind::new("meta.k8s.io", "ListOptions"), "", &errors)),
    }
}

fn list_meta(listing: &Listing, scope: &str, limit: usize, matcher: &Matcher) -> table::ListMeta {
    let mut meta = table::ListMeta::at(&listing.revision.to_string());
    if limit > 0
        && listing.more
        && let Some((last, _)) = listing.objects.last()
    {
        let start = format!("{}\0", last.strip_prefix(scope).unwrap_or(last));
        let token = Token { v: TOKEN_VERSION.into(), rv: listing.revision, start };
        meta.continue_ = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token).unwrap_or_default());
        meta.remaining_item_count = matcher.is_everything().then_some(listing.remaining);
    }
    meta
}

/// The items of a list of a built-in kind do not repeat what they are.
fn without_type(item: &mut Value) {
    if let Some(fields) = item.as_object_mut() {
        fields.remove("apiVersion");
        fields.remove("kind");
    }
}

/// The list as JSON, without building a tree.
fn encode(served: &Served, listing: &Listing, meta: &table::ListMeta) -> Result<Vec<u8>, Status> {
    let size: usize = listing.objects.iter().map(|(_, object)| object.size_hint() + 1).sum();
    let mut out = Vec::with_capacity(size + 256);
    let kind = kedge_schema::list_kind(served.info.kind);
    out.extend_from_slice(
        format!("{{\"kind\":\"{kind}\",\"apiVersion\":\"{}\",\"metadata\":", served.info.api_version()).as_bytes(),
    );
    serde_json::to_writer(&mut out, meta).map_err(Status::internal)?;
    out.extend_from_slice(b",\"items\":[");
    for (i, (_, object)) in listing.objects.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        object.write_item(&mut out);
    }
    out.extend_from_slice(b"]}\n");
    Ok(out)
}

#[cfg(test)]
#[path = "list_tests.rs"]
pub(super) mod tests;
