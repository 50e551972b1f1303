//! `metav1.Status`: the one shape in which an API error travels.

use serde::ser::{SerializeMap as _, Serializer};
use serde::{Deserialize, Serialize};

use crate::field::ErrorList;
use crate::{GroupKind, GroupResource};

/// `metav1.StatusReason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum Reason {
    Unauthorized,
    Forbidden,
    NotFound,
    AlreadyExists,
    Conflict,
    Gone,
    Invalid,
    ServerTimeout,
    Timeout,
    TooManyRequests,
    BadRequest,
    MethodNotAllowed,
    NotAcceptable,
    RequestEntityTooLarge,
    UnsupportedMediaType,
    InternalError,
    Expired,
    ServiceUnavailable,
    #[default]
    #[serde(other, rename = "")]
    Unknown,
}

/// `metav1.StatusCause`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StatusCause {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
}

/// `metav1.StatusDetails`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StatusDetails {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<StatusCause>,
    #[serde(skip_serializing_if = "is_zero")]
    pub retry_after_seconds: i32,
}

fn is_zero(n: &i32) -> bool {
    *n == 0
}

/// A failed request, or a success without an object.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, thiserror::Error)]
#[serde(rename_all = "camelCase", default)]
#[error("{message}")]
pub struct Status {
    pub kind: String,
    pub api_version: String,
    /// Apart, since it hardly ever says anything and errors are carried around everywhere.
    pub metadata: Box<StatusMeta>,
    pub status: String,
    pub message: String,
    pub reason: Reason,
    pub details: Option<Box<StatusDetails>>,
    pub code: u16,
}

impl Serialize for Status {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("kind", &self.kind)?;
        map.serialize_entry("apiVersion", &self.api_version)?;
        map.serialize_entry("metadata", &self.metadata)?;
        map.serialize_entry("status", &self.status)?;
        if !self.message.is_empty() {
            map.serialize_entry("message", &self.message)?;
        }
        match self.reason {
            Reason::Unknown if self.metadata.own_reason.is_empty() => {}
            Reason::Unknown => map.serialize_entry("reason", &self.metadata.own_reason)?,
            known => map.serialize_entry("reason", &known)?,
        }
        if let Some(details) = &self.details {
            map.serialize_entry("details", details)?;
        }
        if self.code != 0 {
            map.serialize_entry("code", &self.code)?;
        }
        map.end()
    }
}

/// The `metadata` of a Status: empty, but for a list that can only be gone on with in another way.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StatusMeta {
    #[serde(rename = "continue", skip_serializing_if = "String::is_empty")]
    pub continue_: String,
    /// A reason that somebody else made up, in the place of the one that is [`Reason::Unknown`].
    #[serde(skip)]
    pub own_reason: String,
}

const UNKNOWN_PATH: &str = "the server could not find the requested resource";

impl Status {
    /// A failure with this code, reason and message.
    pub fn failure(code: u16, reason: Reason, message: impl Into<String>) -> Self {
        Self {
            kind: "Status".into(),
            api_version: "v1".into(),
            metadata: Box::default(),
            status: "Failure".into(),
            message: message.into(),
            reason,
            details: None,
            code,
        }
    }

    /// What a delete answers when the object is gone at once.
    pub fn deleted(resource: &GroupResource, name: &str, uid: &str) -> Self {
        let details = StatusDetails { uid: uid.into(), ..details(resource, name) };
        Self { status: "Success".into(), details: Some(Box::new(details)), ..Self::failure(0, Reason::Unknown, "") }
    }

    fn with_details(mut self, details: StatusDetails) -> Self {
        self.details = Some(Box::new(details));
        self
    }

    /// 404 for an object.
    pub fn not_found(resource: &GroupResource, name: &str) -> Self {
        Self::failure(404, Reason::NotFound, format!("{resource} \"{name}\" not found"))
            .with_details(details(resource, name))
    }

    /// 404 for a path below a group or version that is served.
    pub fn unknown_path() -> Self {
        Self::failure(404, Reason::NotFound, UNKNOWN_PATH).with_details(StatusDetails::default())
    }

