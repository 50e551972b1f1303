//! A connection with its streams.
//!
//! Invariant: frames of one stream are delivered in order, and a frame that waits for a slow reader
//! stops the reading of the connection but never its writing. When the last holder of a stream or of
//! the session lets go, what is queued is sent and the connection ends.

use super::frame::{Frame, FrameReader, reset};
use super::headers::{Deflater, Headers};
use crate::pipe::{Piece, QUEUE, QueueReader, QueueWriter};
use crate::{Error, Io};
use bytes::Bytes;
use kedge_base::{TaskGroup, time};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// The most streams at a time; more are refused.
const MAX_STREAMS: usize = 512;
/// How long the peer may take to accept a stream.
const REPLY: Duration = Duration::from_secs(30);
/// How long the end of a session waits for the peer to end its side.
const LINGER: Duration = Duration::from_secs(2);

/// Which end of the connection this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Opens streams with odd numbers.
    Client,
    /// Opens streams with even numbers.
    Server,
}

/// What is known of a stream while it can receive.
#[derive(Debug)]
struct Entry {
    data: Option<mpsc::Sender<Bytes>>,
    reply: Option<oneshot::Sender<()>>,
    gone: CancellationToken,
}

#[derive(Debug, Default)]
struct Shared {
    streams: Mutex<HashMap<u32, Entry>>,
    /// The next number of an own stream; held until its opening is queued, so that numbers go up.
    next: tokio::sync::Mutex<u32>,
    closed: CancellationToken,
}

/// A connection. Clones share it.
#[derive(Debug, Clone)]
pub struct Session {
    out: mpsc::Sender<Frame>,
    shared: Arc<Shared>,
}

/// The streams that the peer opens.
#[derive(Debug)]
pub struct Incoming {
    streams: mpsc::Receiver<Stream>,
}

impl Incoming {
    /// The next stream; `None` when the connection is over.
    pub async fn next(&mut self) -> Option<Stream> {
        self.streams.recv().await
    }
}

impl Session {
    /// Starts a session on a connection, in a task of `tasks`.
    pub fn start(io: impl Io, role: Role, tasks: &TaskGroup) -> (Self, Incoming) {
        let (out, queue) = mpsc::channel(QUEUE * 2);
        let (accept, streams) = mpsc::channel(QUEUE);
        let first = if role == Role::Client { 1 } else { 2 };
        let shared = Arc::new(Shared { next: tokio::sync::Mutex::new(first), ..Shared::default() });
        let driver = Driver { out: out.downgrade(), accept, shared: shared.clone(), role };
        tasks.spawn_until_shutdown("spdy-session", driver.run(io, queue));
        (Self { out, shared }, Incoming { streams })
    }

    /// Opens a stream and waits until the peer has accepted it.
    ///
    /// # Errors
    /// When the peer refuses it, does not answer, or the session ends.
    pub async fn open(&self, headers: Headers) -> Result<Stream, Error> {
        let (reply, replied) = oneshot::channel();
        let mut next = self.shared.next.lock().await;
        let id = *next;
        if id > 0x7fff_fffd {
            return Err(Error::Protocol("no stream number is left".to_owned()));
        }
        *next += 2;
        let stream = self.register(id, headers.clone(), Some(reply))?;
        let frame = Frame::SynStream { id, fin: false, headers };
        self.out.send(frame).await.map_err(|_| Error::Closed)?;
        drop(next);
        match time::timeout(REPLY, replied).await {
            Ok(Ok(())) => Ok(stream),
            Ok(Err(_)) if self.shared.closed.is_cancelled() => Err(Error::Closed),
            Ok(Err(_)) => Err(Error::Protocol("the peer refused a stream".to_owned())),
            Err(_) => Err(Error::Timeout("waiting for the peer to accept a stream")),
        }
    }

    /// Is cancelled when the connection is over.
    pub fn closed(&self) -> CancellationToken {
        self.shared.closed.clone()
    }

    fn register(&self, id: u32, headers: Headers, reply: Option<oneshot::Sender<()>>) -> Result<Stream, Error> {
        let (data, queue) = mpsc::channel(QUEUE);
        let gone = CancellationToken::new();
        let mut streams = self.shared.streams.lock();
        if self.shared.closed.is_cancelled() {
            return Err(Error::Closed);
        }
        if streams.len() >= MAX_STREAMS {
            return Err(Error::Protocol(format!("more than {MAX_STREAMS} streams")));
        }
        streams.insert(id, Entry { data: Some(data), reply, gone: gone.clone() });
        drop(streams);
        let wrap = move |piece| match piece {
            Piece::Data(bytes) => Frame::Data { id, fin: false, bytes },
            Piece::End => Frame::Data { id, fin: true, bytes: Bytes::new() },
        };
        let writer = QueueWriter::new(self.out.clone(), gone.clone(), wrap);
        Ok(Stream { id, headers, reader: QueueReader::new(queue), writer, session: self.clone(), gone })
    }
}

