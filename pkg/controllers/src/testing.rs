//! An API in memory for tests of controllers: objects by their paths, and what was asked of them.
//!
//! It knows no kinds, and gives out no version twice. Watches tell what is written from then on.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use kedge_base::{SharedClock, Shutdown, TaskGroup, VirtualClock};
use kedge_client::{Body, BoxError, Client, Transport};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::context::Context;

/// The API.
#[derive(Default)]
pub struct Api {
    objects: Mutex<BTreeMap<String, Value>>,
    calls: Mutex<Vec<Call>>,
    /// Answers that come once each, by method and path.
    prepared: Mutex<Vec<(Method, String, u16)>>,
    groups: Mutex<Vec<Value>>,
    version: Mutex<u64>,
    watchers: Mutex<Vec<(String, mpsc::Sender<Bytes>)>>,
}

/// A request that changed something, or was to.
#[derive(Debug, Clone)]
pub struct Call {
    pub method: Method,
    pub path: String,
    pub body: Value,
}

/// A running API with the context of controllers on it, at a time that only moves when told to.
pub struct Bench {
    pub api: Arc<Api>,
    pub clock: VirtualClock,
    pub ctx: Context,
}

impl Bench {
    /// With these objects at the first list.
    pub fn new(objects: Vec<(&str, Value)>) -> Self {
        let api = Arc::new(Api::default());
        objects.into_iter().for_each(|(path, object)| api.put(path, object));
        let clock = VirtualClock::new("2026-01-01T12:00:00Z".parse().unwrap());
        let shared: SharedClock = Arc::new(clock.clone());
        let tasks = TaskGroup::new("test", Shutdown::new());
        let ctx = Context::new(&Client::new(api.clone()), &shared, &tasks, &crate::Settings::default());
        Self { api, clock, ctx }
    }

    /// Moves time on by seconds, one at a time, so that what is due in between is done in between.
    pub async fn advance(&self, seconds: u64) {
        for _ in 0..seconds {
            settle().await;
            self.clock.advance(Duration::from_secs(1));
            settle().await;
        }
    }
}

/// Lets all tasks run until they wait for time.
async fn settle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

impl Api {
    /// Puts an object there as somebody else would.
    pub fn put(&self, path: &str, mut object: Value) {
        *self.version.lock() += 1;
        object["metadata"]["resourceVersion"] = self.version.lock().to_string().into();
        let old = self.objects.lock().insert(path.to_owned(), object.clone());
        self.tell(path, if old.is_some() { "MODIFIED" } else { "ADDED" }, &object);
    }

    fn tell(&self, path: &str, kind: &str, object: &Value) {
        let line = event(kind, object);
        self.watchers
            .lock()
            .retain(|(collection, watcher)| !is_in(path, collection) || watcher.try_send(line.clone()).is_ok());
    }

    /// What is written to a collection after a version.
    fn watch(&self, collection: &str, query: &str) -> Body {
        let after = query.split('&').find_map(|part| part.strip_prefix("resourceVersion="));
        let after: u64 = after.and_then(|version| version.parse().ok()).unwrap_or_default();
        let (watcher, lines) = mpsc::channel(1024);
        let objects = self.objects.lock();
        for (_, object) in objects.iter().filter(|(path, _)| is_in(path, collection)) {
            let version: u64 = object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
            if version > after {
                watcher.try_send(event("MODIFIED", object)).unwrap();
            }
        }
        self.watchers.lock().push((collection.to_owned(), watcher));
        let frames = futures::stream::unfold(lines, |mut lines| async {
            lines.recv().await.map(|line| (Ok::<_, BoxError>(Frame::data(line)), lines))
        });
        StreamBody::new(frames).boxed_unsync()
    }

    /// Takes an object away as somebody else would.
    pub fn remove(&self, path: &str) {
        if let Some(mut object) = self.objects.lock().remove(path) {
            *self.version.lock() += 1;
            object["metadata"]["resourceVersion"] = self.version.lock().to_string().into();
            self.tell(path, "DELETED", &object);
        }
    }

    /// The object at a path; `null` if there is none.
    pub fn object(&self, path: &str) -> Value {
        self.objects.lock().get(path).cloned().unwrap_or_default()
    }

    /// What was written so far to paths that contain a text.
    pub fn calls(&self, path: &str) -> Vec<Call> {
        self.calls.lock().iter().filter(|call| call.path.contains(path)).cloned().collect()
    }

    /// Reasons and messages of the events so far.
    pub fn events(&self) -> Vec<String> {
        let text = |value: &Value, field: &str| value[field].as_str().unwrap_or_default().to_owned();
        let calls = self.calls("/events").into_iter().filter(|call| call.method == Method::POST);
        calls.map(|call| format!("{}: {}", text(&call.body, "reason"), text(&call.body, "message"))).collect()
    }

    /// The next request of that kind fails so.
    pub fn refuse(&self, method: Method, path: &str, code: u16) {
        self.prepared.lock().push((method, path.to_owned(), code));
    }

