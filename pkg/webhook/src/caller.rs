//! Calls: one client for each configuration, whose connections are used again.

use std::collections::HashMap;
use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::TokioTimer;
use kedge_base::net::Dialer;
use kedge_base::{SharedClock, TaskGroup, blocking, time};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::answer;
use crate::config::{ClientConfig, Place};
use crate::connect::Connector;
use crate::error::{CallError, Failure};
use crate::tls::{Identity, Trusted};
use crate::{Services, Unresolved};
use crate::{tls, trust};

/// As upstream; the one that has not been used for the longest time goes first.
const CLIENTS: usize = 200;
/// Connections to all webhooks together, those that wait for their next call among them.
const CONNECTIONS: usize = 2_048;
/// Connections that wait for their next call, of each client.
const IDLE: usize = 8;
/// As Go's default transport.
const IDLE_TIME: Duration = Duration::from_secs(90);
/// An answer may hold an object, once as it was and once as text.
const MAX_ANSWER: usize = 16 << 20;
/// How often a webhook that says when it wants to be asked again is asked again, as upstream.
const RETRIES: usize = 10;
const AGENT: HeaderValue = HeaderValue::from_static("kube-apiserver-admission");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const ACCEPT: HeaderValue = HeaderValue::from_static("application/json, */*");

/// What a [`Caller`] is made of.
pub struct Settings {
    pub services: Arc<dyn Services>,
    pub dialer: Arc<dyn Dialer>,
    /// Connections live in these.
    pub tasks: TaskGroup,
    pub clock: SharedClock,
}

/// The body of a request that is passed on.
pub type Outgoing = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// Calls webhooks, and servers behind services. Share it behind an `Arc`.
pub struct Caller {
    settings: Settings,
    /// Who it says it is.
    identity: Option<Identity>,
    bearer: Option<HeaderValue>,
    agent: HeaderValue,
    /// The largest answer, in bytes.
    largest: usize,
    slots: Arc<Semaphore>,
    clients: Mutex<Clients>,
}

#[derive(Default)]
struct Clients {
    known: HashMap<ClientConfig, (Arc<Known>, u64)>,
    uses: u64,
}

/// The client of one configuration.
struct Known {
    place: Arc<Place>,
    client: Client<Connector, Outgoing>,
}

/// Connections are tasks of the caller's group.
#[derive(Clone)]
struct Spawner(TaskGroup);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Spawner {
    fn execute(&self, connection: F) {
        self.0.spawn_until_shutdown("webhook connection", connection);
    }
}

