//! Asking upstream.
//!
//! Invariant: every question ends within [`TRY`] for each server, and the same question is never
//! asked twice at a time. So even a loop between servers costs one wait, not a storm.

use crate::cache::{Cache, Key};
use crate::query::{Query, code};
use crate::resolv::Upstreams;
use crate::response::{self, Summary};
use kedge_base::{SharedClock, random, time};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::watch;

/// How long one server may take.
const TRY: Duration = Duration::from_secs(2);
/// The longest UDP answer asked for, in bytes.
const PAYLOAD: u16 = 1232;
/// The most different questions that wait for upstream at a time.
const MAX_WAITING: usize = 512;

type Outcome = Option<Arc<[u8]>>;

/// The way to other servers.
pub struct Forwarder {
    clock: SharedClock,
    upstreams: Mutex<Upstreams>,
    preferred: AtomicUsize,
    cache: Mutex<Cache>,
    waiting: Mutex<HashMap<Key, watch::Receiver<Outcome>>>,
}

impl Forwarder {
    /// A forwarder to `upstreams`.
    pub fn new(clock: SharedClock, upstreams: Upstreams) -> Self {
        Self {
            clock,
            upstreams: Mutex::new(upstreams),
            preferred: AtomicUsize::new(0),
            cache: Mutex::default(),
            waiting: Mutex::default(),
        }
    }

    /// The answer that is cached, in upstream's form; see [`Forwarder::ask`].
    pub fn cached(&self, query: &Query) -> Option<Vec<u8>> {
        self.cache.lock().get(&key(query), self.clock.monotonic())
    }

    /// Upstream's answer, for any client's id and spelling of the name; `None` when there is none.
    pub async fn ask(&self, query: &Query) -> Option<Vec<u8>> {
        if let Some(bytes) = self.cached(query) {
            return Some(bytes);
        }
        let key = key(query);
        let (leader, mut follower) = self.join(&key)?;
        if let Some(sender) = leader {
            let _cleared = Cleared { waiting: &self.waiting, key: &key };
            let outcome = self.exchange(query, &key).await;
            // Nobody need listen.
            sender.send_replace(outcome.clone());
            return outcome.map(|bytes| bytes.to_vec());
        }
        // The one who asks drops the sender at the latest when its servers are through.
        let outcome = follower.wait_for(Option::is_some).await.ok()?;
        outcome.as_ref().map(|bytes| bytes.to_vec())
    }

    /// Takes part in a question: as the one who asks (with a sender), or as one who waits.
    fn join(&self, key: &Key) -> Option<(Option<watch::Sender<Outcome>>, watch::Receiver<Outcome>)> {
        let mut waiting = self.waiting.lock();
        if let Some(receiver) = waiting.get(key) {
            return Some((None, receiver.clone()));
        }
        if waiting.len() >= MAX_WAITING {
            return None;
        }
        let (sender, receiver) = watch::channel(None);
        waiting.insert(key.clone(), receiver.clone());
        Some((Some(sender), receiver))
    }

    async fn exchange(&self, query: &Query, key: &Key) -> Outcome {
        let servers = self.upstreams.lock().servers(self.clock.monotonic());
        let first = self.preferred.load(Ordering::Relaxed);
        let mut last = None;
        for turn in 0..servers.len() {
            let index = (first + turn) % servers.len();
            let server = servers[index];
            match time::timeout(TRY, ask_one(server, query)).await {
                Ok(Ok((bytes, summary))) => {
                    let bytes: Arc<[u8]> = bytes.into();
                    // Another server may know better than one that failed or refuses.
                    if !matches!(summary.rcode, 0 | 3) {
                        last = Some(bytes);
                        continue;
                    }
                    self.preferred.store(index, Ordering::Relaxed);
                    self.cache.lock().put(key.clone(), bytes.clone(), &summary, self.clock.monotonic());
                    return Some(bytes);
                }
                Ok(Err(error)) => tracing::debug!(%server, %error, "upstream DNS server failed"),
                Err(_) => tracing::debug!(%server, "upstream DNS server did not answer"),
            }
        }
        last
    }
}

