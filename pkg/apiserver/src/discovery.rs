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
use crate::{documents, metrics, zpages};

/// How long who verifies tokens may keep the issuer's documents.
const KEPT_AN_HOUR: HeaderValue = HeaderValue::from_static("public, max-age=3600");

pub(crate) async fn handle(server: &Arc<ApiServer>, admitted: Admitted) -> Result<Response<Body>, Status> {
    if let Some(own) = server.own.as_ref().filter(|own| admitted.info.path.starts_with(own.prefix())) {
        let bytes = admitted.request.body().read().await?;
        return own.handle(admitted.request.method(), &admitted.info.path, bytes).await;
    }
    if !matches!(*admitted.request.method(), Method::GET | Method::HEAD) {
        return Err(Status::method_not_allowed());
    }
    let path = admitted.info.path.trim_matches('/').to_owned();
    let segments: Vec<&str> = path.split('/').collect();
    // Upstream routes these for GET alone; the others are served whatever the method.
    let routed = matches!(segments.as_slice(), ["version" | "api" | ".well-known" | "openid", ..] | ["apis", _, _]);
    if routed && *admitted.request.method() == Method::HEAD {
        return Err(Status::method_not_allowed());
    }
    let headers = admitted.request.headers();
    let kinds = &*admitted.catalogue;
    let json = |bytes: Vec<u8>| plain(headers, bytes);
    match segments.as_slice() {
        [""] => paths(kinds),
        ["version"] => version(),
        ["statusz"] => zpages::status(server, headers),
        ["flagz"] => zpages::flags(server, headers),
        ["metrics"] => Ok(metrics::handle(server, kinds)),
        ["api"] => match aggregated(headers) {
            Some(form) => Ok(form.respond(headers, kinds, true)),
            None => json(discovery::api_versions(&server.advertised)),
        },
        ["apis"] => match aggregated(headers) {
            Some(form) => Ok(form.respond(headers, kinds, false)),
            None => json(discovery::api_group_list(kinds)),
        },
        ["apis", group] => discovery::api_group(kinds, group).map_or_else(|| Err(Status::no_page()), json),
        ["api", version] => {
            discovery::api_resource_list(kinds, "", version).map_or_else(|| Err(Status::unknown_path()), json)
        }
        ["apis", group, version] => {
            let missing = || if is_below_api(&segments, kinds) { Status::unknown_path() } else { Status::no_page() };
            discovery::api_resource_list(kinds, group, version).map_or_else(|| Err(missing()), json)
        }
        ["openapi", "v2"] if wants_v2_protobuf(headers) => Ok(v2_protobuf()),
        ["openapi", "v2"] => json_alone(headers).map(|()| documents::v2(headers, kinds)),
        ["openapi", "v3"] => Ok(documents::v3_index(headers, kinds)),
        ["openapi", "v3", rest @ ..] => {
            json_alone(headers)?;
            documents::v3(headers, &admitted.info, kinds, &rest.join("/"), server.clock.now())
        }
        [".well-known", "openid-configuration"] => {
            let issuer = server.authenticator.tokens().issuer();
            let document = json!({
                "issuer": issuer,
                "jwks_uri": format!("https://{}/openid/v1/jwks", server.advertised),
                "response_types_supported": ["id_token"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["ES256"],
            });
            let mut response = respond::document(StatusCode::OK, document.to_string());
            response.headers_mut().insert(header::CACHE_CONTROL, KEPT_AN_HOUR);
            Ok(response)
        }
        ["openid", "v1", "jwks"] => {
            let keys = serde_json::to_vec(&server.authenticator.tokens().key_set()).map_err(Status::internal)?;
            let mut response = respond::document(StatusCode::OK, keys);
            let kind = HeaderValue::from_static("application/jwk-set+json");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response.headers_mut().insert(header::CACHE_CONTROL, KEPT_AN_HOUR);
            Ok(response)
        }
        _ if is_below_api(&segments, kinds) => Err(Status::unknown_path()),
        _ => Err(Status::no_page()),
    }
}

/// Whether a path is below a group that is served: there, also what does not exist is answered as the API does.
fn is_below_api(segments: &[&str], kinds: &dyn Kinds) -> bool {
    match segments {
        ["api", ..] => true,
        ["apis", group, _, ..] => kinds.groups().any(|known| known.name == *group),
        _ => false,
    }
}

/// A document of discovery in the form that is asked for.
fn plain(headers: &HeaderMap, json: Vec<u8>) -> Result<Response<Body>, Status> {
    respond::stored(StatusCode::OK, json, negotiate::accepted(headers, Offer::PLAIN)?.format)
}

/// The form of aggregated discovery that a client asks for.
struct Aggregated {
    version: &'static str,
}

fn aggregated(headers: &HeaderMap) -> Option<Aggregated> {
    let accept = headers.get(header::ACCEPT)?.to_str().ok()?;
    let entry = accept.split(',').map(str::trim).find(|entry| {
        entry.starts_with("application/json") && (!entry.contains("as=") || entry.contains("as=APIGroupDiscoveryList"))
    })?;
    let asks = |version: &str| entry.split(';').any(|p| p.trim() == format!("v={version}"));
    ["v2", "v2beta1"].into_iter().find(|v| asks(v)).map(|version| Aggregated { version })
}

impl Aggregated {
    /// Clients ask again and again, and mostly know the answer: for that it is not written.
    fn respond(&self, headers: &HeaderMap, catalogue: &Catalogue, core: bool) -> Response<Body> {
        let make = || self.document(catalogue, core);
        let tag = match self.version {
            "v2" => catalogue.tag(core, || documents::tag_of(&make())).to_owned(),
            _ => documents::tag_of(&make()),
        };
        let kind = format!("application/json;g=apidiscovery.k8s.io;v={};as=APIGroupDiscoveryList", self.version);
        documents::discovery(headers, &tag, make, &kind)
    }

    fn document(&self, catalogue: &Catalogue, core: bool) -> Vec<u8> {
        let bytes = if core { discovery::aggregated_core(catalogue) } else { discovery::aggregated_groups(catalogue) };
        // Both versions have the same shape; only the name differs.
        match self.version {
            "v2" => bytes,
            _ => String::from_utf8_lossy(&bytes)
                .replacen("apidiscovery.k8s.io/v2\"", "apidiscovery.k8s.io/v2beta1\"", 1)
                .into_bytes(),
        }
    }
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

fn paths(kinds: &dyn Kinds) -> Result<Response<Body>, Status> {
    let mut paths =
        vec!["/.well-known/openid-configuration".to_owned(), "/api".into(), "/api/v1".into(), "/apis".into()];
    for group in kinds.groups().filter(|g| !g.name.is_empty()) {
        paths.push(format!("/apis/{}", group.name));
        paths.extend(group.versions.iter().map(|v| format!("/apis/{}/{v}", group.name)));
    }
    let fixed = [
        "/flagz",
        "/healthz",
        "/livez",
        "/metrics",
        "/openapi/v2",
        "/openapi/v3",
        "/openid/v1/jwks",
        "/readyz",
        "/statusz",
        "/version",
    ];
    paths.extend(fixed.map(str::to_owned));
    Ok(respond::raw_json(StatusCode::OK, &json!({ "paths": paths })))
}
