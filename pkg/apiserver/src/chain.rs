//! The way of a request: one function, read from top to bottom.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use kedge_auth::jwt::AnonymousConfig;
use kedge_auth::{Credentials, Remarks, Unauthenticated};
use kedge_base::time::go_duration;
use kedge_base::{Weight, random};
use kedge_meta::{Status, UserInfo};
use kedge_registry::{Catalogue, Notes};
use parking_lot::Mutex;
use tracing::{debug, warn};

use crate::access_meters::Found;
use crate::admitted::{AUDIT_ID, Admitted};
use crate::auditing::{self, Head, Record, Unfinished};
use crate::authorization::NotAllowed;
use crate::body::{Body, Expiring, Guarded, Held, RequestBody, is_whole};
use crate::fairness::{Refused, Schema};
use crate::impersonation::Acting;
use crate::input::negotiate;
use crate::input::request_info::RequestInfo;
use crate::limits::Slot;
use crate::output::respond::{self, Proxied, ToNobody};
use crate::presentation::Presentation;
use crate::server::{ApiServer, Peer};
use crate::{aggregation, deprecation, discovery, health, impersonation, routing};

/// A request that is not long-running is given up after this time, as upstream.
const DEADLINE: Duration = Duration::from_secs(60);
/// How long a client may take to read a long answer.
const READING: Duration = Duration::from_secs(300);
/// Longer ones are cut, as upstream.
const LONGEST_AUDIT_ID: usize = 64;
/// Upstream's words.
const PANICKED: &str = "This request caused apiserver to panic. Look in the logs for details.";

/// To which flow a request was found to belong; unset before that is known.
type Flow = OnceLock<Option<Arc<Schema>>>;

/// What becomes known of a request on its way, also of one that fails.
struct Told {
    flow: Flow,
    record: OnceLock<Unfinished>,
    /// Set when nobody knows who asks.
    nobody: OnceLock<()>,
}

impl ApiServer {
    /// Serves one request.
    pub async fn handle(self: &Arc<Self>, request: Request<Body>, peer: &Peer) -> Response<Body> {
        let audit_id = audit_id(request.headers());
        let head = *request.method() == Method::HEAD;
        let presentation = Presentation::of(&request);
        // A panic fails the one request; what it held is given back as its stack unwinds.
        let ledger = self.readiness.ledger();
        // On the heap, since what handles a request is large, and lies on the stack once more for each layer above it.
        let notes = Notes::default();
        let told = Told { flow: Flow::default(), record: OnceLock::new(), nobody: OnceLock::new() };
        let served = Box::pin(self.serve(request, peer, &notes, &audit_id, &told));
        let served = ledger.catch("apiserver", "request", Weight::Single, served).await;
        let panicked = served.is_err();
        let (mut response, failure) = match served.unwrap_or_else(|_| Err(Status::internal(PANICKED))) {
            Ok(response) => (response.map(|body| Guarded::over(body, ledger)), None),
            Err(status) => (respond::failure(&status, presentation.errors()), Some(status)),
        };
        let Told { flow, record, nobody } = told;
        if let Some(record) = record.into_inner().and_then(Unfinished::take) {
            match &failure {
                Some(status) if panicked => record.panicked(status).await,
                failure => {
                    let passed_on = response.extensions().get::<Proxied>().is_some();
                    response = record.answered(response, (failure.as_ref(), passed_on), &self.tasks).await;
                }
            }
        }
        // Also of what failed: that may be why.
        respond::warn(&mut response, &notes.warnings());
        if let Some(schema) = flow.get().and_then(Option::as_ref) {
            schema.tell(response.headers_mut());
        }
        response.headers_mut().insert(AUDIT_ID, audit_id);
        if nobody.get().is_some() {
            response.extensions_mut().insert(ToNobody);
        }
        let response = presentation.finish(response);
        if head { respond::head_only(response) } else { response }
    }

