//! `/metrics`: the process, and who in it keeps how much, as Prometheus reads it.

use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use kedge_base::exposition::{self, Exposition};
use kedge_base::{process, sizes};
use kedge_registry::Catalogue;

use crate::body::Body;
use crate::output::respond;
use crate::server::{ApiServer, GIT_VERSION};

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8; escaping=underscores");
const STARTED: HeaderName = HeaderName::from_static("process-start-time-unix");

/// The answer.
pub(crate) fn handle(server: &ApiServer, catalogue: &Catalogue) -> Response<Body> {
    let mut out = Exposition::default();
    server.requests.show(&mut out);
    server.access.show(&mut out);
    server.authenticator.show(&mut out);
    server.authorizer.show(&mut out);
    server.admission.show(&mut out);
    server.registry.conversions.show(&mut out);
    server.fairness.show(&mut out);
    if let Some(audit) = &server.audit {
        audit.show(&mut out);
    }
    apiserver(&mut out, server, catalogue);
    exposition::show_listed(&mut out);
    own(&mut out);
    exposed(out)
}

/// How the single checks of the server's health went, on its own page: small enough to be read often.
pub(crate) fn indicators(server: &ApiServer) -> Response<Body> {
    let mut out = Exposition::default();
    server.indicators.show(&mut out);
    exposed(out)
}

fn exposed(out: Exposition) -> Response<Body> {
    let mut response = respond::page(StatusCode::OK, out.into_text());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, TEXT);
    if let Ok(figures) = process::figures() {
        headers.insert(STARTED, HeaderValue::from(figures.started as i64));
    }
    response
}

/// What is not counted but looked at, by upstream's names.
fn apiserver(out: &mut Exposition, server: &ApiServer, catalogue: &Catalogue) {
    out.family("apiserver_current_inflight_requests", "gauge", "[STABLE] Maximal number of currently used inflight request limit of this apiserver per request kind in last second.");
    for (kind, taken) in server.limits.taken() {
        out.sample("apiserver_current_inflight_requests", &[("request_kind", kind)], taken as f64);
    }
    out.family("apiserver_resource_objects", "gauge", "[ALPHA] Number of stored objects at the time of last check split by kind. In case of a fetching error, the value will be -1.");
    for (group, resource, objects) in catalogue.stored() {
        out.sample("apiserver_resource_objects", &[("group", group), ("resource", resource)], objects as f64);
    }
    out.family(
        "aggregator_unavailable_apiservice",
        "gauge",
        "[ALPHA] Gauge of APIServices which are marked as unavailable broken down by APIService name.",
    );
    for (name, available) in catalogue.services() {
        out.sample("aggregator_unavailable_apiservice", &[("name", &name)], f64::from(u8::from(!available)));
    }
    out.family(
        "aggregator_unavailable_apiservice_total",
        "counter",
        "[ALPHA] Counter of APIServices which are marked as unavailable broken down by APIService name and reason.",
    );
    for (name, reason, times) in server.registry.unavailable.all() {
        out.sample("aggregator_unavailable_apiservice_total", &[("name", &name), ("reason", reason)], times as f64);
    }
    out.family("kubernetes_build_info", "gauge", "[ALPHA] A metric with a constant '1' value labeled by major, minor, git version, git commit, git tree state, build date, Go version, and compiler from which Kubernetes was built, and platform on which it is running.");
    let labels = [("major", "1"), ("minor", "36"), ("git_version", GIT_VERSION), ("compiler", "rustc")];
    out.sample("kubernetes_build_info", &labels, 1.0);
}

/// What is the server's own.
fn own(out: &mut Exposition) {
    memory(out);
    tasks(out);
    process_figures(out);
}

fn memory(out: &mut Exposition) {
    let all = sizes::all();
    out.family("kedge_memory_entries", "gauge", "Entries of a cache, queue or map, by who keeps it.");
    for ((owner, part), size) in &all {
        out.sample("kedge_memory_entries", &[("owner", owner), ("part", part)], size.entries as f64);
    }
    out.family("kedge_memory_bytes", "gauge", "Estimated bytes of a cache, queue or map, where they are counted. Bytes of objects are shared by store, watch caches and events.");
    for ((owner, part), size) in all.iter().filter(|(_, size)| size.bytes > 0 || size.entries == 0) {
        out.sample("kedge_memory_bytes", &[("owner", owner), ("part", part)], size.bytes as f64);
    }
}

fn tasks(out: &mut Exposition) {
    let reports = kedge_base::task_reports();
    out.family("kedge_tasks", "gauge", "Tasks that have not ended, by group and name.");
    for report in &reports {
        out.sample("kedge_tasks", &[("group", report.group), ("task", report.task)], report.running as f64);
    }
    out.family("kedge_panics_total", "counter", "Panics of tasks since the process started.");
    for report in reports.iter().filter(|report| report.panics > 0) {
        out.sample("kedge_panics_total", &[("group", report.group), ("task", report.task)], report.panics as f64);
    }
}

fn process_figures(out: &mut Exposition) {
    let figures = match process::figures() {
        Ok(figures) => figures,
        Err(err) => {
            tracing::warn!(error = %err, "cannot read the figures of this process");
            return;
        }
    };
    let process::Figures { resident, virtual_memory, threads, open_fds, max_fds, cpu_seconds, started } = figures;
    out.single("process_resident_memory_bytes", "gauge", "Resident memory size in bytes.", resident as f64);
    out.single("process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes.", virtual_memory as f64);
    out.single("process_threads", "gauge", "Number of threads.", threads as f64);
    out.single("process_open_fds", "gauge", "Number of open file descriptors.", open_fds as f64);
    out.single("process_max_fds", "gauge", "Maximum number of open file descriptors.", max_fds as f64);
    out.single("process_cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds.", cpu_seconds);
    out.single(
        "process_start_time_seconds",
        "gauge",
        "Start time of the process since unix epoch in seconds.",
        started,
    );
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_process_shows_itself() {
        let mut out = Exposition::default();
        own(&mut out);
        let text = out.into_text();
        let value = |name: &str| -> f64 {
            let line = text.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap();
            line.rsplit_once(' ').unwrap().1.parse().unwrap()
        };
        assert!(value("process_resident_memory_bytes") > 1_000_000.0);
        assert!(value("process_open_fds") >= 3.0 && value("process_max_fds") >= value("process_open_fds"));
        assert!(value("process_threads") >= 1.0 && value("process_start_time_seconds") > 1.6e9);
    }
}
