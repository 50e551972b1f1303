//! Kubelets that are not whom they should be, and that send others elsewhere.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::convert::Infallible;
use std::io;

use async_trait::async_trait;
use http_body_util::Full;
use hyper::service::service_fn;
use kedge_base::Shutdown;
use kedge_certs::{Credential, LeafRequest, Pki, Usage};
use rustls_pki_types::pem::PemObject as _;
use tokio_rustls::TlsAcceptor;

use super::*;

/// At every address is the same server, which shows one certificate.
struct Server {
    tls: TlsAcceptor,
}

#[async_trait]
impl Dialer for Server {
    async fn dial(&self, _: &str) -> io::Result<Box<dyn Connection>> {
        let (near, far) = tokio::io::duplex(4 << 10);
        let tls = self.tls.clone();
        tokio::spawn(async move {
            let service = service_fn(|request: Request<hyper::body::Incoming>| async move {
                let code = match request.uri().path() {
                    "/elsewhere" => 307,
                    "/refused" => 403,
                    _ => 200,
                };
                let answer = Response::builder().status(code).header("location", "https://192.0.2.1/");
                Ok::<_, Infallible>(answer.body(Full::new(bytes::Bytes::from("said"))).unwrap())
            });
            // A client that goes away is what some tests are about.
            let Ok(stream) = tls.accept(far).await else { return };
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
        Ok(Box::new(near))
    }
}

/// A way to a server whose certificate, of the cluster's authority, says that it is `name`.
fn access(name: &str) -> KubeletAccess {
    let dir = tempfile::tempdir().unwrap();
    let now = time::OffsetDateTime::now_utc();
    let pki = Pki::open(dir.path(), now).unwrap();
    let names = vec!["192.0.2.7".to_owned()];
    let request = LeafRequest { common_name: name.into(), organization: None, names, usage: Usage::Server };
    let leaf = pki.serving("serving", &request, now).unwrap();
    let provider = || Arc::new(rustls::crypto::ring::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
    let server = server.with_no_client_auth().with_cert_resolver(Arc::new(Credential::new(&leaf).unwrap()));
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pki.server_ca.certificate.as_bytes()).unwrap()).unwrap();
    let client = rustls::ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
    let client = client.with_root_certificates(roots).with_no_client_auth();
    let access = KubeletAccess::new(Arc::new(client), TaskGroup::new("test", Shutdown::new())).unwrap();
    access.with_dialer(Arc::new(Server { tls: TlsAcceptor::from(Arc::new(server)) }))
}

async fn said(access: &KubeletAccess, path: &str, upgrade: bool) -> Result<u16, String> {
    let mut request = Request::get(path);
    if upgrade {
        request = request.header("connection", "Upgrade").header("upgrade", "SPDY/3.1");
    }
    let kubelet = Backend::kubelet("n1", "192.0.2.7:10250".into());
    let answer = access.forward(&kubelet, request.body(crate::body::full("")).unwrap()).await;
    answer.map(|answer| answer.status().as_u16()).map_err(|status| status.message)
}

/// A node says itself where it is reached. With the address of another, or of the API server, it had requests answered there.
#[tokio::test]
async fn a_kubelet_is_that_of_its_node() {
    assert_eq!(said(&access("system:node:n1"), "/x", false).await, Ok(200));
    for stranger in ["system:node:n2", "system:node:n11", "kube-apiserver"] {
        let why = format!("tls: the certificate is that of {stranger:?}, not of \"system:node:n1\"");
        let refused = said(&access(stranger), "/x", false).await.unwrap_err();
        assert_eq!(refused, format!("Get \"https://192.0.2.7:10250/x\": {why}"));
        let refused = said(&access(stranger), "/x", true).await.unwrap_err();
        assert_eq!(refused, format!("error dialing backend: {why}"));
    }
}

/// CVE-2020-8559: a kubelet that had been taken over answered commands with a redirect, which clients followed with what they had sent here.
#[tokio::test]
async fn a_kubelet_sends_nobody_elsewhere() {
    let kubelet = access("system:node:n1");
    let refused = said(&kubelet, "/elsewhere", true).await.unwrap_err();
    assert_eq!(refused, "invalid upgrade response: status code 307");
    assert_eq!(said(&kubelet, "/refused", true).await, Ok(403));
}
