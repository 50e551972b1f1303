//! The body of a patch, and what it makes of an object: JSON patch, merge patch, strategic merge patch.

use http::HeaderMap;
use kedge_meta::field::{Error as FieldError, Path};
use kedge_meta::{GroupKind, Reason, Status, StatusDetails};
use kedge_patch::{PatchError, go_text, json, merge, strategic};
use kedge_registry::convert::{self, Conversion};
use kedge_schema::{Kinds, ResourceInfo, SchemaRef, TypeId};
use parking_lot::Mutex;
use serde_json::Value;

use super::decode::{decode_untyped, misfit};
use super::options::{Validation, WriteOptions};
use super::shown;
use crate::body;
use crate::input::negotiate;
use crate::input::request_info::RequestInfo;

/// Custom resources have no strategic merge.
const UNTYPED: [&str; 3] = ["application/json-patch+json", "application/merge-patch+json", negotiate::APPLY];

/// What an operation of a JSON patch consists of.
const MEMBERS: [&str; 4] = ["op", "path", "from", "value"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    Merge,
    Strategic,
}

/// What is patched: objects of this kind, or a subresource's own kind.
pub(crate) struct Target<'a> {
    pub group: &'a str,
    pub version: &'a str,
    pub kind: &'a str,
    pub schema: Option<SchemaRef>,
    /// The resource and what else is served, where it may be served in other versions as well.
    pub resource: Option<(&'a ResourceInfo, &'a dyn Kinds, &'a dyn Conversion)>,
}

impl<'a> Target<'a> {
    pub(crate) fn of(info: &'a ResourceInfo, kinds: &'a dyn Kinds, conversion: &'a dyn Conversion) -> Self {
        let schema = Some(info.schema.clone());
        Self {
            group: &info.group,
            version: &info.version,
            kind: &info.kind,
            schema,
            resource: Some((info, kinds, conversion)),
        }
    }

    fn api_version(&self) -> String {
        kedge_meta::GroupVersion::new(self.group, self.version).to_string()
    }
}

/// A patch that has been read. What strict validation says about patch and result is an error or a warning, as the client
/// asked.
pub(crate) struct Patch {
    form: Form,
    value: Value,
    validation: Validation,
    strict: Vec<String>,
    warnings: Mutex<Vec<String>>,
}

impl Patch {
    /// Whether the form of a request's patch is understood, which is looked at before anything else.
    ///
    /// # Errors
    /// 415.
    pub(crate) fn check_form(headers: &HeaderMap) -> Result<(), Status> {
        Self::form(headers).map(drop)
    }

    fn form(headers: &HeaderMap) -> Result<Form, Status> {
        match negotiate::content_type(headers).as_str() {
            "application/json-patch+json" => Ok(Form::Json),
            "application/merge-patch+json" => Ok(Form::Merge),
            "application/strategic-merge-patch+json" => Ok(Form::Strategic),
            _ => Err(Status::unsupported_here()),
        }
    }

    /// Reads the patch of a request.
    ///
    /// # Errors
    /// 415 for a form that is not understood, 413 and 400 for a body that is none, 422 for options.
    pub(crate) async fn read(request: &http::Request<body::RequestBody>, info: &RequestInfo) -> Result<Self, Status> {
        let form = Self::form(request.headers())?;
        let bytes = request.body().read().await?;
        let validation = WriteOptions::of(info)?.validation;
        let decoded = decode_untyped(&bytes, form == Form::Strategic)?;
        let mut strict: Vec<String> = decoded.strict.iter().map(ToString::to_string).collect();
        if validation == Validation::Ignore {
            strict.clear();
        } else {
            let unmarshal = |text: String| Status::bad_request(format!("error decoding patch: json: {text}"));
            match form {
                Form::Json => {
                    strict.extend(unknown_members(&decoded.value).map_err(unmarshal)?);
                    strict = strict.into_iter().map(|error| format!("json patch {error}")).collect();
                }
                Form::Merge if !decoded.value.is_object() && !decoded.value.is_null() => {
                    let kind = json::json_kind(&decoded.value);
                    return Err(unmarshal(format!(
                        "cannot unmarshal {kind} into Go value of type map[string]interface {{}}"
                    )));
                }
                Form::Merge | Form::Strategic => {}
            }
        }
        Ok(Self { form, value: decoded.value, validation, strict, warnings: Mutex::default() })
    }

