//! An API in memory and a binder at work on it, for tests. An object is a line, such as `v 1Gi Available claim=c:u class=s by-controller` or
//! `c:u 1Gi Pending volume=v bound`.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use kedge_base::{Shutdown, TaskGroup, system_clock};
use kedge_client::{Body, BoxError, Transport};
use serde_json::{Value, json};

use super::*;
use crate::objects::Pod;

pub(super) const NAMESPACE: &str = "n";
const BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
const COMPLETED: &str = "pv.kubernetes.io/bind-completed";
const CLAIM_KEYS: [(&str, &str); 3] = [
    ("selected", "volume.kubernetes.io/selected-node"),
    ("provisioner", "volume.kubernetes.io/storage-provisioner"),
    ("beta-class", "volume.beta.kubernetes.io/storage-class"),
];

/// Objects by path. Writes need the version that there is; of the writes from a certain one on, all meet another one.
#[derive(Default)]
pub(super) struct Api {
    pub(super) objects: Mutex<BTreeMap<String, Value>>,
    pub(super) writes: Mutex<Vec<String>>,
    conflict_from: Option<usize>,
}

fn merge(object: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else {
        *object = patch.clone();
        return;
    };
    if !object.is_object() {
        *object = json!({});
    }
    for (name, value) in fields {
        if value.is_null() {
            object.as_object_mut().unwrap().remove(name);
        } else {
            merge(&mut object[name], value);
        }
    }
}

