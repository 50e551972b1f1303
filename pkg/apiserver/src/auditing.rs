//! What is recorded of requests, where there is a policy that asks for it.
//!
//! Invariants: where there is no policy nothing is done; what a policy does not ask for is neither kept nor decoded; every request that is
//! recorded as received is recorded as ended once, however it ends.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Response, StatusCode, Uri, header};
use http_body_util::BodyExt as _;
use jiff::Timestamp;
use kedge_audit::{
    Asked, AuthenticationMetadata, Event, Level, ObjectReference, Policy, ResponseStatus, Sink, Stage, Verdict,
};
use kedge_base::exposition::Exposition;
use kedge_base::{SharedClock, TaskGroup};
use kedge_meta::{Status, UserInfo};
use kedge_registry::Notes;
use kedge_schema::decode::Limits;
use kedge_schema::{SchemaRef, protobuf};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::body::{Body, BodyError, Kept, full, is_whole};
use crate::input::negotiate::{self, BodyFormat};
use crate::input::request_info::RequestInfo;

/// As upstream.
const LONGEST_AGENT: usize = 1_024;
/// What is kept of an answer for its record; one that is longer is left out of it, and that is said.
const LONGEST_ANSWER: usize = 8 << 20;
/// So many long answers are read at a time.
const READING: usize = 2;
const CUT: &str = "audit.k8s.io/truncated";

/// What is recorded, and where.
pub struct Auditing {
    policy: Policy,
    sink: Sink,
    /// Long answers that are read at a time.
    reading: Semaphore,
}

/// The record of a request. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Record(Arc<Inner>);

struct Inner {
    auditing: Arc<Auditing>,
    verdict: Verdict,
    long_running: bool,
    event: Mutex<Event>,
    kept: Kept,
    format: Option<BodyFormat>,
    notes: Notes,
    clock: SharedClock,
}

/// A record that ends, however its request does: also when its client goes away in the middle, and what was begun is dropped.
pub(crate) struct Unfinished {
    record: Option<Record>,
    tasks: TaskGroup,
}

impl Unfinished {
    pub(crate) fn new(record: &Record, tasks: &TaskGroup) -> Self {
        Self { record: Some(record.clone()), tasks: tasks.clone() }
    }

    /// The record, which is ended by whoever takes it.
    pub(crate) fn take(mut self) -> Option<Record> {
        self.record.take()
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let Some(record) = self.record.take() else { return };
        self.tasks.spawn("audit", async move { record.closed_early().await });
    }
}

/// What is known of a request from its head.
pub(crate) struct Head<'a> {
    pub uri: &'a Uri,
    pub headers: &'a HeaderMap,
    pub info: &'a RequestInfo,
    pub client: Option<IpAddr>,
    pub audit_id: &'a HeaderValue,
    pub received: Timestamp,
}

impl Auditing {
    /// By a policy, to a sink.
    pub fn new(policy: Policy, sink: Sink) -> Self {
        Self { policy, sink, reading: Semaphore::new(READING) }
    }

    /// Begins a record, if the policy wants one. `user` is who was found to ask.
    pub(crate) fn begin(
        self: &Arc<Self>,
        head: &Head<'_>,
        user: Option<&UserInfo>,
        notes: &Notes,
        clock: &SharedClock,
    ) -> Option<Record> {
        let Head { uri, headers, info, client, audit_id, received } = head;
        let verdict = self.policy.judge(&Asked {
            user,
            verb: &info.verb,
            group: &info.group,
            resource: &info.resource,
            subresource: &info.subresource,
            namespace: &info.namespace,
            name: &info.name,
            path: &info.path,
            is_resource: info.is_resource,
        });
        self.sink.counts.judged(verdict.level);
        if verdict.level == Level::None {
            return None;
        }
        let object_ref = info.is_resource.then(|| ObjectReference {
            resource: info.resource.clone(),
            namespace: info.namespace.clone(),
            name: info.name.clone(),
            api_group: info.group.clone(),
            api_version: info.version.clone(),
            subresource: info.subresource.clone(),
            ..ObjectReference::default()
        });
        let event = Event {
            level: verdict.level,
            audit_id: audit_id.to_str().unwrap_or_default().to_owned(),
            stage: Stage::RequestReceived,
            request_uri: uri.path_and_query().map_or_else(|| uri.path().to_owned(), ToString::to_string),
            verb: info.verb.clone(),
            user: user.map(Into::into).unwrap_or_default(),
            impersonated_user: None,
            authentication_metadata: None,
            source_ips: sources(headers, *client),
            user_agent: agent(headers),
            object_ref,
            response_status: None,
            request_object: None,
            response_object: None,
            request_received_timestamp: *received,
            stage_timestamp: *received,
            annotations: Default::default(),
        };
        Some(Record(Arc::new(Inner {
            auditing: self.clone(),
            verdict,
            long_running: info.is_long_running(),
            event: Mutex::new(event),
            kept: Kept::default(),
            format: request_format(headers),
            notes: notes.clone(),
            clock: clock.clone(),
        })))
    }

