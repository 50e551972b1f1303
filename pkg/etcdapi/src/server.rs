//! Connections, and which service a request is for.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use kedge_base::net::{MAX_FAULTS, MAX_PENDING_RESETS};
use kedge_base::{TaskGroup, Weight};
use kedge_etcdpb::etcdserverpb as pb;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tonic::body::Body;
use tower::ServiceExt as _;
use tracing::{debug, info, warn};

use crate::Api;
use crate::cluster::{AuthService, ClusterService};
use crate::kv::KvService;
use crate::lease::LeaseService;
use crate::listen::{Listen, Listener};
use crate::maintenance::MaintenanceService;
use crate::watch::WatchService;

/// Connections at one time.
const MAX_CONNECTIONS: usize = 256;
/// Requests and streams of one connection at one time.
const MAX_STREAMS: u32 = 256;
/// etcd's limit of a request with its frame.
const MAX_MESSAGE: usize = 2 * 1024 * 1024;
const HANDSHAKE: Duration = Duration::from_secs(10);
/// A client that answers no ping for this long is gone.
const PING: Duration = Duration::from_secs(30);

/// Serves until `tasks` shut down.
pub async fn serve(api: Arc<Api>, listen: Arc<Listen>, tasks: TaskGroup) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let shutdown = tasks.shutdown().clone();
    loop {
        let slot = tokio::select! {
            slot = slots.clone().acquire_owned() => slot,
            () = shutdown.requested() => break,
        };
        let Ok(slot) = slot else { break };
        let accepted = tokio::select! {
            accepted = accept(&listen.0) => accepted,
            () = shutdown.requested() => break,
        };
        let (api, tasks_of) = (api.clone(), tasks.clone());
        match accepted {
            Ok(Accepted::Unix(stream)) => tasks.spawn("etcd-api-connection", async move {
                connection(api, stream, &tasks_of).await;
                drop(slot);
            }),
            Ok(Accepted::Tls(stream, acceptor)) => tasks.spawn("etcd-api-connection", async move {
                let handshake = tokio::select! {
                    handshake = acceptor.accept(stream) => handshake,
                    () = api.clock.sleep(HANDSHAKE) => Err(std::io::ErrorKind::TimedOut.into()),
                    () = tasks_of.shutdown().requested() => return,
                };
                match handshake {
                    Ok(stream) => connection(api, stream, &tasks_of).await,
                    Err(error) => info!(%error, "a client of the etcd API is not let in"),
                }
                drop(slot);
            }),
            Err(error) => {
                // Out of descriptors, for example: others may leave.
                warn!(%error, "cannot accept a client of the etcd API");
                api.clock.sleep(Duration::from_millis(100)).await;
            }
        }
    }
    if let Listener::Unix { path, .. } = &listen.0
        && let Err(error) = std::fs::remove_file(path)
    {
        debug!(%error, path = %path.display(), "the socket is not removed");
    }
}

enum Accepted {
    Unix(tokio::net::UnixStream),
    Tls(tokio::net::TcpStream, TlsAcceptor),
}

async fn accept(listener: &Listener) -> std::io::Result<Accepted> {
    match listener {
        Listener::Unix { listener, .. } => Ok(Accepted::Unix(listener.accept().await?.0)),
        Listener::Tls { listener, config } => {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            Ok(Accepted::Tls(stream, TlsAcceptor::from(config.clone())))
        }
    }
}

async fn connection(api: Arc<Api>, stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, tasks: &TaskGroup) {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(MAX_FAULTS)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING);
    let ledger = tasks.ledger().clone();
    let service = service_fn(move |request| {
        let (api, ledger) = (api.clone(), ledger.clone());
        async move {
            // A panic fails the one call, not the others on the connection.
            let call = dispatch(api, request);
            let caught = ledger.catch("etcd-api", "etcd-api-call", Weight::Single, call).await;
            caught.unwrap_or_else(|panicked| Ok(tonic::Status::internal(panicked.to_string()).into_http()))
        }
    });
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = tasks.shutdown().requested() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        debug!(%error, "a connection of the etcd API ended");
    }
}

async fn dispatch(api: Arc<Api>, request: http::Request<Incoming>) -> Result<http::Response<Body>, Infallible> {
    use pb::{auth_server, cluster_server, kv_server, lease_server, maintenance_server, watch_server};
    let service = request.uri().path().split('/').nth(1).unwrap_or_default();
    macro_rules! to {
        ($server:expr) => {
            $server.max_decoding_message_size(MAX_MESSAGE).oneshot(request).await
        };
    }
    match service {
        "etcdserverpb.KV" => to!(kv_server::KvServer::new(KvService(api))),
        "etcdserverpb.Watch" => to!(watch_server::WatchServer::new(WatchService(api))),
        "etcdserverpb.Lease" => to!(lease_server::LeaseServer::new(LeaseService(api))),
        "etcdserverpb.Cluster" => to!(cluster_server::ClusterServer::new(ClusterService(api))),
        "etcdserverpb.Maintenance" => to!(maintenance_server::MaintenanceServer::new(MaintenanceService(api))),
        "etcdserverpb.Auth" => to!(auth_server::AuthServer::new(AuthService(api))),
        unknown => Ok(tonic::Status::unimplemented(format!("unknown service {unknown}")).into_http()),
    }
}
