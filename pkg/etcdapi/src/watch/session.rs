//! One watch stream with its watches.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::SinkExt as _;
use futures::channel::mpsc;
use kedge_etcdpb::etcdserverpb as pb;
use kedge_kv::{Error, Event, KeyRange, Kv as _, Range};
use pb::watch_create_request::FilterType;
use pb::watch_request::RequestUnion;
use tonic::{Status, Streaming};

use super::BATCH;
use super::hub::Batch;
use crate::convert::{event, key_range, signed, unsigned};
use crate::{Api, status};

/// Watches of one stream.
const MAX_WATCHES: usize = 10_000;
/// What etcd sets as the id of a watch that does not exist, or of all of them.
const NO_WATCH: i64 = -1;
/// How often a watch that wants it is told that nothing happened.
const PROGRESS: Duration = Duration::from_secs(10 * 60);
/// Larger messages are parted for clients that said they put them together.
const MAX_MESSAGE: usize = 1536 * 1024;

struct Watch {
    keys: KeyRange,
    /// The revision that it has not been told of.
    next: u64,
    puts: bool,
    deletions: bool,
    previous: bool,
    fragment: bool,
    progress: bool,
}

impl Watch {
    fn wants(&self, event: &Event) -> bool {
        let kind = if event.current.is_some() { self.puts } else { self.deletions };
        kind && self.keys.contains(&event.key)
    }
}

type Out = mpsc::Sender<Result<pb::WatchResponse, Status>>;

pub(super) struct Session {
    api: Arc<Api>,
    out: Out,
    watches: BTreeMap<i64, Watch>,
    next_id: i64,
}

/// The client is gone, or what it sent ends the stream.
struct Over;

impl Session {
    pub(super) fn new(api: Arc<Api>, out: Out) -> Self {
        Self { api, out, watches: BTreeMap::new(), next_id: 0 }
    }

    /// Until the client or the server ends it.
    pub(super) async fn run(mut self, mut requests: Streaming<pb::WatchRequest>) {
        let mut changed = self.api.hub.subscribe();
        let mut tick = self.api.clock.sleep(PROGRESS);
        let shutdown = self.api.shutdown.clone();
        loop {
            let step = tokio::select! {
                request = requests.message() => match request {
                    Ok(Some(request)) => self.request(request.request_union).await,
                    // The client may close its side and go on listening.
                    Ok(None) if !self.watches.is_empty() => self.listen_on(&mut changed).await,
                    Ok(None) | Err(_) => Err(Over),
                },
                woken = changed.changed() => if woken.is_ok() { self.deliver().await } else { Err(Over) },
                () = &mut tick => {
                    tick = self.api.clock.sleep(PROGRESS);
                    self.tell_progress().await
                }
                () = shutdown.requested() => Err(Over),
            };
            if step.is_err() {
                return;
            }
        }
    }

    async fn listen_on(&mut self, changed: &mut tokio::sync::watch::Receiver<u64>) -> Result<(), Over> {
        let shutdown = self.api.shutdown.clone();
        loop {
            tokio::select! {
                woken = changed.changed() => woken.map_err(|_| Over)?,
                () = shutdown.requested() => return Err(Over),
            }
            self.deliver().await?;
        }
    }

    async fn send(&mut self, message: pb::WatchResponse) -> Result<(), Over> {
        self.out.send(Ok(message)).await.map_err(|_| Over)
    }

    /// Ends the stream with an error. The client comes again, and is told then what it has missed.
    async fn fail(&mut self, error: &Error) -> Result<(), Over> {
        self.out.send(Err(status::of(error))).await.map_err(|_| Over)?;
        Err(Over)
    }

    async fn request(&mut self, request: Option<RequestUnion>) -> Result<(), Over> {
        match request {
            Some(RequestUnion::CreateRequest(create)) => self.create(create).await,
            Some(RequestUnion::CancelRequest(cancel)) => self.cancel(cancel.watch_id).await,
            Some(RequestUnion::ProgressRequest(_)) => {
                // Read first: what happens during the delivery may not have been delivered.
                let newest = self.api.hub.newest();
                self.deliver().await?;
                let header = self.api.header_at(newest);
                self.send(pb::WatchResponse { header, watch_id: NO_WATCH, ..Default::default() }).await
            }
            None => Ok(()),
        }
    }

    async fn create(&mut self, mut request: pb::WatchCreateRequest) -> Result<(), Over> {
        if request.key.is_empty() {
            request.key = Bytes::from_static(&[0]);
        }
        let keys = key_range(&request.key, &request.range_end);
        // What was acknowledged before the request is not reported to a watch that begins now.
        let newest = match self.api.kv.barrier().await {
            Ok(revision) => revision,
            Err(error) => return self.fail(&error).await,
        };
        let refused = if keys.is_empty() {
            Some("mvcc: watcher range is empty")
        } else if request.watch_id != 0 && self.watches.contains_key(&request.watch_id) {
            Some("mvcc: duplicate watch ID provided on the WatchStream")
        } else if self.watches.len() >= MAX_WATCHES {
            Some("too many watches on one stream")
        } else {
            None
        };
        let header = self.api.header_at(newest);
        if let Some(reason) = refused {
            let (created, canceled, cancel_reason) = (true, true, reason.to_owned());
            let watch_id = NO_WATCH;
            let message =
                pb::WatchResponse { header, watch_id, created, canceled, cancel_reason, ..Default::default() };
            return self.send(message).await;
        }
        let id = if request.watch_id == 0 { self.free_id() } else { request.watch_id };
        let filters: Vec<FilterType> = request.filters().collect();
        let watch = Watch {
            keys,
            next: if request.start_revision > 0 { unsigned(request.start_revision) } else { newest + 1 },
            puts: !filters.contains(&FilterType::Noput),
            deletions: !filters.contains(&FilterType::Nodelete),
            previous: request.prev_kv,
            fragment: request.fragment,
            progress: request.progress_notify,
        };
        let start = watch.next;
        self.watches.insert(id, watch);
        self.send(pb::WatchResponse { header, watch_id: id, created: true, ..Default::default() }).await?;
        match self.compacted(start, newest).await {
            Ok(Some(compacted)) => self.lost(id, compacted).await,
            Ok(None) => self.deliver_to(id).await,
            Err(error) => self.fail(&error).await,
        }
    }

