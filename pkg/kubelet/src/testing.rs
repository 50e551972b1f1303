//! An API server in memory for tests: enough of create, get, list, watch, patch and delete for one kubelet.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use kedge_client::{Body, BoxError, Client, Transport};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::broadcast;

#[derive(Clone)]
struct Event {
    path: String,
    kind: &'static str,
    object: Value,
}

struct State {
    version: u64,
    /// By path, such as `/api/v1/namespaces/a/pods/b`.
    objects: BTreeMap<String, Value>,
    log: Vec<Event>,
}

/// The server.
pub(crate) struct FakeApi {
    state: Mutex<State>,
    events: broadcast::Sender<Event>,
    away: AtomicBool,
}

impl FakeApi {
    pub(crate) fn new() -> Arc<FakeApi> {
        let state = State { version: 1, objects: BTreeMap::new(), log: Vec::new() };
        Arc::new(FakeApi {
            state: Mutex::new(state),
            events: broadcast::Sender::new(1024),
            away: AtomicBool::new(false),
        })
    }

    /// Whether nobody answers.
    pub(crate) fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::Relaxed);
    }

    pub(crate) fn client(self: &Arc<Self>) -> Client {
        Client::new(Arc::new(InProcess(self.clone())))
    }

    pub(crate) fn get(&self, path: &str) -> Option<Value> {
        self.state.lock().objects.get(path).cloned()
    }

    /// The objects whose path begins like this.
    pub(crate) fn list(&self, prefix: &str) -> Vec<Value> {
        let state = self.state.lock();
        state.objects.iter().filter(|(path, _)| path.starts_with(prefix)).map(|(_, o)| o.clone()).collect()
    }

    /// Stores an object and tells the watchers.
    pub(crate) fn put(&self, path: &str, mut object: Value) -> Value {
        let mut state = self.state.lock();
        state.version += 1;
        object["metadata"]["resourceVersion"] = json!(state.version.to_string());
        let old = state.objects.insert(path.to_string(), object.clone());
        let kind = if old.is_some() { "MODIFIED" } else { "ADDED" };
        self.tell(&mut state, Event { path: path.to_string(), kind, object: object.clone() });
        object
    }

    pub(crate) fn remove(&self, path: &str) {
        let mut state = self.state.lock();
        state.version += 1;
        if let Some(mut object) = state.objects.remove(path) {
            object["metadata"]["resourceVersion"] = json!(state.version.to_string());
            self.tell(&mut state, Event { path: path.to_string(), kind: "DELETED", object });
        }
    }

    fn tell(&self, state: &mut State, event: Event) {
        state.log.push(event.clone());
        let _ = self.events.send(event);
    }

    fn handle(&self, method: &Method, path: &str, query: &str, body: &[u8]) -> (StatusCode, Value) {
        let sent = || serde_json::from_slice::<Value>(body).unwrap_or_default();
        let missing = || (StatusCode::NOT_FOUND, failure(404, "NotFound"));
        let whole = path.strip_suffix("/status").unwrap_or(path);
        match *method {
            Method::POST => {
                let mut object = sent();
                if object["metadata"]["uid"].is_null() {
                    object["metadata"]["uid"] = json!(format!("uid-{}", self.state.lock().version));
                }
                let path = format!("{path}/{}", object["metadata"]["name"].as_str().unwrap_or("generated"));
                if self.get(&path).is_some() {
                    return (StatusCode::CONFLICT, failure(409, "AlreadyExists"));
                }
                (StatusCode::CREATED, self.put(&path, object))
            }
            Method::PUT => (StatusCode::OK, self.put(whole, sent())),
            Method::PATCH => {
                let Some(mut object) = self.get(whole) else { return missing() };
                merge(&mut object, sent());
                (StatusCode::OK, self.put(whole, object))
            }
            Method::DELETE => {
                self.remove(path);
                (StatusCode::OK, json!({"kind": "Status", "status": "Success"}))
            }
            _ => match self.get(path) {
                Some(object) => (StatusCode::OK, object),
                None if is_collection(path) => {
                    let items: Vec<Value> = self.list_all(path).into_iter().filter(|o| selected(o, query)).collect();
                    let version = self.state.lock().version.to_string();
                    (StatusCode::OK, json!({"metadata": {"resourceVersion": version}, "items": items}))
                }
                None => missing(),
            },
        }
    }

    fn list_all(&self, path: &str) -> Vec<Value> {
        let state = self.state.lock();
        state.objects.iter().filter(|(p, _)| belongs(p, path)).map(|(_, o)| o.clone()).collect()
    }

    fn watch(&self, path: &str, query: &str) -> Body {
        let from: u64 = parameter(query, "resourceVersion").parse().unwrap_or_default();
        let (path, query) = (path.to_string(), query.to_string());
        let state = self.state.lock();
        let newer =
            |e: &&Event| e.object["metadata"]["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap() > from;
        let missed: Vec<Event> = state.log.iter().filter(newer).cloned().collect();
        let receiver = self.events.subscribe();
        drop(state);
        let live = stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await.ok()?, receiver)) });
        let all = futures::StreamExt::chain(stream::iter(missed), live);
        let lines = futures::StreamExt::filter_map(all, move |event| {
            let wanted = belongs(&event.path, &path) && selected(&event.object, &query);
            let line = wanted.then(|| format!("{}\n", json!({"type": event.kind, "object": event.object})));
            async move { line.map(|l| Ok::<_, BoxError>(Frame::data(Bytes::from(l)))) }
        });
        StreamBody::new(lines).boxed_unsync()
    }
}

