//! The last steps of an answer, the same for all: in the form that the client reads errors in, laid out for people, compressed.
//!
//! Invariant: a body is changed as it passes, piece by piece, and nothing but what [`crate::output::respond`] marked as encoded is touched.

use std::io::Write as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderValue, Request, Response, header};
use http_body::{Body as _, Frame};
use http_body_util::BodyExt as _;

use crate::body::{Body, BodyError};
use crate::input::negotiate::{self, Format, Offer};
use crate::output::indent::Indent;
use crate::output::respond::Encoded;

/// Shorter answers are not compressed.
const COMPRESSED: u64 = 128 << 10;

/// How one client wants its answers.
pub(crate) struct Presentation {
    accept: Option<HeaderValue>,
    pretty: bool,
    gzip: bool,
}

impl Presentation {
    pub(crate) fn of<T>(request: &Request<T>) -> Self {
        let headers = request.headers();
        let encodings = headers.get(header::ACCEPT_ENCODING).and_then(|v| v.to_str().ok()).unwrap_or_default();
        Self {
            accept: headers.get(header::ACCEPT).cloned(),
            pretty: negotiate::is_pretty(headers, request.uri().query()),
            gzip: encodings.split(',').any(|encoding| encoding.trim() == "gzip"),
        }
    }

    /// The form of errors; none when the client reads none of them, and gets JSON for people.
    pub(crate) fn errors(&self) -> Option<Format> {
        let headers = self.accept.iter().map(|accept| (header::ACCEPT, accept.clone())).collect();
        negotiate::accepted(&headers, Offer::PLAIN).ok().map(|accepted| accepted.format)
    }

    /// The answer as the client gets it.
    pub(crate) fn finish(&self, mut response: Response<Body>) -> Response<Body> {
        let Some(encoded) = response.extensions_mut().remove::<Encoded>() else { return response };
        // Layout makes it longer, and its length unknown.
        let long = response.body().size_hint().exact().is_none_or(|length| length > COMPRESSED);
        if self.pretty && encoded == Encoded::Json {
            response = response.map(|body| Changed::over(body, Indent::default()));
        }
        if self.gzip && long {
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            headers.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
            headers.remove(header::CONTENT_LENGTH);
            response = response.map(|body| Changed::over(body, Gzip(GzEncoder::new(Vec::new(), Compression::fast()))));
        }
        response
    }
}

/// What is done to the bytes of a body.
trait Change: Send + Unpin + 'static {
    /// Takes in what comes next, and appends what can be sent.
    fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> std::io::Result<()>;

    /// Appends the rest.
    fn end(&mut self, out: &mut Vec<u8>) -> std::io::Result<()>;
}

/// A body whose bytes are changed as they pass.
struct Changed<C> {
    body: Body,
    change: C,
    ended: bool,
}

impl<C: Change> Changed<C> {
    fn over(body: Body, change: C) -> Body {
        Self { body, change, ended: false }.boxed_unsync()
    }
}

impl<C: Change> http_body::Body for Changed<C> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        while !self.ended {
            let mut out = Vec::new();
            let this = &mut *self;
            let pushed = match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => this.change.push(&data, &mut out),
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
                Some(Err(err)) => return Poll::Ready(Some(Err(err))),
                None => {
                    this.ended = true;
                    this.change.end(&mut out)
                }
            };
            if let Err(err) = pushed {
                self.ended = true;
                return Poll::Ready(Some(Err(BodyError(err.into()))));
            }
            if !out.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(out.into()))));
            }
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}

struct Gzip(GzEncoder<Vec<u8>>);

impl Change for Gzip {
    fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> std::io::Result<()> {
        self.0.write_all(bytes)?;
        out.append(self.0.get_mut());
        Ok(())
    }

    fn end(&mut self, out: &mut Vec<u8>) -> std::io::Result<()> {
        self.0.try_finish()?;
        out.append(self.0.get_mut());
        Ok(())
    }
}

impl Change for Indent {
    fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> std::io::Result<()> {
        self.write(bytes, out);
        Ok(())
    }

    fn end(&mut self, _: &mut Vec<u8>) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Read as _;

    use http::StatusCode;
    use serde_json::json;

    use super::*;
    use crate::output::respond;

    async fn shown(headers: &[(header::HeaderName, &str)], response: Response<Body>) -> (Response<()>, Vec<u8>) {
        let mut request = Request::new(());
        for (name, value) in headers {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        let (head, body) = Presentation::of(&request).finish(response).into_parts();
        (Response::from_parts(head, ()), body.collect().await.unwrap().to_bytes().into())
    }

    #[tokio::test]
    async fn people_get_lines_and_programs_get_one() {
        let value = json!({"a": [], "b": {}, "c": ["x\"{,", {"d": 1}], "e": "\\"});
        let answer = || respond::value(StatusCode::OK, &value, Format::Json).unwrap();
        let (_, bytes) = shown(&[(header::USER_AGENT, "curl/8")], answer()).await;
        assert_eq!(
            String::from_utf8(bytes).unwrap(),
            "{\n  \"a\": [],\n  \"b\": {},\n  \"c\": [\n    \"x\\\"{,\",\n    {\n      \"d\": 1\n    }\n  ],\n  \"e\": \"\\\\\"\n}"
        );
        let (_, bytes) = shown(&[], answer()).await;
        assert_eq!(bytes, [value.to_string().as_bytes(), b"\n"].concat());
    }

    #[tokio::test]
    async fn what_is_long_is_compressed_for_those_who_can_read_it() {
        let gzip = [(header::ACCEPT_ENCODING, "br, gzip")];
        for (length, compressed) in [(1_000, false), (200_000, true)] {
            let value = json!({"a": "x".repeat(length)});
            let answer = || respond::value(StatusCode::OK, &value, Format::Json).unwrap();
            let (head, bytes) = shown(&gzip, answer()).await;
            assert_eq!(head.headers().contains_key(header::CONTENT_ENCODING), compressed);
            let mut text = Vec::new();
            match compressed {
                true => drop(flate2::read::GzDecoder::new(&*bytes).read_to_end(&mut text).unwrap()),
                false => text = bytes,
            }
            assert_eq!(text, [value.to_string().as_bytes(), b"\n"].concat());
            let people = [gzip[0].clone(), (header::USER_AGENT, "curl/8")];
            let (head, _) = shown(&people, answer()).await;
            assert_eq!(head.headers().contains_key(header::CONTENT_ENCODING), compressed);
            let (head, _) = shown(&[], answer()).await;
            assert!(!head.headers().contains_key(header::CONTENT_ENCODING));
        }
    }
}
