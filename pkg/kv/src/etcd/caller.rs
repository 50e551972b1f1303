//! Requests with their limits: which member they go to, how long they may take, and what happens when one fails.
//!
//! Invariant: a request that writes is sent again only when it is certain that it was not carried out.

use std::future::Future;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use kedge_base::{Backoff, SharedClock, Shutdown};
use kedge_etcdpb::etcdserverpb as pb;
use parking_lot::Mutex;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Response, Status};
use tracing::{debug, warn};

use super::auth::Auth;
use super::dial;
use super::options::EtcdOptions;
use super::status::{Subject, Verdict, judge};
use crate::error::Error;

/// Tokens that are tried for one request.
const MAX_TOKENS: u32 = 3;
/// That a member does not answer is said at most so often.
const COMPLAINTS: Duration = Duration::from_secs(10);
/// Largest answer; requests are limited by the server, pages by their number of keys.
pub(super) const MAX_ANSWER: usize = i32::MAX as usize;

/// Whether a request may be repeated without asking what came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Read,
    Write,
}

/// Where one attempt goes.
#[derive(Clone)]
pub(super) struct Target {
    pub channel: Channel,
    token: Option<MetadataValue<Ascii>>,
    timeout: Option<Duration>,
}

impl Target {
    /// A request with the metadata that etcd wants: the token, and that a member without a leader refuses at once.
    pub(super) fn request<M>(&self, message: M) -> tonic::Request<M> {
        let mut request = tonic::Request::new(message);
        request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
        if let Some(token) = &self.token {
            request.metadata_mut().insert("token", token.clone());
        }
        if let Some(timeout) = self.timeout {
            request.set_timeout(timeout);
        }
        request
    }

    pub(super) fn kv(&self) -> pb::kv_client::KvClient<Channel> {
        pb::kv_client::KvClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    pub(super) fn lease(&self) -> pb::lease_client::LeaseClient<Channel> {
        pb::lease_client::LeaseClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    pub(super) fn maintenance(&self) -> pb::maintenance_client::MaintenanceClient<Channel> {
        pb::maintenance_client::MaintenanceClient::new(self.channel.clone())
    }
}

/// An answer that says which cluster it comes from, and its revision.
pub(super) trait Answer {
    fn header(&self) -> Option<&pb::ResponseHeader>;
}

macro_rules! answers {
    ($($name:ident),+ $(,)?) => {
        $(impl Answer for pb::$name {
            fn header(&self) -> Option<&pb::ResponseHeader> {
                self.header.as_ref()
            }
        })+
    };
}
answers!(
    RangeResponse,
    TxnResponse,
    CompactionResponse,
    LeaseGrantResponse,
    LeaseRevokeResponse,
    LeaseKeepAliveResponse,
    LeaseTimeToLiveResponse,
    LeaseLeasesResponse,
    AlarmResponse,
    StatusResponse,
    WatchResponse,
);

/// The members, which of them is used, and what is known of them.
pub(super) struct Caller {
    members: Vec<(String, Channel)>,
    current: AtomicUsize,
    auth: Option<Auth>,
    clock: SharedClock,
    attempt_timeout: Duration,
    total_timeout: Duration,
    shutdown: Shutdown,
    /// The newest revision in any answer.
    revision: AtomicU64,
    /// The cluster that answered first; 0 before.
    cluster: AtomicU64,
    /// When it was last said that a member does not answer.
    complained: Mutex<Option<Duration>>,
}

impl Caller {
    pub(super) fn new(options: &EtcdOptions, clock: SharedClock, shutdown: Shutdown) -> Result<Self, Error> {
        let mut members = Vec::new();
        for endpoint in options.parsed()? {
            members.push((endpoint.name.clone(), dial::channel(&endpoint, options, &clock)?));
        }
        let auth = options.credentials()?.map(|(user, password)| Auth::new(user, password));
        Ok(Self {
            members,
            current: AtomicUsize::new(0),
            auth,
            clock,
            attempt_timeout: options.attempt_timeout,
            total_timeout: options.total_timeout,
            shutdown,
            revision: AtomicU64::new(0),
            cluster: AtomicU64::new(0),
            complained: Mutex::default(),
        })
    }

    pub(super) fn clock(&self) -> &SharedClock {
        &self.clock
    }

    pub(super) fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    pub(super) fn total_timeout(&self) -> Duration {
        self.total_timeout
    }

    pub(super) fn attempt_timeout(&self) -> Duration {
        self.attempt_timeout
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    pub(super) fn name(&self, index: usize) -> &str {
        self.members.get(index).map_or("", |(name, _)| name)
    }

    /// The member that is used now.
    pub(super) fn current(&self) -> usize {
        self.current.load(Ordering::Acquire) % self.members.len()
    }

    /// Leaves a member that failed, unless somebody has done so already.
    pub(super) fn leave(&self, failed: usize) {
        let next = (failed + 1) % self.members.len();
        let moved = self.current.compare_exchange(failed, next, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if moved && next != failed {
            debug!(from = self.name(failed), to = self.name(next), "goes on with another etcd endpoint");
        }
    }

    /// The target for a request that takes as long as it takes.
    pub(super) async fn stream_target(&self, index: usize) -> Result<Target, Status> {
        self.target(index, None).await
    }

    async fn target(&self, index: usize, timeout: Option<Duration>) -> Result<Target, Status> {
        let (_, channel) = self.members.get(index).ok_or_else(|| Status::internal("no such endpoint"))?;
        let token = match &self.auth {
            Some(auth) => auth.token(channel, self.attempt_timeout).await?,
            None => None,
        };
        Ok(Target { channel: channel.clone(), token, timeout })
    }

    /// Forgets the token, so that the next request gets a new one. Whether there are credentials at all.
    pub(super) async fn forget_token(&self) -> bool {
        match &self.auth {
            Some(auth) => {
                auth.forget().await;
                true
            }
            None => false,
        }
    }

    /// Takes note of an answer's header; refuses one of another cluster, whose revisions mean something else.
    pub(super) fn note(&self, header: Option<&pb::ResponseHeader>) -> Result<u64, Error> {
        let header = header.ok_or_else(|| Error::Protocol("an answer without a header".into()))?;
        let known = self.cluster.compare_exchange(0, header.cluster_id, Ordering::AcqRel, Ordering::Acquire);
        if let Err(known) = known
            && known != header.cluster_id
            && header.cluster_id != 0
        {
            let id = header.cluster_id;
            return Err(Error::Protocol(format!("the answer is of cluster {id:x}, earlier ones were of {known:x}")));
        }
        let revision = u64::try_from(header.revision).unwrap_or(0);
        self.revision.fetch_max(revision, Ordering::AcqRel);
        Ok(revision)
    }

    /// Sends a request until it is answered, or must not be sent again, or its time is over.
    pub(super) async fn call<T, F, Fut>(&self, kind: Kind, subject: Subject, send: F) -> Result<T, Error>
    where
        T: Answer,
        F: Fn(Target) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        self.call_within(self.total_timeout, kind, subject, send).await
    }

    pub(super) async fn call_within<T, F, Fut>(
        &self,
        limit: Duration,
        kind: Kind,
        mut subject: Subject,
        send: F,
    ) -> Result<T, Error>
    where
        T: Answer,
        F: Fn(Target) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        subject.current = self.revision();
        let deadline = self.clock.monotonic() + limit;
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1), 20);
        let mut tokens = 0;
        loop {
            let index = self.current();
            let left = deadline.saturating_sub(self.clock.monotonic()).min(self.attempt_timeout);
            let (what, sent) = match self.attempt(index, left, &subject, &send).await {
                Ok(answer) => {
                    self.note(answer.header())?;
                    return Ok(answer);
                }
                Err(Verdict::Final(error)) => return Err(error),
                Err(Verdict::Reauthenticate(what)) => {
                    tokens += 1;
                    if tokens >= MAX_TOKENS || !self.forget_token().await {
                        return Err(Error::Unauthenticated(what));
                    }
                    continue;
                }
                Err(Verdict::Elsewhere { what, sent }) => (what, sent),
            };
            self.leave(index);
            self.complain(index, &what);
            let what = format!("{}: {what}", self.name(index));
            if kind == Kind::Write && sent {
                return Err(Error::Unavailable { what, unknown: true });
            }
            let pause = backoff.next();
            if self.clock.monotonic() + pause >= deadline {
                return Err(Error::Unavailable { what, unknown: false });
            }
            tokio::select! {
                () = self.clock.sleep(pause) => {}
                () = self.shutdown.requested() => return Err(closed()),
            }
        }
    }

