//! The stream of watch events out of a response body: one JSON document a line.

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use kedge_meta::Status;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::error::Error;
use crate::transport::Body;

/// Largest single event; an object is at most about 3 MiB.
const MAX_EVENT: usize = 16 << 20;

/// One event; the object is its JSON.
#[derive(Debug, Clone)]
pub enum WatchEvent {
    Added(Bytes),
    Modified(Bytes),
    Deleted(Bytes),
    /// Only `metadata.resourceVersion` means something.
    Bookmark(Bytes),
}

/// A running watch. Dropping it ends it.
pub struct WatchStream {
    body: Body,
    buffer: BytesMut,
    /// Up to where the buffer is known to hold no line end.
    scanned: usize,
}

#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

impl WatchStream {
    pub(crate) fn new(body: Body) -> Self {
        Self { body, buffer: BytesMut::new(), scanned: 0 }
    }

    /// The next event; `None` when the server ended the watch.
    pub async fn next(&mut self) -> Option<Result<WatchEvent, Error>> {
        loop {
            if let Some(at) = self.buffer[self.scanned..].iter().position(|b| *b == b'\n') {
                let line = self.buffer.split_to(self.scanned + at + 1).freeze();
                self.scanned = 0;
                if line.trim_ascii().is_empty() {
                    continue;
                }
                return Some(parse(&line));
            }
            self.scanned = self.buffer.len();
            if self.buffer.len() > MAX_EVENT {
                return Some(Err(Error::TooLarge(MAX_EVENT)));
            }
            match self.body.frame().await? {
                Ok(frame) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                Err(err) => return Some(Err(Error::Transport(err))),
            }
        }
    }
}

fn parse(line: &Bytes) -> Result<WatchEvent, Error> {
    let frame: Frame<'_> = serde_json::from_slice(line)?;
    let object = line.slice_ref(frame.object.get().as_bytes());
    match frame.kind {
        "ADDED" => Ok(WatchEvent::Added(object)),
        "MODIFIED" => Ok(WatchEvent::Modified(object)),
        "DELETED" => Ok(WatchEvent::Deleted(object)),
        "BOOKMARK" => Ok(WatchEvent::Bookmark(object)),
        "ERROR" => Err(serde_json::from_slice::<Status>(&object)?.into()),
        other => Err(Error::Request(format!("unknown watch event type {other:?}"))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use http_body_util::Full;

    #[tokio::test]
    async fn lines_become_events_and_an_error_event_an_error() {
        let text = "{\"type\":\"ADDED\",\"object\":{\"a\":1}}\n{\"type\":\"ERROR\",\"object\":{\"code\":410,\"status\":\"Failure\"}}\n";
        let body = Full::new(Bytes::from_static(text.as_bytes())).map_err(|e| match e {}).boxed_unsync();
        let mut stream = WatchStream::new(body);
        assert!(matches!(stream.next().await, Some(Ok(WatchEvent::Added(o))) if &o[..] == b"{\"a\":1}"));
        assert!(stream.next().await.unwrap().unwrap_err().is_gone());
        assert!(stream.next().await.is_none());
    }
}