/// Takes the question off the list when it is answered or given up.
struct Cleared<'a> {
    waiting: &'a Mutex<HashMap<Key, watch::Receiver<Outcome>>>,
    key: &'a Key,
}

impl Drop for Cleared<'_> {
    fn drop(&mut self) {
        self.waiting.lock().remove(self.key);
    }
}

fn key(query: &Query) -> Key {
    Key {
        name: query.name.to_lower().wire().to_vec(),
        qtype: query.qtype,
        edns: query.edns.map(|edns| edns.dnssec_ok),
        checking_disabled: query.checking_disabled,
    }
}

/// The question as we ask it: with EDNS exactly if the client used it, so that the answer can be
/// passed on as it is.
fn question(query: &Query, id: u16) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64);
    bytes.extend_from_slice(&id.to_be_bytes());
    let flags = 0x0100 | u16::from(query.checking_disabled) << 4;
    let additional = u16::from(query.edns.is_some());
    for number in [flags, 1, 0, 0, additional] {
        bytes.extend_from_slice(&number.to_be_bytes());
    }
    bytes.extend_from_slice(query.name.wire());
    for number in [query.qtype, code::IN] {
        bytes.extend_from_slice(&number.to_be_bytes());
    }
    if let Some(edns) = query.edns {
        let [high, low] = PAYLOAD.to_be_bytes();
        let flags = if edns.dnssec_ok { 0x80 } else { 0 };
        bytes.extend_from_slice(&[0, 0, code::OPT as u8, high, low, 0, 0, flags, 0, 0, 0]);
    }
    bytes
}

async fn ask_one(server: SocketAddr, query: &Query) -> io::Result<(Vec<u8>, Summary)> {
    let id = random::u64() as u16;
    let message = question(query, id);
    // A socket for each question: its random port is half of what makes an answer hard to forge.
    let any: SocketAddr = if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(&message).await?;
    let mut buffer = vec![0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let Some(summary) = response::summarize(&buffer[..length], id, &query.name, query.qtype) else {
            continue;
        };
        if summary.truncated {
            return ask_tcp(server, query, &message, id).await;
        }
        buffer.truncate(length);
        return Ok((buffer, summary));
    }
}

async fn ask_tcp(server: SocketAddr, query: &Query, message: &[u8], id: u16) -> io::Result<(Vec<u8>, Summary)> {
    let mut stream = TcpStream::connect(server).await?;
    let mut framed = (message.len() as u16).to_be_bytes().to_vec();
    framed.extend_from_slice(message);
    stream.write_all(&framed).await?;
    let length = stream.read_u16().await?;
    let mut bytes = vec![0; usize::from(length)];
    stream.read_exact(&mut bytes).await?;
    let summary = response::summarize(&bytes, id, &query.name, query.qtype);
    summary.map(|summary| (bytes, summary)).ok_or_else(|| io::Error::other("not an answer to the question"))
}

/// Makes upstream's answer one to this client: its id, its spelling, within its limit.
pub fn readdress(mut bytes: Vec<u8>, query: &Query, limit: usize) -> Vec<u8> {
    let question = query.name.wire().len() + 4;
    if bytes.len() < 12 + question {
        return crate::answer::refusal(query.id, crate::query::Rcode::ServFail);
    }
    bytes[..2].copy_from_slice(&query.id.to_be_bytes());
    bytes[12..12 + query.name.wire().len()].copy_from_slice(query.name.wire());
    // We are not in charge of it; recursion is what we just did.
    bytes[2] = bytes[2] & !0x05 | u8::from(query.recursion_desired);
    bytes[3] |= 0x80;
    if bytes.len() > limit {
        bytes.truncate(12 + question);
        bytes[2] |= 0x02;
        bytes[6..12].fill(0);
    }
    bytes
}

#[cfg(test)]
#[path = "forward_tests.rs"]
mod tests;
