//! WATCH: a stream of frames that all watchers share.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use http::Response;
use http_body::Frame;
use http_body_util::BodyExt as _;
use kedge_base::{BoxFuture, SharedClock, Shutdown};
use kedge_meta::{Reason, Status, fields};
use kedge_registry::verbs::store_failure;
use kedge_registry::{Served, convert};
use kedge_schema::encode;
use kedge_storage::{EventKind, Matcher, Next, Object, ResourceStore, WatchEvent, Watcher};
use serde_json::{Value, json};

use crate::admitted::Admitted;
use crate::body::{Body, BodyError, full};
use crate::input::negotiate::{self, Accepted, Format, Offer, Shape};
use crate::input::request_info::RequestInfo;
use crate::listing::{self, Selection};
use crate::output::{protobuf, respond, table};
use crate::server::ApiServer;

/// Without a timeout from the client, a watch ends after this time plus a random part of it, so that clients spread.
const MIN_SECONDS: u64 = 1_800;
/// Frames that are made before the client has taken those before them.
const READY_BYTES: usize = 128 << 10;
/// Objects of the state that are converted at a time, when that has to be waited for.
const CONVERTED: usize = 100;
/// Between bookmarks.
const BOOKMARK: Duration = Duration::from_secs(60);

/// How an event becomes a line for one client.
struct Form {
    served: Arc<Served>,
    accepted: Accepted,
    options: table::Options,
    /// Whether the columns have been told: the first table of a watch has them, the others do not.
    has_columns: bool,
    clock: SharedClock,
}

pub(crate) async fn handle(
    server: &Arc<ApiServer>,
    admitted: &Admitted,
    served: &Arc<Served>,
) -> Result<Response<Body>, Status> {
    let info = &admitted.info;
    let accepted = negotiate::accepted(admitted.request.headers(), Offer::stream(&served.info))?;
    let Selection { stored, shown } = listing::selection(info, served)?;
    let (state, watcher) = match begin(info, served, stored).await {
        Ok(begun) => begun,
        // As upstream: once a request is understood, what is wrong with its version is an event. Some clients list again
        // only when they are told so by one, and would begin a watch that is refused again and again as it was.
        Err(status) if matches!(status.code, 410 | 504) => {
            let error = error_event(accepted.format, &status);
            return Ok(respond::stream(full(error), accepted.format));
        }
        Err(status) => return Err(status),
    };
    let form = Form {
        served: served.clone(),
        accepted,
        options: table::Options::from_query(info)?,
        has_columns: false,
        clock: server.clock.clone(),
    };
    let bookmarks = info.flag("allowWatchBookmarks");
    let initial_end = (state.is_some() && bookmarks).then(|| watcher.seen());
    let seconds = match info.param("timeoutSeconds") {
        "" | "0" => MIN_SECONDS + kedge_base::random::u64() % MIN_SECONDS,
        text => text.parse().map_err(|_| Status::bad_request(format!("invalid timeoutSeconds {text:?}")))?,
    };
    let stream = WatchBody {
        ready: VecDeque::new(),
        state: state.unwrap_or_default().into_iter(),
        initial_end,
        form,
        shown,
        bookmarks,
        end: server.clock.sleep(Duration::from_secs(seconds)),
        step: None,
        watcher: Some(watcher),
        shutdown: server.shutdown.clone(),
    };
    Ok(respond::stream(stream.boxed_unsync(), accepted.format))
}

/// The state that the watch begins with, if it does with one, and what follows on it.
async fn begin(
    info: &RequestInfo,
    served: &Served,
    matcher: Matcher,
) -> Result<(Option<Vec<Arc<Object>>>, Watcher), Status> {
    listing::check_options(info)?;
    let (scope, version) = (served.scope(&info.namespace), info.param("resourceVersion"));
    // A watch that names no version, or any, begins with the state unless it says otherwise.
    let anywhere = matches!(version, "" | "0");
    let initial = info.optional_flag("sendInitialEvents").unwrap_or(anywhere);
    if version.is_empty() || initial {
        listing::not_older_than(served, version).await?;
    }
    if initial {
        let (state, watcher) = served.store.watch_with_state(&scope, matcher).map_err(store_failure)?;
        return Ok((Some(state), watcher));
    }
    let version: u64 = match anywhere {
        true => served.store.revision(),
        false => listing::version_of(version).map_err(|why| Status::failure(500, Reason::Unknown, why))?,
    };
    let watcher = served.store.watch(&scope, matcher, version).await.map_err(store_failure)?;
    Ok((None, watcher))
}

