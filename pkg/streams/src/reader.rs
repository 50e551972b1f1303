//! Bytes that are only read, such as logs, in the messages of a WebSocket.
//!
//! Invariant: what the client sends is thrown away; its end, or that of the bytes, ends both.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::{SinkExt as _, Stream, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::Error;
use crate::negotiate::Reader;
use crate::ws;

/// The longest message, in bytes of what is read.
const MAX_MESSAGE: usize = 32 << 10;

/// Sends `source` to a client whose upgrade is done. The first message is empty: it tells the client that the rest follows.
///
/// # Errors
/// When the connection or the source breaks off.
pub async fn serve_reader<S, B, E>(io: S, mut source: B, reader: Reader) -> Result<(), Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
    B: Stream<Item = Result<Bytes, E>> + Unpin,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (mut to_client, mut from_client) = ws::upgraded(io, Role::Server).await.split();
    let sending = async {
        to_client.send(message(Bytes::new(), reader)).await.map_err(broken)?;
        while let Some(piece) = source.next().await {
            let mut piece = piece.map_err(broken)?;
            while !piece.is_empty() {
                let next = piece.split_to(piece.len().min(MAX_MESSAGE));
                to_client.send(message(next, reader)).await.map_err(broken)?;
            }
        }
        to_client.send(ws::normal_close()).await.map_err(broken)
    };
    let gone = async {
        // Reading also answers pings.
        while let Some(Ok(said)) = from_client.next().await {
            if said.is_close() {
                break;
            }
        }
    };
    tokio::select! {
        sent = sending => sent,
        () = gone => Ok(()),
    }
}

fn message(piece: Bytes, reader: Reader) -> Message {
    match reader {
        Reader::Binary => Message::Binary(piece),
        Reader::Base64 => Message::Text(STANDARD.encode(piece).into()),
    }
}

fn broken(err: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Io(std::io::Error::other(err))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods)]
    use super::*;
    use std::io;

    type Pieces = Vec<Result<Bytes, io::Error>>;

    #[tokio::test]
    async fn messages_are_binary_or_base64_and_the_first_is_empty() {
        for (reader, expected) in [
            (Reader::Binary, Message::Binary(Bytes::from_static(b"hello"))),
            (Reader::Base64, Message::Text("aGVsbG8=".into())),
        ] {
            let (client, server) = tokio::io::duplex(1 << 10);
            let pieces: Pieces = vec![Ok(Bytes::from_static(b"hello"))];
            let serving = tokio::spawn(serve_reader(server, futures::stream::iter(pieces), reader));
            let mut client = ws::upgraded(client, Role::Client).await;
            assert!(client.next().await.unwrap().unwrap().is_empty());
            assert_eq!(client.next().await.unwrap().unwrap(), expected);
            assert!(client.next().await.unwrap().unwrap().is_close());
            serving.await.unwrap().unwrap();
        }
    }

    /// Logs that are followed and say nothing more must not outlive the client that reads them.
    #[tokio::test]
    async fn a_client_that_goes_away_ends_it() {
        let (client, server) = tokio::io::duplex(1 << 10);
        let silent = futures::stream::pending::<Result<Bytes, io::Error>>();
        let serving = tokio::spawn(serve_reader(server, silent, Reader::Binary));
        drop(client);
        // Whether it notices by reading or by writing.
        let _ = serving.await.unwrap();
    }

    #[tokio::test]
    async fn long_pieces_are_cut() {
        let (client, server) = tokio::io::duplex(1 << 10);
        let pieces: Pieces = vec![Ok(Bytes::from(vec![b'x'; MAX_MESSAGE + 1]))];
        let serving = tokio::spawn(serve_reader(server, futures::stream::iter(pieces), Reader::Binary));
        let mut client = ws::upgraded(client, Role::Client).await;
        let mut lengths = Vec::new();
        while let Some(Ok(message)) = client.next().await {
            if message.is_close() {
                break;
            }
            lengths.push(message.len());
        }
        assert_eq!(lengths, [0, MAX_MESSAGE, 1]);
        serving.await.unwrap().unwrap();
    }
}