    async fn serve(
        self: &Arc<Self>,
        request: Request<Body>,
        peer: &Peer,
        notes: &Notes,
        audit_id: &HeaderValue,
        told: &Told,
    ) -> Result<Response<Body>, Status> {
        // What is asked for.
        let received = self.clock.now();
        let mut info = RequestInfo::parse(request.method(), request.uri()).ok_or_else(Status::no_page)?;
        info.applies = info.verb == "patch" && negotiate::content_type(request.headers()) == negotiate::APPLY;
        let client = peer.address.map(|address| address.ip());
        if let Some(asked) = health::asked(&info.path) {
            let user = self.who_probes(request.headers(), peer, notes).await;
            told.of(user.as_ref());
            let record = {
                let (uri, headers) = (request.uri(), request.headers());
                let head = Head { uri, headers, info: &info, client, audit_id, received };
                self.begin_record(&head, Some(user.as_ref().unwrap_or(&anonymous())), notes)
            };
            if let Some(record) = record {
                told.record.get_or_init(|| Unfinished::new(&record, &self.tasks));
                record.received().await;
            }
            let user = match user {
                Some(user) => {
                    Some(impersonation::impersonate(&*self.authorizer, request.headers(), &info, user).await?.user)
                }
                None => None,
            };
            told.flow.get_or_init(|| self.fairness.classify(user.as_ref().unwrap_or(&anonymous()), &info));
            // Whether the server is well is for everybody, single checks and what is no question are for those who may.
            let asks = matches!(*request.method(), Method::GET | Method::HEAD);
            if asked.1.is_some() || !asks {
                self.authorize(&info, &user.ok_or_else(Status::unauthorized)?).await?;
            }
            return Ok(health::handle(self, &info, asked).await);
        }
        // What is said of all kinds, or of one, is said when those that come are there; other pages wait for nothing.
        let catalogue = match info.path.trim_matches('/').split('/').next() {
            _ if info.is_resource => self.registry.settled(Some(&info.group)).await,
            Some("apis" | "openapi") => self.registry.settled(None).await,
            _ => self.registry.catalogue(),
        };
        // Who asks, and whether that is to be recorded.
        let user = self.authenticate(request.headers(), &info.path, peer, notes).await;
        told.of(user.as_ref().ok());
        let record = {
            let (uri, headers) = (request.uri(), request.headers());
            let head = Head { uri, headers, info: &info, client, audit_id, received };
            self.begin_record(&head, user.as_ref().ok(), notes)
        };
        if let (Some(record), Err(_)) = (&record, &user) {
            record.unknown(auditing::attempted(request.headers(), !peer.certificates.is_empty())).await;
        }
        let user = user?;
        if let Some(record) = &record {
            told.record.get_or_init(|| Unfinished::new(record, &self.tasks));
            record.received().await;
        }
        let Acting { user, by } = impersonation::impersonate(&*self.authorizer, request.headers(), &info, user).await?;
        if let (Some(record), Some(by)) = (&record, by) {
            record.impersonates(&user, by.constraint());
        }
        // To which flow of requests it belongs.
        let schema = told.flow.get_or_init(|| self.shares.then(|| self.fairness.classify(&user, &info)).flatten());
        // Its turn, which only those have whom somebody knows; the seat is kept until the answer is ready, or has been sent.
        let came = self.clock.monotonic();
        let within = deadline(&info)?;
        let slot = match (&peer.trusted, schema) {
            (Some(_), _) => self.limits.enter_internal(&info).await?,
            (None, Some(schema)) => match self.turn(schema, &info, &user, &catalogue, within).await {
                Ok(slot) => slot?,
                Err(_) => return Ok(busy(schema.retry_after(self.clock.monotonic()))),
            },
            (None, _) if info.is_long_running() => self.limits.long_running()?,
            (None, _) => self.limits.enter(&info)?,
        };
        let within = within.saturating_sub(self.clock.monotonic().saturating_sub(came));
        // Whether that is allowed.
        match self.authorize_noted(&info, &user, notes).await {
            Ok(()) => {}
            Err(NotAllowed::Refused(status)) => return Err(*status),
            Err(NotAllowed::Unknown(error)) => return Ok(undecided(request.uri(), &error)),
        }
        let flow = schema.as_ref().map(|schema| (&*schema.name, schema.level.name.as_str()));
        debug!(verb = info.verb, path = info.path, user = user.name, ?flow, "request");
        // Counted from here on, as upstream: what was refused is no request of a resource.
        let counting = if info.is_resource { self.requests.begin(request.method(), &info, &catalogue) } else { None };
        if counting.is_some() && deprecation::warning(&info, &catalogue).is_some() {
            self.requests.deprecated(&info);
        }
        let room = peer.trusted.is_none().then_some(&self.limits.bodies);
        let kept = record.as_ref().map(Record::kept);
        let request = request.map(|body| RequestBody::new(body, room).kept(kept));
        let (notes, audit_id) = (notes.clone(), audit_id.clone());
        let admitted = Admitted { info, user, request, catalogue, client, notes, audit_id };
        let answered = self.work(admitted, slot, within).await;
        match counting {
            Some(counting) => counting.answered(answered),
            None => answered,
        }
    }