impl Form {
    /// Whether an event is as all other watchers get it.
    fn is_plain(&self, object: &Object) -> bool {
        self.is_stored(object) && self.accepted.format == Format::Json
    }

    /// Whether an object is shown as it is stored.
    fn is_stored(&self, object: &Object) -> bool {
        self.accepted.shape == Shape::Object && self.served.shows(object)
    }

    /// Whether all events are plain, which can be said without a look at their objects.
    fn is_all_plain(&self) -> bool {
        self.accepted.shape == Shape::Object && self.served.shows_all() && self.accepted.format == Format::Json
    }

    fn added(&mut self, object: &Object) -> Result<Bytes, Status> {
        if self.is_plain(object) {
            return Ok(ResourceStore::added_frame(object));
        }
        self.object("ADDED", object)
    }

    fn event(&mut self, kind: EventKind, event: &Arc<WatchEvent>) -> Result<Bytes, Status> {
        if self.is_all_plain() {
            return Ok(event.frame(kind));
        }
        let object = event.shown(kind).ok_or_else(no_object)?;
        if self.is_plain(&object) {
            return Ok(event.frame(kind));
        }
        self.object(name(kind), &object)
    }

    fn object(&mut self, kind: &str, object: &Object) -> Result<Bytes, Status> {
        if let (true, Some(ty)) = (self.is_stored(object), self.served.info.schema.builtin()) {
            return Ok(protobuf::event(kind, &protobuf::stored(&self.served, ty, object)?));
        }
        let value = convert::read(&self.served, object)?;
        Ok(self.shown(kind, value))
    }

