//! An API server of somebody else: a real HTTPS server with one kind, `widgets`, which believes who asks only when an API server of the cluster says it.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kedge_certs::{LeafRequest, Pki, Usage};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use super::TestCluster;

/// What the server serves.
pub const GROUP: &str = "widgets.example.com";

/// What the server does to whoever asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    Helpful,
    /// 503 to everything.
    Unwell,
    /// Bodies without an end where discovery and descriptions are asked for.
    Endless,
}

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: String,
    /// With its query.
    pub path: String,
    headers: Vec<(String, String)>,
}

impl Asked {
    /// All values of a header, joined.
    pub fn header(&self, name: &str) -> String {
        let values = self.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        values.map(|(_, value)| value.as_str()).collect::<Vec<_>>().join(",")
    }
}

#[derive(Default)]
struct Widgets {
    by_key: BTreeMap<(String, String), Value>,
    events: Vec<Value>,
    revision: u64,
}

struct State {
    manner: Mutex<Manner>,
    /// Whether it has aggregated discovery.
    aggregated: AtomicBool,
    asked: Mutex<Vec<Asked>>,
    strangers: AtomicUsize,
    widgets: Mutex<Widgets>,
    written: Condvar,
    stopped: AtomicBool,
}

/// A running server. It listens on all addresses of this host; its threads end with the connections to it.
pub struct Extension {
    port: u16,
    authority: String,
    state: Arc<State>,
    _dir: tempfile::TempDir,
}

impl Extension {
    /// Starts one for a cluster, known as `api.default.svc`.
    pub fn start(cluster: &TestCluster) -> Self {
        let dir = tempfile::Builder::new().prefix("kedge-extension-").tempdir().unwrap();
        let now = time::OffsetDateTime::now_utc();
        let pki = Pki::open(dir.path(), now).unwrap();
        let names = vec!["api.default.svc".to_owned()];
        let request = LeafRequest { common_name: "api".into(), organization: None, names, usage: Usage::Server };
        let leaf = pki.serving("api", &request, now).unwrap();
        let chain = CertificateDer::pem_slice_iter(leaf.certificate.as_bytes()).map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).unwrap();
        let map = cluster.json(&["configmap", "extension-apiserver-authentication", "-n", "kube-system"]);
        let authority = map["data"]["requestheader-client-ca-file"].as_str().unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
        let tls = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let tls = Arc::new(tls.with_client_cert_verifier(clients).with_single_cert(chain, key).unwrap());
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let extension = Self {
            port: listener.local_addr().unwrap().port(),
            authority: STANDARD.encode(&pki.server_ca.certificate),
            state: Arc::new(State {
                manner: Mutex::new(Manner::Helpful),
                aggregated: AtomicBool::new(true),
                asked: Mutex::default(),
                strangers: AtomicUsize::new(0),
                widgets: Mutex::default(),
                written: Condvar::new(),
                stopped: AtomicBool::new(false),
            }),
            _dir: dir,
        };
        let state = extension.state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if state.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (tls, state) = (tls.clone(), state.clone());
                std::thread::spawn(move || serve(stream, tls, &state));
            }
        });
        extension
    }

    /// The `caBundle` that it is trusted by.
    pub fn bundle(&self) -> &str {
        &self.authority
    }

    /// What it does from now on.
    pub fn be(&self, manner: Manner) {
        *self.state.manner.lock().unwrap() = manner;
    }

    /// Whether it has aggregated discovery from now on.
    pub fn aggregate(&self, whether: bool) {
        self.state.aggregated.store(whether, Ordering::SeqCst);
    }

    /// What it has been asked on paths that contain a text.
    pub fn asked(&self, path: &str) -> Vec<Asked> {
        self.state.asked.lock().unwrap().iter().filter(|asked| asked.path.contains(path)).cloned().collect()
    }

    /// How many came whom no API server of the cluster sent.
    pub fn strangers(&self) -> usize {
        self.state.strangers.load(Ordering::SeqCst)
    }

    /// Comes without a certificate, as nobody of the cluster does.
    pub fn come_as_a_stranger(&self) {
        let url = format!("https://127.0.0.1:{}/", self.port);
        let out = std::process::Command::new("curl").args(["-sk", "--max-time", "10", &url]).output().unwrap();
        assert!(!out.status.success(), "a stranger was let in: {out:?}");
    }

    /// Makes the service that leads to it.
    pub fn expose(&self, cluster: &TestCluster) {
        cluster.apply(
            "apiVersion: v1\nkind: Service\nmetadata: {name: api, namespace: default}\n\
             spec: {ports: [{name: https, port: 443}]}\n",
        );
        self.endpoints(cluster);
    }

    /// Makes the endpoints of the service.
    pub fn endpoints(&self, cluster: &TestCluster) {
        let address =
            cluster.ok(&["get", "endpointslice", "kubernetes", "-o", "jsonpath={.endpoints[0].addresses[0]}"]);
        cluster.apply(&format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\n\
             metadata: {{name: api-1, namespace: default, labels: {{kubernetes.io/service-name: api}}}}\n\
             ports: [{{name: https, port: {}}}]\nendpoints: [{{addresses: [{address}]}}]\n",
            self.port
        ));
    }

    /// The API service that leads to the service, as a manifest.
    pub fn api_service(&self, bundle: &str) -> String {
        format!(
            "apiVersion: apiregistration.k8s.io/v1\nkind: APIService\nmetadata: {{name: v1.{GROUP}}}\n\
             spec: {{group: {GROUP}, version: v1, groupPriorityMinimum: 2000, versionPriority: 15, caBundle: {bundle}, \
             service: {{namespace: default, name: api}}}}\n"
        )
    }

    /// Makes the API service, and waits until it is available.
    pub fn register(&self, cluster: &TestCluster) {
        self.expose(cluster);
        cluster.apply(&self.api_service(self.bundle()));
        self.wait(cluster, "True Passed");
    }

    /// Waits until the API service has a status and a reason.
    pub fn wait(&self, cluster: &TestCluster, wanted: &str) {
        let condition = "jsonpath={.status.conditions[0].status} {.status.conditions[0].reason}";
        cluster.wait_for(wanted, &["get", "apiservice", &format!("v1.{GROUP}"), "-o", condition]);
    }
}