impl Api {
    fn answer(&self, request: &Request<Bytes>) -> (StatusCode, Value) {
        let path = request.uri().path();
        let (path, subresource) = path.strip_suffix("/status").map_or((path, ""), |path| (path, "status"));
        let failed = |code: u16, reason: &str| {
            let status =
                json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": reason});
            (StatusCode::from_u16(code).unwrap(), status)
        };
        let mut objects = self.objects.lock();
        let Some(object) = objects.get_mut(path) else { return failed(404, "NotFound") };
        if request.method() == Method::GET {
            return (StatusCode::OK, object.clone());
        }
        let mut writes = self.writes.lock();
        writes.push(format!("{} {path} {subresource}", request.method()));
        if self.conflict_from.is_some_and(|from| writes.len() > from) {
            return failed(409, "Conflict");
        }
        if request.method() == Method::DELETE {
            return (StatusCode::OK, objects.remove(path).unwrap());
        }
        let mut patch: Value = serde_json::from_slice(request.body()).unwrap();
        let version = |object: &Value| object["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
        if version(&patch) != version(object) {
            return failed(409, "Conflict");
        }
        let next = version(object).parse::<u64>().unwrap() + 1;
        patch["metadata"]["resourceVersion"] = next.to_string().into();
        let other = if subresource.is_empty() { "status" } else { "spec" };
        assert!(patch.get(other).is_none(), "{patch} is of the other half");
        merge(object, &patch);
        (StatusCode::OK, object.clone())
    }
}

#[async_trait]
impl Transport for Api {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Body>, BoxError> {
        let (status, answer) = self.answer(&request);
        let body = Full::new(Bytes::from(answer.to_string())).map_err(|never| -> BoxError { match never {} });
        Ok(Response::builder().status(status).body(body.boxed_unsync())?)
    }
}

/// The words of a line behind the third as a map; those without a value are there.
fn words(line: &str) -> (Vec<&str>, BTreeMap<&str, &str>) {
    let all: Vec<&str> = line.split_whitespace().collect();
    let rest = all[3..].iter().map(|word| word.split_once('=').unwrap_or((word, "yes"))).collect();
    (all[..3].to_vec(), rest)
}

pub(super) fn volume_of(line: &str) -> Value {
    let (head, rest) = words(line);
    let get = |key: &str| rest.get(key).copied();
    let mut annotations = json!({});
    get("by-controller").into_iter().for_each(|yes| annotations[BY_CONTROLLER] = yes.into());
    get("made-by").into_iter().for_each(|by| annotations["pv.kubernetes.io/provisioned-by"] = by.into());
    let mut spec = json!({
        "capacity": {"storage": head[1]},
        "accessModes": ["ReadWriteOnce", "ReadOnlyMany"],
        "storageClassName": get("class").unwrap_or_default(),
        "persistentVolumeReclaimPolicy": get("policy").unwrap_or("Retain"),
    });
    if let Some((name, uid)) = get("claim").map(|claim| claim.split_once(':').unwrap_or((claim, ""))) {
        spec["claimRef"] = json!({"namespace": NAMESPACE, "name": name, "uid": uid});
    }
    get("mode").into_iter().for_each(|mode| spec["volumeMode"] = mode.into());
    get("attributes").into_iter().for_each(|class| spec["volumeAttributesClassName"] = class.into());
    get("path").into_iter().for_each(|path| spec["hostPath"] = json!({ "path": path }));
    let labels = get("label").map_or(json!({}), |label| json!({ "l": label }));
    let metadata = json!({"name": head[0], "uid": head[0], "resourceVersion": "1", "labels": labels,
        "annotations": annotations});
    json!({"metadata": metadata, "spec": spec, "status": {"phase": head[2]}})
}

fn line_of_volume(object: &Value) -> String {
    let spec = &object["spec"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (name, phase) = (text(&object["metadata"]["name"]), text(&object["status"]["phase"]));
    let mut line = format!("{name} {} {phase}", text(&spec["capacity"]["storage"]));
    if let Some(claim) = spec.get("claimRef") {
        line += &format!(" claim={}:{}", text(&claim["name"]), text(&claim["uid"]));
        line = line.trim_end_matches(':').to_owned();
    }
    if object["metadata"]["annotations"].get(BY_CONTROLLER).is_some() {
        line += " by-controller";
    }
    line
}

pub(super) fn claim_of(line: &str) -> Value {
    let (head, rest) = words(line);
    let (name, uid) = head[0].split_once(':').unwrap();
    let get = |key: &str| rest.get(key).copied();
    let mut annotations = json!({});
    get("by-controller").into_iter().for_each(|yes| annotations[BY_CONTROLLER] = yes.into());
    get("bound").into_iter().for_each(|yes| annotations[COMPLETED] = yes.into());
    for (word, key) in CLAIM_KEYS {
        get(word).into_iter().for_each(|value| annotations[key] = value.into());
    }
    let modes: Vec<&str> = get("modes").unwrap_or("ReadWriteOnce,ReadOnlyMany").split(',').collect();
    let mut spec = json!({"resources": {"requests": {"storage": head[1]}}, "accessModes": modes});
    get("class").into_iter().for_each(|class| spec["storageClassName"] = if class == "-" { "" } else { class }.into());
    get("volume").into_iter().for_each(|volume| spec["volumeName"] = volume.into());
    get("mode").into_iter().for_each(|mode| spec["volumeMode"] = mode.into());
    get("attributes").into_iter().for_each(|class| spec["volumeAttributesClassName"] = class.into());
    get("label").into_iter().for_each(|label| spec["selector"] = json!({"matchLabels": {"l": label}}));
    let mut status = json!({"phase": head[2]});
    if let Some(has) = get("has") {
        status["capacity"] = json!({ "storage": has });
        status["accessModes"] = json!(["ReadWriteOnce", "ReadOnlyMany"]);
    }
    let metadata = json!({"name": name, "namespace": NAMESPACE, "uid": uid, "resourceVersion": "1",
        "annotations": annotations});
    json!({"metadata": metadata, "spec": spec, "status": status})
}

fn line_of_claim(object: &Value) -> String {
    let (meta, spec, status) = (&object["metadata"], &object["spec"], &object["status"]);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let size = text(&spec["resources"]["requests"]["storage"]);
    let mut line = format!("{}:{} {size} {}", text(&meta["name"]), text(&meta["uid"]), text(&status["phase"]));
    for (word, value) in [
        ("volume", &spec["volumeName"]),
        ("class", &spec["storageClassName"]),
        ("has", &status["capacity"]["storage"]),
        ("has-attributes", &status["currentVolumeAttributesClassName"]),
        ("provisioner", &meta["annotations"][CLAIM_KEYS[1].1]),
    ] {
        value
            .as_str()
            .iter()
            .for_each(|value| line += &format!(" {word}={}", if value.is_empty() { "-" } else { value }));
    }
    for (word, key) in [("by-controller", BY_CONTROLLER), ("bound", COMPLETED)] {
        if meta["annotations"].get(key).is_some() {
            line += &format!(" {word}");
        }
    }
    line
}

fn path_of(object: &Value) -> String {
    let name = object["metadata"]["name"].as_str().unwrap();
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("/api/v1/namespaces/{namespace}/persistentvolumeclaims/{name}"),
        None => format!("/api/v1/persistentvolumes/{name}"),
    }
}

/// A binder and what it is told of and has said.
pub(super) struct World {
    pub(super) api: Arc<Api>,
    binder: Arc<Binder>,
    pub(super) said: Arc<Mutex<Vec<String>>>,
}

impl World {
    /// `unseen` is there, but the informers have not told of it.
    pub(super) fn new(seen: &[Value], unseen: &[Value], pods: Vec<Pod>, conflict_from: Option<usize>) -> Self {
        Self::with_classes(seen, unseen, pods, conflict_from, Vec::new())
    }