/// One stream of a session: bytes in both directions.
pub struct Stream {
    id: u32,
    headers: Headers,
    reader: QueueReader,
    writer: QueueWriter<Frame>,
    session: Session,
    gone: CancellationToken,
}

impl Stream {
    /// Its number.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// What it is for.
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    /// Ends the stream in both directions.
    pub async fn reset(self) {
        if !self.gone.is_cancelled() {
            let frame = Frame::Reset { id: self.id, status: reset::CANCEL };
            // A session that is over has no stream to reset.
            let _ = self.session.out.send(frame).await;
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.session.shared.streams.lock().remove(&self.id);
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").field("id", &self.id).field("headers", &self.headers).finish_non_exhaustive()
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.reader).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.writer).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_shutdown(cx)
    }
}

/// The task behind a session.
struct Driver {
    /// Weak, so that the task itself does not keep the session alive.
    out: mpsc::WeakSender<Frame>,
    accept: mpsc::Sender<Stream>,
    shared: Arc<Shared>,
    role: Role,
}

impl Driver {
    async fn run(self, io: impl Io, queue: mpsc::Receiver<Frame>) {
        let (reader, writer) = tokio::io::split(io);
        let shared = self.shared.clone();
        let mut reading = std::pin::pin!(self.read(FrameReader::new(reader)));
        let ended = tokio::select! {
            ended = &mut reading => ended,
            written = write(writer, queue) => match written {
                // The peer still has to take in what was sent last: closing at once could destroy it.
                Ok(_writer) => time::timeout(LINGER, reading).await.unwrap_or(Ok(())),
                Err(error) => Err(error),
            },
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "SPDY session ended");
        }
        let mut streams = shared.streams.lock();
        shared.closed.cancel();
        for entry in streams.drain().map(|(_, entry)| entry) {
            entry.gone.cancel();
        }
    }

    async fn read(self, mut frames: FrameReader<impl AsyncRead + Unpin>) -> Result<(), Error> {
        let mut last = 0;
        while let Some(frame) = frames.next().await? {
            match frame {
                Frame::SynStream { id, fin, headers } => {
                    let theirs = id % 2 == u32::from(self.role == Role::Server);
                    if !theirs || id <= last {
                        return Err(Error::Protocol(format!("stream {id} after {last}")));
                    }
                    last = id;
                    self.opened(id, fin, headers).await;
                }
                Frame::SynReply { id, fin, .. } => {
                    let mut streams = self.shared.streams.lock();
                    if let Some(entry) = streams.get_mut(&id) {
                        // Whoever opened it may have given up.
                        let _ = entry.reply.take().map(|reply| reply.send(()));
                        if fin {
                            entry.data = None;
                        }
                    }
                }
                Frame::Data { id, fin, bytes } => self.data(id, fin, bytes).await,
                Frame::Headers { id, fin: true } => self.data(id, true, Bytes::new()).await,
                Frame::Reset { id, .. } => {
                    if let Some(entry) = self.shared.streams.lock().remove(&id) {
                        entry.gone.cancel();
                    }
                }
                Frame::Ping { id } => {
                    // Odd pings are the client's; others are answers to pings that were not sent.
                    if id % 2 == u32::from(self.role == Role::Server) {
                        self.send(Frame::Ping { id }).await;
                    }
                }
                Frame::GoAway { .. } | Frame::Headers { .. } | Frame::Ignored => {}
            }
        }
        Ok(())
    }

    async fn opened(&self, id: u32, fin: bool, headers: Headers) {
        let refused = Frame::Reset { id, status: reset::REFUSED_STREAM };
        let Some(out) = self.out.upgrade() else { return };
        let session = Session { out, shared: self.shared.clone() };
        let Ok(stream) = session.register(id, headers, None) else { return self.send(refused).await };
        if fin {
            self.data(id, true, Bytes::new()).await;
        }
        // The reply goes first: the peer ignores data of a stream that was not accepted.
        self.send(Frame::SynReply { id, fin: false, headers: Headers::default() }).await;
        if self.accept.send(stream).await.is_err() {
            self.send(refused).await;
        }
    }

    async fn data(&self, id: u32, fin: bool, bytes: Bytes) {
        let sender = {
            let mut streams = self.shared.streams.lock();
            let Some(entry) = streams.get_mut(&id) else { return };
            if fin { entry.data.take() } else { entry.data.clone() }
        };
        if let Some(sender) = sender.filter(|_| !bytes.is_empty()) {
            // A reader that is gone does not want it.
            let _ = sender.send(bytes).await;
        }
    }

    async fn send(&self, frame: Frame) {
        if let Some(out) = self.out.upgrade() {
            // When the writing side is over, so is the session.
            let _ = out.send(frame).await;
        }
    }
}