    /// An event with an object in the shape that was asked for.
    fn shown(&mut self, kind: &str, value: Value) -> Bytes {
        let shown = match self.accepted.shape {
            Shape::Object => value,
            Shape::Metadata | Shape::MetadataList => table::partial_metadata(&value, &self.accepted.meta_version()),
            Shape::Table => {
                let version = value["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
                let rows = table::Rows::new(&self.served.printer, self.options, self.accepted, self.clock.now());
                let mut table = rows.table(std::slice::from_ref(&value), &table::ListMeta::at(&version));
                if std::mem::replace(&mut self.has_columns, true) {
                    table["columnDefinitions"] = Value::Null;
                }
                table
            }
        };
        event(self.accepted.format, kind, &shown)
    }

    fn bookmark(&mut self, revision: u64, initial_end: bool) -> Bytes {
        let mut metadata = json!({ "resourceVersion": revision.to_string() });
        if initial_end {
            metadata["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
        }
        let info = &self.served.info;
        let object = json!({ "kind": info.kind, "apiVersion": info.api_version(), "metadata": metadata });
        self.shown("BOOKMARK", object)
    }

    fn error(&self, status: &Status) -> Bytes {
        error_event(self.accepted.format, status)
    }
}

fn name(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Added => "ADDED",
        EventKind::Modified => "MODIFIED",
        EventKind::Deleted => "DELETED",
    }
}

fn no_object() -> Status {
    Status::internal("an event without its object")
}

/// What an event is to a watcher that selects by what objects are shown as, and its object, which somebody else has been asked to
/// convert. `kind` is what it is by what is stored alone.
async fn converted(
    served: &Served,
    shown: &fields::Selector,
    kind: EventKind,
    event: &WatchEvent,
) -> Result<Option<(EventKind, Value)>, Status> {
    if shown.is_everything() {
        let object = event.shown(kind).ok_or_else(no_object)?;
        return Ok(Some((kind, convert::read_later(served, &object).await?)));
    }
    let before = if kind == EventKind::Added { None } else { event.shown(EventKind::Deleted) };
    let after = if kind == EventKind::Deleted { None } else { event.shown(EventKind::Modified) };
    let was_there = before.is_some();
    let objects: Vec<Arc<Object>> = before.into_iter().chain(after).map(Arc::new).collect();
    let mut values = convert::read_all(served, &objects).await?.into_iter();
    let mut next = |there: bool| if there { values.next() } else { None };
    let (before, after) = (next(was_there), next(kind != EventKind::Deleted));
    let selected = |value: &Value| listing::selects(shown, value);
    let (before, after) = (before.filter(selected), after.filter(selected));
    Ok(match (before, after) {
        (None, Some(after)) => Some((EventKind::Added, after)),
        (Some(_), Some(after)) => Some((EventKind::Modified, after)),
        (Some(before), None) => Some((EventKind::Deleted, before)),
        (None, None) => None,
    })
}

fn event(format: Format, kind: &str, object: &Value) -> Bytes {
    if format == Format::Protobuf {
        return protobuf::event_of(kind, object);
    }
    let mut line = format!("{{\"type\":\"{kind}\",\"object\":").into_bytes();
    // A tree can be written either way; only the order of its fields differs.
    let json = encode::to_json(object).unwrap_or_else(|_| object.to_string().into_bytes());
    line.extend_from_slice(json.trim_ascii_end());
    line.extend_from_slice(b"}\n");
    line.into()
}

fn error_event(format: Format, status: &Status) -> Bytes {
    event(format, "ERROR", &serde_json::to_value(status).unwrap_or_default())
}

/// What one wait ended with.
enum Step {
    Next(Next),
    /// An event whose object had to be waited for.
    Converted(Result<Option<(EventKind, Value)>, Status>),
    /// Objects of the state that the watch begins with.
    State(Result<Vec<Value>, Status>),
    Bookmark,
    Shutdown,
}

/// The body of a watch: frames that are ready, then whatever the watcher brings.
struct WatchBody {
    ready: VecDeque<Bytes>,
    /// What was there at the beginning. Each becomes a frame when the client takes it: all clients come back at once after
    /// a restart, and copies of everything for each of them could be more than there is memory.
    state: std::vec::IntoIter<Arc<Object>>,
    /// The revision at which this was all, which a bookmark says.
    initial_end: Option<u64>,
    form: Form,
    /// What is watched for beside what the watcher looks at.
    shown: fields::Selector,
    bookmarks: bool,
    end: BoxFuture<'static, ()>,
    /// The wait under way; it holds the watcher meanwhile.
    step: Option<BoxFuture<'static, (Watcher, Step)>>,
    watcher: Option<Watcher>,
    shutdown: Shutdown,
}

impl WatchBody {
    /// Whether objects have to be converted by somebody before it is known what they are to this client.
    fn waits(&self) -> bool {
        self.form.served.waits() || !self.shown.is_everything()
    }

    /// The next frame that needs no waiting.
    fn next_ready(&mut self) -> Option<Bytes> {
        if let Some(frame) = self.ready.pop_front() {
            return Some(frame);
        }
        if self.waits() && self.state.len() > 0 {
            return None;
        }
        let Some(object) = self.state.next() else {
            // While the watcher is away the last of the state may still be on its way.
            self.watcher.as_ref()?;
            return self.initial_end.take().map(|revision| self.form.bookmark(revision, true));
        };
        let frame = self.form.added(&object).unwrap_or_else(|status| {
            // The error is the last thing that this watch says.
            (self.state, self.initial_end, self.watcher) = (Vec::new().into_iter(), None, None);
            self.form.error(&status)
        });
        Some(frame)
    }

