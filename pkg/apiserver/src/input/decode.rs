//! From a body to an object of the right kind, with what the client is to be warned of.

use bytes::Bytes;
use http::HeaderMap;
use kedge_meta::Status;
use kedge_registry::value::ValueExt as _;
use kedge_schema::decode::{self, DecodeError, Decoded, Format, Limits};
use kedge_schema::{ResourceInfo, SchemaRef, protobuf};
use serde_json::Value;

use super::options::{Validation, WriteOptions};
use crate::input::negotiate::{self, BodyFormat};
use crate::input::request_info::RequestInfo;

/// An object and the warnings about it.
pub(crate) struct Body {
    pub object: Value,
    pub warnings: Vec<String>,
}

/// Reads an object of a resource. The registry fills in what it leaves out.
pub(crate) fn object(
    headers: &HeaderMap,
    bytes: &Bytes,
    info: &RequestInfo,
    resource: &ResourceInfo,
) -> Result<Body, Status> {
    let schema = Some(resource.schema.clone());
    let wanted = Wanted { group: &resource.group, version: &resource.version, kind: &resource.kind, schema };
    strictly(headers, bytes, info, &wanted)
}

/// Reads a body of a kind that is not that of the resource: reviews, bindings, evictions, scales.
///
/// # Errors
/// As for objects.
pub(crate) fn posted(
    headers: &HeaderMap,
    bytes: &Bytes,
    info: &RequestInfo,
    (group, version, kind): (&str, &str, &str),
) -> Result<Body, Status> {
    let schema = SchemaRef::builtin_kind(group, version, kind);
    let mut body = strictly(headers, bytes, info, &Wanted { group, version, kind, schema })?;
    kedge_schema::defaults::apply(group, version, kind, &mut body.object);
    Ok(body)
}

/// Reads a body whose unknown fields nobody asks about: options. An empty body is null.
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
    let schema = SchemaRef::builtin_kind(group, version, kind);
    Ok(typed(negotiate::body_format(headers)?, bytes, &Wanted { group, version, kind, schema })?.value)
}

/// Reads a body, and does with unknown and duplicate fields what the client asks for.
fn strictly(headers: &HeaderMap, bytes: &Bytes, info: &RequestInfo, wanted: &Wanted<'_>) -> Result<Body, Status> {
    let format = negotiate::body_format(headers)?;
    let validation = WriteOptions::of(info)?.validation;
    let decoded = typed(format, bytes, wanted)?;
    let warnings = match validation {
        Validation::Strict if !decoded.strict.is_empty() => {
            let (kind, version) = (wanted.kind, wanted.version);
            let message = decode::strict_message(&decoded.strict);
            return Err(Status::bad_request(format!(
                "{kind} in version {version:?} cannot be handled as a {kind}: {message}"
            )));
        }
        Validation::Warn => decoded.strict.iter().map(ToString::to_string).collect(),
        Validation::Strict | Validation::Ignore => Vec::new(),
    };
    Ok(Body { object: decoded.value, warnings })
}

/// What a body has to be.
struct Wanted<'a> {
    group: &'a str,
    version: &'a str,
    kind: &'a str,
    schema: Option<SchemaRef>,
}

impl Wanted<'_> {
    fn api_version(&self) -> String {
        kedge_meta::GroupVersion::new(self.group, self.version).to_string()
    }

    /// Whether errors are given as they are, without saying what the body should have been.
    fn is_bare(&self) -> bool {
        self.kind == "DeleteOptions"
    }

    /// Kind and version are looked at first: an object of another kind has other fields.
    fn check(&self, api_version: &str, kind: &str) -> Result<(), Status> {
        let wanted = self.api_version();
        let api_version = if api_version.is_empty() { &wanted } else { api_version };
        let kind = if kind.is_empty() { self.kind } else { kind };
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        // Options come under the version of whatever they are for, and evictions may still come under their first one.
        let any_version = kind == "DeleteOptions" || (kind == "Eviction" && api_version == "policy/v1beta1");
        if kind == self.kind && (api_version == wanted || any_version) {
            return Ok(());
        }
        if kind == self.kind && is_known(group, version, kind) {
            return Err(Status::bad_request(format!(
                "the API version in the data ({api_version}) does not match the expected API version ({wanted})"
            )));
        }
        let why = misfit((group, version, kind), (self.group, self.kind));
        if self.is_bare() {
            return Err(Status::bad_request(why));
        }
        Err(Status::bad_request(format!("{kind} in version {version:?} cannot be handled as a {}: {why}", self.kind)))
    }
}

/// Whether that is a kind, now or formerly.
fn is_known(group: &str, version: &str, kind: &str) -> bool {
    kedge_schema::kind(group, version, kind).is_some()
        || kedge_schema::former::successor(group, version, kind).is_some()
        // A list of anything, as kubectl writes it.
        || (group, version, kind) == ("", "v1", "List")
}

/// Why an object of one kind is not taken for one of another, as upstream's decoder says it: with the names that the types
/// have in Go.
pub(crate) fn misfit((group, version, kind): (&str, &str, &str), (wanted_group, wanted): (&str, &str)) -> String {
    if is_known(group, version, kind) {
        return format!(
            "converting ({version}.{kind}) to ({}.{wanted}): unknown conversion",
            package(wanted_group, wanted)
        );
    }
    let version = kedge_meta::GroupVersion::new(group, version).to_string();
    format!("no kind {kind:?} is registered for version {version:?} in scheme \"pkg/api/legacyscheme/scheme.go:30\"")
}

/// The Go type of an object of the kind, in upstream's internal form.
pub(crate) fn go_type(info: &RequestInfo, kind: &str) -> String {
    format!("*{}.{kind}", package(&info.group, kind))
}

