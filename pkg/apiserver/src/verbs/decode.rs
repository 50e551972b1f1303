//! From a body to an object of the right kind, with what the client is to be warned of.

use bytes::Bytes;
use http::HeaderMap;
use kedge_meta::{GroupKind, Status, field};
use kedge_schema::decode::{self, DecodeError, Decoded, Format, Limits, StrictError};
use kedge_schema::{ResourceInfo, TypeId, protobuf};
use serde_json::Value;

use crate::negotiate::{self, BodyFormat};
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
    let wanted = Wanted { group: resource.group, version: resource.version, kind: resource.kind, ty };
    let decoded = typed(negotiate::body_format(headers)?, bytes, &wanted)?;
    let warnings = check_strict(info, resource.kind, resource.version, &decoded.strict, true)?;
    let mut object = decoded.value;
    kedge_schema::defaults::apply(resource.group, resource.version, resource.kind, &mut object);
    Ok(Body { object, warnings })
}

/// Reads a body of a kind that is not that of the resource: options, reviews, bindings, scales. An empty body is null.
///
/// # Errors
/// As for objects.
pub(crate) fn message(
    headers: &HeaderMap,
    bytes: &Bytes,
    (group, version, kind): (&str, &str, &str),
) -> Result<Value, Status> {
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    let ty = kedge_schema::kind(group, version, kind);
    Ok(typed(negotiate::body_format(headers)?, bytes, &Wanted { group, version, kind, ty })?.value)
}

/// What a body has to be.
struct Wanted<'a> {
    group: &'a str,
    version: &'a str,
    kind: &'a str,
    ty: Option<TypeId>,
}

impl Wanted<'_> {
    fn api_version(&self) -> String {
        kedge_meta::GroupVersion::new(self.group, self.version).to_string()
    }

    /// Kind and version are looked at first: an object of another kind has other fields.
    fn check(&self, api_version: &str, kind: &str) -> Result<(), Status> {
        let wanted = self.api_version();
        if !kind.is_empty() && kind != self.kind {
            return Err(wrong_kind(kind, if api_version.is_empty() { &wanted } else { api_version }, self.kind));
        }
        // Options come under the version of whatever they are for.
        if !api_version.is_empty() && api_version != wanted && self.kind != "DeleteOptions" {
            return Err(Status::bad_request(format!(
                "the API version in the data ({api_version}) does not match the expected API version ({wanted})"
            )));
        }
        Ok(())
    }
}

fn typed(format: BodyFormat, bytes: &Bytes, wanted: &Wanted<'_>) -> Result<Decoded, Status> {
    if bytes.is_empty() {
        return Err(Status::bad_request("EOF"));
    }
    let mut decoded = match format {
        BodyFormat::Protobuf => from_protobuf(bytes, wanted)?,
        BodyFormat::Json => from_text(Format::Json, bytes, wanted)?,
        BodyFormat::Yaml => from_text(Format::Yaml, bytes, wanted)?,
    };
    if let Value::Object(map) = &mut decoded.value {
        map.insert("apiVersion".into(), wanted.api_version().into());
        map.insert("kind".into(), wanted.kind.into());
    }
    Ok(decoded)
}

fn from_text(format: Format, bytes: &Bytes, wanted: &Wanted<'_>) -> Result<Decoded, Status> {
    let raw = match format {
        Format::Json => kedge_schema::decode_json(bytes, &Limits::default()),
        Format::Yaml => kedge_schema::decode_yaml(bytes, &Limits::default()),
    };
    let raw = raw.map_err(|e| undecodable(&e, wanted, format))?;
    let text = |field: &str| raw.value.get(field).and_then(Value::as_str).unwrap_or_default();
    wanted.check(text("apiVersion"), text("kind"))?;
    decode::decode_object(format, bytes, wanted.ty, &Limits::default()).map_err(|e| undecodable(&e, wanted, format))
}

fn from_protobuf(bytes: &Bytes, wanted: &Wanted<'_>) -> Result<Decoded, Status> {
    let (kind, version) = (wanted.kind, wanted.version);
    let bad = |e: &dyn std::fmt::Display| {
        Status::bad_request(format!("{kind} in version {version:?} cannot be handled as a {kind}: {e}"))
    };
    let envelope = protobuf::envelope(bytes).map_err(|e| Status::bad_request(e.to_string()))?;
    wanted.check(&envelope.api_version, &envelope.kind)?;
    let Some(ty) = wanted.ty else {
        return Err(Status::unsupported_media_type(&["application/json", "application/yaml"]));
    };
    let mut value = protobuf::decode(ty, envelope.raw).map_err(|e| bad(&e))?;
    let mut strict = Vec::new();
    kedge_schema::conform(ty, &mut value, &mut strict).map_err(|e| bad(&e))?;
    Ok(Decoded { value, strict })
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

fn undecodable(err: &DecodeError, wanted: &Wanted<'_>, format: Format) -> Status {
    let (kind, version) = (wanted.kind, wanted.version);
    match err {
        DecodeError::TooLarge { limit } => Status::too_large(format!("Request entity too large: limit is {limit}")),
        DecodeError::Json(text) if format == Format::Json => {
            Status::bad_request(format!("couldn't get version/kind; json parse error: {text}"))
        }
        other => Status::bad_request(format!("{kind} in version {version:?} cannot be handled as a {kind}: {other}")),
    }
}

/// Reads JSON that is of no kind: patches.
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
