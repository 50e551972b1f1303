//! Bodies of requests and answers.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use kedge_base::{Ledger, SharedClock, TaskGroup, Weight};
use kedge_meta::{Reason, Status};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// Any error.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// A body of either direction; it may never end.
pub type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, BodyError>;

/// A body that broke off. It has a type of its own because hyper cannot see through a boxed one.
#[derive(Debug, thiserror::Error)]
#[error("the body broke off")]
pub struct BodyError(#[source] pub BoxError);

impl From<hyper::Error> for BodyError {
    fn from(err: hyper::Error) -> Self {
        Self(err.into())
    }
}

/// Bodies up to this are read at once: as many as there are slots for requests take little.
const SMALL: usize = 256 << 10;
/// KiB of larger bodies that are read at a time; others wait. What is made of a body is a multiple of it.
const ROOM: usize = 32 << 10;
/// Whoever has room for a large body must send it without longer pauses.
const PAUSE: Duration = Duration::from_secs(10);

/// Room for the large bodies of all requests. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Room(Arc<Semaphore>);

impl Room {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(ROOM)))
    }
}

/// The body of a request while its head is looked at by several: it is taken once.
pub(crate) struct RequestBody {
    body: Mutex<Option<Body>>,
    /// None for components of this process, whose bodies are there already.
    room: Option<Room>,
    /// The room that it has, until the request has ended: what was made of the body lives as long.
    taken: Mutex<Option<OwnedSemaphorePermit>>,
    /// Where it is kept when it has been read, if anybody wants it.
    kept: Option<Kept>,
}

/// A body that has been read, for one who wants to look at it later. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Kept(Arc<Mutex<Option<Bytes>>>);

impl Kept {
    pub(crate) fn take(&self) -> Option<Bytes> {
        self.0.lock().take()
    }
}

impl RequestBody {
    pub(crate) fn new(body: Body, room: Option<&Room>) -> Self {
        Self { body: Mutex::new(Some(body)), room: room.cloned(), taken: Mutex::default(), kept: None }
    }

    /// The same, which is kept when it has been read.
    pub(crate) fn kept(self, kept: Option<Kept>) -> Self {
        Self { kept, ..self }
    }

    /// The body; empty when it has been taken.
    pub(crate) fn take(&self) -> Body {
        self.body.lock().take().unwrap_or_else(|| full(Bytes::new()))
    }

    /// All of the body. What is large waits for room once that much of it has come, so that nobody takes room by promises.
    ///
    /// # Errors
    /// 413 when it is too large, 400 when the client went away in the middle, 408 when it pauses in a large one.
    pub(crate) async fn read(&self) -> Result<Bytes, Status> {
        let read = self.read_all().await?;
        if let Some(kept) = &self.kept {
            *kept.0.lock() = Some(read.clone());
        }
        Ok(read)
    }

    async fn read_all(&self) -> Result<Bytes, Status> {
        let mut body = self.take();
        let mut out = BytesMut::new();
        loop {
            let frame = if self.taken.lock().is_some() {
                kedge_base::time::timeout(PAUSE, body.frame()).await.map_err(|_| paused())?
            } else {
                body.frame().await
            };
            let Some(frame) = frame else { return Ok(out.freeze()) };
            let Some(whole) = take_in(&mut out, frame, &body)? else {
                if let Some(room) = &self.room
                    && out.len() > SMALL
                    && self.taken.lock().is_none()
                {
                    let kib = MAX_REQUEST.div_ceil(1 << 10) as u32;
                    let room = room.0.clone().acquire_many_owned(kib).await;
                    *self.taken.lock() = Some(room.map_err(|_| Status::unavailable("the server is shutting down"))?);
                }
                continue;
            };
            return Ok(whole);
        }
    }
}

fn paused() -> Status {
    Status::failure(408, Reason::Timeout, "the client paused for too long in the middle of the body")
}

/// A body that keeps something until it has been sent or given up.
pub(crate) struct Held<T> {
    body: Body,
    _until_sent: T,
}

impl<T: Send + Unpin + 'static> Held<T> {
    pub(crate) fn until_sent(body: Body, held: T) -> Body {
        Self { body, _until_sent: held }.boxed_unsync()
    }
}

impl<T: Unpin> http_body::Body for Held<T> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

/// A body that is given up at a deadline, with all that it keeps, whether anybody reads it or not: who reads slowly, or is sent something by
/// somebody slow, keeps neither memory nor a slot for longer.
pub(crate) struct Expiring {
    shared: Arc<Mutex<Expires>>,
    /// The end of the body is the end of the task that waits for the deadline.
    _ends: oneshot::Sender<()>,
}

