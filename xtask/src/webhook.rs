//! A webhook for tests and benchmarks: a real HTTPS server that answers reviews by the path on which it is asked.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kedge_certs::{LeafRequest, Pki, Usage};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

/// How long a connection may lie idle.
const IDLE: Duration = Duration::from_secs(300);

/// What a webhook answers.
pub enum Reply {
    /// The `response` of a review; its uid is filled in.
    Response(Value),
    /// A code and a body.
    Raw(u16, String),
    /// Nothing, for longer than anybody waits.
    Silence,
}

type Answer = dyn Fn(&str, &Value) -> Reply + Send + Sync;

/// A running webhook. It listens on all addresses of this host; its threads end with the connections to it.
pub struct Webhook {
    port: u16,
    authority: String,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
    stopped: Arc<AtomicBool>,
}

/// Lets everything pass.
pub fn allow() -> Reply {
    Reply::Response(json!({"allowed": true}))
}

impl Webhook {
    /// Starts one with a certificate for this host, and for `hook.default.svc`. Its keys are made in a directory.
    ///
    /// # Errors
    /// When it has no keys, or no port.
    pub fn start(dir: &Path, answer: impl Fn(&str, &Value) -> Reply + Send + Sync + 'static) -> anyhow::Result<Self> {
        let now = time::OffsetDateTime::now_utc();
        let pki = Pki::open(dir, now)?;
        let tls = Arc::new(config(&pki, now)?);
        let listener = TcpListener::bind("0.0.0.0:0")?;
        let hook = Self {
            port: listener.local_addr()?.port(),
            authority: STANDARD.encode(&pki.server_ca.certificate),
            asked: Arc::default(),
            stopped: Arc::default(),
        };
        let (answer, asked, stopped): (Arc<Answer>, _, _) =
            (Arc::new(answer), hook.asked.clone(), hook.stopped.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (tls, answer, asked) = (tls.clone(), answer.clone(), asked.clone());
                std::thread::spawn(move || {
                    // A client that goes away in the middle is its own affair.
                    let _ = serve(stream, tls, &*answer, &asked);
                });
            }
        });
        Ok(hook)
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The `caBundle` that it is trusted by.
    pub fn bundle(&self) -> &str {
        &self.authority
    }

    /// The requests that it has been asked about on a path.
    pub fn asked(&self, path: &str) -> Vec<Value> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.iter().filter(|(on, _)| on == path).map(|(_, request)| request.clone()).collect()
    }

    /// A webhook of a configuration, asked on `/<name>` about all that is done to config maps; `fields` are put over that.
    pub fn hook(&self, name: &str, fields: &Value) -> Value {
        let mut hook = json!({
            "name": format!("{name}.example.com"), "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "clientConfig": {"url": format!("https://127.0.0.1:{}/{name}", self.port), "caBundle": self.authority},
            "rules": [{"operations": ["CREATE", "UPDATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "default"}},
        });
        for (field, value) in fields.as_object().into_iter().flatten() {
            hook[field] = value.clone();
        }
        hook
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// A configuration, as a manifest.
pub fn configuration(kind: &str, name: &str, hooks: &[Value]) -> Value {
    json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": format!("{kind}WebhookConfiguration"),
        "metadata": {"name": name}, "webhooks": hooks})
}

fn config(pki: &Pki, now: time::OffsetDateTime) -> anyhow::Result<ServerConfig> {
    let names = ["127.0.0.1", "localhost", "hook.default.svc"].map(str::to_owned).to_vec();
    let request = LeafRequest { common_name: "hook".into(), organization: None, names, usage: Usage::Server };
    let leaf = pki.serving("hook", &request, now)?;
    let chain = CertificateDer::pem_slice_iter(leaf.certificate.as_bytes()).collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(leaf.key.as_bytes())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(tls.with_no_client_auth().with_single_cert(chain, key)?)
}

/// Answers requests until the other side is gone.
fn serve(
    stream: TcpStream,
    tls: Arc<ServerConfig>,
    answer: &Answer,
    asked: &Mutex<Vec<(String, Value)>>,
) -> anyhow::Result<()> {
    stream.set_read_timeout(Some(IDLE))?;
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(StreamOwned::new(ServerConnection::new(tls)?, stream));
    while let Some((path, body)) = request(&mut stream) {
        let review = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body)? };
        // What is no review is taken as a whole.
        let request = review.get("request").unwrap_or(&review);
        asked.lock().unwrap_or_else(PoisonError::into_inner).push((path.clone(), request.clone()));
        let (code, body) = match answer(&path, request) {
            Reply::Response(mut response) => {
                response["uid"] = request["uid"].clone();
                let (version, kind) = (&review["apiVersion"], &review["kind"]);
                (200, json!({"apiVersion": version, "kind": kind, "response": response}).to_string())
            }
            Reply::Raw(code, body) => (code, body),
            Reply::Silence => {
                // Until the one who asked has given up.
                let _ = stream.read(&mut [0]);
                return Ok(());
            }
        };
        let head =
            format!("HTTP/1.1 {code} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.get_mut().write_all((head + &body).as_bytes())?;
    }
    Ok(())
}

/// The path of a request, without its query, and its body.
fn request(stream: &mut BufReader<impl Read>) -> Option<(String, Vec<u8>)> {
    let mut line = String::new();
    stream.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let path = line.split(' ').nth(1)?.split('?').next()?.to_owned();
    let mut length = 0;
    loop {
        line.clear();
        stream.read_line(&mut line).ok().filter(|read| *read > 0)?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.parse().ok()?,
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some((path, body))
}
