//! Documents that clients keep: OpenAPI and discovery, told apart by what they hold.

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use kedge_schema::{Kinds, openapi};

use crate::body::{Body, full};
use crate::input::negotiate::Format;
use crate::input::request_info::RequestInfo;
use crate::output::respond::{self, Encoded};

/// A year: a document under its hash never changes.
const FOREVER: i64 = 365 * 24 * 3_600;

/// What tells two documents apart, from their bytes.
pub(crate) fn tag_of(bytes: &[u8]) -> String {
    ring::digest::digest(&ring::digest::SHA512, bytes).as_ref().iter().map(|byte| format!("{byte:02X}")).collect()
}

/// A document with its tag; nothing but the head for a client that has it already.
pub(crate) fn tagged(headers: &HeaderMap, tag: &str, make: impl FnOnce() -> Response<Body>) -> Response<Body> {
    let quoted = format!("\"{tag}\"");
    let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut response = match known.split(',').any(|one| one.trim() == quoted || one.trim() == "*") {
        true => respond::empty(StatusCode::NOT_MODIFIED),
        false => make(),
    };
    if let Ok(tag) = HeaderValue::from_str(&quoted) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
    response
}

/// A document as it is, with upstream's caching rules: none but the tag.
fn document(headers: &HeaderMap, tag: &str, make: impl FnOnce() -> Vec<u8>) -> Response<Body> {
    let mut response = tagged(headers, tag, || respond::document(StatusCode::OK, make()));
    response.headers_mut().remove(header::CACHE_CONTROL);
    response
}

/// `/openapi/v3`.
pub(crate) fn v3_index(headers: &HeaderMap, kinds: &dyn Kinds) -> Response<Body> {
    let index = openapi::v3_index(kinds);
    let mut response = document(headers, &tag_of(&index), || index);
    response.headers_mut().remove(header::VARY);
    response
}

/// `/openapi/v2`.
pub(crate) fn v2(headers: &HeaderMap, kinds: &dyn Kinds) -> Response<Body> {
    let mut response = document(headers, &openapi::hash(kinds), || openapi::v2_document(kinds).into());
    if response.status() == StatusCode::OK {
        response.extensions_mut().insert(Encoded::Other);
    }
    response
}

/// `/openapi/v3/<name>`. A client that names the hash it knows of gets what it may keep for good, or is sent to what there is now.
/// What does not exist is answered with nothing.
pub(crate) fn v3(
    headers: &HeaderMap,
    info: &RequestInfo,
    kinds: &dyn Kinds,
    name: &str,
    now: jiff::Timestamp,
) -> Response<Body> {
    if !openapi::has_v3_document(kinds, name) {
        let mut response = respond::empty(StatusCode::NOT_FOUND);
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
        return response;
    }
    let (hash, wanted) = (openapi::hash(kinds), info.param("hash"));
    if !wanted.is_empty() && wanted != hash {
        let mut response = respond::empty(StatusCode::MOVED_PERMANENTLY);
        let place = format!("/openapi/v3/{name}?hash={hash}");
        if let Ok(place) = HeaderValue::from_str(&place) {
            response.headers_mut().insert(header::LOCATION, place);
        }
        return response;
    }
    let mut response = document(headers, &hash, || openapi::v3_document(kinds, name).unwrap_or_default().into());
    if !wanted.is_empty() {
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
        let later = jiff::Timestamp::from_second(now.as_second() + FOREVER).unwrap_or(now);
        let text = later.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.insert(header::EXPIRES, value);
        }
    }
    response
}

/// A document of aggregated discovery, which clients ask for at every start.
pub(crate) fn discovery(
    headers: &HeaderMap,
    tag: &str,
    make: impl FnOnce() -> Vec<u8>,
    content_type: &str,
) -> Response<Body> {
    let mut response = tagged(headers, tag, || {
        let mut bytes = make();
        bytes.push(b'\n');
        respond::encoded(StatusCode::OK, full(bytes), Format::Json)
    });
    if let (true, Ok(kind)) = (response.status() == StatusCode::OK, HeaderValue::from_str(content_type)) {
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
    }
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("public"));
    response
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use http::Method;
    use kedge_schema::Builtin;

    use super::*;

    fn info(uri: &str) -> RequestInfo {
        RequestInfo::parse(&Method::GET, &uri.parse().unwrap()).unwrap()
    }

    #[test]
    fn a_document_is_sent_once_to_who_keeps_it() {
        let now = jiff::Timestamp::UNIX_EPOCH;
        let hash = openapi::hash(&Builtin);
        let get = |headers: &HeaderMap, query: &str| {
            v3(headers, &info(&format!("/openapi/v3/api/v1{query}")), &Builtin, "api/v1", now)
        };
        let none = HeaderMap::new();
        let first = get(&none, "");
        assert_eq!((first.status(), first.headers().get("cache-control")), (StatusCode::OK, None));
        let tag = first.headers()["etag"].clone();
        let known = HeaderMap::from_iter([(header::IF_NONE_MATCH, tag)]);
        assert_eq!(get(&known, "").status(), StatusCode::NOT_MODIFIED);
        let kept = get(&none, &format!("?hash={hash}"));
        assert_eq!(kept.headers()["cache-control"], "public, immutable");
        assert_eq!(kept.headers()["expires"], "Fri, 01 Jan 1971 00:00:00 GMT");
        let old = get(&none, "?hash=OLD");
        assert_eq!(old.status(), StatusCode::MOVED_PERMANENTLY);
        assert_eq!(old.headers()["location"], format!("/openapi/v3/api/v1?hash={hash}").as_str());
        let missing = v3(&none, &info("/openapi/v3/apis/none/v1"), &Builtin, "apis/none/v1", now);
        assert_eq!(missing.status(), StatusCode::NOT_FOUND);
    }

    #[test]
    fn discovery_is_told_apart_by_its_bytes() {
        let get = |headers: &HeaderMap| discovery(headers, &tag_of(b"{}"), || b"{}".to_vec(), "application/json;v=v2");
        let first = get(&HeaderMap::new());
        assert_eq!(
            (first.status(), &first.headers()["content-type"]),
            (StatusCode::OK, &HeaderValue::from_static("application/json;v=v2"))
        );
        assert_eq!(first.headers()["cache-control"], "public");
        let known = HeaderMap::from_iter([(header::IF_NONE_MATCH, first.headers()["etag"].clone())]);
        assert_eq!(get(&known).status(), StatusCode::NOT_MODIFIED);
    }
}
