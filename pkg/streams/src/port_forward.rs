//! The server of port-forward.
//!
//! Invariant: every connection is a pair of streams, one for data and one for the error that ends
//! it. A connection that fails ends its pair and nothing else.

use crate::negotiate::PortForward;
use crate::spdy::{Incoming, Role, Session, Stream};
use crate::{BoxIo, Error, Io, ws};
use kedge_base::{BoxFuture, TaskGroup};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::Semaphore;
use tokio_tungstenite::tungstenite::protocol::Role as WsRole;

/// The most connections at a time; more wait.
const MAX_CONNECTIONS: usize = 200;
/// The most streams whose other half has not come; the oldest is given up.
const MAX_HALVES: usize = 32;

/// Connects to a port of the pod.
pub type Dialer = Arc<dyn Fn(u16) -> BoxFuture<'static, std::io::Result<BoxIo>> + Send + Sync>;

/// The pod, as error messages name it.
#[derive(Debug, Clone, Default)]
pub struct Target {
    /// Its name.
    pub pod: String,
    /// Its uid.
    pub uid: String,
}

/// Serves a connection whose upgrade is done, until the client goes.
///
/// # Errors
/// When the client breaks the protocol.
pub async fn serve_port_forward(
    io: impl Io,
    protocol: PortForward,
    target: Target,
    dialer: Dialer,
    tasks: &TaskGroup,
) -> Result<(), Error> {
    let (session, incoming) = match protocol {
        PortForward::Spdy => Session::start(io, Role::Server, tasks),
        PortForward::Tunnel => {
            let tunnel = ws::Tunnel::new(ws::upgraded(io, WsRole::Server).await);
            Session::start(tunnel, Role::Server, tasks)
        }
    };
    // Only streams keep the session from here on, and the client's side of the connection.
    let closed = session.closed();
    let server =
        Server { target, dialer, tasks: tasks.clone(), connections: Arc::new(Semaphore::new(MAX_CONNECTIONS)) };
    tokio::select! {
        () = server.accept(incoming) => {}
        () = closed.cancelled() => {}
    }
    drop(session);
    Ok(())
}

struct Server {
    target: Target,
    dialer: Dialer,
    tasks: TaskGroup,
    connections: Arc<Semaphore>,
}

/// One stream of a pair.
struct Half {
    stream: Stream,
    port: u16,
    data: bool,
}

impl Server {
    async fn accept(&self, mut incoming: Incoming) {
        // By request, in the order in which requests are numbered.
        let mut halves: BTreeMap<(u64, String), Half> = BTreeMap::new();
        let mut count = 0_u64;
        while let Some(stream) = incoming.next().await {
            let (request, port, data) = match describe(&stream) {
                Ok(found) => found,
                Err(problem) => {
                    tracing::debug!(problem, "refusing a port-forward stream");
                    stream.reset().await;
                    continue;
                }
            };
            let half = Half { stream, port, data };
            let waiting = halves.keys().find(|(_, id)| *id == request).cloned();
            let Some(other) = waiting.and_then(|key| halves.remove(&key)) else {
                count += 1;
                halves.insert((count, request), half);
                if halves.len() > MAX_HALVES
                    && let Some((_, half)) = halves.pop_first()
                {
                    half.stream.reset().await;
                }
                continue;
            };
            if other.data == half.data {
                half.stream.reset().await;
                other.stream.reset().await;
                continue;
            }
            let (data, error) = if half.data { (half, other) } else { (other, half) };
            self.connect(data, error.stream).await;
        }
    }

    async fn connect(&self, data: Half, error: Stream) {
        let Ok(permit) = self.connections.clone().acquire_owned().await else { return };
        let (dialer, target) = (self.dialer.clone(), self.target.clone());
        self.tasks.spawn_until_shutdown("port-forward", async move {
            let _permit = permit;
            forward(&target, &dialer, data, error).await;
        });
    }
}

async fn forward(target: &Target, dialer: &Dialer, data: Half, mut error: Stream) {
    let Half { mut stream, port, .. } = data;
    let mut connection = match dialer(port).await {
        Ok(connection) => connection,
        Err(cause) => {
            let Target { pod, uid } = target;
            let message = format!("error forwarding port {port} to pod {pod}, uid {uid}: {cause}");
            tracing::debug!(message, "port-forward connection failed");
            // A client that is gone cannot be told.
            let _ = error.write_all(message.as_bytes()).await;
            let _ = error.shutdown().await;
            return stream.reset().await;
        }
    };
    match tokio::io::copy_bidirectional(&mut stream, &mut connection).await {
        Ok(_) => {
            // As above.
            let _ = stream.shutdown().await;
            let _ = error.shutdown().await;
        }
        // An end like any other, on either side, such as that of a server that does not read all it is sent. kubectl
        // takes a word on the error stream for the end of all its connections.
        Err(cause) => {
            tracing::debug!(%cause, port, "port-forward connection broken off");
            let _ = error.shutdown().await;
            stream.reset().await;
        }
    }
}

/// Reads of which request a stream is, for which port, and whether it is for data.
fn describe(stream: &Stream) -> Result<(String, u16, bool), &'static str> {
    let headers = stream.headers();
    let data = match headers.get("streamtype") {
        Some("data") => true,
        Some("error") => false,
        _ => return Err("no stream type \"data\" or \"error\""),
    };
    let port = headers.get("port").and_then(|port| port.parse().ok()).filter(|port| *port > 0);
    let port = port.ok_or("no port from 1 to 65535")?;
    // Clients without request ids open the error stream first and the data stream next.
    let request = headers.get("requestid").map(str::to_owned);
    let request = request.unwrap_or_else(|| stream.id().saturating_sub(if data { 2 } else { 0 }).to_string());
    Ok((request, port, data))
}

#[cfg(test)]
#[path = "port_forward_tests.rs"]
mod tests;