impl Caller {
    /// A caller without connections.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            identity: None,
            bearer: None,
            agent: AGENT,
            largest: MAX_ANSWER,
            slots: Arc::new(Semaphore::new(CONNECTIONS)),
            clients: Mutex::default(),
        }
    }

    /// The same, and it says who it is.
    #[must_use]
    pub fn with_identity(self, identity: Identity) -> Self {
        Self { identity: Some(identity), ..self }
    }

    /// The same, and it says so in the `Authorization` header.
    #[must_use]
    pub fn with_bearer(self, bearer: HeaderValue) -> Self {
        Self { bearer: Some(bearer), ..self }
    }

    /// The same under another name, and for answers of no more than so many bytes.
    #[must_use]
    pub fn named(self, agent: HeaderValue, largest: usize) -> Self {
        Self { agent, largest, ..self }
    }

    /// `host:port` of one of those who serve a port of a service.
    ///
    /// # Errors
    /// When nobody does.
    pub fn resolve(&self, namespace: &str, name: &str, port: u16) -> Result<String, Unresolved> {
        self.settings.services.resolve(namespace, name, port)
    }

    /// Runs what serves a connection beyond its request.
    pub fn spawn(&self, task: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        self.settings.tasks.spawn_until_shutdown(task, work);
    }

    /// Sends a request to the host of its URL, which must be what the configuration says. The answer's body is still to come; who wants an end
    /// of that sets it.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn send(&self, config: &ClientConfig, request: Request<Outgoing>) -> Result<Response<Incoming>, Failure> {
        let known = self.known(config).await.map_err(|err| match err {
            CallError::Unanswered { why, .. } => why,
            other => Failure::Http(other.to_string()),
        })?;
        known.client.request(request).await.map_err(|err| failure(&err))
    }

    /// Posts JSON to a webhook and returns its answer, all within `timeout`, which the webhook is told in seconds.
    ///
    /// # Errors
    /// Why there is no answer, or that it is a failure.
    pub async fn post(&self, config: &ClientConfig, body: Bytes, timeout: Duration) -> Result<Bytes, CallError> {
        let known = self.known(config).await?;
        let seconds = timeout.as_secs() + u64::from(timeout.subsec_nanos() > 0);
        let url = format!("{}?timeout={seconds}s", known.place.url);
        match time::timeout(timeout, self.insist(&known, &url, body)).await {
            Ok(answered) => answered,
            Err(_) => Err(CallError::Unanswered { url, why: Failure::Deadline }),
        }
    }

    /// Asks until there is an answer that does not ask to be asked again.
    async fn insist(&self, known: &Known, url: &str, body: Bytes) -> Result<Bytes, CallError> {
        let unanswered = |why| CallError::Unanswered { url: url.to_owned(), why };
        let mut retries = 0;
        loop {
            let request = self.request(url, body.clone()).map_err(|err| unanswered(Failure::Http(err.to_string())))?;
            let answer = known.client.request(request).await.map_err(|err| unanswered(failure(&err)))?;
            let (head, body) = answer.into_parts();
            let code = head.status.as_u16();
            if let Some(seconds) = answer::retry_after(code, &head.headers)
                && retries < RETRIES
            {
                retries += 1;
                self.settings.clock.sleep(Duration::from_secs(seconds)).await;
                continue;
            }
            let body = Limited::new(body, self.largest).collect().await.map_err(|err| {
                unanswered(match err.downcast_ref::<LengthLimitError>() {
                    Some(_) => Failure::TooLarge,
                    None => Failure::Http(err.to_string()),
                })
            })?;
            return answer::body(code, &head.headers, body.to_bytes());
        }
    }

    fn request(&self, url: &str, body: Bytes) -> Result<Request<Outgoing>, http::Error> {
        let mut request = Request::post(url)
            .header(header::CONTENT_TYPE, JSON)
            .header(header::ACCEPT, ACCEPT)
            .header(header::USER_AGENT, self.agent.clone());
        if let Some(bearer) = &self.bearer {
            request = request.header(header::AUTHORIZATION, bearer.clone());
        }
        request.body(Full::new(body).map_err(|never| match never {}).boxed_unsync())
    }

    async fn known(&self, config: &ClientConfig) -> Result<Arc<Known>, CallError> {
        if let Some(known) = self.clients.lock().used(config) {
            return Ok(known);
        }
        let known = Arc::new(self.make(config).await?);
        self.clients.lock().keep(config, &known);
        Ok(known)
    }

    async fn make(&self, config: &ClientConfig) -> Result<Known, CallError> {
        let place = Arc::new(config.place()?);
        let trusted = match config.ca_bundle.as_slice() {
            _ if config.insecure => Trusted::Anybody,
            [] => Trusted::Roots(blocking::unbounded("system roots", trust::system).await.unwrap_or_default()),
            pem => Trusted::Roots(trust::bundle(pem)?),
        };
        let tls = tls::connector(trusted, place.is_local, self.identity.as_ref()).map_err(|err| {
            CallError::Unanswered { url: place.url.clone(), why: Failure::Handshake(format!("tls: {err}")) }
        })?;
        let connector = Connector {
            target: Arc::new(config.target.clone()),
            place: place.clone(),
            services: self.settings.services.clone(),
            dialer: self.settings.dialer.clone(),
            tls,
            slots: self.slots.clone(),
        };
        let client = Client::builder(Spawner(self.settings.tasks.clone()))
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIME)
            .pool_max_idle_per_host(IDLE)
            // Programs that know headers in one spelling only know them in that of Go's client.
            .http1_title_case_headers(true)
            .build(connector);
        Ok(Known { place, client })
    }
}

impl Clients {
    fn used(&mut self, config: &ClientConfig) -> Option<Arc<Known>> {
        self.uses += 1;
        let (known, last) = self.known.get_mut(config)?;
        *last = self.uses;
        Some(known.clone())
    }

    fn keep(&mut self, config: &ClientConfig, known: &Arc<Known>) {
        if self.known.len() >= CLIENTS {
            let oldest = self.known.iter().min_by_key(|(_, (_, last))| *last).map(|(config, _)| config.clone());
            oldest.map(|config| self.known.remove(&config));
        }
        self.known.insert(config.clone(), (known.clone(), self.uses));
    }
}

/// Why the client got no answer.
fn failure(err: &ClientError) -> Failure {
    let mut cause = err.source();
    while let Some(inner) = cause {
        if let Some(known) = inner.downcast_ref::<Failure>() {
            return Failure::Http(known.to_string());
        }
        if inner.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_incomplete_message) {
            return Failure::Eof;
        }
        if let Some(io) = inner.downcast_ref::<std::io::Error>() {
            return tls::ended(io);
        }
        cause = inner.source();
    }
    Failure::Http(err.to_string())
}

#[cfg(test)]
#[path = "caller_tests.rs"]
mod tests;
