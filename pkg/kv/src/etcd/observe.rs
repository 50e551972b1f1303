//! Observers: a list at one revision, then a watch from the next one, for as long as the store is open.
//!
//! Invariant: `seen` of an observation is the revision up to which its observer has been told everything. A watch always
//! starts right after it, so a lost connection costs nothing but time. Only when that history has been compacted is the
//! observer given a new state as a whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::SinkExt as _;
use futures::channel::mpsc;
use kedge_base::Backoff;
use kedge_etcdpb::etcdserverpb as pb;
use pb::watch_request::RequestUnion;
use tokio::sync::Notify;
use tonic::Streaming;
use tracing::{debug, warn};

use super::caller::MAX_ANSWER;
use super::convert::{bounds, event, signed, unsigned};
use super::status::{Subject, Verdict, judge};
use super::{NUDGE, Shared};
use crate::api::{Event, KeyRange, Observer, Range, Snapshot};
use crate::error::Error;

/// Requests on one watch stream that wait to be sent: its creation and questions for progress.
const REQUESTS: usize = 4;
/// The id of our only watch on a stream.
const WATCH: i64 = 1;
/// What etcd sets as the id in answers to questions for progress.
const ALL_WATCHES: i64 = -1;
/// A watch that stays behind while somebody waits for it, and says nothing for this long, is moved to another member.
const STALLED: Duration = Duration::from_secs(4);

/// One observer and how far it is.
pub(super) struct Observation {
    prefix: Bytes,
    observer: Arc<dyn Observer>,
    seen: AtomicU64,
    /// Somebody waits for progress.
    pub(super) nudge: Notify,
}

/// Why a watch ended.
enum End {
    Closed,
    /// The history after `seen` is gone.
    Compacted,
    Lost(String),
}

impl Observation {
    pub(super) fn new(prefix: &[u8], observer: Arc<dyn Observer>, revision: u64) -> Self {
        let (prefix, seen) = (Bytes::copy_from_slice(prefix), AtomicU64::new(revision));
        Self { prefix, observer, seen, nudge: Notify::new() }
    }

    pub(super) fn seen(&self) -> u64 {
        self.seen.load(Ordering::Acquire)
    }

    fn create_request(&self) -> Result<pb::WatchRequest, Error> {
        let (key, range_end) = bounds(&KeyRange::prefix(&self.prefix))?;
        let create = pb::WatchCreateRequest {
            key,
            range_end,
            start_revision: signed(self.seen() + 1),
            progress_notify: true,
            prev_kv: true,
            watch_id: WATCH,
            fragment: true,
            ..Default::default()
        };
        Ok(request(RequestUnion::CreateRequest(create)))
    }
}

fn request(union: RequestUnion) -> pb::WatchRequest {
    pb::WatchRequest { request_union: Some(union) }
}