    /// The object that the patch makes of `current`, decoded.
    ///
    /// # Errors
    /// 400 for a patch that makes no sense, 422 for one that does not fit the object, or makes something of it that is no
    /// object of its kind.
    pub(crate) fn transform(&self, current: &Value, target: &Target<'_>) -> Result<Value, Status> {
        let mut new = self.apply(current, target.schema.as_ref().and_then(SchemaRef::builtin))?;
        // The object as upstream would show it in an answer: what the patch made, before it is decoded.
        let shown = match self.form {
            Form::Strategic => go_text(&self.value),
            Form::Json => shown::patched(&new, current, &shown::touched(&self.value)),
            Form::Merge => shown::patched(&new, current, &self.value),
        };
        let refused = |why: String| {
            let error = FieldError::invalid(&Path::new("patch"), &shown, why);
            Status::invalid(&GroupKind::new("", ""), "", &vec![error])
        };
        if self.form == Form::Strategic {
            if !new.is_object() {
                return Err(refused(format!("unrecognized type: {}", json::json_kind(&new))));
            }
            // The object is of its resource's kind, whatever is written into it.
            new["apiVersion"] = target.api_version().into();
            new["kind"] = target.kind.into();
        }
        let mut strict = Vec::new();
        let decoded = decode(new, target, self.form, &mut strict).map_err(refused)?;
        let all = || self.strict.iter().cloned().chain(strict.iter().map(ToString::to_string)).collect::<Vec<_>>();
        match self.validation {
            Validation::Strict if !self.strict.is_empty() || !strict.is_empty() => {
                return Err(refused(format!("strict decoding error: {}", all().join(", "))));
            }
            Validation::Warn => *self.warnings.lock() = all(),
            Validation::Strict | Validation::Ignore => {}
        }
        Ok(decoded)
    }

    /// What the client is to be warned of, after the patch has been applied.
    pub(crate) fn warnings(&self) -> Vec<String> {
        self.warnings.lock().clone()
    }

    fn apply(&self, current: &Value, ty: Option<TypeId>) -> Result<Value, Status> {
        let applied = match (self.form, &self.value, ty) {
            // Upstream's decoders take null for no operations, and for a map without fields.
            (Form::Json | Form::Strategic, Value::Null, _) => Ok(current.clone()),
            (Form::Json, operations, _) => json::apply(current, operations),
            (Form::Merge, merge, _) => merge::apply(current, merge),
            (Form::Strategic, merge, Some(ty)) => strategic::apply(current, merge, ty),
            (Form::Strategic, _, None) => return Err(Status::unsupported_media_type(&UNTYPED)),
        };
        applied.map_err(|err| match err {
            PatchError::Malformed(text) => Status::bad_request(text),
            err @ PatchError::TooManyOperations { .. } => Status::too_large(format!("Request entity too large: {err}")),
            // Upstream keeps the reason to itself.
            PatchError::DoesNotApply(_) | PatchError::TestFailed(_) => {
                let message = "the server rejected our request due to an error in our request";
                let mut status = Status::failure(422, Reason::Invalid, message);
                status.details = Some(Box::new(StatusDetails::default()));
                status
            }
            err @ PatchError::Inconsistent(_) => Status::failure(500, Reason::Unknown, err.to_string()),
        })
    }
}

