//! Joins a client's streams with a container runtime's.
//!
//! Invariant: the client gets all output before it gets the status; and when either side goes, the
//! other one is let go.

use crate::cri::CriStreams;
use crate::remote_command::RemoteCommandStreams;
use crate::{BoxWrite, Error, ExecStatus};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};

/// The longest status that is passed on, in bytes.
const MAX_STATUS: u64 = 1 << 20;

/// Carries everything between the two until the command ends or one of them goes.
///
/// # Errors
/// When the client went before the end.
pub async fn bridge(server: RemoteCommandStreams, client: CriStreams) -> Result<(), Error> {
    let RemoteCommandStreams { stdin, stdout, stderr, mut resize, error, closed } = server;
    let input = async {
        if let (Some(mut from), Some(mut to)) = (stdin, client.stdin) {
            // A command that does not read its input is nothing unusual.
            let _ = tokio::io::copy(&mut from, &mut to).await;
            let _ = to.shutdown().await;
            // Dropping the stream would make the runtime's answers to it unknown.
            return Some(to);
        }
        None
    };
    let sizes = async {
        if let (Some(from), Some(mut to)) = (resize.as_mut(), client.resize) {
            while let Some(size) = from.recv().await {
                if to.resize(size).await.is_err() {
                    break;
                }
            }
        }
    };
    let output = async {
        let mut status = Vec::new();
        let mut from = client.error.take(MAX_STATUS);
        let (a, b, c) =
            tokio::join!(copy(client.stdout, stdout), copy(client.stderr, stderr), from.read_to_end(&mut status));
        c.map_err(Error::from).and(a).and(b).map(|()| status)
    };
    let feed = async {
        let _held = tokio::join!(input, sizes);
        std::future::pending::<()>().await;
    };
    let ended = tokio::select! {
        ended = output => ended,
        () = feed => Err(Error::Closed),
        () = closed.cancelled() => Err(Error::Closed),
    };
    match ended {
        // The runtime went without a word.
        Ok(status) if status.is_empty() => {
            error.finish(&ExecStatus::Failure("the container runtime closed the stream".to_owned())).await
        }
        Ok(status) => error.finish_raw(&status).await,
        Err(cause) => {
            // Who is gone cannot be told.
            let _ = error.finish(&ExecStatus::Failure(cause.to_string())).await;
            Err(cause)
        }
    }
}

async fn copy(from: Option<impl AsyncRead + Unpin>, to: Option<BoxWrite>) -> Result<(), Error> {
    if let (Some(mut from), Some(mut to)) = (from, to) {
        tokio::io::copy(&mut from, &mut to).await?;
        to.shutdown().await?;
    }
    Ok(())
}
