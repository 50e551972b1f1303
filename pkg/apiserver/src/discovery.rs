//! Everything that is no resource: discovery, OpenAPI, the version, the token issuer's documents.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use kedge_meta::Status;
use kedge_registry::Catalogue;
use kedge_schema::{Kinds, discovery};
use serde_json::json;

use crate::admitted::Admitted;
use crate::body::Body;
use crate::input::negotiate::{self, Offer};
use crate::output::respond;
use crate::server::{ApiServer, GIT_VERSION};
use crate::{documents, health, metrics, zpages};

/// How long who verifies tokens may keep the issuer's documents.
const KEPT_AN_HOUR: HeaderValue = HeaderValue::from_static("public, max-age=3600");

pub(crate) async fn handle(server: &Arc<ApiServer>, admitted: Admitted) -> Result<Response<Body>, Status> {
    if let Some(own) = server.own.as_ref().filter(|own| admitted.info.path.starts_with(own.prefix())) {
        let bytes = admitted.request.body().read().await?;
        return own.handle(admitted.request.method(), &admitted.info.path, bytes).await;
    }
    // A path with a slash too many at its beginning is nobody's.
    let path =
        admitted.info.path.strip_prefix('/').filter(|path| !path.starts_with('/')).ok_or_else(Status::no_page)?;
    let segments: Vec<&str> = path.split('/').collect();
    if let Some(page) = page(server, &admitted, &segments) {
        return page;
    }
    // As upstream's, routes do not see slashes at the end of a path.
    let segments: Vec<&str> = path.trim_end_matches('/').split('/').collect();
    let method = admitted.request.method();
    match route(server, &admitted, &segments) {
        Some(_) if *method != Method::GET && is_for_get(&segments, &admitted.catalogue) => {
            Err(Status::method_not_allowed())
        }
        Some(answer) => answer,
        None if is_below_routes(&segments, &admitted.catalogue) => Err(Status::unknown_path()),
        None => Err(Status::no_page()),
    }
}

/// Pages that are found by their exact path, and served whatever the method.
fn page(server: &ApiServer, admitted: &Admitted, segments: &[&str]) -> Option<Result<Response<Body>, Status>> {
    let (headers, kinds) = (admitted.request.headers(), &*admitted.catalogue);
    let page = match segments {
        [""] => paths(server, kinds),
        ["statusz"] => zpages::status(server, headers),
        ["flagz"] => zpages::flags(server, headers),
        // Upstream empties its metrics for that, which is for its own tests.
        ["metrics"] if *admitted.request.method() == Method::DELETE => Err(Status::method_not_allowed()),
        ["metrics"] => Ok(metrics::handle(server, kinds)),
        ["metrics", "slis"] => Ok(metrics::indicators(server)),
        ["debug", ..] => {
            return server.fairness.page(&admitted.info).map(|page| Ok(respond::page(StatusCode::OK, page)));
        }
        ["apis"] | ["apis", ""] if wants_aggregated(headers) => Ok(aggregated(headers, kinds, false)),
        ["apis"] | ["apis", ""] => plain(headers, discovery::api_group_list(kinds)),
        ["openapi", "v2"] if wants_v2_protobuf(headers) => Ok(v2_protobuf()),
        ["openapi", "v2"] => json_alone(headers).map(|()| documents::v2(headers, kinds)),
        ["openapi", "v3"] => Ok(documents::v3_index(headers, kinds)),
        ["openapi", "v3", rest @ ..] => json_alone(headers)
            .map(|()| documents::v3(headers, &admitted.info, kinds, &rest.join("/"), server.clock.now())),
        _ => return None,
    };
    Some(page)
}

/// What upstream has routes for; none where nothing is.
fn route(server: &ApiServer, admitted: &Admitted, segments: &[&str]) -> Option<Result<Response<Body>, Status>> {
    let (headers, kinds) = (admitted.request.headers(), &*admitted.catalogue);
    let json = |bytes: Vec<u8>| plain(headers, bytes);
    match segments {
        ["version"] => Some(version()),
        ["api"] if wants_aggregated(headers) => Some(Ok(aggregated(headers, kinds, true))),
        ["api"] => Some(json(discovery::api_versions(&server.advertised))),
        ["apis", group] if !group.is_empty() => discovery::api_group(kinds, group).map(json),
        ["api", version] => discovery::api_resource_list(kinds, "", version).map(json),
        ["apis", group, version] => discovery::api_resource_list(kinds, group, version).map(json),
        [".well-known", "openid-configuration"] => Some(Ok(issuer(server))),
        ["openid", "v1", "jwks"] => Some(keys(server)),
        _ => None,
    }
}

/// Whether a route is for GET alone: those of groups, and of the versions of what definitions make, are not.
fn is_for_get(segments: &[&str], catalogue: &Catalogue) -> bool {
    match segments {
        ["apis", _] => false,
        ["apis", group, _] => catalogue.own().any(|(known, _, _, built_in)| **known == **group && built_in),
        _ => true,
    }
}

/// Whether a path is below one that has routes: there, also what does not exist is answered as the API does.
fn is_below_routes(segments: &[&str], catalogue: &Catalogue) -> bool {
    match segments {
        ["api" | "version", ..] | [".well-known", "openid-configuration", ..] | ["openid", "v1", "jwks", ..] => true,
        ["apis", group, version, ..] => is_known(catalogue, group, version),
        _ => false,
    }
}

