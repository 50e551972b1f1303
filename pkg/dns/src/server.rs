//! The server: sockets in, answers out.
//!
//! Invariant: names of the cluster are answered where the query is read, from memory. Only questions
//! for upstream wait, each in a task of its own, of which there is a limited number.

use crate::answer::{self, Answer, Data, MAX_TCP, Record, Shape, udp_limit};
use crate::forward::{self, Forwarder};
use crate::name::Name;
use crate::query::{Query, Rcode, Unreadable, code};
use crate::records::Records;
use crate::response;
use crate::zone::{Found, Zone};
use kedge_base::{TaskGroup, Weight, time};
use parking_lot::RwLock;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;

/// The longest query that is read over UDP, in bytes.
const MAX_QUERY: usize = 4096;
/// The most UDP queries that wait for upstream at a time; beyond it, they fail at once.
const MAX_WAITING: usize = 1024;
/// The most TCP connections at a time; beyond it, connections wait to be accepted.
const MAX_CONNECTIONS: usize = 128;
/// How long a TCP connection may be idle, or take to send or receive a message.
const IDLE: Duration = Duration::from_secs(10);
/// The most queries on one TCP connection.
const MAX_QUERIES: usize = 1000;
/// The longest chain of aliases that is followed.
const MAX_ALIASES: usize = 8;

/// What answers queries.
pub struct Server {
    zone: Zone,
    records: Arc<RwLock<Records>>,
    /// Whether the records are complete; before that a missing name may only be one not yet known.
    complete: Arc<AtomicBool>,
    forwarder: Forwarder,
    waiting: Arc<Semaphore>,
    connections: Arc<Semaphore>,
    turn: AtomicU32,
    /// The loop that takes in something next panics.
    #[cfg(test)]
    broken: AtomicBool,
}

/// An answer, or that it takes others to give it.
enum Local {
    Ready(Vec<u8>),
    Alias(Name),
    Foreign,
}

impl Server {
    /// A server for `zone` over `records`.
    pub fn new(zone: Zone, records: Arc<RwLock<Records>>, complete: Arc<AtomicBool>, forwarder: Forwarder) -> Self {
        Self {
            zone,
            records,
            complete,
            forwarder,
            waiting: Arc::new(Semaphore::new(MAX_WAITING)),
            connections: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            turn: AtomicU32::new(0),
            #[cfg(test)]
            broken: AtomicBool::new(false),
        }
    }

    /// Serves UDP until the task group shuts down.
    pub async fn udp(self: Arc<Self>, socket: Arc<UdpSocket>, tasks: TaskGroup) {
        let mut buffer = vec![0; MAX_QUERY];
        loop {
            let (length, client) = match socket.recv_from(&mut buffer).await {
                Ok(received) => received,
                // The kernel reports here that an earlier answer reached nobody.
                Err(error) => {
                    tracing::debug!(%error, "cannot receive a DNS query");
                    continue;
                }
            };
            #[cfg(test)]
            assert!(!self.broken.swap(false, Ordering::SeqCst), "on purpose");
            // What makes this panic is not answered, and the queries behind it are.
            let read = || self.reply(&buffer[..length], &socket, client, &tasks);
            if let Ok(Some(reply)) = tasks.ledger().catch_now("dns", "dns-query", Weight::Single, read) {
                send(&socket, &reply, client).await;
            }
        }
    }

