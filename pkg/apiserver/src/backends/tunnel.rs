//! Two connections that have been upgraded become one stream of bytes.

use std::io;
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tracing::debug;

use crate::body::BoxError;

/// How long a side that is left may take to take in its end.
const CLOSE: Duration = Duration::from_secs(5);

/// Copies both ways until either side has ended.
pub(crate) async fn run(client: OnUpgrade, backend: OnUpgrade) {
    let both = async {
        let (client, backend) = tokio::try_join!(client, backend)?;
        pass(TokioIo::new(client), TokioIo::new(backend)).await.map_err(BoxError::from)
    };
    if let Err(err) = both.await {
        debug!(error = %err, "stream to a backend ended");
    }
}

/// As upstream: once one direction has ended, so has the other, whether or not somebody still listens. Nobody's connection
/// stays open because the one behind it has not noticed.
async fn pass(client: impl AsyncRead + AsyncWrite, backend: impl AsyncRead + AsyncWrite) -> io::Result<()> {
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_backend, mut to_backend) = tokio::io::split(backend);
    let ended = tokio::select! {
        ended = tokio::io::copy(&mut from_client, &mut to_backend) => ended,
        ended = tokio::io::copy(&mut from_backend, &mut to_client) => ended,
    };
    let close = async {
        // Whoever is gone already cannot be told.
        let _ = tokio::join!(to_client.shutdown(), to_backend.shutdown());
    };
    let _ = kedge_base::time::timeout(CLOSE, close).await;
    ended.map(|_| ())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods)]
    use super::*;
    use tokio::io::AsyncReadExt as _;

    /// A client that went away while the backend had nothing to say once left the backend's connection open for ever.
    #[tokio::test]
    async fn either_end_ends_both() {
        for client_ends in [true, false] {
            let (mut client, near) = tokio::io::duplex(64);
            let (mut backend, far) = tokio::io::duplex(64);
            let passing = tokio::spawn(pass(near, far));
            client.write_all(b"ping").await.unwrap();
            let mut said = [0; 4];
            backend.read_exact(&mut said).await.unwrap();
            backend.write_all(&said).await.unwrap();
            client.read_exact(&mut said).await.unwrap();
            assert_eq!(&said, b"ping");
            let mut other = if client_ends {
                client.shutdown().await.unwrap();
                backend
            } else {
                backend.shutdown().await.unwrap();
                client
            };
            assert_eq!(other.read_to_end(&mut Vec::new()).await.unwrap(), 0);
            passing.await.unwrap().unwrap();
        }
    }
}