/// Whether the API knows paths of a group version: of what is built in every one of the group, of what definitions make those of
/// the versions that they serve.
pub(crate) fn is_known(catalogue: &Catalogue, group: &str, version: &str) -> bool {
    catalogue.own().any(|(known, served, _, built_in)| **known == *group && (built_in || **served == *version))
}

/// Who issues tokens.
fn issuer(server: &ApiServer) -> Response<Body> {
    let document = json!({
        "issuer": server.authenticator.tokens().issuer(),
        "jwks_uri": format!("https://{}/openid/v1/jwks", server.advertised),
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": server.authenticator.tokens().algorithms(),
    });
    let mut response = respond::document(StatusCode::OK, document.to_string());
    response.headers_mut().insert(header::CACHE_CONTROL, KEPT_AN_HOUR);
    response
}

/// What tokens are signed with.
fn keys(server: &ApiServer) -> Result<Response<Body>, Status> {
    let keys = serde_json::to_vec(&server.authenticator.tokens().key_set()).map_err(Status::internal)?;
    let mut response = respond::document(StatusCode::OK, keys);
    let kind = HeaderValue::from_static("application/jwk-set+json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response.headers_mut().insert(header::CACHE_CONTROL, KEPT_AN_HOUR);
    Ok(response)
}

/// A document of discovery in the form that is asked for.
fn plain(headers: &HeaderMap, json: Vec<u8>) -> Result<Response<Body>, Status> {
    respond::stored(StatusCode::OK, json, negotiate::accepted(headers, Offer::PLAIN)?.format)
}

/// Whether a client asks for all groups with all that they have at once. Of the versions that there were of that form, upstream has one left.
fn wants_aggregated(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let json = |entry: &&str| {
        entry.starts_with("application/json") && (!entry.contains("as=") || entry.contains("as=APIGroupDiscoveryList"))
    };
    let asks = |entry: &str| entry.split(';').any(|parameter| parameter.trim() == "v=v2");
    accept.split(',').map(str::trim).find(json).is_some_and(asks)
}

/// Clients ask again and again, and mostly know the answer: for that it is not written.
fn aggregated(headers: &HeaderMap, catalogue: &Catalogue, core: bool) -> Response<Body> {
    let make = || if core { discovery::aggregated_core(catalogue) } else { discovery::aggregated_groups(catalogue) };
    let tag = catalogue.tag(core, || documents::tag_of(&make())).to_owned();
    documents::discovery(headers, &tag, make, "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")
}

/// The protobuf forms of these documents are not served; clients then ask for JSON.
fn json_alone(headers: &HeaderMap) -> Result<(), Status> {
    let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or("*/*");
    match accept.contains("json") || accept.contains("*/*") {
        true => Ok(()),
        false => Err(negotiate::accepted(headers, Offer::PLAIN)
            .err()
            .unwrap_or_else(|| Status::not_acceptable(&["application/json"]))),
    }
}

/// The `@` of the name that clients ask with is not allowed in a media type.
const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

fn wants_v2_protobuf(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    accept.contains("proto-openapi.spec.v2") && !accept.contains("json")
}

/// The head of the v2 document in protobuf, without definitions: what kubectl needs to leave the validation of a `List`
/// to the server, which validates each of its objects. Everything else about types is in v3.
fn v2_protobuf() -> Response<Body> {
    let field = |number: u8, content: &[u8]| {
        // All of these are shorter than the 128 bytes that a length of one byte can say.
        let mut out = vec![number << 3 | 2, content.len() as u8];
        out.extend_from_slice(content);
        out
    };
    let info = [field(1, b"Kubernetes"), field(2, GIT_VERSION.as_bytes())].concat();
    let mut response = respond::document(StatusCode::OK, [field(1, b"2.0"), field(2, &info)].concat());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(V2_PROTOBUF));
    response
}

fn version() -> Result<Response<Body>, Status> {
    let platform = format!("linux/{}", go_arch());
    let info = json!({
        "major": "1", "minor": "36", "emulationMajor": "1", "emulationMinor": "36",
        "minCompatibilityMajor": "1", "minCompatibilityMinor": "35",
        "gitVersion": GIT_VERSION, "gitCommit": "", "gitTreeState": "clean", "buildDate": "",
        "goVersion": "", "compiler": "rustc", "platform": platform,
    });
    Ok(respond::raw_json(StatusCode::OK, &info))
}

/// The architecture in Go's words, which clients compare.
fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn paths(server: &ApiServer, kinds: &dyn Kinds) -> Result<Response<Body>, Status> {
    let fixed = [
        "/.well-known/openid-configuration",
        "/api",
        "/api/v1",
        "/apis",
        "/apis/",
        "/flagz",
        "/metrics",
        "/metrics/slis",
        "/openapi/v2",
        "/openapi/v3",
        "/openapi/v3/",
        "/openid/v1/jwks",
        "/statusz",
        "/version",
    ];
    let mut paths: Vec<String> = fixed.map(str::to_owned).into();
    for group in kinds.groups().filter(|g| !g.name.is_empty()) {
        paths.push(format!("/apis/{}", group.name));
        paths.extend(group.versions.iter().map(|v| format!("/apis/{}/{v}", group.name)));
    }
    paths.extend(health::paths(server));
    paths.sort_unstable();
    Ok(respond::raw_json(StatusCode::OK, &json!({ "paths": paths })))
}
