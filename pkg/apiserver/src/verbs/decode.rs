//! From a body to an object of the right kind, with what the client is to be warned of.

use bytes::Bytes;
use http::HeaderMap;
use kedge_meta::{GroupKind, Status, field};
use kedge_schema::decode::{self, DecodeError, Decoded, Format, Limits, StrictError};
use kedge_schema::{ResourceInfo, TypeId};
use serde_json::Value;

use crate::negotiate;
use crate::request_info::RequestInfo;

/// An object and the warnings about it.
pub(crate) struct Body {
    pub object: Value,
    pub warnings: Vec<String>,
}

/// Reads an object of `kind` in `group/version`, and applies its defaults.
pub(crate) fn object(
    headers: &HeaderMap,
    bytes: &Bytes,
    info: &RequestInfo,
    resource: &ResourceInfo,
    ty: Option<TypeId>,
) -> Result<Body, Status> {
    let format = negotiate::body_format(headers)?;
    let decoded = typed(format, bytes, resource, ty)?;
    let warnings = check_strict(info, resource.kind, resource.version, &decoded.strict, true)?;
    let mut object = decoded.value;
    kedge_schema::defaults::apply(resource.group, resource.version, resource.kind, &mut object);
    Ok(Body { object, warnings })
}

fn typed(format: Format, bytes: &Bytes, resource: &ResourceInfo, ty: Option<TypeId>) -> Result<Decoded, Status> {
    if bytes.is_empty() {
        return Err(Status::bad_request("EOF"));
    }
    let (want_version, want_kind) = (resource.api_version(), resource.kind);
    // Kind and version are looked at first: an object of another kind has other fields.
    let raw = match format {
        Format::Json => kedge_schema::decode_json(bytes, &Limits::default()),
        Format::Yaml => kedge_schema::decode_yaml(bytes, &Limits::default()),
    };
    let raw = raw.map_err(|e| undecodable(&e, resource, format))?;
    let text = |field: &str| raw.value.get(field).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    if !kind.is_empty() && kind != want_kind {
        return Err(wrong_kind(kind, if api_version.is_empty() { &want_version } else { api_version }, want_kind));
    }
    if !api_version.is_empty() && api_version != want_version {
        return Err(Status::bad_request(format!(
            "the API version in the data ({api_version}) does not match the expected API version ({want_version})"
        )));
    }
    let mut decoded =
        decode::decode_object(format, bytes, ty, &Limits::default()).map_err(|e| undecodable(&e, resource, format))?;
    if let Value::Object(map) = &mut decoded.value {
        map.insert("apiVersion".into(), want_version.into());
        map.insert("kind".into(), want_kind.into());
    }
    Ok(decoded)
}

fn wrong_kind(kind: &str, api_version: &str, wanted: &str) -> Status {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let why = if kedge_schema::kind(group, version, kind).is_some() {
        format!("converting ({api_version}.{kind}) to {wanted}: unknown conversion")
    } else {
        format!("no kind {kind:?} is registered for version {api_version:?}")
    };
    Status::bad_request(format!("{kind} in version {version:?} cannot be handled as a {wanted}: {why}"))
}

fn undecodable(err: &DecodeError, resource: &ResourceInfo, format: Format) -> Status {
    let (kind, version) = (resource.kind, resource.version);
    match err {
        DecodeError::TooLarge { limit } => Status::too_large(format!("Request entity too large: limit is {limit}")),
        DecodeError::Json(text) if format == Format::Json => {
            Status::bad_request(format!("couldn't get version/kind; json parse error: {text}"))
        }
        other => Status::bad_request(format!("{kind} in version {version:?} cannot be handled as a {kind}: {other}")),
    }
}

/// Reads JSON that is not an object of a kind: options, patches.
pub(crate) fn decode_untyped(bytes: &Bytes, what: &str) -> Result<Decoded, Status> {
    kedge_schema::decode_json(bytes, &Limits::default())
        .map_err(|e| Status::bad_request(format!("error decoding {what}: {e}")))
}

/// What the client asked to happen with unknown and duplicate fields: an error, warnings, or nothing.
pub(crate) fn check_strict(
    info: &RequestInfo,
    kind: &str,
    version: &str,
    errors: &[StrictError],
    from_body: bool,
) -> Result<Vec<String>, Status> {
    match info.param("fieldValidation") {
        "Strict" if !errors.is_empty() => {
            let message = decode::strict_message(errors);
            Err(Status::bad_request(if from_body {
                format!("{kind} in version {version:?} cannot be handled as a {kind}: {message}")
            } else {
                message
            }))
        }
        "Ignore" | "Strict" => Ok(Vec::new()),
        "" | "Warn" => Ok(errors.iter().map(ToString::to_string).collect()),
        other => {
            let path = field::Path::new("fieldValidation");
            let error = field::Error::not_supported(&path, other, &["", "Ignore", "Strict", "Warn"]);
            Err(Status::invalid(&GroupKind::new("meta.k8s.io", "CreateOptions"), "", &vec![error]))
        }
    }
}