/// The members of a JSON patch's operations that have no meaning, as strict errors.
fn unknown_members(patch: &Value) -> Result<Vec<String>, String> {
    let Value::Array(operations) = patch else {
        return match patch {
            Value::Null => Ok(Vec::new()),
            other => {
                Err(format!("cannot unmarshal {} into Go value of type []handlers.jsonPatchOp", json::json_kind(other)))
            }
        };
    };
    let mut unknown = Vec::new();
    for (i, operation) in operations.iter().enumerate() {
        let members = match operation {
            Value::Object(members) => members,
            Value::Null => continue,
            other => {
                let kind = json::json_kind(other);
                return Err(format!("cannot unmarshal {kind} into Go value of type handlers.jsonPatchOp"));
            }
        };
        for (name, value) in members {
            match name.as_str() {
                "op" | "path" | "from" if !value.is_string() && !value.is_null() => {
                    let kind = json::json_kind(value);
                    return Err(format!(
                        "cannot unmarshal {kind} into Go struct field jsonPatchOp.{name} of type string"
                    ));
                }
                name if !MEMBERS.contains(&name) => {
                    unknown.push(format!("unknown field {:?}", format!("[{i}].{name}")))
                }
                _ => {}
            }
        }
    }
    Ok(unknown)
}

/// Takes what a patch made for an object of the target's kind. One that now calls itself something else is refused, unless
/// that is another version of the same resource, as which it then is read.
fn decode(
    mut new: Value,
    target: &Target<'_>,
    form: Form,
    strict: &mut Vec<kedge_schema::StrictError>,
) -> Result<Value, String> {
    let Value::Object(map) = &mut new else {
        let kind = json::json_kind(&new);
        return Err(format!("json: cannot unmarshal {kind} into Go value of type {}", target.kind));
    };
    for field in ["apiVersion", "kind"] {
        if let Some(other) = map.get(field).filter(|value| !value.is_string() && !value.is_null()) {
            let kind = json::json_kind(other);
            return Err(format!(
                "couldn't get version/kind; json parse error: json: cannot unmarshal {kind} into Go struct field .{field} of type string"
            ));
        }
    }
    let text = |field: &str, default: &str| match map.get(field).and_then(Value::as_str) {
        None | Some("") => default.to_owned(),
        Some(text) => text.to_owned(),
    };
    let (api_version, kind) = (text("apiVersion", &target.api_version()), text("kind", target.kind));
    let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
    map.insert("apiVersion".into(), target.api_version().into());
    map.insert("kind".into(), target.kind.into());
    if (group, version, &*kind) == (target.group, target.version, target.kind) {
        match target.schema.as_ref().and_then(SchemaRef::builtin).filter(|_| form == Form::Strategic) {
            Some(ty) => kedge_schema::convert(ty, &mut new, strict).map_err(|err| err.to_string())?,
            None => conform(target.schema.as_ref(), &mut new, strict)?,
        }
        // Objects of a resource get their defaults in the registry.
        if let (None, Some(schema)) = (&target.resource, &target.schema) {
            schema.default(&mut new);
        }
        return Ok(new);
    }
    let other = target.resource.and_then(|(resource, kinds, conversion)| {
        let mut others = kinds.resources(group, version).filter(|other| other.plural == resource.plural);
        Some((resource, others.next()?, conversion))
    });
    let other =
        other.filter(|(resource, other, _)| other.kind == kind && other.storage_prefix == resource.storage_prefix);
    let Some((resource, other, conversion)) = other else {
        return Err(misfit((group, version, &kind), (target.group, target.kind)));
    };
    new["apiVersion"] = other.api_version().into();
    conform(Some(&other.schema), &mut new, strict)?;
    other.schema.default(&mut new);
    convert::at_once(conversion, resource, &mut new).map_err(|status| status.message)?;
    Ok(new)
}

fn conform(
    schema: Option<&SchemaRef>,
    new: &mut Value,
    strict: &mut Vec<kedge_schema::StrictError>,
) -> Result<(), String> {
    schema.map_or(Ok(()), |schema| schema.conform(new, strict).map_err(|err| err.to_string()))
}

#[cfg(test)]
#[path = "patch_tests.rs"]
mod tests;