    fn wait(&mut self) -> Option<BoxFuture<'static, (Watcher, Step)>> {
        let mut watcher = self.watcher.take()?;
        let waits = self.waits().then(|| (self.form.served.clone(), self.shown.clone()));
        if let Some((served, shown)) = waits.clone().filter(|_| self.state.len() > 0) {
            let some: Vec<Arc<Object>> = self.state.by_ref().take(CONVERTED).collect();
            return Some(Box::pin(async move {
                let values = convert::read_all(&served, &some).await.map(|mut values| {
                    values.retain(|value| listing::selects(&shown, value));
                    values
                });
                (watcher, Step::State(values))
            }));
        }
        let bookmark = self.form.clock.sleep(BOOKMARK);
        let shutdown = self.shutdown.clone();
        Some(Box::pin(async move {
            let step = tokio::select! {
                next = watcher.next() => Step::Next(next),
                () = bookmark => Step::Bookmark,
                () = shutdown.requested() => Step::Shutdown,
            };
            let step = match (step, waits) {
                (Step::Next(Next::Event(kind, event)), Some((served, shown))) => {
                    Step::Converted(converted(&served, &shown, kind, &event).await)
                }
                (step, _) => step,
            };
            (watcher, step)
        }))
    }

    /// Takes in the end of a wait, and every event that is there already. False ends the stream.
    fn take_in(&mut self, mut watcher: Watcher, step: Step) -> bool {
        let mut next = match step {
            Step::Shutdown | Step::Next(Next::Closed) => return false,
            Step::Bookmark => {
                let applied = self.form.served.store.revision();
                if let Some(revision) = watcher.bookmark(applied).filter(|_| self.bookmarks) {
                    let bookmark = self.form.bookmark(revision, false);
                    self.ready.push_back(bookmark);
                }
                self.watcher = Some(watcher);
                return true;
            }
            Step::Converted(event) => {
                let events = event.map(|event| event.into_iter().map(|(kind, value)| (name(kind), value)).collect());
                return self.take_values(watcher, events);
            }
            Step::State(values) => {
                let events = values.map(|values| values.into_iter().map(|value| ("ADDED", value)).collect());
                return self.take_values(watcher, events);
            }
            Step::Next(Next::Failed(err)) => Err(store_failure(err)),
            Step::Next(Next::Event(kind, event)) => Ok(Some((kind, event))),
        };
        loop {
            match next.and_then(|event| event.map(|(kind, event)| self.form.event(kind, &event)).transpose()) {
                Ok(Some(frame)) => self.ready.push_back(frame),
                Ok(None) => break,
                Err(status) => {
                    // The error is the last thing that this watch says.
                    let error = self.form.error(&status);
                    self.ready.push_back(error);
                    return true;
                }
            }
            // What a client does not take is held for it alone.
            if self.ready.len() >= 64 || self.ready.iter().map(Bytes::len).sum::<usize>() >= READY_BYTES {
                break;
            }
            next = watcher.try_next().map_err(store_failure);
        }
        self.watcher = Some(watcher);
        true
    }
}

impl WatchBody {
    /// Takes in objects that have been converted.
    fn take_values(&mut self, watcher: Watcher, events: Result<Vec<(&str, Value)>, Status>) -> bool {
        match events {
            Ok(events) => {
                for (kind, value) in events {
                    let frame = self.form.shown(kind, value);
                    self.ready.push_back(frame);
                }
                self.watcher = Some(watcher);
            }
            Err(status) => {
                // The error is the last thing that this watch says.
                (self.state, self.initial_end) = (Vec::new().into_iter(), None);
                self.ready.push_back(self.form.error(&status));
            }
        }
        true
    }
}

impl http_body::Body for WatchBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            if let Some(frame) = self.next_ready() {
                return Poll::Ready(Some(Ok(Frame::data(frame))));
            }
            if self.end.poll_unpin(cx).is_ready() {
                return Poll::Ready(None);
            }
            if self.step.is_none() {
                self.step = self.wait();
            }
            let Some(step) = &mut self.step else { return Poll::Ready(None) };
            let Poll::Ready((watcher, step)) = step.poll_unpin(cx) else { return Poll::Pending };
            self.step = None;
            if !self.take_in(watcher, step) {
                return Poll::Ready(None);
            }
        }
    }
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