    pub(super) fn with_classes(
        seen: &[Value],
        unseen: &[Value],
        pods: Vec<Pod>,
        conflict_from: Option<usize>,
        more: Vec<Value>,
    ) -> Self {
        let objects = seen.iter().chain(unseen).map(|object| (path_of(object), object.clone())).collect();
        let api = Arc::new(Api { objects: Mutex::new(objects), conflict_from, ..Api::default() });
        let of =
            |claims: bool| seen.iter().filter(move |o| o["metadata"].get("namespace").is_some() == claims).cloned();
        let claims = of(true).map(|o| serde_json::from_value(o).unwrap()).collect();
        let volumes = of(false).map(|o| serde_json::from_value(o).unwrap()).collect();
        let class = |name: &str, provisioner: &str, mode: &str| json!({"metadata": {"name": name}, "provisioner": provisioner, "volumeBindingMode": mode});
        let classes = vec![
            class("wait", "example.com/x", "WaitForFirstConsumer"),
            class("made", "example.com/x", "Immediate"),
            class("static", "kubernetes.io/no-provisioner", "Immediate"),
            class("migrated", "kubernetes.io/gce-pd", "Immediate"),
            class("host", "kubernetes.io/host-path", "Immediate"),
        ];
        let classes = classes.into_iter().chain(more).map(|class| serde_json::from_value(class).unwrap()).collect();
        let tasks = TaskGroup::new("test", Shutdown::new());
        let clock = system_clock();
        let claims: Informer<Claim> = Informer::fixed(&resources::PERSISTENT_VOLUME_CLAIMS, claims);
        let volumes: Informer<Volume> = Informer::fixed(&resources::PERSISTENT_VOLUMES, volumes);
        let said = Arc::new(Mutex::new(Vec::new()));
        let heard = said.clone();
        let binder = Arc::new(Binder {
            client: Client::new(api.clone()),
            queue: WorkQueue::new(clock.clone(), &tasks),
            classes: Informer::fixed(&resources::STORAGE_CLASSES, classes),
            pods: PodsByClaim::new(&Informer::fixed(&resources::PODS, pods)),
            index: Mutex::default(),
            meters: Arc::new(Meters::new(&clock, &claims, &volumes)),
            files: Blocking::new("test", clock, tasks.ledger(), 1, 1),
            tell: Box::new(move |_, _, reason, message| heard.lock().push(format!("{reason}: {message}"))),
            claims,
            volumes,
        });
        binder.follow();
        Self { api, binder, said }
    }

    pub(super) async fn sync(&self, what: &str) -> Result<(), Error> {
        match what.split_once(' ').unwrap() {
            ("claim", name) => self.binder.sync_claim(&ObjectKey::new(NAMESPACE, name)).await,
            (_, name) => self.binder.sync_volume(name).await,
        }
    }

    pub(super) fn lines(&self) -> Vec<String> {
        let objects = self.api.objects.lock();
        let line =
            |o: &Value| if o["metadata"].get("namespace").is_some() { line_of_claim(o) } else { line_of_volume(o) };
        objects.values().map(line).collect()
    }
}

/// An object by its line: a claim has a uid.
pub(super) fn object_of(line: &str) -> Value {
    if line.split_whitespace().next().unwrap().contains(':') { claim_of(line) } else { volume_of(line) }
}
