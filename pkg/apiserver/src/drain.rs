//! Bodies of requests that were answered before they had been read.
//!
//! A client that is still sending does not look for an answer when its connection breaks: it reports the broken connection,
//! and not that it may not do what it asked for. So what it sends is taken and thrown away for a while, as upstream does.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, header};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use kedge_base::TaskGroup;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::body::{Body, BodyError};

/// What is thrown away of one body, several times what a request may weigh.
const MAX_BYTES: usize = 16 << 20;
/// How long that may take.
const MAX_TIME: Duration = Duration::from_secs(10);
/// How many bodies are thrown away at a time; further ones are broken off.
const MAX_DRAINS: usize = 128;

/// Throws away what is left of bodies. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Drain {
    tasks: TaskGroup,
    slots: Arc<Semaphore>,
}

impl Drain {
    pub(crate) fn new(tasks: TaskGroup) -> Self {
        Self { tasks, slots: Arc::new(Semaphore::new(MAX_DRAINS)) }
    }

    /// The request with a body whose rest is thrown away when nobody wants it.
    pub(crate) fn watch(&self, request: Request<Body>) -> Request<Body> {
        // A client that waits to be told to go on is not to be told so after the answer, and what is nearly nothing is
        // there already.
        let waits = expects_continue(request.headers());
        request.map(|body| match body.is_end_stream() || waits {
            true => body,
            false => Drained { body: Some(body), drain: self.clone() }.boxed_unsync(),
        })
    }

    fn take(&self, body: Body) {
        let Ok(slot) = self.slots.clone().try_acquire_owned() else { return };
        self.tasks.spawn_until_shutdown("drain", throw_away(body, slot));
    }
}

fn expects_continue(headers: &HeaderMap) -> bool {
    headers.get(header::EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

async fn throw_away(mut body: Body, _slot: OwnedSemaphorePermit) {
    let all = async {
        let mut left = MAX_BYTES;
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                return;
            }
        }
    };
    // Whoever sends so slowly finds the connection broken.
    let _ = kedge_base::time::timeout(MAX_TIME, all).await;
}

/// A body that is thrown away when it is dropped before its end.
struct Drained {
    body: Option<Body>,
    drain: Drain,
}

impl http_body::Body for Drained {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, BodyError>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let polled = Pin::new(body).poll_frame(cx);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.body = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.as_ref().map_or_else(|| http_body::SizeHint::with_exact(0), http_body::Body::size_hint)
    }
}

impl Drop for Drained {
    fn drop(&mut self) {
        if let Some(body) = self.body.take().filter(|body| !body.is_end_stream()) {
            self.drain.take(body);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use futures::StreamExt as _;
    use http_body_util::StreamBody;
    use kedge_base::Shutdown;

    /// A body of endless pieces of a mebibyte, and how many of them were taken.
    fn endless() -> (Body, tokio::sync::mpsc::Receiver<()>) {
        let (taken, seen) = tokio::sync::mpsc::channel(1_000);
        let pieces = futures::stream::repeat(Bytes::from(vec![0; 1 << 20])).map(move |piece| {
            taken.try_send(()).unwrap();
            Ok(http_body::Frame::data(piece))
        });
        (StreamBody::new(pieces).boxed_unsync(), seen)
    }

    async fn all(mut seen: tokio::sync::mpsc::Receiver<()>) -> usize {
        let mut count = 0;
        // The sender goes with the body.
        while seen.recv().await.is_some() {
            count += 1;
        }
        count
    }

    #[tokio::test]
    async fn what_nobody_read_is_thrown_away_up_to_a_limit() {
        let drain = Drain::new(TaskGroup::new("test", Shutdown::new()));
        let (body, seen) = endless();
        drop(drain.watch(Request::new(body)));
        assert_eq!(all(seen).await, MAX_BYTES >> 20);
    }

    #[tokio::test]
    async fn who_waits_to_be_told_to_go_on_is_not_told_so() {
        let drain = Drain::new(TaskGroup::new("test", Shutdown::new()));
        let (body, seen) = endless();
        let request = Request::builder().header("Expect", "100-Continue").body(body).unwrap();
        drop(drain.watch(request));
        assert_eq!(all(seen).await, 0);
    }

    #[tokio::test]
    async fn only_so_many_are_thrown_away_at_a_time() {
        let drain = Drain::new(TaskGroup::new("test", Shutdown::new()));
        let stuck = || StreamBody::new(futures::stream::pending()).boxed_unsync();
        for _ in 0..MAX_DRAINS {
            drop(drain.watch(Request::new(stuck())));
        }
        let (body, seen) = endless();
        drop(drain.watch(Request::new(body)));
        assert_eq!(all(seen).await, 0);
    }
}