/// Writes what is queued until nobody can queue any more, then says good-bye.
async fn write<W: AsyncWrite + Unpin>(mut to: W, mut queue: mpsc::Receiver<Frame>) -> Result<W, Error> {
    let mut deflater = Deflater::new()?;
    while let Some(frame) = queue.recv().await {
        let mut bytes = frame.encode(&mut deflater)?;
        // Frames that wait already go in one write.
        while bytes.len() < 64 << 10 {
            let Ok(frame) = queue.try_recv() else { break };
            bytes.extend(frame.encode(&mut deflater)?);
        }
        to.write_all(&bytes).await?;
        to.flush().await?;
    }
    to.write_all(&Frame::GoAway { last: 0 }.encode(&mut deflater)?).await?;
    to.shutdown().await?;
    Ok(to)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use kedge_base::Shutdown;
    use tokio::io::AsyncReadExt as _;

    fn pair() -> (TaskGroup, Session, Session, Incoming) {
        let tasks = TaskGroup::new("test", Shutdown::new());
        let (a, b) = tokio::io::duplex(4096);
        let (client, _) = Session::start(a, Role::Client, &tasks);
        let (server, incoming) = Session::start(b, Role::Server, &tasks);
        (tasks, client, server, incoming)
    }

    fn named(name: &str) -> Headers {
        Headers::default().with("streamtype", name)
    }

    #[tokio::test]
    async fn streams_carry_bytes_both_ways_and_end_half_by_half() {
        let (_tasks, client, _server, mut incoming) = pair();
        let echo = async {
            let mut stream = incoming.next().await.unwrap();
            assert_eq!(stream.headers().get("streamtype"), Some("data"));
            let mut got = Vec::new();
            stream.read_to_end(&mut got).await.unwrap();
            stream.write_all(&got).await.unwrap();
            stream.shutdown().await.unwrap();
            stream
        };
        let bytes: Vec<u8> = (0..200_000_u32).map(|i| i as u8).collect();
        let ask = async {
            let mut stream = client.open(named("data")).await.unwrap();
            stream.write_all(&bytes).await.unwrap();
            stream.shutdown().await.unwrap();
            assert!(stream.write(b"x").await.is_err());
            let mut got = Vec::new();
            stream.read_to_end(&mut got).await.unwrap();
            got
        };
        let (stream, got) = tokio::join!(echo, ask);
        assert_eq!(stream.id(), 1);
        assert!(got == bytes);
    }

    #[tokio::test]
    async fn a_reset_ends_both_directions() {
        let (_tasks, client, _server, mut incoming) = pair();
        let (stream, theirs) = tokio::join!(client.open(named("data")), incoming.next());
        let (stream, mut theirs) = (stream.unwrap(), theirs.unwrap());
        stream.reset().await;
        let mut got = Vec::new();
        assert_eq!(theirs.read_to_end(&mut got).await.unwrap(), 0);
        assert!(theirs.write(b"x").await.is_err());
    }

    #[tokio::test]
    async fn what_was_written_arrives_although_everybody_lets_go() {
        let (tasks, client, server, mut incoming) = pair();
        let (stream, theirs) = tokio::join!(client.open(named("error")), incoming.next());
        let (mut stream, mut theirs) = (stream.unwrap(), theirs.unwrap());
        theirs.write_all(b"done").await.unwrap();
        theirs.shutdown().await.unwrap();
        drop((theirs, server, incoming));
        let mut got = String::new();
        stream.read_to_string(&mut got).await.unwrap();
        assert_eq!(got, "done");
        drop((stream, client));
        assert!(tasks.join(Duration::from_secs(10)).await);
    }

    #[tokio::test]
    async fn a_peer_that_goes_closes_everything() {
        let (_tasks, client, server, mut incoming) = pair();
        let (stream, theirs) = tokio::join!(client.open(named("data")), incoming.next());
        let mut stream = stream.unwrap();
        let closed = client.closed();
        drop((theirs, server, incoming));
        closed.cancelled().await;
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
        assert!(matches!(client.open(named("data")).await, Err(Error::Closed)));
    }

    #[tokio::test]
    async fn pings_are_answered_and_too_many_streams_refused() {
        let tasks = TaskGroup::new("test", Shutdown::new());
        let (a, b) = tokio::io::duplex(1 << 20);
        let (_server, mut incoming) = Session::start(b, Role::Server, &tasks);
        let (reader, mut writer) = tokio::io::split(a);
        let mut deflater = Deflater::new().unwrap();
        let mut frames = FrameReader::new(reader);
        writer.write_all(&Frame::Ping { id: 1 }.encode(&mut deflater).unwrap()).await.unwrap();
        assert_eq!(frames.next().await.unwrap(), Some(Frame::Ping { id: 1 }));
        let hold = async {
            let mut held = Vec::new();
            while held.len() < MAX_STREAMS {
                held.push(incoming.next().await.unwrap());
            }
            held
        };
        let flood = async {
            for i in 0..=MAX_STREAMS as u32 {
                let frame = Frame::SynStream { id: i * 2 + 1, fin: false, headers: Headers::default() };
                writer.write_all(&frame.encode(&mut deflater).unwrap()).await.unwrap();
            }
        };
        let answers = async {
            loop {
                if let Frame::Reset { status, .. } = frames.next().await.unwrap().unwrap() {
                    return status;
                }
            }
        };
        let (_held, (), status) = tokio::join!(hold, flood, answers);
        assert_eq!(status, reset::REFUSED_STREAM);
    }
}