    /// 404 for a path that is no part of the API: it is answered with plain text.
    pub fn no_page() -> Self {
        Self::failure(404, Reason::NotFound, UNKNOWN_PATH)
    }

    /// Whether that is what it says.
    pub fn is_no_page(&self) -> bool {
        self.code == 404 && self.details.is_none() && self.message == UNKNOWN_PATH
    }

    /// 409: the name is taken.
    pub fn already_exists(resource: &GroupResource, name: &str) -> Self {
        Self::failure(409, Reason::AlreadyExists, format!("{resource} \"{name}\" already exists"))
            .with_details(details(resource, name))
    }

    /// 409: the name is taken that was made for an object.
    #[must_use]
    pub fn name_not_generated(self) -> Self {
        let mut status = self;
        status.message.push_str(", the server was not able to generate a unique name for the object");
        status.details.get_or_insert_default().retry_after_seconds = 1;
        status
    }

    /// 409: the object is not in the state that the request assumes.
    pub fn conflict(resource: &GroupResource, name: &str, why: &str) -> Self {
        Self::failure(409, Reason::Conflict, format!("Operation cannot be fulfilled on {resource} \"{name}\": {why}"))
            .with_details(details(resource, name))
    }

    /// 409 with the text for a stale resourceVersion.
    pub fn stale(resource: &GroupResource, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(resource, name, why)
    }

    /// 403 for a request on a resource.
    pub fn forbidden(resource: &GroupResource, name: &str, why: &str) -> Self {
        let message = match (resource.resource.is_empty(), name.is_empty()) {
            (true, _) => format!("forbidden: {why}"),
            (false, true) => format!("{resource} is forbidden: {why}"),
            (false, false) => format!("{resource} \"{name}\" is forbidden: {why}"),
        };
        Self::failure(403, Reason::Forbidden, message).with_details(details(resource, name))
    }

    /// 422 with a cause for each field error.
    pub fn invalid(kind: &GroupKind, name: &str, errors: &ErrorList) -> Self {
        let causes = errors
            .iter()
            .map(|e| StatusCause { reason: e.kind.reason().into(), message: e.error_body(), field: e.field.clone() })
            .collect();
        // The message says the same thing once, the causes as often as it was found.
        let mut said = std::collections::HashSet::new();
        let texts: Vec<String> =
            errors.iter().map(ToString::to_string).filter(|text| said.insert(text.clone())).collect();
        let text = match texts.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        Self::failure(422, Reason::Invalid, format!("{kind} \"{name}\" is invalid: {text}")).with_details(
            StatusDetails {
                name: name.into(),
                group: kind.group.clone(),
                kind: kind.kind.clone(),
                causes,
                ..StatusDetails::default()
            },
        )
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::failure(400, Reason::BadRequest, message)
    }

    /// 401.
    pub fn unauthorized() -> Self {
        Self::failure(401, Reason::Unauthorized, "Unauthorized")
    }

    /// 405 for a verb that the resource does not have.
    pub fn method_not_supported(resource: &GroupResource, verb: &str) -> Self {
        Self::failure(
            405,
            Reason::MethodNotAllowed,
            format!("{verb} is not supported on resources of kind \"{resource}\""),
        )
        .with_details(details(resource, ""))
    }

    /// 405 for a path that serves other methods.
    pub fn method_not_allowed() -> Self {
        Self::failure(405, Reason::MethodNotAllowed, "the server does not allow this method on the requested resource")
            .with_details(StatusDetails::default())
    }

    /// 406 naming what could have been had.
    pub fn not_acceptable(accepted: &[&str]) -> Self {
        Self::not_acceptable_as(format!("only the following media types are accepted: {}", accepted.join(", ")))
    }

    /// 406 where the path has no such media type at all, whatever is shown of its objects.
    pub fn not_acceptable_here(available: &[&str]) -> Self {
        Self::not_acceptable_as(format!("406: Not Acceptable\n\nAvailable representations: {}", available.join(", ")))
            .with_details(StatusDetails::default())
    }

    /// 415 where the path takes no such media type at all.
    pub fn unsupported_here() -> Self {
        Self::failure(415, Reason::UnsupportedMediaType, "415: Unsupported Media Type")
            .with_details(StatusDetails::default())
    }

