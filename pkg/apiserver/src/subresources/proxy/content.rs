//! The bodies of pages: unpacked, rewritten and packed again while they stream.

use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::{DeflateDecoder, DeflateEncoder, GzDecoder, GzEncoder, ZlibDecoder, ZlibEncoder};
use http::{Response, header};
use http_body::Frame;
use http_body_util::BodyExt as _;
use tracing::debug;

use super::html::Page;
use super::rewrite::Links;
use crate::body::{Body, BodyError};

/// Packed bytes that are unpacked at a time: they may become a thousand times as many.
const STEP: usize = 2 << 10;

/// The page with links that lead through the proxy.
pub(super) fn with_links(response: Response<Body>, links: &Links) -> Response<Body> {
    let (mut head, body) = response.into_parts();
    let encoding = head.headers.get(header::CONTENT_ENCODING).map(|value| value.as_bytes().to_ascii_lowercase());
    let packing = match encoding.as_deref() {
        None | Some(b"" | b"identity") => Packing::Plain,
        Some(b"gzip" | b"x-gzip") => Packing::Gzip(GzDecoder::new(Vec::new()), GzEncoder::new(Vec::new(), level())),
        Some(b"deflate") => Packing::Unknown,
        Some(other) => {
            debug!(encoding = %String::from_utf8_lossy(other), "links of a page that cannot be unpacked stay");
            return Response::from_parts(head, body);
        }
    };
    head.headers.remove(header::CONTENT_LENGTH);
    let body = Rewritten { body, rest: Bytes::new(), packing, page: Page::new(links.clone()), ended: false };
    Response::from_parts(head, body.boxed_unsync())
}

fn level() -> Compression {
    Compression::fast()
}

/// Bytes of a packed page that are unpacked at a time, and what those of one piece may become.
const PART: usize = 4 << 10;
const MAX_UNPACKED: usize = 16 << 20;

/// How a page is packed.
enum Packing {
    Plain,
    /// `deflate`, before its first byte: some mean zlib by it, as the standard does, some the bare format.
    Unknown,
    Gzip(GzDecoder<Vec<u8>>, GzEncoder<Vec<u8>>),
    Zlib(ZlibDecoder<Vec<u8>>, ZlibEncoder<Vec<u8>>),
    Deflate(DeflateDecoder<Vec<u8>>, DeflateEncoder<Vec<u8>>),
}

impl Packing {
    fn unpack(&mut self, piece: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        if let (Self::Unknown, Some(first)) = (&*self, piece.first()) {
            *self = match first & 0x0f {
                8 => Self::Zlib(ZlibDecoder::new(Vec::new()), ZlibEncoder::new(Vec::new(), level())),
                _ => Self::Deflate(DeflateDecoder::new(Vec::new()), DeflateEncoder::new(Vec::new(), level())),
            };
        }
        match self {
            Self::Plain | Self::Unknown => out.extend_from_slice(piece),
            Self::Gzip(from, _) => unpacked(from, piece, out, GzDecoder::get_mut)?,
            Self::Zlib(from, _) => unpacked(from, piece, out, ZlibDecoder::get_mut)?,
            Self::Deflate(from, _) => unpacked(from, piece, out, DeflateDecoder::get_mut)?,
        }
        Ok(())
    }

    /// Packs a piece; flushed, so that the client sees what the backend has sent.
    fn pack(&mut self, piece: Vec<u8>, last: bool) -> io::Result<Vec<u8>> {
        match self {
            Self::Plain | Self::Unknown => Ok(piece),
            Self::Gzip(_, to) => packed(to, &piece, last, GzEncoder::try_finish, GzEncoder::get_mut),
            Self::Zlib(_, to) => packed(to, &piece, last, ZlibEncoder::try_finish, ZlibEncoder::get_mut),
            Self::Deflate(_, to) => packed(to, &piece, last, DeflateEncoder::try_finish, DeflateEncoder::get_mut),
        }
    }
}

/// Appends what an unpacker makes of a piece: a few bytes may say that they are many.
fn unpacked<W: Write>(
    from: &mut W,
    piece: &[u8],
    out: &mut Vec<u8>,
    made: impl Fn(&mut W) -> &mut Vec<u8>,
) -> io::Result<()> {
    for part in piece.chunks(PART) {
        from.write_all(part)?;
        from.flush()?;
        out.append(made(from));
        if out.len() > MAX_UNPACKED {
            return Err(io::Error::other("a piece of the page unpacks to too much"));
        }
    }
    Ok(())
}

/// What a packer makes of a piece.
fn packed<W: Write>(
    to: &mut W,
    piece: &[u8],
    last: bool,
    end: impl FnOnce(&mut W) -> io::Result<()>,
    made: impl FnOnce(&mut W) -> &mut Vec<u8>,
) -> io::Result<Vec<u8>> {
    to.write_all(piece)?;
    if last {
        end(to)?
    } else {
        to.flush()?
    }
    Ok(std::mem::take(made(to)))
}

