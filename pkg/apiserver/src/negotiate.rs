//! Which form of answer a client accepts.

use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE};
use kedge_meta::Status;

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Yaml,
}

/// What of an object is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Object,
    Table,
    Metadata,
}

/// The negotiated answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub format: Format,
    pub shape: Shape,
}

const TYPES: [&str; 2] = ["application/json", "application/yaml"];

/// The first entry of the Accept header that can be served.
///
/// # Errors
/// 406 when there is none.
pub(crate) fn accepted(headers: &HeaderMap) -> Result<Accepted, Status> {
    let json = Accepted { format: Format::Json, shape: Shape::Object };
    let Some(accept) = headers.get(ACCEPT) else { return Ok(json) };
    let accept = accept.to_str().unwrap_or_default();
    if accept.is_empty() {
        return Ok(json);
    }
    accept.split(',').find_map(entry).ok_or_else(|| Status::not_acceptable(&TYPES))
}

fn entry(text: &str) -> Option<Accepted> {
    let mut parts = text.split(';').map(str::trim);
    let format = match parts.next()? {
        "application/json" | "*/*" | "application/*" => Format::Json,
        "application/yaml" => Format::Yaml,
        _ => return None,
    };
    let mut shape = Shape::Object;
    for parameter in parts {
        match parameter.split_once('=') {
            Some(("as", "Table")) => shape = Shape::Table,
            Some(("as", "PartialObjectMetadata" | "PartialObjectMetadataList")) => shape = Shape::Metadata,
            Some(("as", _)) => return None,
            Some(("v", version)) if version != "v1" && version != "v2" => return None,
            _ => {}
        }
    }
    Some(Accepted { format, shape })
}

/// The media type of the body, without parameters.
pub(crate) fn content_type(headers: &HeaderMap) -> &str {
    let value = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim()
}

/// How a body is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyFormat {
    Json,
    Yaml,
    Protobuf,
}

/// How the body of a request is encoded.
///
/// # Errors
/// 415 for a form that is not understood.
pub(crate) fn body_format(headers: &HeaderMap) -> Result<BodyFormat, Status> {
    match content_type(headers) {
        "" | "application/json" | "*/*" => Ok(BodyFormat::Json),
        "application/yaml" => Ok(BodyFormat::Yaml),
        PROTOBUF => Ok(BodyFormat::Protobuf),
        _ => Err(Status::unsupported_media_type(&["application/json", "application/yaml", PROTOBUF])),
    }
}

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
/// A configuration to be applied.
pub(crate) const APPLY: &str = "application/apply-patch+yaml";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn accept(text: &str) -> Result<Accepted, Status> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, text.parse().unwrap());
        accepted(&headers)
    }

    #[test]
    fn the_first_served_entry_wins() {
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(accept(kubectl).unwrap().shape, Shape::Table);
        let old = "application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(accept(old).unwrap().shape, Shape::Object);
        assert_eq!(accept("application/vnd.kubernetes.protobuf, */*").unwrap().format, Format::Json);
        assert_eq!(accept("application/vnd.kubernetes.protobuf").unwrap_err().code, 406);
    }
}