impl Drop for Extension {
    fn drop(&mut self) {
        self.state.stopped.store(true, Ordering::SeqCst);
        self.state.written.notify_all();
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

type Stream = BufReader<StreamOwned<ServerConnection, TcpStream>>;

fn serve(mut stream: TcpStream, tls: Arc<ServerConfig>, state: &State) {
    stream.set_read_timeout(Some(Duration::from_secs(300))).unwrap();
    let Ok(mut connection) = ServerConnection::new(tls) else { return };
    while connection.is_handshaking() {
        // Who goes away in the middle, since another one has answered, is no stranger.
        if let Err(err) = connection.complete_io(&mut stream) {
            let is_refused = err.kind() == std::io::ErrorKind::InvalidData;
            state.strangers.fetch_add(usize::from(is_refused), Ordering::SeqCst);
            return;
        }
    }
    let mut stream = BufReader::new(StreamOwned::new(connection, stream));
    loop {
        let Some((asked, body)) = read(&mut stream) else { return };
        state.asked.lock().unwrap().push(asked.clone());
        if !answer(&mut stream, state, &asked, &body) {
            return;
        }
    }
}

fn read(stream: &mut Stream) -> Option<(Asked, Vec<u8>)> {
    let mut line = String::new();
    stream.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let mut words = line.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        line.clear();
        stream.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.push((name.to_owned(), value.to_owned()));
    }
    let asked = Asked { method, path, headers };
    let mut body = Vec::new();
    if asked.header("transfer-encoding") == "chunked" {
        loop {
            line.clear();
            stream.read_line(&mut line).ok()?;
            let mut chunk = vec![0; usize::from_str_radix(line.trim(), 16).ok()? + 2];
            stream.read_exact(&mut chunk).ok()?;
            if chunk.len() == 2 {
                break;
            }
            body.extend_from_slice(&chunk[..chunk.len() - 2]);
        }
    } else if let Ok(length) = asked.header("content-length").parse() {
        body.resize(length, 0);
        stream.read_exact(&mut body).ok()?;
    }
    Some((asked, body))
}

fn send(stream: &mut Stream, code: u16, headers: &str, body: &str) -> bool {
    let head = format!("HTTP/1.1 {code} X\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    stream.get_mut().write_all((head + body).as_bytes()).is_ok()
}

fn send_json(stream: &mut Stream, code: u16, value: &Value) -> bool {
    send(stream, code, "Content-Type: application/json\r\n", &value.to_string())
}

fn failure(code: u16, reason: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": format!("the widget says {reason}"), "reason": reason, "code": code})
}

/// Whether the connection goes on.
fn answer(stream: &mut Stream, state: &State, asked: &Asked, body: &[u8]) -> bool {
    let (path, query) = asked.path.split_once('?').unwrap_or((&asked.path, ""));
    let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    let manner = *state.manner.lock().unwrap();
    let own = [GROUP, "v1"];
    match segments.as_slice() {
        _ if manner == Manner::Unwell => send(stream, 503, "", "unwell"),
        ["apis"] | ["openapi", ..] if manner == Manner::Endless => endless(stream, &asked.header("accept")),
        ["apis"] => {
            if state.aggregated.load(Ordering::SeqCst) && asked.header("accept").contains("APIGroupDiscoveryList") {
                let kind = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
                return send(stream, 200, &format!("Content-Type: {kind}\r\n"), &discovery().to_string());
            }
            send_json(stream, 200, &json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": []}))
        }
        ["apis", group, version] if [*group, version] == own => send_json(stream, 200, &resources()),
        ["openapi", "v3"] => {
            let place = format!("/openapi/v3/apis/{GROUP}/v1?hash=7");
            let paths = json!({format!("apis/{GROUP}/v1"): {"serverRelativeURL": place}, "api/v1": {"serverRelativeURL": "/stolen"}});
            send_json(stream, 200, &json!({ "paths": paths }))
        }
        ["openapi", "v3", "apis", group, version] if [*group, version] == own => send_json(stream, 200, &open_api_v3()),
        ["openapi", "v2"] => send_json(stream, 200, &open_api_v2()),
        ["apis", group, version, "namespaces", namespace, "widgets", rest @ ..] if [*group, version] == own => {
            widget(stream, state, asked, namespace, rest, query, body)
        }
        ["apis", group, version, "widgets"] if [*group, version] == own => {
            widget(stream, state, asked, "", &[], query, body)
        }
        _ => send_json(stream, 404, &failure(404, "NotFound")),
    }
}

/// As much as anybody takes.
fn endless(stream: &mut Stream, accept: &str) -> bool {
    let kind = accept.split(',').next().unwrap_or_default();
    let head = format!("HTTP/1.1 200 X\r\nContent-Type: {kind}\r\nContent-Length: 1073741824\r\n\r\n");
    let piece = vec![b' '; 1 << 16];
    let mut sent = stream.get_mut().write_all(head.as_bytes());
    while sent.is_ok() {
        sent = stream.get_mut().write_all(&piece);
    }
    false
}

fn widget(
    stream: &mut Stream,
    state: &State,
    asked: &Asked,
    namespace: &str,
    rest: &[&str],
    query: &str,
    body: &[u8],
) -> bool {
    let list_kind = |items: Vec<Value>, revision: u64| json!({"apiVersion": format!("{GROUP}/v1"), "kind": "WidgetList", "metadata": {"resourceVersion": revision.to_string()}, "items": items});
    match (asked.method.as_str(), rest) {
        ("GET", [_, "echo"]) => return echo(stream),
        ("GET", [_, "elsewhere"]) => return send(stream, 302, "Location: https://example.com/\r\n", ""),
        ("GET", []) if query.contains("watch=") => return watch(stream, state, namespace, query),
        _ => {}
    }
    let mut widgets = state.widgets.lock().unwrap();
    let key = |name: &str| (namespace.to_owned(), name.to_owned());
    let parsed: Value = serde_json::from_slice(body).unwrap_or_default();
    let (code, answer) = match (asked.method.as_str(), rest) {
        ("GET", []) => {
            let of = widgets.by_key.iter().filter(|((ns, _), _)| namespace.is_empty() || ns == namespace);
            (200, list_kind(of.map(|(_, widget)| widget.clone()).collect(), widgets.revision))
        }
        ("GET", [name]) => match widgets.by_key.get(&key(name)) {
            Some(widget) => (200, widget.clone()),
            None => (404, failure(404, "NotFound")),
        },
        ("POST", []) => {
            let mut widget = parsed;
            let name = widget["metadata"]["name"].as_str().unwrap().to_owned();
            widget["metadata"]["namespace"] = namespace.into();
            widget["metadata"]["uid"] = format!("uid-{name}").into();
            widget["metadata"]["annotations"]["made-by"] = asked.header("x-remote-user").into();
            (201, widgets.put(key(&name), "ADDED", widget))
        }
        ("PUT", [name]) => (200, widgets.put(key(name), "MODIFIED", parsed)),
        ("PATCH", [name]) => {
            let Some(mut widget) = widgets.by_key.get(&key(name)).cloned() else {
                return send_json(stream, 404, &failure(404, "NotFound"));
            };
            merge(&mut widget, &parsed);
            (200, widgets.put(key(name), "MODIFIED", widget))
        }
        ("DELETE", [name]) => match widgets.by_key.remove(&key(name)) {
            Some(widget) => {
                let shown = widgets.put(key(name), "DELETED", widget);
                widgets.by_key.remove(&key(name));
                (200, shown)
            }
            None => (404, failure(404, "NotFound")),
        },
        ("DELETE", []) => {
            widgets.by_key.retain(|(ns, _), _| ns != namespace);
            (200, json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}))
        }
        _ => (405, failure(405, "MethodNotAllowed")),
    };
    state.written.notify_all();
    drop(widgets);
    let warning = "Content-Type: application/json\r\nWarning: 299 - \"widgets are old\"\r\nX-Own: yes\r\n";
    send(stream, code, warning, &answer.to_string())
}

impl Widgets {
    fn put(&mut self, key: (String, String), kind: &str, mut widget: Value) -> Value {
        self.revision += 1;
        widget["metadata"]["resourceVersion"] = self.revision.to_string().into();
        self.by_key.insert(key, widget.clone());
        self.events.push(json!({"type": kind, "object": widget}));
        widget
    }
}

fn merge(into: &mut Value, patch: &Value) {
    for (field, value) in patch.as_object().into_iter().flatten() {
        match value {
            Value::Null => drop(into.as_object_mut().map(|map| map.remove(field))),
            Value::Object(_) => merge(&mut into[field], value),
            _ => into[field] = value.clone(),
        }
    }
}

fn watch(stream: &mut Stream, state: &State, namespace: &str, query: &str) -> bool {
    let head = "HTTP/1.1 200 X\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    if stream.get_mut().write_all(head.as_bytes()).is_err() {
        return false;
    }
    // Every write is one event.
    let since = query.split('&').find_map(|part| part.strip_prefix("resourceVersion="));
    let mut seen: usize = since.and_then(|revision| revision.parse().ok()).unwrap_or_default();
    loop {
        let new: Vec<Value> = {
            let widgets = state.widgets.lock().unwrap();
            let wait = |widgets: &mut Widgets| widgets.events.len() <= seen && !state.stopped.load(Ordering::SeqCst);
            let widgets = state.written.wait_while(widgets, wait).unwrap();
            if state.stopped.load(Ordering::SeqCst) {
                return false;
            }
            let new = widgets.events[seen..].to_vec();
            seen = widgets.events.len();
            new
        };
        for event in new.iter().filter(|e| namespace.is_empty() || e["object"]["metadata"]["namespace"] == namespace) {
            let line = format!("{event}\n");
            let chunk = format!("{:x}\r\n{line}\r\n", line.len());
            if stream.get_mut().write_all(chunk.as_bytes()).and_then(|()| stream.get_mut().flush()).is_err() {
                return false;
            }
        }
    }
}