    /// Whether the history from `start` on is gone, and what is the oldest that is not. The hub may have it for a while.
    async fn compacted(&self, start: u64, newest: u64) -> Result<Option<u64>, Error> {
        if start > newest {
            return Ok(None);
        }
        let probe = Range { revision: Some(start), count_only: true, limit: 1, ..Range::key(&b"\0"[..]) };
        match self.api.kv.range(probe).await {
            Ok(_) => Ok(None),
            Err(Error::Compacted { compacted, .. }) => Ok(Some(compacted)),
            Err(error) => Err(error),
        }
    }

    fn free_id(&mut self) -> i64 {
        while self.watches.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    async fn cancel(&mut self, id: i64) -> Result<(), Over> {
        if self.watches.remove(&id).is_none() {
            return Ok(());
        }
        let header = self.api.header_at(self.api.hub.newest());
        self.send(pb::WatchResponse { header, watch_id: id, canceled: true, ..Default::default() }).await
    }

    /// Tells all watches what they have not been told.
    async fn deliver(&mut self) -> Result<(), Over> {
        let ids: Vec<i64> = self.watches.keys().copied().collect();
        for id in ids {
            self.deliver_to(id).await?;
        }
        Ok(())
    }

    async fn deliver_to(&mut self, id: i64) -> Result<(), Over> {
        while let Some(watch) = self.watches.get(&id) {
            let newest = self.api.hub.newest();
            if watch.next > newest {
                break;
            }
            let batch = match self.api.hub.since(watch.next) {
                Batch::Events { events, until } => Ok((events, until)),
                Batch::Older => self.api.kv.history(&watch.keys, watch.next, BATCH),
            };
            let (events, until) = match batch {
                Ok(batch) => batch,
                Err(Error::Compacted { compacted, .. }) => return self.lost(id, compacted).await,
                Err(error) => return self.fail(&error).await,
            };
            let wanted = events.iter().filter(|e| watch.wants(e)).map(|e| event(e, watch.previous));
            let wanted: Vec<_> = match wanted.collect() {
                Ok(wanted) => wanted,
                Err(error) => return self.fail(&error).await,
            };
            let fragment = watch.fragment;
            if let Some(watch) = self.watches.get_mut(&id) {
                watch.next = until + 1;
            }
            if !wanted.is_empty() {
                self.events(id, wanted, fragment, until).await?;
            }
        }
        Ok(())
    }

    async fn events(
        &mut self,
        watch_id: i64,
        events: Vec<kedge_etcdpb::mvccpb::Event>,
        fragment: bool,
        revision: u64,
    ) -> Result<(), Over> {
        let header = self.api.header_at(revision);
        let mut parts = if fragment { part(events) } else { vec![events] }.into_iter().peekable();
        while let Some(events) = parts.next() {
            let fragment = parts.peek().is_some();
            self.send(pb::WatchResponse { header, watch_id, events, fragment, ..Default::default() }).await?;
        }
        Ok(())
    }

    async fn lost(&mut self, watch_id: i64, compacted: u64) -> Result<(), Over> {
        self.watches.remove(&watch_id);
        let (header, compact_revision) = (self.api.header_at(self.api.hub.newest()), signed(compacted));
        let message = pb::WatchResponse { header, watch_id, canceled: true, compact_revision, ..Default::default() };
        self.send(message).await
    }

    async fn tell_progress(&mut self) -> Result<(), Over> {
        let newest = self.api.hub.newest();
        self.deliver().await?;
        let ids: Vec<i64> = self.watches.iter().filter(|(_, watch)| watch.progress).map(|(id, _)| *id).collect();
        let header = self.api.header_at(newest);
        for watch_id in ids {
            self.send(pb::WatchResponse { header, watch_id, ..Default::default() }).await?;
        }
        Ok(())
    }
}

/// Events in messages that are not too large, each of at least one event.
fn part(events: Vec<kedge_etcdpb::mvccpb::Event>) -> Vec<Vec<kedge_etcdpb::mvccpb::Event>> {
    let size =
        |kv: &Option<kedge_etcdpb::mvccpb::KeyValue>| kv.as_ref().map_or(0, |kv| kv.key.len() + kv.value.len() + 64);
    let (mut parts, mut bytes) = (vec![Vec::new()], 0);
    for event in events {
        let more = size(&event.kv) + size(&event.prev_kv);
        if bytes > 0 && bytes + more > MAX_MESSAGE {
            parts.push(Vec::new());
            bytes = 0;
        }
        bytes += more;
        if let Some(part) = parts.last_mut() {
            part.push(event);
        }
    }
    parts
}