    /// Says now and then that a member cannot be used.
    fn complain(&self, index: usize, what: &str) {
        let now = self.clock.monotonic();
        let mut last = self.complained.lock();
        if last.is_none_or(|last| now.saturating_sub(last) >= COMPLAINTS) {
            *last = Some(now);
            warn!(
                member = self.name(index),
                cause = what,
                "a member of the etcd does not answer; the next one is asked"
            );
        }
    }

    async fn attempt<T, F, Fut>(&self, index: usize, limit: Duration, subject: &Subject, send: &F) -> Result<T, Verdict>
    where
        F: Fn(Target) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        if self.shutdown.is_requested() {
            return Err(Verdict::Final(closed()));
        }
        let target = tokio::select! {
            target = self.target(index, Some(limit)) => target.map_err(|status| unsent(judge(&status, subject)))?,
            () = self.clock.sleep(limit) => return Err(late(limit, false)),
        };
        tokio::select! {
            answer = send(target) => answer.map(Response::into_inner).map_err(|status| judge(&status, subject)),
            () = self.clock.sleep(limit) => Err(late(limit, true)),
            () = self.shutdown.requested() => Err(Verdict::Final(closed())),
        }
    }
}

/// What the failure to get a token means for the request that wanted it: it was not sent.
fn unsent(verdict: Verdict) -> Verdict {
    match verdict {
        Verdict::Elsewhere { what, .. } => Verdict::Elsewhere { what, sent: false },
        other => other,
    }
}

fn late(limit: Duration, sent: bool) -> Verdict {
    Verdict::Elsewhere { what: format!("no answer within {} ms", limit.as_millis()), sent }
}

pub(super) fn closed() -> Error {
    Error::Closed("it has been closed".into())
}
