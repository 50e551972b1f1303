//! What requests come, how they are answered, and how long that takes: the API server's metrics by upstream's names.
//!
//! A request costs one lookup here, by the text of its labels, which is also what is shown. Labels are made of what the server
//! serves, so that there are only so many of them; beyond [`SERIES`] no new ones are taken in.

use std::collections::{BTreeSet, HashMap};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use http_body_util::BodyExt as _;
use kedge_base::SharedClock;
use kedge_base::exposition::{Exposition, Histogram};
use kedge_meta::Status;
use kedge_registry::Catalogue;
use parking_lot::{Mutex, RwLock};

use crate::body::{Body, BodyError};
use crate::input::request_info::RequestInfo;

/// Sets of labels at most: every verb of some hundreds of resources.
const SERIES: usize = 4_096;
/// Upstream's buckets, in seconds and in bytes.
const DURATION: [f64; 23] = [
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0,
    45.0, 60.0,
];
const SLI: [f64; 21] =
    [0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0];
const SIZES: [f64; 7] = [1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];
/// Subresources whose requests are connections.
const CONNECTS: [&str; 5] = ["log", "exec", "portforward", "attach", "proxy"];

/// Requests of one kind.
struct Series {
    /// `group`, `version`, `resource`, `scope` and the others but verb and dry run, as they are shown.
    labels: Box<str>,
    verb: &'static str,
    dry_run: &'static str,
    /// By their code, in the order in which they were first seen.
    codes: Mutex<Vec<(u16, u64)>>,
    duration: Histogram<23>,
    /// None of a watch, whose time says nothing of the server.
    sli: Histogram<21>,
    sizes: Histogram<7>,
    running: AtomicI64,
}

impl Series {
    fn verb_labels(&self) -> String {
        format!("verb=\"{}\",{}", self.verb, self.labels)
    }
}

/// The requests of one server.
pub(crate) struct Requests {
    clock: SharedClock,
    series: RwLock<HashMap<Box<str>, Arc<Series>>>,
    /// What is deprecated and was asked for.
    deprecated: Mutex<BTreeSet<Box<str>>>,
}

/// A request that is being counted: until its answer has been sent or was given up.
pub(crate) struct Counting {
    series: Arc<Series>,
    clock: SharedClock,
    began: Duration,
    /// None as long as there is no answer.
    code: Option<u16>,
    sent: u64,
    long_running: bool,
}

impl Requests {
    pub(crate) fn new(clock: SharedClock) -> Self {
        Self { clock, series: RwLock::default(), deprecated: Mutex::default() }
    }

    /// Begins to count a request; none of what is not served, whose names anybody could make up.
    pub(crate) fn begin(&self, method: &Method, info: &RequestInfo, catalogue: &Catalogue) -> Option<Counting> {
        let served = catalogue.get(&info.group, &info.version, &info.resource)?.info();
        if !info.subresource.is_empty() && served.subresources.iter().all(|sub| *sub.name != *info.subresource) {
            return None;
        }
        let series = self.series(method, info)?;
        let long_running = info.is_long_running();
        if long_running {
            series.running.fetch_add(1, Ordering::Relaxed);
        }
        let clock = self.clock.clone();
        let began = clock.monotonic();
        Some(Counting { series, clock, began, code: None, sent: 0, long_running })
    }

    fn series(&self, method: &Method, info: &RequestInfo) -> Option<Arc<Series>> {
        let scope = scope(info);
        let verb = verb(method, info, scope);
        let dry_run = match info.params("dryRun").next() {
            None => "",
            Some("All") => "All",
            Some(_) => "invalid",
        };
        let RequestInfo { group, version, resource, subresource, .. } = info;
        let key = format!(
            "{verb} {dry_run} group=\"{group}\",version=\"{version}\",resource=\"{resource}\",subresource=\"{subresource}\",scope=\"{scope}\",component=\"apiserver\""
        );
        if let Some(series) = self.series.read().get(key.as_str()) {
            return Some(series.clone());
        }
        let mut all = self.series.write();
        if all.len() >= SERIES {
            return None;
        }
        let series = Arc::new(Series {
            labels: key[verb.len() + dry_run.len() + 2..].into(),
            verb,
            dry_run,
            codes: Mutex::default(),
            duration: Histogram::new(&DURATION),
            sli: Histogram::new(&SLI),
            sizes: Histogram::new(&SIZES),
            running: AtomicI64::new(0),
        });
        Some(all.entry(key.into()).or_insert(series).clone())
    }

    /// Takes note that something deprecated was asked for. Nothing of it is said to go with a certain release.
    pub(crate) fn deprecated(&self, info: &RequestInfo) {
        let RequestInfo { group, version, resource, subresource, .. } = info;
        let labels = format!(
            "group=\"{group}\",version=\"{version}\",resource=\"{resource}\",subresource=\"{subresource}\",removed_release=\"\""
        );
        self.deprecated.lock().insert(labels.into());
    }