    /// Writes out its metrics.
    pub(crate) fn show(&self, out: &mut Exposition) {
        let counts = &self.sink.counts;
        let value = |of: &std::sync::atomic::AtomicU64| of.load(std::sync::atomic::Ordering::Relaxed) as f64;
        let help = "[ALPHA] Counter of audit events generated and sent to the audit backend.";
        out.single("apiserver_audit_event_total", "counter", help, value(&counts.events));
        out.family(
            "apiserver_audit_level_total",
            "counter",
            "[ALPHA] Counter of policy levels for audit events (1 per request).",
        );
        for (level, count) in ["None", "Metadata", "Request", "RequestResponse"].iter().zip(&counts.levels) {
            out.sample("apiserver_audit_level_total", &[("level", level)], value(count));
        }
        let help = "[ALPHA] Counter of audit events that failed to be audited properly. Plugin identifies the plugin affected by the error.";
        out.family("apiserver_audit_error_total", "counter", help);
        for (plugin, count) in ["log", "webhook"].iter().zip(&counts.lost) {
            out.sample("apiserver_audit_error_total", &[("plugin", plugin)], value(count));
        }
    }
}

/// The form of what is sent: of an object, or of a patch.
fn request_format(headers: &HeaderMap) -> Option<BodyFormat> {
    match negotiate::content_type(headers).as_str() {
        negotiate::APPLY => Some(BodyFormat::Yaml),
        patch if patch.ends_with("patch+json") => Some(BodyFormat::Json),
        _ => negotiate::body_format(headers).ok(),
    }
}

/// Where a request comes from, the first who sent it first.
fn sources(headers: &HeaderMap, client: Option<IpAddr>) -> Vec<String> {
    let forwarded = headers.get("x-forwarded-for").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut all: Vec<IpAddr> = forwarded.split(',').filter_map(|one| one.trim().parse().ok()).take(16).collect();
    if all.is_empty() {
        let real = headers.get("x-real-ip").and_then(|value| value.to_str().ok());
        all.extend(real.and_then(|real| real.trim().parse::<IpAddr>().ok()));
    }
    all.extend(client.filter(|client| all.last() != Some(client)));
    all.into_iter().map(|one| one.to_canonical().to_string()).collect()
}

fn agent(headers: &HeaderMap) -> String {
    let agent = headers.get(header::USER_AGENT).map(HeaderValue::as_bytes).unwrap_or_default();
    let text = String::from_utf8_lossy(&agent[..agent.len().min(LONGEST_AGENT)]).into_owned();
    if agent.len() > LONGEST_AGENT { text + "...TRUNCATED" } else { text }
}

/// What was shown by one who is not known, in upstream's words.
pub(crate) fn attempted(headers: &HeaderMap, certificates: bool) -> String {
    let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let scheme = authorization.split_once(' ').map(|(scheme, _)| scheme.to_ascii_lowercase()).unwrap_or_default();
    let shown = ["basic", "bearer"].into_iter().filter(|known| *known == scheme);
    let shown: Vec<_> = shown.chain(certificates.then_some("x509")).collect();
    match shown.is_empty() {
        true => "Authentication failed, no credentials provided".to_owned(),
        false => format!("Authentication failed, attempted: {}", shown.join(", ")),
    }
}

// === impl Record ===

impl Record {
    /// Where the body of the request is to be kept.
    pub(crate) fn kept(&self) -> Kept {
        self.0.kept.clone()
    }

    /// The request is made in the name of somebody else.
    pub(crate) fn impersonates(&self, user: &UserInfo, constraint: Option<String>) {
        let mut event = self.0.event.lock();
        event.impersonated_user = Some(user.into());
        event.authentication_metadata =
            constraint.map(|impersonation_constraint| AuthenticationMetadata { impersonation_constraint });
    }

    /// The request has come.
    pub(crate) async fn received(&self) {
        self.record(Stage::RequestReceived).await;
    }

