//! The way to kubelets: HTTPS with the API server's own client certificate, upgrades passed through byte by byte.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use kedge_base::TaskGroup;
use kedge_meta::Status;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tracing::debug;

use crate::body::{Body, BodyError, BoxError};

const CONNECT: Duration = Duration::from_secs(10);

/// Reaches kubelets.
pub struct KubeletAccess {
    tls: TlsConnector,
    tasks: TaskGroup,
}

impl KubeletAccess {
    /// With a TLS configuration that trusts the kubelets' authority and shows the API server's client certificate.
    /// Connections live in `tasks`.
    pub fn new(tls: Arc<rustls::ClientConfig>, tasks: TaskGroup) -> Self {
        Self { tls: TlsConnector::from(tls), tasks }
    }

    /// Sends a request on and its answer back; when the kubelet switches protocols, both sides are joined.
    ///
    /// # Errors
    /// 500 in upstream's words when the kubelet cannot be reached.
    pub(crate) async fn forward(&self, address: &str, mut request: Request<Body>) -> Result<Response<Body>, Status> {
        let path = request.uri().path().to_owned();
        let fail = |e: BoxError| Status::internal(format!("error dialing backend: https://{address}{path}: {e}"));
        let upgrade = request.headers().contains_key(header::UPGRADE);
        let downstream = upgrade.then(|| hyper::upgrade::on(&mut request));
        let headers = request.headers_mut();
        for credential in [header::AUTHORIZATION, header::HOST] {
            headers.remove(credential);
        }
        let host = HeaderValue::from_str(address).map_err(|e| fail(e.into()))?;
        headers.insert(header::HOST, host);
        let connect = kedge_base::time::timeout(CONNECT, self.connect(address));
        let stream = connect.await.map_err(|e| fail(e.into()))?.map_err(fail)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| fail(e.into()))?;
        self.tasks.spawn_until_shutdown("kubelet connection", async move {
            if let Err(err) = connection.with_upgrades().await {
                debug!(error = %err, "connection to a kubelet ended");
            }
        });
        let mut response = sender.send_request(request).await.map_err(|e| fail(e.into()))?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS
            && let Some(downstream) = downstream
        {
            let upstream = hyper::upgrade::on(&mut response);
            self.tasks.spawn_until_shutdown("kubelet stream", join(downstream, upstream));
        }
        // The sender keeps the connection open as long as the answer streams.
        Ok(response.map(|body| body.map_err(BodyError::from).boxed_unsync()))
    }

    async fn connect(&self, address: &str) -> Result<tokio_rustls::client::TlsStream<TcpStream>, BoxError> {
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        let (host, _) = address.rsplit_once(':').ok_or("no port")?;
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())?;
        Ok(self.tls.connect(name, tcp).await?)
    }
}

async fn join(downstream: hyper::upgrade::OnUpgrade, upstream: hyper::upgrade::OnUpgrade) {
    let both = async {
        let (down, up) = tokio::try_join!(downstream, upstream)?;
        let (mut down, mut up) = (TokioIo::new(down), TokioIo::new(up));
        tokio::io::copy_bidirectional(&mut down, &mut up).await?;
        Ok::<_, BoxError>(())
    };
    if let Err(err) = both.await {
        debug!(error = %err, "stream to a kubelet ended");
    }
}