struct Expires {
    body: Option<Body>,
    waiting: Option<Waker>,
}

impl Expiring {
    pub(crate) fn over(body: Body, within: Duration, tasks: &TaskGroup, clock: &SharedClock) -> Body {
        let late = clock.sleep(within);
        Self::when(body, late, tasks)
    }

    /// The same, when something has come about.
    pub(crate) fn when(body: Body, late: impl Future<Output = ()> + Send + 'static, tasks: &TaskGroup) -> Body {
        let shared = Arc::new(Mutex::new(Expires { body: Some(body), waiting: None }));
        let (ends, ended) = oneshot::channel();
        let expiring = shared.clone();
        tasks.spawn_until_shutdown("deadline of an answer", async move {
            tokio::select! {
                () = late => {
                    let (body, waiting) = {
                        let mut shared = expiring.lock();
                        (shared.body.take(), shared.waiting.take())
                    };
                    drop(body);
                    waiting.into_iter().for_each(Waker::wake);
                }
                _ = ended => {}
            }
        });
        Self { shared, _ends: ends }.boxed_unsync()
    }
}

impl http_body::Body for Expiring {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, BodyError>>> {
        let mut shared = self.shared.lock();
        let Some(body) = &mut shared.body else {
            return Poll::Ready(Some(Err(BodyError("it was not read within its time".into()))));
        };
        let polled = Pin::new(body).poll_frame(cx);
        shared.waiting = polled.is_pending().then(|| cx.waker().clone());
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.shared.lock().body.as_ref().is_some_and(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.shared.lock().body.as_ref().map(http_body::Body::size_hint).unwrap_or_default()
    }
}

/// A body that is made while it is sent; a panic ends it, and it alone.
pub(crate) struct Guarded {
    body: Body,
    ledger: Ledger,
}

impl Guarded {
    /// As it is when all of it is there already.
    pub(crate) fn over(body: Body, ledger: &Ledger) -> Body {
        if is_whole(&body) {
            return body;
        }
        Self { body, ledger: ledger.clone() }.boxed_unsync()
    }
}

impl http_body::Body for Guarded {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, BodyError>>> {
        let Self { body, ledger } = &mut *self;
        match ledger.catch_now("apiserver", "stream", Weight::Single, || Pin::new(body).poll_frame(cx)) {
            Ok(polled) => polled,
            Err(panicked) => Poll::Ready(Some(Err(BodyError(panicked.into())))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

/// Whether it is there already. A list that is written out while it is sent has a length, too, and is longer than that.
pub(crate) fn is_whole(body: &Body) -> bool {
    http_body::Body::size_hint(body).exact().is_some_and(|length| length <= PIECE as u64)
}

/// Bytes of a long answer that are written out at a time; a shorter one is sent as a whole.
pub(crate) const PIECE: usize = 64 << 10;
/// Largest body of a request, as upstream.
pub(crate) const MAX_REQUEST: usize = 3 << 20;

/// A body that is there as a whole.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// Reads the body of an answer.
///
/// # Errors
/// 413 when it is too large, 400 when it broke off in the middle.
pub(crate) async fn read(mut body: Body) -> Result<Bytes, Status> {
    let mut out = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Some(whole) = take_in(&mut out, frame, &body)? {
            return Ok(whole);
        }
    }
    Ok(out.freeze())
}

/// Adds a piece to what has come; returns the whole when this piece is all of it, which then need not be copied.
fn take_in(
    out: &mut BytesMut,
    frame: Result<http_body::Frame<Bytes>, BodyError>,
    rest: &Body,
) -> Result<Option<Bytes>, Status> {
    let frame = frame.map_err(|e| Status::bad_request(format!("the body could not be read: {e}")))?;
    let Ok(data) = frame.into_data() else { return Ok(None) };
    if out.is_empty() && http_body::Body::is_end_stream(rest) && data.len() <= MAX_REQUEST {
        return Ok(Some(data));
    }
    if out.len() + data.len() > MAX_REQUEST {
        return Err(Status::too_large(format!("Request entity too large: limit is {MAX_REQUEST}")));
    }
    out.extend_from_slice(&data);
    Ok(None)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use kedge_base::{Shutdown, VirtualClock};

    /// A body of which `sent` bytes have come and that never ends.
    struct Stuck(usize);

    impl http_body::Body for Stuck {
        type Data = Bytes;
        type Error = BodyError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<http_body::Frame<Bytes>, BodyError>>> {
            let next = self.0.min(64 << 10);
            if next == 0 {
                return Poll::Pending;
            }
            self.0 -= next;
            Poll::Ready(Some(Ok(http_body::Frame::data(vec![b'x'; next].into()))))
        }
    }

    fn stuck(sent: usize, room: &Room) -> RequestBody {
        RequestBody::new(Stuck(sent).boxed_unsync(), Some(room))
    }

    /// A client that stopped in the middle of a list held it in memory for as long as it kept the connection.
    #[tokio::test]
    async fn what_is_not_read_in_time_is_given_up_with_all_that_it_keeps() {
        let clock = VirtualClock::new(jiff::Timestamp::UNIX_EPOCH);
        let (shared, tasks): (SharedClock, _) = (Arc::new(clock.clone()), TaskGroup::new("test", Shutdown::new()));
        let slots = Arc::new(Semaphore::new(2));
        let held = || Held::until_sent(Stuck(10).boxed_unsync(), slots.clone().try_acquire_owned().unwrap());
        let over = |body| Expiring::over(body, Duration::from_secs(60), &tasks, &shared);
        let (mut read, unread) = (over(held()), over(held()));
        assert_eq!(read.frame().await.unwrap().unwrap().into_data().unwrap().len(), 10);
        let passes = async {
            while clock.sleepers() < 2 {
                tokio::task::yield_now().await;
            }
            assert_eq!(slots.available_permits(), 0);
            clock.advance(Duration::from_secs(60));
        };
        // Who waits is told, and who does not is found out.
        let (told, ()) = tokio::join!(read.frame(), passes);
        assert!(told.unwrap().is_err());
        while slots.available_permits() < 2 {
            tokio::task::yield_now().await;
        }
        drop(unread);
        let mut whole = over(full("all"));
        assert_eq!(http_body::Body::size_hint(&whole).exact(), Some(3));
        assert_eq!(whole.frame().await.unwrap().unwrap().into_data().unwrap(), "all");
        drop(whole);
        // Nothing waits for the deadline of what has been read.
        while !tasks.is_empty() {
            tokio::task::yield_now().await;
        }
    }

    /// Room was once taken for what a client had only announced: eleven of them that sent nothing held up all writes.
    #[tokio::test(start_paused = true)]
    async fn whoever_sends_nothing_takes_no_room_and_whoever_stops_loses_it() {
        let room = Room::new();
        let idle: Vec<_> = (0..20).map(|_| stuck(SMALL, &room)).collect();
        let mut reading: Vec<_> = idle.iter().map(|body| Box::pin(body.read())).collect();
        for read in &mut reading {
            assert!(futures::poll!(read.as_mut()).is_pending());
        }
        assert_eq!(room.0.available_permits(), ROOM);
        let stopped: Vec<_> = (0..11).map(|_| stuck(SMALL + 1, &room)).collect();
        let mut reading: Vec<_> = stopped.iter().map(|body| Box::pin(body.read())).collect();
        for read in &mut reading {
            assert!(futures::poll!(read.as_mut()).is_pending());
        }
        assert!(room.0.available_permits() < MAX_REQUEST >> 10, "the last of them waits");
        let small = RequestBody::new(full(vec![b'y'; 5_000]), Some(&room));
        assert_eq!(small.read().await.unwrap().len(), 5_000, "what is small does not wait");
        let answers = futures::future::join_all(reading.drain(..10)).await;
        drop(reading);
        assert!(answers.iter().all(|answer| answer.as_ref().is_err_and(|status| status.code == 408)));
        drop(stopped);
        assert_eq!(room.0.available_permits(), ROOM);
    }

    #[tokio::test]
    async fn a_large_body_has_room_until_its_request_has_ended() {
        let room = Room::new();
        for (bytes, code) in [(MAX_REQUEST, None), (MAX_REQUEST + 1, Some(413))] {
            let pieces = vec![b'x'; bytes]
                .chunks(100_000)
                .map(|c| Ok(http_body::Frame::data(Bytes::copy_from_slice(c))))
                .collect::<Vec<_>>();
            let body = http_body_util::StreamBody::new(futures::stream::iter(pieces)).boxed_unsync();
            let body = RequestBody::new(body, Some(&room));
            let read = body.read().await;
            assert_eq!(read.as_ref().err().map(|status| status.code), code);
            assert_eq!(read.map_or(bytes, |read| read.len()), bytes);
            assert!(room.0.available_permits() < ROOM);
            drop(body);
            assert_eq!(room.0.available_permits(), ROOM);
        }
    }
}