    pub(crate) fn show(&self, out: &mut Exposition) {
        let mut all: Vec<_> = self.series.read().values().cloned().collect();
        all.sort_by(|a, b| (a.verb, &a.labels, a.dry_run).cmp(&(b.verb, &b.labels, b.dry_run)));
        out.family("apiserver_request_total", "counter", "[STABLE] Counter of apiserver requests broken out for each verb, dry run value, group, version, resource, scope, component, and HTTP response code.");
        for series in &all {
            let labels = format!("dry_run=\"{}\",{}", series.dry_run, series.verb_labels());
            for (code, count) in &*series.codes.lock() {
                out.line("apiserver_request_total", &format!("code=\"{code}\",{labels}"), *count as f64);
            }
        }
        out.family("apiserver_request_duration_seconds", "histogram", "[STABLE] Response latency distribution in seconds for each verb, dry run value, group, version, resource, subresource, scope and component.");
        for series in &all {
            let labels = format!("dry_run=\"{}\",{}", series.dry_run, series.verb_labels());
            series.duration.show(out, "apiserver_request_duration_seconds", &labels);
        }
        out.family("apiserver_request_sli_duration_seconds", "histogram", "[ALPHA] Response latency distribution (not counting webhook duration and priority & fairness queue wait times) in seconds for each verb, group, version, resource, subresource, scope and component.");
        for series in all.iter().filter(|s| s.dry_run.is_empty() && !matches!(s.verb, "WATCH" | "CONNECT")) {
            series.sli.show(out, "apiserver_request_sli_duration_seconds", &series.verb_labels());
        }
        out.family("apiserver_response_sizes", "histogram", "[STABLE] Response size distribution in bytes for each group, version, verb, resource, subresource, scope and component.");
        for series in all.iter().filter(|series| matches!(series.verb, "GET" | "LIST") && series.dry_run.is_empty()) {
            series.sizes.show(out, "apiserver_response_sizes", &series.verb_labels());
        }
        out.family("apiserver_longrunning_requests", "gauge", "[STABLE] Gauge of all active long-running apiserver requests broken out by verb, group, version, resource, scope and component. Not all requests are tracked this way.");
        for series in &all {
            let running = series.running.load(Ordering::Relaxed);
            if running != 0 || matches!(series.verb, "WATCH" | "CONNECT") {
                out.line("apiserver_longrunning_requests", &series.verb_labels(), running as f64);
            }
        }
        out.family("apiserver_requested_deprecated_apis", "gauge", "[STABLE] Gauge of deprecated APIs that have been requested, broken out by API group, version, resource, subresource, and removed_release.");
        for labels in &*self.deprecated.lock() {
            out.line("apiserver_requested_deprecated_apis", labels, 1.0);
        }
    }
}

/// As upstream calls it.
fn scope(info: &RequestInfo) -> &'static str {
    if !info.name.is_empty() || info.verb == "create" {
        "resource"
    } else if !info.namespace.is_empty() {
        "namespace"
    } else {
        "cluster"
    }
}

fn verb(method: &Method, info: &RequestInfo, scope: &str) -> &'static str {
    if CONNECTS.contains(&info.subresource.as_str()) {
        return "CONNECT";
    }
    match method.as_str() {
        "GET" | "HEAD" if info.verb == "watch" => "WATCH",
        "GET" | "HEAD" if scope == "resource" => "GET",
        "GET" | "HEAD" => "LIST",
        "PATCH" if info.applies => "APPLY",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        _ => "other",
    }
}

impl Counting {
    /// Counts the answer, when all of it is there, or once it has been sent.
    pub(crate) fn answered(mut self, answered: Result<Response<Body>, Status>) -> Result<Response<Body>, Status> {
        let response = answered.inspect_err(|status| self.code = Some(status.code))?;
        self.code = Some(response.status().as_u16());
        if let Some(length) = http_body::Body::size_hint(response.body()).exact()
            && response.status() != StatusCode::SWITCHING_PROTOCOLS
            && length <= crate::body::PIECE as u64
        {
            self.sent = length;
            return Ok(response);
        }
        Ok(response.map(|body| Counted { body, counting: self }.boxed_unsync()))
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        let Self { series, clock, began, code, sent, long_running } = self;
        if *long_running {
            series.running.fetch_sub(1, Ordering::Relaxed);
        }
        // The client went away before there was an answer.
        let Some(code) = code.or_else(|| std::thread::panicking().then_some(500)) else { return };
        {
            let mut codes = series.codes.lock();
            match codes.iter_mut().find(|(known, _)| *known == code) {
                Some((_, count)) => *count += 1,
                None => codes.push((code, 1)),
            }
        }
        let seconds = clock.monotonic().saturating_sub(*began).as_secs_f64();
        series.duration.observe(seconds);
        if !matches!(series.verb, "WATCH" | "CONNECT") {
            series.sli.observe(seconds);
        }
        if matches!(series.verb, "GET" | "LIST") {
            series.sizes.observe(*sent as f64);
        }
    }
}

/// A body whose bytes are counted until it ends.
struct Counted {
    body: Body,
    counting: Counting,
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            self.counting.sent += frame.data_ref().map_or(0, |data| data.len() as u64);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}
