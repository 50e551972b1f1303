//! `/metrics`: the process, and who in it keeps how much, as Prometheus reads it.

use std::fmt::Write as _;

use http::{HeaderValue, Response, StatusCode, header};
use kedge_base::{process, sizes};

use crate::body::Body;
use crate::output::respond;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// Prometheus' text form.
#[derive(Default)]
struct Exposition(String);

impl Exposition {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string cannot fail.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.0.push_str(name);
        for (i, (label, value)) in labels.iter().enumerate() {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.0, "{}{label}=\"{value}\"", if i == 0 { '{' } else { ',' });
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: f64) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }
}

/// The answer.
pub(crate) fn handle() -> Response<Body> {
    let mut out = Exposition::default();
    memory(&mut out);
    tasks(&mut out);
    process_figures(&mut out);
    let mut response = respond::text(StatusCode::OK, out.0);
    response.headers_mut().insert(header::CONTENT_TYPE, TEXT);
    response
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
    use http_body_util::BodyExt as _;

    use super::*;

    #[test]
    fn labels_are_escaped() {
        let mut out = Exposition::default();
        out.sample("x", &[("a", "b\"c\\\n"), ("d", "e")], 1.5);
        out.sample("y", &[], 2.0);
        assert_eq!(out.0, "x{a=\"b\\\"c\\\\\\n\",d=\"e\"} 1.5\ny 2\n");
    }

    #[tokio::test]
    async fn the_process_shows_itself() {
        let text = handle().into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8(text.to_vec()).unwrap();
        let value = |name: &str| -> f64 {
            let line = text.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap();
            line.rsplit_once(' ').unwrap().1.parse().unwrap()
        };
        assert!(value("process_resident_memory_bytes") > 1_000_000.0);
        assert!(value("process_open_fds") >= 3.0 && value("process_max_fds") >= value("process_open_fds"));
        assert!(value("process_threads") >= 1.0 && value("process_start_time_seconds") > 1.6e9);
    }
}