    /// Serves a kind, as discovery tells it.
    pub fn serve(&self, group: &str, version: &str, plural: &str, kind: &str) {
        let resource = json!({"resource": plural, "scope": "Namespaced", "verbs": ["get", "list"],
            "responseKind": {"group": "", "version": "", "kind": kind}});
        let version = json!({"version": version, "resources": [resource]});
        self.groups.lock().push(json!({"metadata": {"name": group}, "versions": [version]}));
    }

    fn read(&self, path: &str) -> (u16, Value) {
        if matches!(path, "/api" | "/apis") {
            let core = path == "/api";
            let groups = self.groups.lock();
            let groups: Vec<&Value> = groups.iter().filter(|g| (g["metadata"]["name"] == "") == core).collect();
            return (200, json!({"kind": "APIGroupDiscoveryList", "items": groups}));
        }
        if let Some(object) = self.objects.lock().get(path) {
            return (200, object.clone());
        }
        if !is_collection(path) {
            return missing(path);
        }
        let objects = self.objects.lock();
        let items: Vec<&Value> = objects.iter().filter(|(of, _)| is_in(of, path)).map(|(_, object)| object).collect();
        (200, json!({"metadata": {"resourceVersion": self.version.lock().to_string()}, "items": items}))
    }

    fn write(&self, method: &Method, path: &str, body: Value) -> (u16, Value) {
        if method == Method::POST {
            let mut body = body;
            let name = body["metadata"]["name"].as_str().map(str::to_owned);
            let name = name.unwrap_or_else(|| format!("made-{}", self.version.lock()));
            body["metadata"]["name"] = name.as_str().into();
            if let Some(namespace) = path.split("/namespaces/").nth(1).and_then(|rest| rest.split('/').next()) {
                body["metadata"]["namespace"] = namespace.into();
            }
            let path = format!("{path}/{name}");
            if self.objects.lock().contains_key(&path) {
                return (409, status(409, "AlreadyExists"));
            }
            self.put(&path, body);
            return (201, self.object(&path));
        }
        if method == Method::DELETE {
            let object = self.object(path);
            self.remove(path);
            return if object.is_null() { missing(path) } else { (200, object) };
        }
        // A subresource that is not an object of its own is a part of its object.
        let whole = path.rsplit_once('/').map(|(whole, _)| whole).unwrap_or_default();
        let at = if self.objects.lock().contains_key(path) { path } else { whole };
        let Some(mut object) = self.objects.lock().get(at).cloned() else { return missing(path) };
        let version = &body["metadata"]["resourceVersion"];
        if !version.is_null() && *version != object["metadata"]["resourceVersion"] {
            return (409, status(409, "Conflict"));
        }
        if method == Method::PUT {
            object = body
        } else {
            merge(&mut object, body)
        }
        self.put(at, object);
        (200, self.object(at))
    }
}

/// A namespace's or a cluster's objects of one kind.
fn is_collection(path: &str) -> bool {
    let segments: Vec<&str> = path.split('/').skip(if path.starts_with("/api/") { 3 } else { 4 }).collect();
    matches!(segments.as_slice(), [_] | ["namespaces", _, _])
}

fn is_in(object: &str, collection: &str) -> bool {
    let Some((of, _)) = object.rsplit_once('/') else { return false };
    let mut anywhere = of.to_owned();
    if let Some((group, rest)) = of.split_once("/namespaces/")
        && let Some((_, plural)) = rest.split_once('/')
    {
        anywhere = format!("{group}/{plural}");
    }
    of == collection || anywhere == collection
}

fn merge(into: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else { return *into = patch };
    if !into.is_object() {
        *into = json!({});
    }
    let object = into.as_object_mut().unwrap();
    for (key, value) in patch {
        if value.is_null() {
            object.remove(&key);
        } else {
            merge(object.entry(key).or_insert(Value::Null), value);
        }
    }
}

fn event(kind: &str, object: &Value) -> Bytes {
    Bytes::from(format!("{}\n", json!({"type": kind, "object": object})))
}

fn status(code: u16, reason: &str) -> Value {
    json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": format!("made to fail: {reason}")})
}

fn missing(path: &str) -> (u16, Value) {
    let name = path.rsplit('/').next();
    let mut status = status(404, "NotFound");
    status["details"] = json!({"name": name});
    (404, status)
}

#[async_trait]
impl Transport for Api {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Body>, BoxError> {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        if let Some(query) = request.uri().query().filter(|query| query.contains("watch=true")) {
            return Ok(Response::new(self.watch(&path, query)));
        }
        let body: Value = serde_json::from_slice(request.body()).unwrap_or_default();
        if method != Method::GET {
            self.calls.lock().push(Call { method: method.clone(), path: path.clone(), body: body.clone() });
        }
        let refused = {
            let mut prepared = self.prepared.lock();
            let at = prepared.iter().position(|(of, at, _)| *of == method && *at == path);
            at.map(|at| prepared.remove(at).2)
        };
        let (code, answer) = match refused {
            Some(409) => (409, status(409, "Conflict")),
            Some(code) => (code, status(code, "InternalError")),
            None if method == Method::GET => self.read(&path),
            None => self.write(&method, &path, body),
        };
        let body = Full::new(Bytes::from(answer.to_string())).map_err(|never| -> BoxError { match never {} });
        Ok(Response::builder().status(code).body(body.boxed_unsync())?)
    }
}