fn failure(code: u16, reason: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code, "reason": reason,
        "message": reason})
}

fn is_collection(path: &str) -> bool {
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let rest = if parts[0] == "api" { &parts[2..] } else { &parts[3..] };
    matches!(rest, [_] | ["namespaces", _, _])
}

/// Whether an object's path is of a collection, of all namespaces too.
fn belongs(object: &str, collection: &str) -> bool {
    let Some((parent, _)) = object.rsplit_once('/') else { return false };
    if parent == collection {
        return true;
    }
    let (Some((base, plural)), Some((front, last))) = (collection.rsplit_once('/'), parent.rsplit_once('/')) else {
        return false;
    };
    last == plural && front.strip_prefix(base).is_some_and(|rest| rest.starts_with("/namespaces/"))
}

fn parameter(query: &str, name: &str) -> String {
    let found = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    percent_encoding::percent_decode_str(found.unwrap_or_default()).decode_utf8_lossy().into_owned()
}

fn selected(object: &Value, query: &str) -> bool {
    let selector = parameter(query, "fieldSelector");
    selector.split(',').filter(|s| !s.is_empty()).all(|one| {
        let (field, value) = one.split_once('=').unwrap();
        object.pointer(&format!("/{}", field.replace('.', "/"))).and_then(Value::as_str) == Some(value)
    })
}

/// A merge patch that also knows the lists of a pod's status which merge by type.
fn merge(target: &mut Value, patch: Value) {
    let Value::Object(fields) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, value) in fields {
        match (name.as_str(), &value) {
            ("$patch", _) => {}
            (_, Value::Null) => {
                target.as_object_mut().unwrap().remove(&name);
            }
            ("conditions", Value::Array(new)) => {
                let list = target[&name].as_array().cloned().unwrap_or_default();
                let replaced = |c: &Value| new.iter().any(|n| n["type"] == c["type"]);
                let mut list: Vec<Value> = list.into_iter().filter(|c| !replaced(c)).collect();
                list.extend(new.iter().cloned());
                target[&name] = Value::Array(list);
            }
            (_, Value::Array(new)) => {
                let plain = new.iter().filter(|v| v.get("$patch").is_none()).cloned();
                target[&name] = Value::Array(plain.collect());
            }
            _ => merge(&mut target[&name], value),
        }
    }
}

struct InProcess(Arc<FakeApi>);

#[async_trait]
impl Transport for InProcess {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Body>, BoxError> {
        if self.0.away.load(Ordering::Relaxed) {
            return Err("nobody answers".into());
        }
        let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
        if query.contains("watch=true") {
            return Ok(Response::new(self.0.watch(path, query)));
        }
        let (status, value) = self.0.handle(request.method(), path, query, request.body());
        let body = Full::new(Bytes::from(value.to_string())).map_err(|never| match never {}).boxed_unsync();
        Ok(Response::builder().status(status).body(body)?)
    }
}