    /// The reply to a query over UDP, unless there is none or it takes others to give it.
    fn reply(
        self: &Arc<Self>,
        bytes: &[u8],
        socket: &Arc<UdpSocket>,
        client: SocketAddr,
        tasks: &TaskGroup,
    ) -> Option<Vec<u8>> {
        #[cfg(test)]
        assert!(bytes != tests::POISON, "on purpose");
        let query = match Query::read(bytes) {
            Ok(query) => query,
            Err(Unreadable::Refuse { id, rcode }) => return Some(answer::refusal(id, rcode)),
            Err(Unreadable::Ignore) => return None,
        };
        let limit = udp_limit(&query);
        let later = match self.local(&query, limit) {
            Local::Ready(bytes) => return Some(bytes),
            later => later,
        };
        let Ok(permit) = self.waiting.clone().try_acquire_owned() else {
            return Some(self.failure(&query, limit));
        };
        let (server, socket) = (self.clone(), socket.clone());
        tasks.spawn_until_shutdown("dns-forward", async move {
            let _permit = permit;
            let bytes = server.remote(&query, later, limit).await;
            send(&socket, &bytes, client).await;
        });
        None
    }

    /// Serves TCP until the task group shuts down.
    pub async fn tcp(self: Arc<Self>, listener: Arc<TcpListener>, tasks: TaskGroup) {
        loop {
            let Ok(permit) = self.connections.clone().acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    #[cfg(test)]
                    assert!(!self.broken.swap(false, Ordering::SeqCst), "on purpose");
                    let server = self.clone();
                    tasks.spawn_until_shutdown("dns-connection", async move {
                        let _permit = permit;
                        if let Err(error) = server.converse(stream).await {
                            tracing::trace!(%error, "DNS connection ended");
                        }
                    });
                }
                Err(error) => tracing::debug!(%error, "cannot accept a DNS connection"),
            }
        }
    }

    async fn converse(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let late = |_| std::io::Error::from(std::io::ErrorKind::TimedOut);
        for _ in 0..MAX_QUERIES {
            let read = async {
                let length = stream.read_u16().await?;
                let mut bytes = vec![0; usize::from(length).min(MAX_QUERY)];
                if bytes.len() < usize::from(length) {
                    return Err(std::io::Error::other("a query too long"));
                }
                stream.read_exact(&mut bytes).await?;
                Ok(bytes)
            };
            let bytes = time::timeout(IDLE, read).await.map_err(late)??;
            #[cfg(test)]
            assert!(bytes != tests::POISON, "on purpose");
            let reply = match Query::read(&bytes) {
                Ok(query) => match self.local(&query, MAX_TCP) {
                    Local::Ready(bytes) => bytes,
                    later => self.remote(&query, later, MAX_TCP).await,
                },
                Err(Unreadable::Refuse { id, rcode }) => answer::refusal(id, rcode),
                Err(Unreadable::Ignore) => return Ok(()),
            };
            let mut framed = (reply.len() as u16).to_be_bytes().to_vec();
            framed.extend_from_slice(&reply);
            time::timeout(IDLE, stream.write_all(&framed)).await.map_err(late)??;
        }
        Ok(())
    }

    /// Answers a query; for tests and for whoever brings messages by another way.
    #[cfg(test)]
    pub async fn answer(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        match Query::read(bytes) {
            Ok(query) => Some(match self.local(&query, udp_limit(&query)) {
                Local::Ready(bytes) => bytes,
                later => self.remote(&query, later, udp_limit(&query)).await,
            }),
            Err(Unreadable::Refuse { id, rcode }) => Some(answer::refusal(id, rcode)),
            Err(Unreadable::Ignore) => None,
        }
    }

    /// Answers from memory, if that is possible.
    fn local(&self, query: &Query, limit: usize) -> Local {
        if query.qclass != code::IN || matches!(query.qtype, code::AXFR | code::IXFR) {
            let shape = Shape { rcode: Rcode::Refused, authoritative: false, limit };
            return Local::Ready(answer::write(query, &Answer::default(), shape));
        }
        let found = self.zone.find(&self.records.read(), &query.name, query.qtype);
        match found {
            Found::Foreign => match self.forwarder.cached(query) {
                Some(bytes) => Local::Ready(forward::readdress(bytes, query, limit)),
                None => Local::Foreign,
            },
            Found::Missing if !self.complete.load(Ordering::Acquire) => Local::Ready(self.failure(query, limit)),
            Found::Missing => Local::Ready(self.write(query, Answer::default(), Rcode::NxDomain, limit)),
            Found::Records { mut answers, additionals } => {
                self.rotate(&mut answers);
                let answer = Answer { answers, additionals, ..Answer::default() };
                Local::Ready(self.write(query, answer, Rcode::NoError, limit))
            }
            Found::Alias(target) if query.qtype == code::CNAME => {
                let answers = vec![self.alias(&query.name, target)];
                Local::Ready(self.write(query, Answer { answers, ..Answer::default() }, Rcode::NoError, limit))
            }
            Found::Alias(target) => Local::Alias(target),
        }
    }

    /// Answers with upstream's help.
    async fn remote(&self, query: &Query, how: Local, limit: usize) -> Vec<u8> {
        match how {
            Local::Ready(bytes) => bytes,
            Local::Foreign => match self.forwarder.ask(query).await {
                Some(bytes) => forward::readdress(bytes, query, limit),
                None => self.failure(query, limit),
            },
            Local::Alias(target) => {
                let (answers, rcode) = self.follow(query, target).await;
                let answer = Answer { answers, ..Answer::default() };
                self.write(query, answer, rcode, limit)
            }
        }
    }

    /// Follows an alias to its end. Clients' resolvers do not do it themselves.
    async fn follow(&self, query: &Query, mut target: Name) -> (Vec<Record>, Rcode) {
        let mut owner = query.name.clone();
        let mut answers = Vec::new();
        for _ in 0..MAX_ALIASES {
            answers.push(self.alias(&owner, target.clone()));
            let found = self.zone.find(&self.records.read(), &target, query.qtype);
            match found {
                Found::Records { answers: more, .. } => {
                    answers.extend(more);
                    return (answers, Rcode::NoError);
                }
                Found::Missing => return (answers, Rcode::NxDomain),
                Found::Alias(next) => (owner, target) = (target, next),
                Found::Foreign => {
                    let question = Query { name: target, ..query.clone() };
                    let Some(bytes) = self.forwarder.ask(&question).await else {
                        return (Vec::new(), Rcode::ServFail);
                    };
                    let rcode = match bytes.get(3).map(|flags| flags & 15) {
                        Some(0) => Rcode::NoError,
                        Some(3) => Rcode::NxDomain,
                        _ => return (Vec::new(), Rcode::ServFail),
                    };
                    answers.extend(response::addresses(&bytes).unwrap_or_default());
                    return (answers, rcode);
                }
            }
        }
        (Vec::new(), Rcode::ServFail)
    }

    fn alias(&self, owner: &Name, target: Name) -> Record {
        Record { name: owner.clone(), ttl: self.zone.ttl, data: Data::Cname(target) }
    }

    /// Writes an answer of the zone; one without records carries the zone's record.
    fn write(&self, query: &Query, mut answer: Answer, rcode: Rcode, limit: usize) -> Vec<u8> {
        if answer.answers.is_empty() && rcode != Rcode::ServFail {
            answer.authorities.push(self.zone.soa());
        }
        let authoritative = rcode != Rcode::ServFail;
        answer::write(query, &answer, Shape { rcode, authoritative, limit })
    }

    fn failure(&self, query: &Query, limit: usize) -> Vec<u8> {
        let shape = Shape { rcode: Rcode::ServFail, authoritative: false, limit };
        answer::write(query, &Answer::default(), shape)
    }

    /// Clients take the first address, so every answer begins with another one.
    fn rotate(&self, answers: &mut [Record]) {
        if answers.len() > 1 {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed) as usize;
            answers.rotate_left(turn % answers.len());
        }
    }
}

async fn send(socket: &UdpSocket, bytes: &[u8], client: std::net::SocketAddr) {
    if let Err(error) = socket.send_to(bytes, client).await {
        tracing::debug!(%client, %error, "cannot send a DNS answer");
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
