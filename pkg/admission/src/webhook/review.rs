//! `AdmissionReview`: what a webhook is told, and what it may answer.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kedge_meta::{Reason, Status, UserInfo};
use kedge_registry::Attributes;
use kedge_registry::value::ValueExt as _;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::hook::ReviewVersion;
use crate::matching::Target;

/// The question.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Review<'a> {
    kind: &'static str,
    api_version: &'static str,
    request: Request<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    uid: &'a str,
    kind: Kind<'a>,
    resource: Resource<'a>,
    #[serde(skip_serializing_if = "str::is_empty")]
    sub_resource: &'a str,
    request_kind: Kind<'a>,
    request_resource: Resource<'a>,
    #[serde(skip_serializing_if = "str::is_empty")]
    request_sub_resource: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    namespace: &'a str,
    operation: &'static str,
    user_info: User<'a>,
    object: &'a RawValue,
    old_object: &'a RawValue,
    dry_run: bool,
    options: Value,
}

#[derive(Serialize)]
struct Kind<'a> {
    group: &'a str,
    version: &'a str,
    kind: &'a str,
}

#[derive(Serialize)]
struct Resource<'a> {
    group: &'a str,
    version: &'a str,
    resource: &'a str,
}

#[derive(Serialize)]
struct User<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    username: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    uid: &'a str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    groups: &'a [String],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    extra: &'a BTreeMap<String, Vec<String>>,
}

impl<'a> From<&'a UserInfo> for User<'a> {
    fn from(user: &'a UserInfo) -> Self {
        Self { username: &user.name, uid: &user.uid, groups: &user.groups, extra: &user.extra }
    }
}

/// The objects of a request as a webhook sees them, written once for all that see them alike.
pub(crate) struct Objects {
    pub object: Box<RawValue>,
    pub old: Box<RawValue>,
}

impl Objects {
    /// # Errors
    /// When they cannot be written.
    pub(crate) fn of(object: &Value, old: &Value) -> Result<Self, Status> {
        let raw = |value| serde_json::value::to_raw_value(value).map_err(Status::internal);
        Ok(Self { object: raw(object)?, old: raw(old)? })
    }
}

impl<'a> Review<'a> {
    pub(crate) fn new(
        version: ReviewVersion,
        uid: &'a str,
        attributes: &'a Attributes<'_>,
        target: &'a Target,
        objects: &'a Objects,
    ) -> Self {
        let (group, kind_version, kind) = attributes.kind();
        let asked = attributes.resource;
        Self {
            kind: "AdmissionReview",
            api_version: version.api_version(),
            request: Request {
                uid,
                kind: Kind { group: &target.kind.group, version: &target.kind.version, kind: &target.kind.kind },
                resource: Resource { group: &target.group, version: &target.version, resource: &target.plural },
                sub_resource: attributes.subresource,
                request_kind: Kind { group, version: kind_version, kind },
                request_resource: Resource { group: &asked.group, version: &asked.version, resource: &asked.plural },
                request_sub_resource: attributes.subresource,
                name: attributes.name,
                namespace: attributes.namespace,
                operation: attributes.operation.as_str(),
                user_info: attributes.user.into(),
                object: &objects.object,
                old_object: &objects.old,
                dry_run: attributes.dry_run,
                options: attributes.options_object(),
            },
        }
    }
}

/// What conditions see of a request: what the webhook would be told, but for the objects.
pub(crate) fn asked(attributes: &Attributes<'_>, target: &Target) -> Result<Value, Status> {
    let nothing = Objects::of(&Value::Null, &Value::Null)?;
    let review = Review::new(ReviewVersion::V1, "", attributes, target, &nothing);
    serde_json::to_value(&review.request).map_err(Status::internal)
}

/// The answer.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Answer {
    pub allowed: bool,
    /// `Status`, as it was written.
    pub result: Value,
    /// JSON, if there is one.
    pub patch: Option<Vec<u8>>,
    pub patch_type: String,
    pub warnings: Vec<String>,
    pub annotations: Vec<(String, String)>,
}

/// What an answer is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// A review at all.
    Undecodable(String),
    /// An answer to the question.
    Invalid(String),
}

impl Answer {
    /// Reads the answer to the question with this `uid`.
    ///
    /// # Errors
    /// What is wrong with it, in upstream's words.
    pub(crate) fn read(version: ReviewVersion, uid: &str, mutating: bool, bytes: &[u8]) -> Result<Self, Unfit> {
        let review: Value = serde_json::from_slice(bytes)
            .map_err(|err| Unfit::Undecodable(format!("couldn't get version/kind; json parse error: {err}")))?;
        let (api_version, kind) = (review.text(&["apiVersion"]), review.text(&["kind"]));
        let known = [ReviewVersion::V1, ReviewVersion::V1beta1].map(ReviewVersion::api_version);
        if kind == "AdmissionReview" && known.contains(&api_version) && api_version != version.api_version() {
            let short = |version: &str| version.rsplit('/').next().unwrap_or_default().to_owned();
            let (is, wanted) = (short(api_version), short(version.api_version()));
            let why = format!("converting ({is}.AdmissionReview) to ({wanted}.AdmissionReview): unknown conversion");
            return Err(Unfit::Undecodable(why));
        }
        let response = match review.get("response") {
            None | Some(Value::Null) => return Err(Unfit::Invalid("webhook response was absent".to_owned())),
            Some(response @ Value::Object(_)) => response,
            Some(other) => return Err(mistyped("", other, "v1.AdmissionResponse")),
        };
        let answer = Self::decode(response)?;
        if version == ReviewVersion::V1 {
            check_v1(uid, (api_version, kind), response)?;
            answer.check_patch(response, mutating)?;
            return Ok(answer);
        }
        // Of the older version nothing was checked, and patches had one type.
        let patch = answer.patch.filter(|patch| mutating && !patch.is_empty());
        let patch_type = if patch.is_some() { "JSONPatch".to_owned() } else { String::new() };
        Ok(Self { patch, patch_type, ..answer })
    }