/// Says back what comes, once protocols have been switched.
fn echo(stream: &mut Stream) -> bool {
    let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
    let mut sent = stream.get_mut().write_all(head.as_bytes());
    let mut bytes = [0; 1_024];
    while sent.is_ok() {
        let Ok(read @ 1..) = stream.read(&mut bytes) else { return false };
        sent = stream.get_mut().write_all(&bytes[..read]).and_then(|()| stream.get_mut().flush());
    }
    false
}

fn discovery() -> Value {
    let kind = json!({"group": GROUP, "version": "v1", "kind": "Widget"});
    let verbs = json!(["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]);
    let widgets = json!({"resource": "widgets", "responseKind": kind, "scope": "Namespaced", "singularResource": "widget", "verbs": verbs, "shortNames": ["wi"]});
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {},
        "items": [{"metadata": {"name": GROUP}, "versions": [{"version": "v1", "freshness": "Current", "resources": [widgets]}]}]})
}

fn resources() -> Value {
    let verbs = json!(["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]);
    let widgets = json!({"name": "widgets", "singularName": "widget", "namespaced": true, "kind": "Widget", "verbs": verbs, "shortNames": ["wi"]});
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": format!("{GROUP}/v1"), "resources": [widgets]})
}

fn schema() -> Value {
    let kind = json!([{"group": GROUP, "version": "v1", "kind": "Widget"}]);
    let size = json!({"type": "integer", "description": "How large the widget is."});
    json!({"type": "object", "description": "A widget of somebody else.", "x-kubernetes-group-version-kind": kind, "properties": {
        "apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"},
        "spec": {"type": "object", "description": "What is wanted.", "properties": {"size": size}}}})
}

fn operations(version: u8) -> Value {
    let query = |name: &str| match version {
        2 => json!({"name": name, "in": "query", "type": "string", "uniqueItems": true}),
        _ => json!({"name": name, "in": "query", "schema": {"type": "string"}}),
    };
    let kind = json!({"group": GROUP, "version": "v1", "kind": "Widget"});
    let names = ["dryRun", "fieldManager", "fieldValidation"].map(query);
    let refers = if version == 2 { "#/definitions/" } else { "#/components/schemas/" };
    let reference = json!({"$ref": format!("{refers}com.example.v1.Widget")});
    let fine = match version {
        2 => json!({"description": "OK", "schema": reference}),
        _ => json!({"description": "OK", "content": {"application/json": {"schema": reference}}}),
    };
    let operation = |action: &str| json!({"x-kubernetes-action": action, "x-kubernetes-group-version-kind": kind, "parameters": names, "responses": {"200": fine}});
    json!({
        format!("/apis/{GROUP}/v1/namespaces/{{namespace}}/widgets"): {"post": operation("post")},
        format!("/apis/{GROUP}/v1/namespaces/{{namespace}}/widgets/{{name}}"): {"get": operation("get"), "patch": operation("patch")},
    })
}

fn open_api_v3() -> Value {
    json!({"openapi": "3.0.0", "info": {"title": "widgets", "version": "1"}, "paths": operations(3),
        "components": {"schemas": {"com.example.v1.Widget": schema()}}})
}

fn open_api_v2() -> Value {
    let mut paths = operations(2);
    paths["/apis/apps/v1/stolen"] = json!({});
    json!({"swagger": "2.0", "info": {"title": "widgets", "version": "1"}, "paths": paths,
        "definitions": {"com.example.v1.Widget": schema(), "unused": {}}})
}