    /// Nobody is known to ask; what was tried.
    pub(crate) async fn unknown(&self, attempted: String) {
        let code = StatusCode::UNAUTHORIZED.as_u16();
        let status = ResponseStatus { message: attempted, code, ..ResponseStatus::default() };
        self.0.event.lock().response_status = Some(status);
        self.record(Stage::ResponseStarted).await;
    }

    /// Nobody is there any more whom it could be answered.
    async fn closed_early(&self) {
        self.take_request();
        self.note();
        let (status, message) = ("Success".to_owned(), "Connection closed early".to_owned());
        let code = StatusCode::OK.as_u16();
        self.0.event.lock().response_status = Some(ResponseStatus { status, message, code, ..Default::default() });
        if self.0.long_running {
            self.record(Stage::ResponseStarted).await;
        }
        self.record(Stage::ResponseComplete).await;
    }

    /// It has ended in a panic.
    pub(crate) async fn panicked(&self, status: &Status) {
        self.0.event.lock().response_status = Some(of(status));
        self.note();
        self.record(Stage::Panic).await;
    }

    /// It is answered so, or by somebody else if it was `passed_on`; the answer, whose end is recorded if it has not come yet.
    pub(crate) async fn answered(
        self,
        response: Response<Body>,
        (failure, passed_on): (Option<&Status>, bool),
        tasks: &TaskGroup,
    ) -> Response<Body> {
        self.take_request();
        self.note();
        let code = response.status().as_u16();
        let status = failure.map_or_else(|| ResponseStatus { code, ..ResponseStatus::default() }, of);
        self.0.event.lock().response_status = Some(status);
        if self.0.long_running {
            self.record(Stage::ResponseStarted).await;
            return self.wrapped(response, false, tasks);
        }
        let wants = self.0.verdict.level == Level::RequestResponse;
        let format = response.headers().get(header::CONTENT_TYPE).and_then(format_of);
        if !is_whole(response.body()) {
            return self.wrapped(response, wants && !passed_on && format.is_some(), tasks);
        }
        let (head, body) = response.into_parts();
        // It is there already.
        let Ok(bytes) = body.collect().await.map(http_body_util::Collected::to_bytes) else {
            self.record(Stage::ResponseComplete).await;
            return Response::from_parts(head, full(Bytes::new()));
        };
        if failure.is_none() && !passed_on {
            self.take_answer(format, &bytes, wants);
        } else if wants && !passed_on {
            self.0.event.lock().response_object = failure.and_then(|status| serde_json::to_value(status).ok());
        }
        self.record(Stage::ResponseComplete).await;
        Response::from_parts(head, full(bytes))
    }

    /// An answer that goes on, whose end is recorded.
    fn wrapped(self, response: Response<Body>, keeps: bool, tasks: &TaskGroup) -> Response<Body> {
        let format = response.headers().get(header::CONTENT_TYPE).and_then(format_of);
        let tasks = tasks.clone();
        response.map(|body| {
            Followed {
                body,
                ends: Some(Ending { record: self, format, tasks }),
                seen: keeps.then(BytesMut::new),
                cut: false,
            }
            .boxed_unsync()
        })
    }

    /// What has been noted for the audit.
    fn note(&self) {
        self.0.event.lock().annotations.extend(self.0.notes.annotations());
    }

    /// What of the request's body is recorded.
    fn take_request(&self) {
        let Some(bytes) = self.0.kept.take().filter(|bytes| !bytes.is_empty()) else { return };
        let Some(mut object) = self.0.format.and_then(|format| decoded(format, &bytes)) else { return };
        let mut event = self.0.event.lock();
        if let Some(about) = event.object_ref.as_mut().filter(|_| object.get("kind").is_some()) {
            let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
            for (place, field) in [
                (&mut about.namespace, "namespace"),
                (&mut about.name, "name"),
                (&mut about.uid, "uid"),
                (&mut about.resource_version, "resourceVersion"),
            ] {
                if place.is_empty() {
                    *place = text(field);
                }
            }
        }
        if self.0.verdict.level >= Level::Request {
            self.without_managed_fields(&mut object);
            event.request_object = Some(object);
        }
    }

