//! Calls to servers that answer, and to those that do not.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::sync::atomic::{AtomicUsize, Ordering};

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use kedge_base::net::DirectDialer;
use kedge_base::{Shutdown, system_clock};
use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::{Target, Unresolved};

/// A server that answers by the path that it is asked on.
struct Hook {
    address: String,
    pem: Vec<u8>,
    connections: Arc<AtomicUsize>,
}

async fn answer(request: Request<Incoming>, asked: Arc<AtomicUsize>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let times = asked.fetch_add(1, Ordering::SeqCst);
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let reply = |code: u16, text: String| {
        Response::builder().status(StatusCode::from_u16(code).unwrap()).body(Full::new(text.into())).unwrap()
    };
    Ok(match head.uri.path() {
        "/slow" => std::future::pending().await,
        "/large" => reply(200, "x".repeat(MAX_ANSWER + 1)),
        "/broken" => reply(500, "oh".to_owned()),
        "/busy" if times == 0 => {
            let mut busy = reply(429, String::new());
            busy.headers_mut().insert(header::RETRY_AFTER, "0".parse().unwrap());
            busy
        }
        _ => {
            let agent = head.headers[header::USER_AGENT].to_str().unwrap();
            let body = String::from_utf8_lossy(&body);
            let target = head.uri.path_and_query().unwrap();
            let bearer = head.headers.get(header::AUTHORIZATION).map_or("", |bearer| bearer.to_str().unwrap());
            reply(200, format!("{:?} {agent} {target} {body}{bearer}", head.version))
        }
    })
}

