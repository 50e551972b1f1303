//! The client of a container runtime's streaming server.
//!
//! Invariant: every stream is accepted by the server before it is used, because it drops data of
//! streams it has not accepted.

use crate::remote_command::TermSize;
use crate::spdy::{Headers, Role, Session, Stream};
use crate::{Error, Io, StreamOptions};
use kedge_base::{TaskGroup, time};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

/// How long connecting and upgrading may take.
const CONNECT: Duration = Duration::from_secs(30);
/// The longest head of the answer, in bytes.
const MAX_HEAD: usize = 16 << 10;

/// The streams of a command, as the runtime's client sees them.
pub struct CriStreams {
    /// What to type.
    pub stdin: Option<Stream>,
    /// Output.
    pub stdout: Option<Stream>,
    /// Error output.
    pub stderr: Option<Stream>,
    /// Where new sizes of the terminal go.
    pub resize: Option<ResizeWriter>,
    /// Its end is the command's; what is in it is how the command ended.
    pub error: Stream,
    /// Is cancelled when the runtime is gone.
    pub closed: CancellationToken,
}

/// Tells the runtime new sizes of the terminal.
pub struct ResizeWriter(Stream);

impl ResizeWriter {
    /// Tells a size.
    ///
    /// # Errors
    /// When the runtime is gone.
    pub async fn resize(&mut self, size: TermSize) -> Result<(), Error> {
        let text = format!("{{\"Width\":{},\"Height\":{}}}\n", size.width, size.height);
        Ok(self.0.write_all(text.as_bytes()).await?)
    }
}

/// Connects to the URL that the runtime answered to Exec or Attach.
///
/// # Errors
/// When the URL cannot be used, or the runtime does not go along.
pub async fn cri_connect(url: &str, options: StreamOptions, tasks: &TaskGroup) -> Result<CriStreams, Error> {
    let (authority, path) = split_url(url)?;
    let connect = async {
        let stream = TcpStream::connect(authority).await?;
        stream.set_nodelay(true)?;
        upgrade(stream, authority, path).await
    };
    let io =
        time::timeout(CONNECT, connect).await.map_err(|_| Error::Timeout("connecting to the container runtime"))??;
    open(io, options, tasks).await
}

/// Opens the streams in the order in which stock clients do.
pub(crate) async fn open(io: impl Io, options: StreamOptions, tasks: &TaskGroup) -> Result<CriStreams, Error> {
    let (session, _) = Session::start(io, Role::Client, tasks);
    let open = async |kind: &str, wanted: bool| -> Result<Option<Stream>, Error> {
        if !wanted {
            return Ok(None);
        }
        session.open(Headers::default().with("streamtype", kind)).await.map(Some)
    };
    let error = session.open(Headers::default().with("streamtype", "error")).await?;
    let stdin = open("stdin", options.stdin).await?;
    let stdout = open("stdout", options.stdout).await?;
    let stderr = open("stderr", options.stderr && !options.tty).await?;
    let resize = open("resize", options.tty).await?.map(ResizeWriter);
    Ok(CriStreams { stdin, stdout, stderr, resize, error, closed: session.closed() })
}

fn split_url(url: &str) -> Result<(&str, &str), Error> {
    let bad = |problem| Error::Url { url: url.to_owned(), problem };
    let rest = url.strip_prefix("http://").ok_or_else(|| bad("only http is supported"))?;
    let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    if authority.is_empty() || !url.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(bad("it is malformed"));
    }
    Ok((authority, path))
}

async fn upgrade<S: AsyncRead + AsyncWrite + Unpin>(
    mut io: S,
    authority: &str,
    path: &str,
) -> Result<Prefixed<S>, Error> {
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\
         X-Stream-Protocol-Version: v4.channel.k8s.io\r\nContent-Length: 0\r\n\r\n"
    );
    io.write_all(request.as_bytes()).await?;
    let mut head = Vec::with_capacity(1024);
    let end = loop {
        if let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if head.len() > MAX_HEAD {
            return Err(Error::Protocol("the runtime's answer has no end".to_owned()));
        }
        if io.read_buf(&mut head).await? == 0 {
            return Err(Error::Io(io::ErrorKind::UnexpectedEof.into()));
        }
    };
    let rest = head.split_off(end);
    let text = String::from_utf8_lossy(&head);
    let status = text.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("101") {
        let body = String::from_utf8_lossy(&rest);
        return Err(Error::Refused(format!("{status}: {}", body.trim())));
    }
    Ok(Prefixed { rest, taken: 0, io })
}

/// A connection of which a beginning was read already.
struct Prefixed<S> {
    rest: Vec<u8>,
    taken: usize,
    io: S,
}

impl<S: AsyncRead + Unpin> AsyncRead for Prefixed<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let left = &self.rest[self.taken..];
        if left.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        let length = left.len().min(buf.remaining());
        buf.put_slice(&left[..length]);
        self.taken += length;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prefixed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        assert_eq!(split_url("http://127.0.0.1:1234/exec/tok").unwrap(), ("127.0.0.1:1234", "/exec/tok"));
        for bad in ["https://127.0.0.1/x", "http:///x", "http://h/a\r\nX: y", "unix:///x"] {
            assert!(split_url(bad).is_err(), "{bad}");
        }
    }

    async fn answered(answer: &'static [u8]) -> Result<Vec<u8>, Error> {
        let (client, mut server) = tokio::io::duplex(4096);
        let serve = async {
            let mut request = [0; 1024];
            let length = server.read(&mut request).await.unwrap();
            server.write_all(answer).await.unwrap();
            server.shutdown().await.unwrap();
            String::from_utf8_lossy(&request[..length]).into_owned()
        };
        let (upgraded, request) = tokio::join!(upgrade(client, "h:1", "/exec/t"), serve);
        assert!(request.starts_with("POST /exec/t HTTP/1.1\r\nHost: h:1\r\n"), "{request}");
        let mut rest = Vec::new();
        upgraded?.read_to_end(&mut rest).await?;
        Ok(rest)
    }

    #[tokio::test]
    async fn bytes_behind_the_answer_belong_to_the_session() {
        let rest = answered(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: SPDY/3.1\r\n\r\nabc").await;
        assert_eq!(rest.unwrap(), b"abc");
    }

    #[tokio::test]
    async fn a_refusal_is_reported_with_its_text() {
        let error = answered(b"HTTP/1.1 404 Not Found\r\n\r\ncache miss\n").await.unwrap_err();
        assert_eq!(error.to_string(), "container runtime refused the stream: HTTP/1.1 404 Not Found: cache miss");
        assert!(answered(b"HTTP/1.1 101").await.is_err());
    }
}
