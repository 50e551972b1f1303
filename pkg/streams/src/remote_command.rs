//! The server of exec and attach.
//!
//! Invariant: whatever the protocol, the caller gets the same streams; those that were not asked for
//! are not there.

use crate::negotiate::{RemoteCommand, Version};
use crate::pipe::{Piece, QUEUE, QueueReader, QueueWriter};
use crate::spdy::{Incoming, Role, Session, Stream};
use crate::status::StatusWriter;
use crate::{BoxRead, BoxWrite, Error, Io, StreamOptions, ws};
use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use kedge_base::{TaskGroup, time};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role as WsRole;
use tokio_util::sync::CancellationToken;

/// How long a client may take to open its streams.
const CREATION: Duration = Duration::from_secs(30);
/// How long the end of a session waits for the client to end its side.
const LINGER: Duration = Duration::from_secs(2);
/// The longest message about a terminal's size, in bytes.
const MAX_RESIZE: usize = 1024;

/// The size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TermSize {
    /// Columns.
    pub width: u16,
    /// Lines.
    pub height: u16,
}

/// The streams of a command, as the server sees them. Dropping all of them ends the session.
pub struct RemoteCommandStreams {
    /// What the client types.
    pub stdin: Option<BoxRead>,
    /// Where output goes.
    pub stdout: Option<BoxWrite>,
    /// Where error output goes.
    pub stderr: Option<BoxWrite>,
    /// New sizes of the client's terminal.
    pub resize: Option<mpsc::Receiver<TermSize>>,
    /// Where the end is told.
    pub error: StatusWriter,
    /// Is cancelled when the client is gone.
    pub closed: CancellationToken,
}

/// Serves a connection whose upgrade is done; returns when the client has opened its streams.
///
/// # Errors
/// When the client goes, or does not open them in time.
pub async fn serve_remote_command(
    io: impl Io,
    protocol: RemoteCommand,
    options: StreamOptions,
    tasks: &TaskGroup,
) -> Result<RemoteCommandStreams, Error> {
    let options = StreamOptions { stderr: options.stderr && !options.tty, ..options };
    match protocol {
        RemoteCommand::Spdy(version) => {
            let (session, mut incoming) = Session::start(io, Role::Server, tasks);
            let streams = accept(&mut incoming, version, options);
            let opened = time::timeout(CREATION, streams).await;
            let opened = opened.map_err(|_| Error::Timeout("waiting for client to create streams"))??;
            Ok(opened.into_streams(&session, version, tasks))
        }
        RemoteCommand::WebSocket(version) => Ok(serve_websocket(io, version, options, tasks).await),
    }
}

/// What the client has opened over SPDY.
#[derive(Default)]
struct Opened {
    error: Option<Stream>,
    stdin: Option<Stream>,
    stdout: Option<Stream>,
    stderr: Option<Stream>,
    resize: Option<Stream>,
}

async fn accept(incoming: &mut Incoming, version: Version, options: StreamOptions) -> Result<Opened, Error> {
    let mut opened = Opened::default();
    let wants_resize = options.tty && version >= Version::V3;
    loop {
        let complete = opened.error.is_some()
            && opened.stdin.is_some() == options.stdin
            && opened.stdout.is_some() == options.stdout
            && opened.stderr.is_some() == options.stderr
            && opened.resize.is_some() == wants_resize;
        if complete {
            return Ok(opened);
        }
        let stream = incoming.next().await.ok_or(Error::Closed)?;
        let (slot, wanted) = match stream.headers().get("streamtype").unwrap_or_default() {
            "error" => (&mut opened.error, true),
            "stdin" => (&mut opened.stdin, options.stdin),
            "stdout" => (&mut opened.stdout, options.stdout),
            "stderr" => (&mut opened.stderr, options.stderr),
            "resize" => (&mut opened.resize, wants_resize),
            other => return Err(Error::Protocol(format!("unexpected stream type: {other:?}"))),
        };
        if wanted && slot.is_none() {
            *slot = Some(stream);
        } else {
            stream.reset().await;
        }
    }
}

impl Opened {
    fn into_streams(self, session: &Session, version: Version, tasks: &TaskGroup) -> RemoteCommandStreams {
        let write = |stream: Stream| Box::new(stream) as BoxWrite;
        // `accept` returns only with an error stream.
        let error = self.error.map_or_else(|| Box::new(tokio::io::sink()) as BoxWrite, write);
        RemoteCommandStreams {
            stdin: self.stdin.map(|stream| Box::new(stream) as BoxRead),
            stdout: self.stdout.map(write),
            stderr: self.stderr.map(write),
            resize: self.resize.map(|stream| sizes(stream, session.closed(), tasks)),
            error: StatusWriter::new(error, version >= Version::V4),
            closed: session.closed(),
        }
    }
}