/// The Go package of upstream's internal types of a group.
fn package<'a>(group: &'a str, kind: &str) -> &'a str {
    match group {
        "" | "events.k8s.io" => "core",
        "internal.apiserver.k8s.io" => "apiserverinternal",
        "autoscaling" | "policy" | "apps" | "batch" => group,
        _ if kind == "DeleteOptions" => "v1",
        other => other.split('.').next().unwrap_or_default(),
    }
}

fn typed(format: BodyFormat, bytes: &Bytes, wanted: &Wanted<'_>) -> Result<Decoded, Status> {
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
    let raw = raw.map_err(|e| undecodable(&e, wanted, format, bytes))?;
    let empty = Bytes::from_static(b"{}");
    let bytes = match &raw.value {
        Value::Object(_) => bytes,
        // Nothing is an object without fields.
        Value::Null => &empty,
        other => {
            let kind = kedge_patch::json::json_kind(other);
            let why = format!("json: cannot unmarshal {kind} into Go value of type {KIND_ALONE}");
            return Err(unrecognized(
                wanted,
                &format_args!("couldn't get version/kind; json parse error: {why}"),
                bytes,
            ));
        }
    };
    let text = |field: &str| raw.value.get(field).and_then(Value::as_str).unwrap_or_default();
    wanted.check(text("apiVersion"), text("kind"))?;
    let bad = |e: &DecodeError| undecodable(e, wanted, format, bytes);
    match &wanted.schema {
        None => Ok(raw),
        Some(SchemaRef::Builtin(ty)) => {
            decode::decode_object(format, bytes, Some(*ty), &Limits::default()).map_err(|e| bad(&e))
        }
        Some(schema) => {
            let mut decoded = raw;
            schema.conform(&mut decoded.value, &mut decoded.strict).map_err(|e| bad(&DecodeError::Type(e)))?;
            Ok(decoded)
        }
    }
}

fn from_protobuf(bytes: &Bytes, wanted: &Wanted<'_>) -> Result<Decoded, Status> {
    let (kind, version) = (wanted.kind, wanted.version);
    let bad = |e: &dyn std::fmt::Display| {
        Status::bad_request(format!("{kind} in version {version:?} cannot be handled as a {kind}: {e}"))
    };
    let envelope = protobuf::envelope(bytes).map_err(|e| unrecognized(wanted, &e, bytes))?;
    wanted.check(&envelope.api_version, &envelope.kind)?;
    let Some(ty) = wanted.schema.as_ref().and_then(SchemaRef::builtin) else {
        return Err(Status::unsupported_media_type(&["application/json", "application/yaml"]));
    };
    let mut value = protobuf::decode(ty, envelope.raw).map_err(|e| bad(&e))?;
    let mut strict = Vec::new();
    kedge_schema::conform(ty, &mut value, &mut strict).map_err(|e| bad(&e))?;
    Ok(Decoded { value, strict })
}

fn undecodable(err: &DecodeError, wanted: &Wanted<'_>, format: Format, bytes: &Bytes) -> Status {
    let (kind, version) = (wanted.kind, wanted.version);
    match err {
        DecodeError::TooLarge { limit } => Status::too_large(format!("Request entity too large: limit is {limit}")),
        DecodeError::Json(text) if format == Format::Json => {
            unrecognized(wanted, &format_args!("couldn't get version/kind; json parse error: {text}"), bytes)
        }
        DecodeError::Yaml(_) => unrecognized(wanted, err, bytes),
        other if wanted.is_bare() => Status::bad_request(other.to_string()),
        other => Status::bad_request(format!("{kind} in version {version:?} cannot be handled as a {kind}: {other}")),
    }
}

/// 400 for a body of which not even the kind can be read; it begins with what was sent.
fn unrecognized(wanted: &Wanted<'_>, why: &dyn std::fmt::Display, bytes: &Bytes) -> Status {
    if wanted.is_bare() {
        return Status::bad_request(why.to_string());
    }
    let kind = wanted.kind;
    let begin = &bytes[..bytes.len().min(MAX_QUOTED)];
    let dots = if bytes.len() > begin.len() { " ..." } else { "" };
    let quoted = match begin {
        [] => "<empty>".to_owned(),
        [b'{', ..] => String::from_utf8_lossy(begin).into_owned(),
        other => other.iter().map(|byte| format!("{byte:02x}")).collect(),
    };
    Status::bad_request(format!("the object provided is unrecognized (must be of type {kind}): {why} ({quoted}{dots})"))
}

/// The Go type into which upstream reads a body to learn its kind.
const KIND_ALONE: &str = "struct { APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; \
    Kind string \"json:\\\"kind,omitempty\\\"\" }";

/// Bytes of a body that an answer quotes.
const MAX_QUOTED: usize = 30;

/// The namespace of what is created under a subresource must be that of the request, or absent.
pub(crate) fn check_namespace(object: &mut Value, namespace: &str) -> Result<(), Status> {
    if !object.namespace().is_empty() && object.namespace() != namespace {
        let message = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(Status::bad_request(message));
    }
    object.entry("metadata").insert("namespace".into(), namespace.into());
    Ok(())
}

/// Reads JSON that is of no kind: patches. Strategic ones are decoded elsewhere in upstream, and the error says less.
pub(crate) fn decode_untyped(bytes: &Bytes, strategic: bool) -> Result<Decoded, Status> {
    kedge_schema::decode_json(bytes, &Limits::default()).map_err(|err| match err {
        DecodeError::TooLarge { limit } => Status::too_large(format!("Request entity too large: limit is {limit}")),
        err if strategic => Status::bad_request(err.to_string()),
        err => Status::bad_request(format!("error decoding patch: {err}")),
    })
}