    /// Begins the record of a request, if anybody wants one.
    fn begin_record(&self, head: &Head<'_>, user: Option<&UserInfo>, notes: &Notes) -> Option<Record> {
        self.audit.as_ref()?.begin(head, user, notes, &self.clock)
    }

    /// Waits for the turn of a request: what takes longer than a quarter of its time is refused.
    async fn turn(
        &self,
        schema: &Schema,
        info: &RequestInfo,
        user: &UserInfo,
        catalogue: &Catalogue,
        within: Duration,
    ) -> Result<Result<Slot, Status>, Refused> {
        let seat = self.fairness.seat(schema, (user, info), catalogue, within / 4).await?;
        Ok(match schema.is_exempt() {
            // A watch takes its turn while it begins.
            _ if info.is_long_running() => self.limits.long_running().map(|slot| slot.with(seat)),
            true => self.limits.enter_exempt(info, seat).await,
            false => Ok(self.limits.seated(info, seat)),
        })
    }

    /// The work, within its time.
    async fn work(
        self: &Arc<Self>,
        admitted: Admitted,
        slot: Slot,
        within: Duration,
    ) -> Result<Response<Body>, Status> {
        let long_running = admitted.info.is_long_running();
        let work = Box::pin(async {
            if let Some(remote) = aggregation::remote(&admitted) {
                aggregation::handle(self, admitted, &remote).await
            } else if admitted.info.is_resource {
                routing::dispatch(self, admitted).await
            } else {
                discovery::handle(self, admitted).await
            }
        });
        if long_running {
            return Ok(work.await?.map(|body| Held::until_sent(body, slot.running())));
        }
        let late = |_| Status::timeout("request did not complete within the allotted timeout", 0);
        let response = kedge_base::time::timeout(within, work).await.map_err(late)??;
        if is_whole(response.body()) {
            return Ok(response);
        }
        let (tasks, clock) = (&self.tasks, &self.clock);
        // What somebody else sends comes as slowly as they like; what is sent from here waits for its reader alone.
        Ok(match response.extensions().get::<Proxied>() {
            Some(_) => response.map(|body| Expiring::over(Held::until_sent(body, slot), DEADLINE, tasks, clock)),
            None => response.map(|body| self.while_read(body, slot)),
        })
    }

    /// A long answer keeps the seats of its request for as long as a request may take; then it needs a place among those that are read slowly.
    /// All of them: with fewer, so many lists are let in beside it that what they hold has no bound.
    fn while_read(self: &Arc<Self>, body: Body, slot: Slot) -> Body {
        let slot = Arc::new(Mutex::new(slot));
        let (server, held) = (self.clone(), slot.clone());
        let late = async move {
            server.clock.sleep(DEADLINE).await;
            if let Some(place) = server.limits.slow() {
                held.lock().exchange(place);
                server.clock.sleep(READING - DEADLINE).await;
            }
        };
        Expiring::when(Held::until_sent(body, slot), late, &self.tasks)
    }

    /// Who asks for the server's health, if that is somebody.
    async fn who_probes(&self, headers: &HeaderMap, peer: &Peer, notes: &Notes) -> Option<UserInfo> {
        let shown =
            peer.trusted.is_some() || !peer.certificates.is_empty() || headers.contains_key(header::AUTHORIZATION);
        if shown { self.authenticate(headers, "", peer, notes).await.ok() } else { None }
    }

    /// Whether somebody may ask for a path who is nobody.
    fn may_be_nobody(&self, path: &str) -> bool {
        let AnonymousConfig { enabled, conditions } = &self.anonymous;
        *enabled && (conditions.is_empty() || conditions.iter().any(|condition| condition.path == path))
    }