impl Shared {
    /// Keeps an observer told until the store is closed. `again`: it panicked, and what it had taken in of the last changes
    /// is not known, so that it is given the state as a whole.
    pub(super) async fn keep_told(self: Arc<Self>, observation: Arc<Observation>, mut again: bool) {
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(2), 20);
        loop {
            let (index, before) = (self.caller.current(), observation.seen());
            let ended = if again { End::Compacted } else { self.follow(index, &observation).await };
            let end = match ended {
                End::Closed => return,
                End::Compacted => self.start_over(&observation).await,
                End::Lost(what) => Err(Error::Unavailable { what, unknown: false }),
            };
            if observation.seen() > before {
                backoff.reset();
            }
            let Err(error) = end else {
                again = false;
                continue;
            };
            debug!(endpoint = self.caller.name(index), %error, "a watch ended; resuming it");
            self.caller.leave(index);
            tokio::select! {
                () = self.caller.clock().sleep(backoff.next()) => {}
                () = self.caller.shutdown().requested() => return,
            }
        }
    }

    /// Gives the observer the state as it is now.
    async fn start_over(&self, observation: &Observation) -> Result<(), Error> {
        let seen = observation.seen();
        warn!(revision = seen, "the history after this revision has been compacted; reading the whole state again");
        let state = self.range(Range::prefix(&observation.prefix)).await?;
        let (revision, kvs) = (state.revision, state.kvs);
        observation.observer.reset(Snapshot { revision, kvs });
        self.told(observation, revision);
        Ok(())
    }

    fn told(&self, observation: &Observation, revision: u64) {
        observation.seen.fetch_max(revision, Ordering::AcqRel);
        self.progress.notify_waiters();
    }

    /// One watch stream, from its creation to its end.
    async fn follow(&self, index: usize, observation: &Observation) -> End {
        let (mut requests, outgoing) = mpsc::channel(REQUESTS);
        let opened = tokio::select! {
            opened = self.open(index, observation, &mut requests, outgoing) => opened,
            () = self.caller.clock().sleep(self.caller.attempt_timeout()) => Err(End::Lost("no watch in time".into())),
            () = self.caller.shutdown().requested() => Err(End::Closed),
        };
        let mut stream = match opened {
            Ok(stream) => stream,
            Err(end) => return end,
        };
        let mut fragments = Vec::new();
        let mut silent = Duration::ZERO;
        loop {
            let behind = observation.seen() < self.wanted.load(Ordering::Acquire);
            tokio::select! {
                biased;
                () = self.caller.shutdown().requested() => return End::Closed,
                message = stream.message() => {
                    silent = Duration::ZERO;
                    let message = match message {
                        Ok(Some(message)) => message,
                        Ok(None) => return End::Lost("the server ended the stream".into()),
                        Err(status) => return self.lost(&status).await,
                    };
                    if let Err(end) = self.take(message, &mut fragments, observation).await {
                        return end;
                    }
                }
                () = observation.nudge.notified() => ask(&mut requests),
                () = self.caller.clock().sleep(NUDGE), if behind => {
                    // etcd answers only when the watch has caught up at that moment, so one question is not enough.
                    silent += NUDGE;
                    if silent >= STALLED {
                        return End::Lost("no progress".into());
                    }
                    ask(&mut requests);
                }
            }
        }
    }

    async fn open(
        &self,
        index: usize,
        observation: &Observation,
        requests: &mut mpsc::Sender<pb::WatchRequest>,
        outgoing: mpsc::Receiver<pb::WatchRequest>,
    ) -> Result<Streaming<pb::WatchResponse>, End> {
        let lost = |what: String| End::Lost(what);
        let create = observation.create_request().map_err(|e| lost(e.to_string()))?;
        requests.send(create).await.map_err(|e| lost(e.to_string()))?;
        let opened = match self.caller.stream_target(index).await {
            Ok(to) => {
                let client = pb::watch_client::WatchClient::new(to.channel.clone());
                client.max_decoding_message_size(MAX_ANSWER).watch(to.request(outgoing)).await
            }
            Err(status) => Err(status),
        };
        match opened {
            Ok(answer) => Ok(answer.into_inner()),
            Err(status) => Err(self.lost(&status).await),
        }
    }

    async fn lost(&self, status: &tonic::Status) -> End {
        match judge(status, &Subject::default()) {
            Verdict::Reauthenticate(what) => {
                self.caller.forget_token().await;
                End::Lost(what)
            }
            Verdict::Elsewhere { what, .. } => End::Lost(what),
            Verdict::Final(Error::Compacted { .. }) => End::Compacted,
            Verdict::Final(error) => End::Lost(error.to_string()),
        }
    }

    /// Takes one message of a watch and tells the observer what is complete.
    async fn take(
        &self,
        message: pb::WatchResponse,
        fragments: &mut Vec<Event>,
        observation: &Observation,
    ) -> Result<(), End> {
        let revision = self.caller.note(message.header.as_ref()).map_err(|e| End::Lost(e.to_string()))?;
        if message.watch_id != WATCH && message.watch_id != ALL_WATCHES {
            return Err(End::Lost(format!("a message of watch {}, which is not ours", message.watch_id)));
        }
        if message.canceled {
            if unsigned(message.compact_revision) > 0 {
                return Err(End::Compacted);
            }
            let status = tonic::Status::unavailable(message.cancel_reason);
            return Err(self.lost(&status).await);
        }
        if message.created {
            return Ok(());
        }
        if message.events.is_empty() && !message.fragment && fragments.is_empty() {
            // Progress: all events up to this revision came before it.
            if revision > observation.seen() {
                observation.observer.progress(revision);
                self.told(observation, revision);
            }
            return Ok(());
        }
        for raw in message.events {
            fragments.push(event(raw).map_err(|e| End::Lost(e.to_string()))?);
        }
        if !message.fragment {
            self.deliver(std::mem::take(fragments), observation);
        }
        Ok(())
    }

    fn deliver(&self, mut events: Vec<Event>, observation: &Observation) {
        let seen = observation.seen();
        events.retain(|event| event.revision > seen);
        if let Some(last) = events.last().map(|event| event.revision) {
            observation.observer.committed(&events);
            self.told(observation, last);
        }
    }
}

/// Asks for progress. When the queue is full, as many questions are on their way already.
fn ask(requests: &mut mpsc::Sender<pb::WatchRequest>) {
    if let Err(full) = requests.try_send(request(RequestUnion::ProgressRequest(pb::WatchProgressRequest {}))) {
        debug!(error = %full, "a question for progress is not sent");
    }
}