/// Reads sizes from a stream of JSON objects. They come one a line.
fn sizes(stream: Stream, closed: CancellationToken, tasks: &TaskGroup) -> mpsc::Receiver<TermSize> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let done = sender.clone();
    let work = async move {
        let mut lines = BufReader::new(stream.take_limited());
        let mut line = Vec::new();
        while let Ok(length) = lines.read_until(b'\n', &mut line).await {
            if length == 0 || length > MAX_RESIZE {
                return;
            }
            if let Ok(size) = serde_json::from_slice(&line)
                && sender.send(size).await.is_err()
            {
                return;
            }
            line.clear();
        }
    };
    tasks.spawn_until_shutdown("resize", async move {
        tokio::select! {
            () = work => {}
            // Nobody listens any more, so the stream must not keep the session.
            () = done.closed() => {}
            () = closed.cancelled() => {}
        }
    });
    receiver
}

impl Stream {
    /// All sizes of a day at the terminal, and an end to a client that never sends a line's end.
    fn take_limited(self) -> impl AsyncRead + Unpin {
        tokio::io::AsyncReadExt::take(self, 1 << 20)
    }
}

/// A message to the client.
#[derive(Debug)]
enum Out {
    Message(u8, Bytes),
    /// A stream has ended; the protocol has no word for that.
    Nothing,
}

async fn serve_websocket(
    io: impl Io,
    version: Version,
    options: StreamOptions,
    tasks: &TaskGroup,
) -> RemoteCommandStreams {
    let socket = ws::upgraded(io, WsRole::Server).await;
    let (mut sink, mut source) = socket.split();
    let (out, mut queue) = mpsc::channel(QUEUE * 2);
    let (stdin, input) = mpsc::channel(QUEUE);
    let (resize, sizes) = mpsc::channel(QUEUE);
    let closed = CancellationToken::new();
    let writer = |channel: u8| {
        let wrap = move |piece| match piece {
            Piece::Data(bytes) => Out::Message(channel, bytes),
            Piece::End => Out::Nothing,
        };
        Box::new(QueueWriter::new(out.clone(), closed.clone(), wrap)) as BoxWrite
    };
    // An empty message tells the client that its streams are there.
    let first = if options.stdout {
        1
    } else if options.stderr {
        2
    } else {
        3
    };
    // The queue is new, so there is room.
    let _ = out.try_send(Out::Message(first, Bytes::new()));
    let streams = RemoteCommandStreams {
        stdin: options.stdin.then(|| Box::new(QueueReader::new(input)) as BoxRead),
        stdout: options.stdout.then(|| writer(1)),
        stderr: options.stderr.then(|| writer(2)),
        resize: options.tty.then_some(sizes),
        error: StatusWriter::new(writer(3), version >= Version::V4),
        closed: closed.clone(),
    };
    let read = async move {
        let mut input = Input { stdin: Some(stdin), resize, version };
        while let Some(Ok(message)) = source.next().await {
            match message {
                Message::Binary(bytes) => input.take(bytes).await,
                Message::Close(_) => break,
                _ => {}
            }
        }
    };
    let write = async move {
        while let Some(message) = queue.recv().await {
            let Out::Message(channel, bytes) = message else { continue };
            let mut framed = Vec::with_capacity(1 + bytes.len());
            framed.push(channel);
            framed.extend_from_slice(&bytes);
            if sink.send(Message::Binary(framed.into())).await.is_err() {
                return;
            }
        }
        if let Err(error) = sink.send(ws::normal_close()).await {
            tracing::trace!(%error, "the client closed first");
        }
    };
    drop(out);
    tasks.spawn_until_shutdown("websocket-session", async move {
        let mut read = std::pin::pin!(read);
        tokio::select! {
            () = &mut read => {}
            () = write => {
                // The client still has to take in what was sent last.
                let _ = time::timeout(LINGER, read).await;
            }
        }
        closed.cancel();
    });
    streams
}

/// What comes from a WebSocket client.
struct Input {
    stdin: Option<mpsc::Sender<Bytes>>,
    resize: mpsc::Sender<TermSize>,
    version: Version,
}

impl Input {
    async fn take(&mut self, mut bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        let channel = bytes.split_to(1)[0];
        match channel {
            0 if !bytes.is_empty() => {
                if let Some(stdin) = &self.stdin {
                    // Input that nobody reads is dropped, as a closed pipe would.
                    let _ = stdin.send(bytes).await;
                }
            }
            4 if bytes.len() <= MAX_RESIZE => match serde_json::from_slice(&bytes) {
                // A size that nobody reads is overtaken by the next.
                Ok(size) => drop(self.resize.try_send(size)),
                Err(error) => tracing::debug!(%error, "malformed terminal size"),
            },
            255 if self.version >= Version::V5 && bytes.first() == Some(&0) => self.stdin = None,
            _ => {}
        }
    }
}

#[cfg(test)]
#[path = "remote_command_tests.rs"]
mod tests;