/// A page that is rewritten while it is sent.
struct Rewritten {
    body: Body,
    /// What has come and has not been looked at.
    rest: Bytes,
    packing: Packing,
    page: Page,
    ended: bool,
}

impl Rewritten {
    fn piece(&mut self, piece: &[u8], last: bool) -> io::Result<Bytes> {
        let (mut unpacked, mut page) = (Vec::new(), Vec::new());
        self.packing.unpack(piece, &mut unpacked)?;
        self.page.feed(&unpacked, &mut page);
        if last {
            self.page.finish(&mut page);
        } else if page.is_empty() {
            return Ok(Bytes::new());
        }
        self.packing.pack(page, last).map(Bytes::from)
    }
}

impl http_body::Body for Rewritten {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let failed = |err: io::Error| Poll::Ready(Some(Err(BodyError(err.into()))));
        loop {
            if !self.rest.is_empty() {
                let step = self.rest.len().min(STEP);
                let step = self.rest.split_to(step);
                match self.piece(&step, false) {
                    Ok(page) if page.is_empty() => continue,
                    Ok(page) => return Poll::Ready(Some(Ok(Frame::data(page)))),
                    Err(err) => return failed(err),
                }
            }
            if self.ended {
                return Poll::Ready(None);
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                // Trailers speak about what has been changed.
                Some(Ok(frame)) => self.rest = frame.into_data().unwrap_or_default(),
                Some(Err(err)) => return Poll::Ready(Some(Err(err))),
                None => {
                    self.ended = true;
                    match self.piece(&[], true) {
                        Ok(page) if page.is_empty() => {}
                        Ok(page) => return Poll::Ready(Some(Ok(Frame::data(page)))),
                        Err(err) => return failed(err),
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Read as _;

    use futures::FutureExt as _;
    use http_body_util::StreamBody;

    fn links() -> Links {
        Links { prefix: "/p/proxy".into(), backend: "10.0.0.1:80".into(), requested: String::new() }
    }

    fn page(encoding: &str, bytes: &[u8]) -> Response<Body> {
        let pieces: Vec<_> = bytes.chunks(5).map(|c| Ok(Frame::data(Bytes::copy_from_slice(c)))).collect();
        let body = StreamBody::new(futures::stream::iter(pieces)).boxed_unsync();
        let response = Response::builder().header("content-length", bytes.len());
        with_links(response.header("content-encoding", encoding).body(body).unwrap(), &links())
    }

    /// Some kilobytes from a pod once became as many megabytes here, for each client that it sent them to.
    #[test]
    fn a_page_that_unpacks_to_too_much_breaks_off() {
        let mut to = GzEncoder::new(Vec::new(), level());
        (0..64).for_each(|_| to.write_all(&vec![0; 1 << 20]).unwrap());
        let bomb = to.finish().unwrap();
        let (mut out, mut packing) =
            (Vec::new(), Packing::Gzip(GzDecoder::new(Vec::new()), GzEncoder::new(Vec::new(), level())));
        assert!(packing.unpack(&bomb, &mut out).is_err());
        assert!(out.len() < MAX_UNPACKED + PART * 1_100, "{}", out.len());
    }

    fn all(response: Response<Body>) -> Vec<u8> {
        response.into_body().collect().now_or_never().unwrap().unwrap().to_bytes().to_vec()
    }

    #[test]
    fn pages_are_packed_as_they_were() {
        let (before, after) = (b"<a href='/x'>x</a>", b"<a href='/p/proxy/x'>x</a>");
        let mut gzip = GzEncoder::new(Vec::new(), level());
        gzip.write_all(before).unwrap();
        let packed = page("gzip", &gzip.finish().unwrap());
        assert!(!packed.headers().contains_key("content-length"));
        let mut out = Vec::new();
        flate2::read::GzDecoder::new(all(packed).as_slice()).read_to_end(&mut out).unwrap();
        assert_eq!(out, after);
        let mut zlib = ZlibEncoder::new(Vec::new(), level());
        zlib.write_all(before).unwrap();
        let (mut out, packed) = (Vec::new(), all(page("deflate", &zlib.finish().unwrap())));
        flate2::read::ZlibDecoder::new(packed.as_slice()).read_to_end(&mut out).unwrap();
        assert_eq!(out, after);
        let mut bare = DeflateEncoder::new(Vec::new(), level());
        bare.write_all(before).unwrap();
        let (mut out, packed) = (Vec::new(), all(page("deflate", &bare.finish().unwrap())));
        flate2::read::DeflateDecoder::new(packed.as_slice()).read_to_end(&mut out).unwrap();
        assert_eq!(out, after);
        assert_eq!(all(page("", before)), after);
        assert_eq!(all(page("br", before)), before, "what cannot be unpacked stays");
    }

    #[test]
    fn a_broken_page_breaks_off() {
        assert!(page("gzip", b"not packed at all").into_body().collect().now_or_never().unwrap().is_err());
    }
}
