//! What is recorded at a stage of a request: `audit.k8s.io/v1.Event`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use kedge_base::time::rfc3339_micro;
use kedge_meta::UserInfo;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

/// How much is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Level {
    None,
    /// Who, what, when, and how it ended.
    Metadata,
    /// And the object that came.
    Request,
    /// And the object that was sent back.
    RequestResponse,
}

/// When in the course of a request something is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Stage {
    RequestReceived,
    /// Of those that stream: the head has been sent, the body goes on.
    ResponseStarted,
    ResponseComplete,
    Panic,
}

/// An event. What is not known is left out.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    pub level: Level,
    #[serde(rename = "auditID")]
    pub audit_id: String,
    pub stage: Stage,
    #[serde(rename = "requestURI")]
    pub request_uri: String,
    pub verb: String,
    pub user: User,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub impersonated_user: Option<User>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authentication_metadata: Option<AuthenticationMetadata>,
    #[serde(rename = "sourceIPs", skip_serializing_if = "Vec::is_empty")]
    pub source_ips: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user_agent: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object_ref: Option<ObjectReference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_status: Option<ResponseStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_object: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_object: Option<Value>,
    #[serde(serialize_with = "micros")]
    pub request_received_timestamp: Timestamp,
    #[serde(serialize_with = "micros")]
    pub stage_timestamp: Timestamp,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// `authentication.k8s.io/v1.UserInfo`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct User {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub username: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, Vec<String>>,
}

/// How it was found in whose name a request is made.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthenticationMetadata {
    /// The verb of the constrained impersonation that was allowed.
    pub impersonation_constraint: String,
}

/// What a request is about.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectReference {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub api_group: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub api_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subresource: String,
}

/// How a request ended: the parts of a `metav1.Status` that are bounded.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ResponseStatus {
    pub metadata: serde_json::Map<String, Value>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub status: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<Value>,
    pub code: u16,
}

fn micros<S: Serializer>(at: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&rfc3339_micro(*at))
}

impl From<&UserInfo> for User {
    fn from(user: &UserInfo) -> Self {
        Self {
            username: user.name.clone(),
            uid: user.uid.clone(),
            groups: user.groups.clone(),
            extra: user.extra.clone().into_iter().collect(),
        }
    }
}

const API_VERSION: &str = "audit.k8s.io/v1";

/// What is sent: kind and version come first, as upstream has them.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Typed<T> {
    kind: &'static str,
    api_version: &'static str,
    #[serde(flatten)]
    content: T,
}

#[derive(Serialize)]
struct Items<'a> {
    metadata: serde_json::Map<String, Value>,
    items: &'a [Event],
}

impl Event {
    /// As a line of JSON, without its end.
    ///
    /// # Errors
    /// When it cannot be written so.
    pub fn line(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(&Typed { kind: "Event", api_version: API_VERSION, content: self })
    }

    /// Several as an `EventList`.
    ///
    /// # Errors
    /// When they cannot be written so.
    pub fn list(events: &[Self]) -> serde_json::Result<Vec<u8>> {
        let content = Items { metadata: serde_json::Map::new(), items: events };
        serde_json::to_vec(&Typed { kind: "EventList", api_version: API_VERSION, content })
    }

    /// In the form of one short line of text, as upstream's `legacy`.
    pub fn legacy(&self) -> String {
        let quoted = |text: &str| if text.is_empty() { "\"<none>\"".to_owned() } else { format!("{text:?}") };
        let groups = |user: &User| match user.groups.as_slice() {
            [] => "\"<none>\"".to_owned(),
            groups => groups.iter().map(|group| format!("{group:?}")).collect::<Vec<_>>().join(","),
        };
        let acting = self.impersonated_user.as_ref();
        let asuser = acting.map_or("\"<self>\"".to_owned(), |user| quoted(&user.username));
        let asgroups = acting.map_or("\"<lookup>\"".to_owned(), groups);
        let namespace = self.object_ref.as_ref().map_or("", |object| &object.namespace);
        let code = self.response_status.as_ref().map_or("<deferred>".to_owned(), |status| status.code.to_string());
        format!(
            "{} AUDIT: id={:?} stage={:?} ip={:?} method={:?} user={} groups={} as={asuser} asgroups={asgroups} user-agent={} namespace={} uri={:?} response=\"{code}\"",
            rfc3339_micro(self.stage_timestamp),
            self.audit_id,
            format!("{:?}", self.stage),
            self.source_ips.first().map_or("", String::as_str),
            self.verb,
            quoted(&self.user.username),
            groups(&self.user),
            quoted(&self.user_agent),
            quoted(namespace),
            self.request_uri,
        )
    }
}

#[cfg(test)]
pub(crate) fn event() -> Event {
    Event {
        level: Level::Metadata,
        audit_id: "a".into(),
        stage: Stage::ResponseComplete,
        request_uri: "/api/v1/pods?limit=1".into(),
        verb: "list".into(),
        user: User { username: "jane".into(), groups: vec!["g".into()], ..User::default() },
        impersonated_user: None,
        authentication_metadata: None,
        source_ips: vec!["10.0.0.1".into()],
        user_agent: "kubectl".into(),
        object_ref: Some(ObjectReference { resource: "pods".into(), api_version: "v1".into(), ..Default::default() }),
        response_status: Some(ResponseStatus { code: 200, ..ResponseStatus::default() }),
        request_object: None,
        response_object: None,
        request_received_timestamp: Timestamp::UNIX_EPOCH,
        stage_timestamp: Timestamp::UNIX_EPOCH,
        annotations: BTreeMap::from([("a/b".into(), "c".into())]),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn events_have_upstreams_form() {
        let line = String::from_utf8(event().line().unwrap()).unwrap();
        assert_eq!(
            line,
            concat!(
                r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"a","stage":"ResponseComplete","#,
                r#""requestURI":"/api/v1/pods?limit=1","verb":"list","user":{"username":"jane","groups":["g"]},"sourceIPs":["10.0.0.1"],"#,
                r#""userAgent":"kubectl","objectRef":{"resource":"pods","apiVersion":"v1"},"responseStatus":{"metadata":{},"code":200},"#,
                r#""requestReceivedTimestamp":"1970-01-01T00:00:00.000000Z","stageTimestamp":"1970-01-01T00:00:00.000000Z","#,
                r#""annotations":{"a/b":"c"}}"#
            )
        );
        let list: Value = serde_json::from_slice(&Event::list(&[event()]).unwrap()).unwrap();
        assert_eq!((list["kind"].as_str(), list["items"][0]["verb"].as_str()), (Some("EventList"), Some("list")));
    }

    #[test]
    fn the_short_form_is_one_line() {
        assert_eq!(
            event().legacy(),
            "1970-01-01T00:00:00.000000Z AUDIT: id=\"a\" stage=\"ResponseComplete\" ip=\"10.0.0.1\" method=\"list\" user=\"jane\" groups=\"g\" as=\"<self>\" asgroups=\"<lookup>\" user-agent=\"kubectl\" namespace=\"<none>\" uri=\"/api/v1/pods?limit=1\" response=\"200\""
        );
    }
}
