//! Bounded queues as byte streams.
//!
//! Invariant: a reader ends when all that was queued has been read and the other end is gone; a
//! writer waits when the queue is full and fails when the other end is gone.

use bytes::Bytes;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, PollSender};

/// How many pieces wait in a queue.
pub const QUEUE: usize = 32;
/// The longest piece, in bytes.
const MAX_PIECE: usize = 32 << 10;

/// The reading end of a queue of bytes.
#[derive(Debug)]
pub struct QueueReader {
    queue: mpsc::Receiver<Bytes>,
    rest: Bytes,
}

impl QueueReader {
    /// Reads from `queue`.
    pub fn new(queue: mpsc::Receiver<Bytes>) -> Self {
        Self { queue, rest: Bytes::new() }
    }
}

impl AsyncRead for QueueReader {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.rest.is_empty() {
            match ready!(self.queue.poll_recv(cx)) {
                Some(bytes) => self.rest = bytes,
                None => return Poll::Ready(Ok(())),
            }
        }
        let length = self.rest.len().min(buf.remaining());
        buf.put_slice(&self.rest.split_to(length));
        Poll::Ready(Ok(()))
    }
}

/// What a writer puts into its queue.
#[derive(Debug)]
pub enum Piece {
    /// Some bytes.
    Data(Bytes),
    /// There will be no more.
    End,
}

/// The writing end of a queue of `T`, made of bytes by a function.
pub struct QueueWriter<T> {
    queue: PollSender<T>,
    wrap: Box<dyn Fn(Piece) -> T + Send>,
    gone: CancellationToken,
    ended: bool,
}

impl<T: Send + 'static> QueueWriter<T> {
    /// Writes into `queue` until `gone`.
    pub fn new(queue: mpsc::Sender<T>, gone: CancellationToken, wrap: impl Fn(Piece) -> T + Send + 'static) -> Self {
        Self { queue: PollSender::new(queue), wrap: Box::new(wrap), gone, ended: false }
    }

    fn poll_put(&mut self, cx: &mut Context<'_>, piece: impl FnOnce() -> Piece) -> Poll<io::Result<()>> {
        let broken = || io::Error::from(io::ErrorKind::BrokenPipe);
        if self.gone.is_cancelled() || self.ended {
            return Poll::Ready(Err(broken()));
        }
        ready!(self.queue.poll_reserve(cx)).map_err(|_| broken())?;
        let item = (self.wrap)(piece());
        Poll::Ready(self.queue.send_item(item).map_err(|_| broken()))
    }
}

impl<T: Send + 'static> AsyncWrite for QueueWriter<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let length = bytes.len().min(MAX_PIECE);
        ready!(self.poll_put(cx, || Piece::Data(Bytes::copy_from_slice(&bytes[..length]))))?;
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What is queued is sent before the session ends.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.ended || self.gone.is_cancelled() {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_put(cx, || Piece::End))?;
        self.ended = true;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn bytes_pass_and_end() {
        let (sender, receiver) = mpsc::channel(1);
        let unwrap = |piece| match piece {
            Piece::Data(bytes) => bytes,
            Piece::End => Bytes::new(),
        };
        let mut writer = QueueWriter::new(sender, CancellationToken::new(), unwrap);
        let mut reader = QueueReader::new(receiver);
        let long = vec![5; MAX_PIECE + 3];
        let write = async {
            writer.write_all(&long).await.unwrap();
            writer.shutdown().await.unwrap();
            drop(writer);
        };
        let mut got = Vec::new();
        let (_, read) = tokio::join!(write, reader.read_to_end(&mut got));
        read.unwrap();
        assert_eq!(got, long);
    }

    #[tokio::test]
    async fn writing_to_nobody_fails() {
        let (sender, receiver) = mpsc::channel::<Piece>(1);
        drop(receiver);
        let mut writer = QueueWriter::new(sender, CancellationToken::new(), |piece| piece);
        assert_eq!(writer.write(b"x").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        let (sender, _receiver) = mpsc::channel::<Piece>(1);
        let gone = CancellationToken::new();
        let mut writer = QueueWriter::new(sender, gone.clone(), |piece| piece);
        gone.cancel();
        assert!(writer.write(b"x").await.is_err());
    }
}