async fn hook(names: &[&str]) -> Hook {
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let certificate = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let (tls, listener) = (TlsAcceptor::from(Arc::new(tls)), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let address = listener.local_addr().unwrap().to_string();
    let (connections, asked) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counted = connections.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            let (tls, asked) = (tls.clone(), asked.clone());
            tokio::spawn(async move {
                let Ok(stream) = tls.accept(stream).await else { return };
                let service = service_fn(move |request| answer(request, asked.clone()));
                let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    Hook { address, pem: certificate.pem().into_bytes(), connections }
}

/// One service at one address.
struct At(String);

impl Services for At {
    fn resolve(&self, namespace: &str, name: &str, port: u16) -> Result<String, Unresolved> {
        match (namespace, name, port) {
            ("a", "s", 443) => Ok(self.0.clone()),
            _ => Err(Unresolved(format!("service {name:?} not found"))),
        }
    }
}

fn caller(service: &str) -> Caller {
    Caller::new(Settings {
        services: Arc::new(At(service.to_owned())),
        dialer: Arc::new(DirectDialer),
        tasks: TaskGroup::new("webhooks", Shutdown::new()),
        clock: system_clock(),
    })
}

fn service(name: &str, path: &str, pem: &[u8]) -> ClientConfig {
    let target = Target::Service { namespace: "a".into(), name: name.into(), path: path.into(), port: 443 };
    ClientConfig { target, ca_bundle: pem.to_vec(), insecure: false }
}

async fn said(caller: &Caller, config: &ClientConfig, milliseconds: u64) -> String {
    let body = Bytes::from_static(b"{}");
    match caller.post(config, body, Duration::from_millis(milliseconds)).await {
        Ok(answer) => String::from_utf8_lossy(&answer).into_owned(),
        Err(err) => err.to_string(),
    }
}

const LONG: u64 = 60_000;

#[tokio::test]
async fn a_service_is_asked_over_one_connection() {
    let hook = hook(&["s.a.svc"]).await;
    let caller = caller(&hook.address);
    for _ in 0..3 {
        let answer = said(&caller, &service("s", "/x", &hook.pem), 9_500).await;
        assert_eq!(answer, "HTTP/1.1 kube-apiserver-admission /x?timeout=10s {}");
    }
    assert_eq!(hook.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn who_has_a_name_and_a_token_says_so_and_takes_answers_of_its_size() {
    let hook = hook(&["s.a.svc"]).await;
    let caller = caller(&hook.address).with_bearer("Bearer t".parse().unwrap());
    let config = service("s", "/x", &hook.pem);
    let caller = caller.named("kube-apiserver/v1".parse().unwrap(), 60);
    assert_eq!(said(&caller, &config, 9_500).await, "HTTP/1.1 kube-apiserver/v1 /x?timeout=10s {}Bearer t");
    let caller = caller.named("kube-apiserver/v1".parse().unwrap(), 10);
    assert!(said(&caller, &config, 9_500).await.ends_with("http: request body too large"));
}

#[tokio::test]
async fn what_runs_on_this_host_is_asked_over_http2() {
    let hook = hook(&["127.0.0.1"]).await;
    let url = format!("https://{}/x", hook.address);
    let config = ClientConfig { target: Target::Url(url), ca_bundle: hook.pem.clone(), insecure: false };
    let caller = caller("");
    let all = in_turn(&caller, &config, 20).await;
    assert!(all.iter().all(|answer| answer == "HTTP/2.0 kube-apiserver-admission /x?timeout=60s {}"), "{all:?}");
    assert_eq!(said(&caller, &config, LONG).await, all[0]);
}

async fn in_turn(caller: &Caller, config: &ClientConfig, count: usize) -> Vec<String> {
    let mut answers = Vec::new();
    for _ in 0..count {
        answers.push(said(caller, config, LONG).await);
    }
    answers
}

#[tokio::test]
async fn failures_are_told_in_upstreams_words() {
    let hook = hook(&["s.a.svc"]).await;
    let caller = caller(&hook.address);
    let post = "Post \"https://s.a.svc:443/x?timeout=60s\": ";
    let other = rcgen::generate_simple_self_signed(vec!["s.a.svc".to_owned()]).unwrap().cert.pem();
    assert_eq!(
        said(&caller, &service("s", "/x", other.as_bytes()), LONG).await,
        format!("{post}tls: failed to verify certificate: x509: certificate signed by unknown authority")
    );
    assert_eq!(
        said(&caller, &service("none", "/x", &hook.pem), LONG).await,
        "Post \"https://none.a.svc:443/x?timeout=60s\": service \"none\" not found"
    );
    assert_eq!(
        said(&caller, &service("s", "/slow", &hook.pem), 50).await,
        "Post \"https://s.a.svc:443/slow?timeout=1s\": context deadline exceeded"
    );
    assert_eq!(
        said(&caller, &service("s", "/large", &hook.pem), LONG).await,
        "Post \"https://s.a.svc:443/large?timeout=60s\": http: request body too large"
    );
    let broken = "an error on the server (\"oh\") has prevented the request from succeeding";
    assert_eq!(said(&caller, &service("s", "/broken", &hook.pem), LONG).await, broken);
    let nonsense = "unable to load root certificates: unable to parse bytes as PEM block";
    assert_eq!(said(&caller, &service("s", "/x", b"x"), LONG).await, nonsense);
}

#[tokio::test]
async fn who_does_not_speak_tls_or_does_not_listen_is_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.0 400 Bad Request\r\n\r\n").await;
            let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 1_024]).await;
        }
    });
    let pem = rcgen::generate_simple_self_signed(vec!["s.a.svc".to_owned()]).unwrap().cert.pem();
    let config = service("s", "/x", pem.as_bytes());
    let post = "Post \"https://s.a.svc:443/x?timeout=60s\": ";
    let plain = format!("{post}http: server gave HTTP response to HTTPS client");
    assert_eq!(said(&caller(&address), &config, LONG).await, plain);
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    let refused = format!("{post}dial tcp {closed}: connect: connection refused");
    assert_eq!(said(&caller(&closed), &config, LONG).await, refused);
}

#[tokio::test]
async fn who_asks_to_be_asked_again_is() {
    let hook = hook(&["s.a.svc"]).await;
    let answer = said(&caller(&hook.address), &service("s", "/busy", &hook.pem), LONG).await;
    assert!(answer.ends_with("/busy?timeout=60s {}"), "{answer}");
}

#[tokio::test]
async fn clients_that_nobody_uses_go() {
    let hook = hook(&["s.a.svc"]).await;
    let caller = caller(&hook.address);
    for i in 0..CLIENTS + 5 {
        let config = service("s", &format!("/{i}"), &hook.pem);
        assert!(caller.known(&config).await.is_ok());
        assert!(caller.known(&service("s", "/0", &hook.pem)).await.is_ok());
    }
    let clients = caller.clients.lock();
    assert_eq!(clients.known.len(), CLIENTS);
    assert!(clients.known.contains_key(&service("s", "/0", &hook.pem)), "it was used all the time");
    assert!(!clients.known.contains_key(&service("s", "/1", &hook.pem)));
}
