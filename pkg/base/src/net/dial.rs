//! Connections into the cluster's network.

use std::io;
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::keep_alive;

/// As Go's default dialer.
const CONNECT: Duration = Duration::from_secs(30);

/// A connection of bytes.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// Connects to kubelets, pods and webhooks. What reaches nodes in another way than over the network, such as a tunnel that agents
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
        let connected = crate::time::timeout(CONNECT, TcpStream::connect(address)).await;
        let stream = connected.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        stream.set_nodelay(true)?;
        keep_alive::enable(&stream)?;
        Ok(Box::new(stream))
    }
}

/// Why somebody cannot be reached, in the words of Go's dialer.
pub fn go_text(address: &str, err: &io::Error) -> String {
    let why = match err.kind() {
        io::ErrorKind::TimedOut => "i/o timeout".to_owned(),
        io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        io::ErrorKind::ConnectionReset => "connect: connection reset by peer".to_owned(),
        io::ErrorKind::HostUnreachable => "connect: no route to host".to_owned(),
        io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".to_owned(),
        _ if is_unknown_name(err) => {
            let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
            return format!("dial tcp: lookup {host}: no such host");
        }
        _ => err.to_string(),
    };
    format!("dial tcp {address}: {why}")
}

/// Whether nobody knows the name. The standard library has no kind for that, but for the words of the C library's function.
fn is_unknown_name(err: &io::Error) -> bool {
    err.raw_os_error().is_none() && err.to_string().starts_with("failed to lookup address information")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn failures_are_told_in_gos_words() {
        let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
        let Err(refused) = DirectDialer.dial(&closed).await else { panic!("nobody listens there") };
        assert_eq!(go_text(&closed, &refused), format!("dial tcp {closed}: connect: connection refused"));
        let Err(unknown) = DirectDialer.dial("nobody.invalid:443").await else { panic!("there is no such host") };
        assert_eq!(go_text("nobody.invalid:443", &unknown), "dial tcp: lookup nobody.invalid: no such host");
        assert_eq!(go_text("a:1", &io::ErrorKind::TimedOut.into()), "dial tcp a:1: i/o timeout");
    }
}
