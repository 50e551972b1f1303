//! Frames.
//!
//! Invariant: a control frame is read whole and has a limit; data is handed on in pieces of at most
//! [`MAX_PIECE`] bytes, however long its frame is.

use super::headers::{Deflater, Headers, Inflater, MAX_BLOCK};
use crate::Error;
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt as _, BufReader};

/// The longest piece of data, in bytes.
pub const MAX_PIECE: usize = 32 << 10;
/// The longest control frame, in bytes.
const MAX_CONTROL: usize = MAX_BLOCK + 16;
const FLAG_FIN: u8 = 1;

/// Codes of a reset.
pub mod reset {
    /// The frame makes no sense here.
    pub const PROTOCOL_ERROR: u32 = 1;
    /// The stream is not wanted.
    pub const REFUSED_STREAM: u32 = 3;
    /// The stream is no longer wanted.
    pub const CANCEL: u32 = 5;
}

/// A frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Opens a stream.
    SynStream {
        /// Odd when the client opens it.
        id: u32,
        /// The opener will send no data.
        fin: bool,
        /// What it is for.
        headers: Headers,
    },
    /// Accepts a stream.
    SynReply {
        /// Which.
        id: u32,
        /// The accepter will send no data.
        fin: bool,
        /// Empty with Kubernetes.
        headers: Headers,
    },
    /// Ends a stream in both directions.
    Reset {
        /// Which.
        id: u32,
        /// One of [`reset`].
        status: u32,
    },
    /// To be answered with the same.
    Ping {
        /// Which.
        id: u32,
    },
    /// No more streams will be accepted.
    GoAway {
        /// The last one that was.
        last: u32,
    },
    /// More headers of a stream; not used by Kubernetes.
    Headers {
        /// Which.
        id: u32,
        /// The sender will send no data.
        fin: bool,
    },
    /// Settings and window updates; they are read and change nothing.
    Ignored,
    /// A piece of data.
    Data {
        /// Of which stream.
        id: u32,
        /// It is the last.
        fin: bool,
        /// At most [`MAX_PIECE`] bytes when it is read.
        bytes: Bytes,
    },
}

impl Frame {
    /// Writes the frame.
    ///
    /// # Errors
    /// When headers cannot be compressed.
    pub fn encode(&self, deflater: &mut Deflater) -> Result<Vec<u8>, Error> {
        Ok(match self {
            Self::SynStream { id, fin, headers } => {
                let mut payload = [id.to_be_bytes(), [0; 4]].concat();
                payload.extend_from_slice(&[0, 0]);
                payload.extend(deflater.compress(headers)?);
                control(1, *fin, &payload)
            }
            Self::SynReply { id, fin, headers } => {
                let mut payload = id.to_be_bytes().to_vec();
                payload.extend(deflater.compress(headers)?);
                control(2, *fin, &payload)
            }
            Self::Reset { id, status } => control(3, false, &[id.to_be_bytes(), status.to_be_bytes()].concat()),
            Self::Ping { id } => control(6, false, &id.to_be_bytes()),
            Self::GoAway { last } => control(7, false, &[last.to_be_bytes(), [0; 4]].concat()),
            Self::Headers { id, fin } => {
                let mut payload = id.to_be_bytes().to_vec();
                payload.extend(deflater.compress(&Headers::default())?);
                control(8, *fin, &payload)
            }
            Self::Ignored => control(4, false, &[0; 4]),
            Self::Data { id, fin, bytes } => {
                let mut out = Vec::with_capacity(8 + bytes.len());
                out.extend_from_slice(&id.to_be_bytes());
                out.extend_from_slice(&(u32::from(*fin) << 24 | bytes.len() as u32).to_be_bytes());
                out.extend_from_slice(bytes);
                out
            }
        })
    }

    /// Reads the payload of a control frame.
    ///
    /// # Errors
    /// When it is malformed; the connection cannot go on after that.
    pub fn decode(kind: u16, flags: u8, payload: &[u8], inflater: &mut Inflater) -> Result<Self, Error> {
        let fin = flags & FLAG_FIN != 0;
        let id = || number(payload, 0).map(|id| id & 0x7fff_ffff);
        let rest = |at: usize| payload.get(at..).ok_or_else(short);
        Ok(match kind {
            1 => Self::SynStream { id: nonzero(id()?)?, fin, headers: inflater.decompress(rest(10)?)? },
            2 => Self::SynReply { id: nonzero(id()?)?, fin, headers: inflater.decompress(rest(4)?)? },
            3 => Self::Reset { id: nonzero(id()?)?, status: number(payload, 4)? },
            6 => Self::Ping { id: number(payload, 0)? },
            7 => Self::GoAway { last: id()? },
            8 => {
                inflater.decompress(rest(4)?)?;
                Self::Headers { id: nonzero(id()?)?, fin }
            }
            _ => Self::Ignored,
        })
    }
}

fn control(kind: u16, fin: bool, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(8 + payload.len());
    out.extend_from_slice(&[0x80, 3]);
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&(u32::from(fin) << 24 | payload.len() as u32).to_be_bytes());
    out.extend_from_slice(payload);
    out
}

fn short() -> Error {
    Error::Protocol("control frame too short".to_owned())
}

fn number(payload: &[u8], at: usize) -> Result<u32, Error> {
    let bytes = payload.get(at..).and_then(|rest| rest.first_chunk::<4>());
    bytes.map(|bytes| u32::from_be_bytes(*bytes)).ok_or_else(short)
}