    /// What of an answer is recorded: how it ended, if it says so, and all of it if it is wanted.
    fn take_answer(&self, format: Option<BodyFormat>, bytes: &Bytes, wants: bool) {
        const STATUS: &[u8] = br#"{"kind":"Status""#;
        if !wants && !bytes.starts_with(STATUS) {
            return;
        }
        let Some(mut object) = format.and_then(|format| decoded(format, bytes)) else { return };
        let mut event = self.0.event.lock();
        if object["kind"] == "Status"
            && let Ok(status) = serde_json::from_value::<ResponseStatus>(object.clone())
        {
            let code = event.response_status.as_ref().map_or(status.code, |sent| sent.code);
            event.response_status = Some(ResponseStatus { metadata: Default::default(), code, ..status });
        }
        if wants {
            self.without_managed_fields(&mut object);
            event.response_object = Some(object);
        }
    }

    fn without_managed_fields(&self, object: &mut Value) {
        if !self.0.verdict.omit_managed_fields {
            return;
        }
        let strip = |object: &mut Value| {
            if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
                metadata.remove("managedFields");
            }
        };
        strip(object);
        object.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten().for_each(strip);
        let rows = object.get_mut("rows").and_then(Value::as_array_mut).into_iter().flatten();
        rows.filter_map(|row| row.get_mut("object")).for_each(strip);
    }

    async fn record(&self, stage: Stage) {
        if !self.0.verdict.records(stage) {
            return;
        }
        let event = {
            let mut event = self.0.event.lock();
            event.stage = stage;
            if stage != Stage::RequestReceived {
                event.stage_timestamp = self.0.clock.now();
            }
            event.clone()
        };
        self.0.auditing.sink.record(&event).await;
    }
}

fn of(status: &Status) -> ResponseStatus {
    let value = serde_json::to_value(status).ok().and_then(|value| serde_json::from_value(value).ok());
    let status: ResponseStatus = value.unwrap_or_else(|| ResponseStatus { code: status.code, ..Default::default() });
    ResponseStatus { metadata: Default::default(), ..status }
}

fn format_of(content_type: &HeaderValue) -> Option<BodyFormat> {
    let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, content_type.clone())]);
    negotiate::body_format(&headers).ok()
}

/// An object in whatever form, as a tree.
fn decoded(format: BodyFormat, bytes: &Bytes) -> Option<Value> {
    let limits = Limits::default();
    match format {
        // What is read here is our own, too, which may be larger than what anybody may send.
        BodyFormat::Json => serde_json::from_slice(bytes).ok(),
        BodyFormat::Yaml => kedge_schema::decode_yaml(bytes, &limits).ok().map(|decoded| decoded.value),
        BodyFormat::Protobuf => {
            let envelope = protobuf::envelope(bytes).ok()?;
            let (group, version) = envelope.api_version.split_once('/').unwrap_or(("", &envelope.api_version));
            let schema = SchemaRef::builtin_kind(group, version, &envelope.kind)?;
            let mut value = protobuf::decode(schema.builtin()?, envelope.raw).ok()?;
            if let Value::Object(map) = &mut value {
                map.insert("apiVersion".into(), envelope.api_version.to_string().into());
                map.insert("kind".into(), envelope.kind.to_string().into());
            }
            Some(value)
        }
    }
}

/// What is left to be recorded when an answer ends.
struct Ending {
    record: Record,
    format: Option<BodyFormat>,
    tasks: TaskGroup,
}

/// An answer that is sent, and kept for the record if that is wanted.
struct Followed {
    body: Body,
    ends: Option<Ending>,
    seen: Option<BytesMut>,
    cut: bool,
}

impl Followed {
    fn end(&mut self) {
        let Some(Ending { record, format, tasks }) = self.ends.take() else { return };
        record.note();
        if self.cut {
            record.0.event.lock().annotations.insert(CUT.to_owned(), "true".to_owned());
        }
        let seen = self.seen.take().map(BytesMut::freeze);
        tasks.spawn("audit", async move {
            if let Some(seen) = seen {
                // What is made of an answer is a multiple of it, and takes a while.
                let _one_of_few = record.0.auditing.reading.acquire().await;
                let reader = record.clone();
                let read = move || reader.take_answer(format, &seen, true);
                if let Err(panicked) = kedge_base::blocking::unbounded("audit", read).await {
                    tracing::warn!(error = %panicked, "an answer cannot be recorded");
                }
            }
            record.record(Stage::ResponseComplete).await;
        });
    }
}

impl http_body::Body for Followed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                let this = &mut *self;
                if let (Some(seen), Some(data)) = (&mut this.seen, frame.data_ref()) {
                    if seen.len() + data.len() > LONGEST_ANSWER {
                        (this.seen, this.cut) = (None, true);
                    } else {
                        seen.extend_from_slice(data);
                    }
                }
            }
            Some(Err(_)) | None => self.end(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.end();
    }
}
