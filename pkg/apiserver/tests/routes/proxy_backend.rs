//! What is behind a proxy in tests: a network of connections in memory, with one web server at every address.

use std::collections::BTreeSet;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kedge_apiserver::{Body, KubeletAccess, Peer};
use kedge_base::net::{Connection, Dialer};
use kedge_base::{Shutdown, TaskGroup};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf};

use crate::support::Cluster;

/// Counts its connections.
#[derive(Clone, Default)]
pub struct Network {
    open: Arc<AtomicUsize>,
    dialled: Arc<Mutex<BTreeSet<String>>>,
}

impl Network {
    /// A cluster whose server reaches this network.
    pub async fn cluster(&self) -> Cluster {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let tls = tls.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
        let access = KubeletAccess::new(Arc::new(tls), TaskGroup::new("test", Shutdown::new())).unwrap();
        Cluster::with_kubelets(Some(access.with_dialer(Arc::new(self.clone())))).await
    }

    /// Connections that the server has open.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    /// The addresses that the server has connected to.
    pub fn dialled(&self) -> Vec<String> {
        self.dialled.lock().unwrap().iter().cloned().collect()
    }

    /// Waits until the server has none open.
    pub async fn quiet(&self) {
        while self.open() > 0 {
            tokio::task::yield_now().await;
        }
    }
}

#[async_trait]
impl Dialer for Network {
    async fn dial(&self, address: &str) -> io::Result<Box<dyn Connection>> {
        if address.starts_with("10.9.9.9:") {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let (near, far) = tokio::io::duplex(4 << 10);
        let address = address.to_owned();
        self.dialled.lock().unwrap().insert(address.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(request, address.clone()));
            let builder = hyper::server::conn::http1::Builder::new();
            // A client that goes away is what some tests are about.
            let _ = builder.serve_connection(TokioIo::new(far), service).with_upgrades().await;
        });
        self.open.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(Counted(near, self.open.clone())))
    }
}

/// The server: it tells what it was asked, and has some paths of its own.
async fn answer(mut request: Request<Incoming>, address: String) -> Result<Response<Body>, std::convert::Infallible> {
    let full = |bytes: Bytes| Full::new(bytes).map_err(|never| match never {}).boxed_unsync();
    let response = Response::builder();
    let page = "<a href=\"/x\">x</a>";
    match request.uri().path() {
        "/moved" => Ok(response.status(302).header("location", "/there?a=b").body(full(Bytes::new())).unwrap()),
        "/elsewhere" => {
            let response = response.status(307).header("location", "http://10.0.0.9/secret");
            Ok(response.body(full(Bytes::new())).unwrap())
        }
        "/page" => Ok(response.header("content-type", "text/html; charset=utf-8").body(full(page.into())).unwrap()),
        "/never" => std::future::pending().await,
        "/echo" => Ok(response.body(request.into_body().map_err(Into::into).boxed_unsync()).unwrap()),
        "/upgrade" => {
            let upgraded = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let mut io = TokioIo::new(upgraded.await.unwrap());
                let mut said = [0; 4];
                while io.read_exact(&mut said).await.is_ok() && &said != b"quit" {
                    io.write_all(&said).await.unwrap();
                }
            });
            let response = response.status(101).header("connection", "Upgrade").header("upgrade", "anything");
            Ok(response.body(full(Bytes::new())).unwrap())
        }
        "/refuses-upgrades" => Ok(response.status(403).body(full("no".into())).unwrap()),
        path => {
            let headers: Vec<(String, String)> =
                request.headers().iter().map(|(n, v)| (n.to_string(), v.to_str().unwrap().to_owned())).collect();
            let path = request.uri().query().map_or(path.to_owned(), |query| format!("{path}?{query}"));
            let seen = json!({ "at": address, "method": request.method().as_str(), "path": path, "headers": headers });
            let body = if *request.method() == Method::HEAD { Bytes::new() } else { seen.to_string().into() };
            let response = response.header("connection", "x-hop").header("x-hop", "1").header("x-end", "1");
            let response =
                response.header("access-control-allow-origin", "*").header("content-type", "application/json");
            let response = match *request.method() == Method::HEAD {
                true => response.header(header::CONTENT_LENGTH, 1_234),
                false => response,
            };
            Ok(response.status(StatusCode::OK).body(full(body)).unwrap())
        }
    }
}

/// A connection that is counted until it is dropped.
struct Counted(DuplexStream, Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.1.fetch_sub(1, Ordering::SeqCst);
    }
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// The administrator's connection to the API server.
pub fn connect(cluster: &Cluster) -> DuplexStream {
    let (client, far) = tokio::io::duplex(4 << 10);
    let peer = Peer {
        trusted: Some(Arc::new(cluster.admin.clone())),
        address: Some("192.0.2.1:5000".parse().unwrap()),
        ..Peer::default()
    };
    let (server, peer) = (cluster.server.clone(), Arc::new(peer));
    tokio::spawn(async move {
        let service = service_fn(move |request: Request<Incoming>| {
            let (server, peer) = (server.clone(), peer.clone());
            let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
            async move { Ok::<_, std::convert::Infallible>(server.handle(request, &peer).await) }
        });
        let builder = hyper::server::conn::http1::Builder::new();
        let _ = builder.serve_connection(TokioIo::new(far), service).with_upgrades().await;
    });
    client
}
