//! Connections into the cluster's network.

use std::io;
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::keep_alive;

/// As Go's default dialer.
const CONNECT: Duration = Duration::from_secs(30);

/// A connection of bytes.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// Connects to kubelets and pods. What reaches nodes in another way than over the network, such as a tunnel that agents
/// keep open, brings its own.
#[async_trait]
pub trait Dialer: Send + Sync {
    /// A connection to `host:port`; an IPv6 address stands in brackets.
    ///
    /// # Errors
    /// When nobody can be reached there.
    async fn dial(&self, address: &str) -> io::Result<Box<dyn Connection>>;
}

/// Connects over the network of the server's own host.
#[derive(Debug, Clone, Copy, Default)]
pub struct DirectDialer;

#[async_trait]
impl Dialer for DirectDialer {
    async fn dial(&self, address: &str) -> io::Result<Box<dyn Connection>> {
        let connected = kedge_base::time::timeout(CONNECT, TcpStream::connect(address)).await;
        let stream = connected.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        stream.set_nodelay(true)?;
        keep_alive::enable(&stream)?;
        Ok(Box::new(stream))
    }
}

/// Why somebody cannot be reached, in the words of Go's dialer.
pub(crate) fn go_text(address: &str, err: &io::Error) -> String {
    let why = match err.kind() {
        io::ErrorKind::TimedOut => "i/o timeout".to_owned(),
        io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        io::ErrorKind::ConnectionReset => "connect: connection reset by peer".to_owned(),
        io::ErrorKind::HostUnreachable => "connect: no route to host".to_owned(),
        io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".to_owned(),
        _ => err.to_string(),
    };
    format!("dial tcp {address}: {why}")
}