fn nonzero(id: u32) -> Result<u32, Error> {
    if id == 0 { Err(Error::Protocol("stream 0".to_owned())) } else { Ok(id) }
}

/// Reads frames from a connection.
#[derive(Debug)]
pub struct FrameReader<R> {
    from: BufReader<R>,
    inflater: Inflater,
    /// The data frame that is being read: its stream, whether it is the last, what is left of it.
    data: Option<(u32, bool, usize)>,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// At the beginning of a connection.
    pub fn new(from: R) -> Self {
        Self { from: BufReader::with_capacity(MAX_PIECE, from), inflater: Inflater::new(), data: None }
    }

    /// The next frame; `None` at the end of the connection.
    ///
    /// # Errors
    /// When the connection fails, or what comes is no SPDY.
    pub async fn next(&mut self) -> Result<Option<Frame>, Error> {
        if let Some((id, fin, left)) = self.data.take() {
            return self.piece(id, fin, left).await.map(Some);
        }
        let mut header = [0; 8];
        match self.from.read_exact(&mut header).await {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let [a, b, c, d, flags, length @ ..] = header;
        let length = u32::from_be_bytes([0, length[0], length[1], length[2]]) as usize;
        if a & 0x80 == 0 {
            let id = nonzero(u32::from_be_bytes([a, b, c, d]))?;
            return self.piece(id, flags & FLAG_FIN != 0, length).await.map(Some);
        }
        if (a & 0x7f, b) != (0, 3) {
            return Err(Error::Protocol("not SPDY/3".to_owned()));
        }
        if length > MAX_CONTROL {
            return Err(Error::Protocol(format!("control frame of {length} bytes")));
        }
        let mut payload = vec![0; length];
        self.from.read_exact(&mut payload).await?;
        Frame::decode(u16::from_be_bytes([c, d]), flags, &payload, &mut self.inflater).map(Some)
    }

    async fn piece(&mut self, id: u32, fin: bool, left: usize) -> Result<Frame, Error> {
        let mut bytes = vec![0; left.min(MAX_PIECE)];
        self.from.read_exact(&mut bytes).await?;
        let left = left - bytes.len();
        if left > 0 {
            self.data = Some((id, fin, left));
        }
        Ok(Frame::Data { id, fin: fin && left == 0, bytes: bytes.into() })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    async fn read_all(bytes: &[u8]) -> Result<Vec<Frame>, Error> {
        let mut reader = FrameReader::new(bytes);
        let mut frames = Vec::new();
        while let Some(frame) = reader.next().await? {
            frames.push(frame);
        }
        Ok(frames)
    }

    fn headers() -> Headers {
        Headers::default().with("streamtype", "stdin")
    }

    #[tokio::test]
    async fn every_frame_comes_back() {
        let frames = [
            Frame::SynStream { id: 1, fin: false, headers: headers() },
            Frame::SynReply { id: 1, fin: true, headers: Headers::default() },
            Frame::Headers { id: 1, fin: false },
            Frame::SynStream { id: 3, fin: true, headers: headers() },
            Frame::Data { id: 3, fin: false, bytes: Bytes::from_static(b"hello") },
            Frame::Data { id: 3, fin: true, bytes: Bytes::new() },
            Frame::Reset { id: 3, status: reset::CANCEL },
            Frame::Ping { id: 7 },
            Frame::Ignored,
            Frame::GoAway { last: 3 },
        ];
        let mut deflater = Deflater::new().unwrap();
        let bytes: Vec<u8> = frames.iter().flat_map(|f| f.encode(&mut deflater).unwrap()).collect();
        assert_eq!(read_all(&bytes).await.unwrap(), frames);
    }

    #[tokio::test]
    async fn long_data_comes_in_pieces() {
        let bytes = Bytes::from(vec![7; MAX_PIECE * 2 + 5]);
        let frame = Frame::Data { id: 5, fin: true, bytes };
        let encoded = frame.encode(&mut Deflater::new().unwrap()).unwrap();
        let shape = |frame: &Frame| match frame {
            Frame::Data { id, fin, bytes } => (*id, *fin, bytes.len()),
            other => panic!("{other:?}"),
        };
        let got: Vec<_> = read_all(&encoded).await.unwrap().iter().map(shape).collect();
        assert_eq!(got, [(5, false, MAX_PIECE), (5, false, MAX_PIECE), (5, true, 5)]);
    }

    #[tokio::test]
    async fn what_is_no_spdy_is_refused() {
        assert!(read_all(b"GET / HTTP/1.1\r\n\r\n").await.is_err());
        assert!(read_all(&[0x80, 2, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1]).await.is_err(), "another version");
        assert!(read_all(&[0x80, 3, 0, 1, 0, 0xff, 0xff, 0xff]).await.is_err(), "too long");
        assert!(read_all(&[0x80, 3, 0, 3, 0, 0, 0, 4, 0, 0, 0, 1]).await.is_err(), "too short");
        assert!(read_all(&[0, 0, 0, 0, 0, 0, 0, 0]).await.is_err(), "stream 0");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), control in any::<bool>(), kind in 0_u8..10) {
            let mut bytes = bytes;
            if control && bytes.len() >= 8 {
                let length = (bytes.len() - 8) as u8;
                bytes[..8].copy_from_slice(&[0x80, 3, 0, kind, 0, 0, 0, length]);
            }
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let _ = runtime.block_on(read_all(&bytes));
        }
    }
}