    /// Who asks for a path.
    async fn authenticate(
        &self,
        headers: &HeaderMap,
        path: &str,
        peer: &Peer,
        notes: &Notes,
    ) -> Result<UserInfo, Status> {
        if let Some(trusted) = &peer.trusted {
            return Ok((**trusted).clone());
        }
        let bearer = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
        let bearer = bearer.and_then(|v| v.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let claimed = claimed(headers).filter(|_| !peer.certificates.is_empty());
        let remarks = Remarks::default();
        let credentials = Credentials {
            certificates: &peer.certificates,
            bearer: bearer.map(|(_, token)| token.trim()),
            claimed: claimed.as_ref(),
            remarks: &remarks,
        };
        let began = self.clock.monotonic();
        let mut found = self.authenticator.authenticate(&credentials, self.now()).await;
        if matches!(found, Err(Unauthenticated::Unbound(_))) {
            self.registry.fresh().await.map_err(kedge_registry::verbs::store_failure)?;
            found = self.authenticator.authenticate(&credentials, self.now()).await;
        }
        let result = match &found {
            Ok(Some(user)) => Found::Somebody(&user.name),
            Ok(None) => Found::Nobody,
            Err(_) => Found::Error,
        };
        if let Some(ends) = peer.certificates.ends() {
            self.access.certificate(ends - self.now());
        }
        self.access.authenticated(result, self.clock.monotonic().saturating_sub(began));
        let said = remarks.take();
        self.access.shown(&said.tokens);
        notes.warn_all(said.warnings);
        said.annotations.into_iter().for_each(|(key, value)| notes.annotate(&key, value));
        self.note_use(said.used).await;
        match found {
            Ok(Some(user)) => Ok(user),
            Ok(None) if self.may_be_nobody(path) => Ok(anonymous()),
            Ok(None) => Err(Status::unauthorized()),
            Err(err) => {
                let unsaid = self.failures.count(peer.address.map(|address| address.ip()), self.now());
                if let Some(unsaid) = unsaid {
                    warn!(error = %err, peer = ?peer.address, unsaid, "request not authenticated");
                }
                Err(Status::unauthorized())
            }
        }
    }
}

impl Told {
    /// That this user asks, or somebody who is none.
    fn of(&self, user: Option<&UserInfo>) {
        let unknown = |user: &UserInfo| {
            let groups = &user.groups;
            user.name == impersonation::ANONYMOUS || groups.iter().any(|group| *group == impersonation::UNAUTHENTICATED)
        };
        if user.is_none_or(unknown) {
            self.nobody.get_or_init(|| ());
        }
    }
}

/// Who asks, if a server in front of this one is to be believed.
fn claimed(headers: &HeaderMap) -> Option<UserInfo> {
    const EXTRA: &str = "x-remote-extra-";
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let name = headers.get("x-remote-user").map(text).filter(|name| !name.is_empty())?;
    let groups = headers.get_all("x-remote-group").iter().map(text).collect();
    let uid = headers.get("x-remote-uid").map(text).unwrap_or_default();
    let mut user = UserInfo { name, uid, groups, ..UserInfo::default() };
    for (key, value) in headers {
        if let Some(key) = key.as_str().strip_prefix(EXTRA) {
            let key = percent_encoding::percent_decode_str(key).decode_utf8_lossy().into_owned();
            user.extra.entry(key).or_default().push(text(value));
        }
    }
    Some(user)
}

/// What is said to one whose turn does not come, in upstream's words.
fn busy(after: i64) -> Response<Body> {
    let text = "Too many requests, please try again later.\n".to_owned();
    let mut response = respond::page(StatusCode::TOO_MANY_REQUESTS, text);
    response.headers_mut().insert(header::RETRY_AFTER, after.into());
    response
}

/// Whether it is allowed cannot be found out: 500 as upstream says it, which is no `Status`.
fn undecided(uri: &Uri, error: &str) -> Response<Body> {
    let asked = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let text = format!("Internal Server Error: {asked:?}: {error}\n");
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    respond::text(StatusCode::INTERNAL_SERVER_ERROR, text)
}

/// Who asks for the server's health without a name.
fn anonymous() -> UserInfo {
    let groups = vec![impersonation::UNAUTHENTICATED.into()];
    UserInfo { name: impersonation::ANONYMOUS.into(), groups, ..UserInfo::default() }
}

/// What a request is known by: what its client says, or else something new.
fn audit_id(headers: &HeaderMap) -> HeaderValue {
    let said = headers.get(AUDIT_ID).map(HeaderValue::as_bytes).unwrap_or_default();
    let said = &said[..said.len().min(LONGEST_AUDIT_ID)];
    let known = HeaderValue::from_bytes(said).ok().filter(|value| !value.is_empty());
    known.or_else(|| HeaderValue::from_str(&random::uuid()).ok()).unwrap_or(HeaderValue::from_static("none"))
}

/// The time that a client gives a request, which may be less than the server does.
fn deadline(info: &RequestInfo) -> Result<Duration, Status> {
    let asked = match info.param("timeout") {
        "" => return Ok(DEADLINE),
        text => go_duration(text).ok_or_else(|| {
            let why = format!("invalid timeout specified in the request URL - time: invalid duration {text:?}");
            Status::bad_request(why)
        })?,
    };
    Ok(if asked.is_zero() { DEADLINE } else { asked.min(DEADLINE) })
}

#[cfg(test)]
#[path = "chain_tests.rs"]
mod tests;