    fn decode(response: &Value) -> Result<Self, Unfit> {
        let allowed = match &response["allowed"] {
            Value::Null => false,
            Value::Bool(allowed) => *allowed,
            other => return Err(mistyped("allowed", other, "bool")),
        };
        let patch = match &response["patch"] {
            Value::Null => None,
            Value::String(text) => {
                Some(STANDARD.decode(text).map_err(|err| Unfit::Undecodable(format!("illegal base64 data: {err}")))?)
            }
            other => return Err(mistyped("patch", other, "[]uint8")),
        };
        let mut annotations = Vec::new();
        for (key, value) in response.map(&["auditAnnotations"]).into_iter().flatten() {
            let value = value.as_str().ok_or_else(|| mistyped("auditAnnotations", value, "string"))?;
            annotations.push((key.clone(), value.to_owned()));
        }
        let warnings = response
            .list(&["warnings"])
            .iter()
            .map(|warning| warning.as_str().map(str::to_owned).ok_or_else(|| mistyped("warnings", warning, "string")));
        Ok(Self {
            allowed,
            result: response["status"].clone(),
            patch,
            patch_type: response.text(&["patchType"]).to_owned(),
            warnings: warnings.collect::<Result<_, _>>()?,
            annotations,
        })
    }

    fn check_patch(&self, response: &Value, mutating: bool) -> Result<(), Unfit> {
        let typed = response.get("patchType").is_some_and(|value| !value.is_null());
        let patched = self.patch.as_ref().is_some_and(|patch| !patch.is_empty());
        let why = match (mutating, patched, typed) {
            (true, true, false) => "webhook returned response.patch but not response.patchType",
            (true, false, true) => "webhook returned response.patchType but not response.patch",
            (true, true, true) if self.patch_type.is_empty() => "webhook returned invalid response.patchType of \"\"",
            (false, true, _) => "validating webhook may not return response.patch",
            (false, _, true) => "validating webhook may not return response.patchType",
            _ => return Ok(()),
        };
        Err(Unfit::Invalid(why.to_owned()))
    }
}

fn check_v1(uid: &str, (api_version, kind): (&str, &str), response: &Value) -> Result<(), Unfit> {
    let answered = response.text(&["uid"]);
    if answered != uid {
        return Err(Unfit::Invalid(format!("expected response.uid={uid:?}, got {answered:?}")));
    }
    let wanted = ReviewVersion::V1.api_version();
    if (api_version, kind) == (wanted, "AdmissionReview") {
        return Ok(());
    }
    // Go writes a group and version, both empty, as a slash.
    let api_version = if api_version.is_empty() { "/" } else { api_version };
    let why = format!("expected webhook response of {wanted}, Kind=AdmissionReview, got {api_version}, Kind={kind}");
    Err(Unfit::Invalid(why))
}

fn mistyped(field: &str, value: &Value, wanted: &str) -> Unfit {
    let dot = if field.is_empty() { "" } else { "." };
    let kind = kedge_patch::json::json_kind(value);
    Unfit::Undecodable(format!(
        "json: cannot unmarshal {kind} into Go struct field AdmissionReview.response{dot}{field} of type {wanted}"
    ))
}

/// The refusal of a webhook, which says why in `result`.
pub(crate) fn denied(hook: &str, mut result: Value) -> Status {
    strip_nulls(&mut result);
    let mut status: Status = serde_json::from_value(result.clone()).unwrap_or_default();
    let own_reason = result.text(&["reason"]);
    if status.code < 400 {
        status.code = result.int(&["code"]).filter(|code| *code >= 400).map_or(400, |_| 500);
    }
    if matches!(&*status.status, "" | "Success") {
        status.status = "Failure".into();
    }
    (status.kind, status.api_version) = ("Status".into(), "v1".into());
    let by = format!("admission webhook {hook:?} denied the request");
    status.message = match (status.message.is_empty(), own_reason.is_empty()) {
        (false, _) => format!("{by}: {}", status.message),
        (true, false) => format!("{by}: {own_reason}"),
        (true, true) => format!("{by} without explanation"),
    };
    if status.reason == Reason::Unknown {
        status.metadata.own_reason = own_reason.to_owned();
    }
    status
}

fn strip_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(strip_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(strip_nulls),
        _ => {}
    }
}

#[cfg(test)]
#[path = "review_tests.rs"]
mod tests;