    /// 406 for a form that the object does not have.
    pub fn not_acceptable_as(message: String) -> Self {
        Self::failure(406, Reason::NotAcceptable, message)
    }

    /// 410: the version asked for is older than the history.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::failure(410, Reason::Expired, message)
    }

    /// 413.
    pub fn too_large(message: impl Into<String>) -> Self {
        Self::failure(413, Reason::RequestEntityTooLarge, message)
    }

    /// 507: the disk of the store is nearly full.
    pub fn insufficient_storage(message: impl Into<String>) -> Self {
        Self::failure(507, Reason::Unknown, message)
    }

    /// 415 naming what is understood.
    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            accepted.join(", ")
        );
        Self::failure(415, Reason::UnsupportedMediaType, message)
    }

    /// 429 with the time to wait.
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: i32) -> Self {
        let details = StatusDetails { retry_after_seconds, ..StatusDetails::default() };
        Self::failure(429, Reason::TooManyRequests, message).with_details(details)
    }

    /// 500.
    pub fn internal(message: impl std::fmt::Display) -> Self {
        let cause = StatusCause { message: message.to_string(), ..StatusCause::default() };
        Self::failure(500, Reason::InternalError, format!("Internal error occurred: {message}"))
            .with_details(StatusDetails { causes: vec![cause], ..StatusDetails::default() })
    }

    /// 503.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::failure(503, Reason::ServiceUnavailable, message)
    }

    /// 504: the work was not done in time.
    pub fn timeout(message: impl Into<String>, retry_after_seconds: i32) -> Self {
        let details = StatusDetails { retry_after_seconds, ..StatusDetails::default() };
        Self::failure(504, Reason::Timeout, format!("Timeout: {}", message.into())).with_details(details)
    }

    /// 504: the version asked for has not happened yet. Clients know it by the cause.
    pub fn too_large_version(message: impl Into<String>) -> Self {
        let cause = StatusCause {
            reason: "ResourceVersionTooLarge".into(),
            message: "Too large resource version".into(),
            ..StatusCause::default()
        };
        let mut status = Self::timeout(message, 1);
        if let Some(details) = &mut status.details {
            details.causes = vec![cause];
        }
        status
    }

    /// Whether this is a failure.
    pub fn is_failure(&self) -> bool {
        self.status != "Success"
    }
}

fn details(resource: &GroupResource, name: &str) -> StatusDetails {
    StatusDetails {
        name: name.into(),
        group: resource.group.clone(),
        kind: resource.resource.clone(),
        ..StatusDetails::default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::field::{Error, Path};

    #[test]
    fn not_found_is_written_as_upstream_writes_it() {
        let status = Status::not_found(&GroupResource::new("apps", "deployments"), "web");
        let want = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"deployments.apps \"web\" not found","reason":"NotFound","details":{"name":"web","group":"apps","kind":"deployments"},"code":404}"#;
        assert_eq!(serde_json::to_string(&status).unwrap(), want);
    }

    #[test]
    fn an_unknown_reason_is_read_without_failing() {
        let status: Status = serde_json::from_str(r#"{"status":"Failure","reason":"Strange","code":499}"#).unwrap();
        assert_eq!((status.reason, status.code), (Reason::Unknown, 499));
    }

    #[test]
    fn what_is_found_twice_is_said_once() {
        let error = Error::required(&Path::new("spec"), "");
        let status = Status::invalid(&GroupKind::new("", "Pod"), "p", &vec![error.clone(), error]);
        assert_eq!(status.message, "Pod \"p\" is invalid: spec: Required value");
        assert_eq!(status.details.unwrap().causes.len(), 2);
    }

    #[test]
    fn several_field_errors_are_put_in_brackets() {
        let spec = Path::new("spec");
        let errors = vec![Error::required(&spec.child("a"), ""), Error::required(&spec.child("b"), "say it")];
        let status = Status::invalid(&GroupKind::new("", "Pod"), "p", &errors);
        assert_eq!(status.message, "Pod \"p\" is invalid: [spec.a: Required value, spec.b: Required value: say it]");
        assert_eq!(status.details.unwrap().causes[1].reason, "FieldValueRequired");
    }
}
