//! How connections to a webhook are made: the service is looked up anew for each.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection as Pooled};
use hyper_util::rt::TokioIo;
use kedge_base::BoxFuture;
use kedge_base::net::{Connection, Dialer};
use kedge_base::time;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::Services;
use crate::config::{HTTPS, Place, Target};
use crate::error::Failure;
use crate::tls;

/// How long a handshake may take; as Go's.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Makes connections to one webhook.
#[derive(Clone)]
pub(crate) struct Connector {
    pub target: Arc<Target>,
    pub place: Arc<Place>,
    pub services: Arc<dyn Services>,
    pub dialer: Arc<dyn Dialer>,
    pub tls: TlsConnector,
    /// Those of all webhooks together.
    pub slots: Arc<Semaphore>,
}

impl Connector {
    async fn connect(self, uri: Uri) -> Result<TokioIo<Secured>, Failure> {
        let slot = match &*self.target {
            // A request that is passed on may take for ever: nobody waits for its end.
            Target::Addressed { .. } => self.slots.try_acquire_owned().map_err(|_| Failure::Full)?,
            // Who finds none free waits for one within the time of the call.
            _ => self.slots.acquire_owned().await.map_err(|err| Failure::Http(err.to_string()))?,
        };
        let address = match &*self.target {
            Target::Service { namespace, name, port, .. } => {
                self.services.resolve(namespace, name, *port).map_err(Failure::Unresolved)?
            }
            Target::Url(_) => self.place.address.clone(),
            Target::Addressed { .. } => {
                format!("{}:{}", uri.host().unwrap_or_default(), uri.port_u16().unwrap_or(HTTPS))
            }
        };
        let plain = self.dialer.dial(&address).await.map_err(|err| Failure::Dial(address, err))?;
        let name = ServerName::try_from(self.place.server_name.clone());
        let name = name.map_err(|err| Failure::Handshake(err.to_string()))?;
        // The call that wanted it may have got another one meanwhile: then nobody else gives this one up.
        let stream = match time::timeout(HANDSHAKE, self.tls.connect(name, plain)).await {
            Ok(connected) => connected.map_err(|err| tls::words(&err))?,
            Err(_) => return Err(Failure::Handshake("net/http: TLS handshake timeout".to_owned())),
        };
        Ok(TokioIo::new(Secured { stream, _slot: slot }))
    }
}

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<Secured>;
    type Error = Failure;
    type Future = BoxFuture<'static, Result<Self::Response, Failure>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}

/// A connection, and its place among all of them.
pub(crate) struct Secured {
    stream: TlsStream<Box<dyn Connection>>,
    _slot: OwnedSemaphorePermit,
}

impl Pooled for Secured {
    fn connected(&self) -> Connected {
        let http2 = self.stream.get_ref().1.alpn_protocol() == Some(b"h2");
        if http2 { Connected::new().negotiated_h2() } else { Connected::new() }
    }
}

impl AsyncRead for Secured {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Secured {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
