//! Pods: the status column sums up containers, init containers and conditions.

use serde_json::{Value, json};

use super::duration::age;
use super::row::{Row, condition, or};
use super::{AGE, NAME, Printer, text, wide};
use crate::value::ValueExt;

pub(super) static POD: Printer = Printer {
    columns: &[
        NAME,
        text("Ready"),
        text("Status"),
        text("Restarts"),
        AGE,
        wide("IP"),
        wide("Node"),
        wide("Nominated Node"),
        wide("Readiness Gates"),
    ],
    cells,
};

fn cells(row: &Row<'_>) -> Vec<Value> {
    let summary = Summary::of(row);
    let restarts = match summary.restarts {
        Restarts { count, last } if count != 0 && !last.is_empty() => format!("{count} ({} ago)", age(last, row.now)),
        Restarts { count, .. } => count.to_string(),
    };
    let ip = row.list(&["status", "podIPs"]).first().map_or("", |ip| ip.text(&["ip"]));
    vec![
        row.name(),
        json!(format!("{}/{}", summary.ready, summary.total)),
        json!(summary.reason),
        json!(restarts),
        row.age(),
        json!(or(ip, "<none>")),
        row.text_or(&["spec", "nodeName"], "<none>"),
        row.text_or(&["status", "nominatedNodeName"], "<none>"),
        json!(readiness_gates(row)),
    ]
}

fn readiness_gates(row: &Row<'_>) -> String {
    let gates = row.list(&["spec", "readinessGates"]);
    let met = gates.iter().filter(|gate| row.has_condition(gate.text(&["conditionType"]))).count();
    if gates.is_empty() { "<none>".into() } else { format!("{met}/{}", gates.len()) }
}

#[derive(Clone, Copy, Default)]
struct Restarts<'a> {
    count: i64,
    /// The newest end of an earlier run, RFC 3339; texts of the same form compare as the times do.
    last: &'a str,
}

impl<'a> Restarts<'a> {
    fn add(&mut self, status: &'a Value) {
        self.count += status.int(&["restartCount"]).unwrap_or_default();
        self.last = self.last.max(status.text(&["lastState", "terminated", "finishedAt"]));
    }
}

struct Summary<'a> {
    total: usize,
    ready: usize,
    reason: String,
    restarts: Restarts<'a>,
}

impl<'a> Summary<'a> {
    fn of(row: &Row<'a>) -> Self {
        let phase = row.text(&["status", "phase"]);
        let conditions = row.list(&["status", "conditions"]);
        let mut reason = or(row.text(&["status", "reason"]), phase).to_owned();
        if condition(conditions, "PodScheduled").is_some_and(|c| c.text(&["reason"]) == "SchedulingGated") {
            reason = "SchedulingGated".into();
        }
        let sidecars = row.list(&["spec", "initContainers"]).iter().filter(|c| is_sidecar(c)).count();
        let total = row.list(&["spec", "containers"]).len() + sidecars;
        let mut summary = Summary { total, ready: 0, reason, restarts: Restarts::default() };
        let (initializing, sidecar_restarts) = summary.initialization(row);
        if !initializing || row.has_condition("Initialized") {
            summary.restarts = sidecar_restarts;
            summary.containers(row);
        }
        if row.is_deleted() {
            if row.text(&["status", "reason"]) == "NodeLost" {
                summary.reason = "Unknown".into();
            } else if !matches!(phase, "Failed" | "Succeeded") {
                summary.reason = "Terminating".into();
            }
        }
        summary
    }

    /// Whether init containers are still at work, and how often sidecars were restarted.
    fn initialization(&mut self, row: &Row<'a>) -> (bool, Restarts<'a>) {
        let specs = row.list(&["spec", "initContainers"]);
        let mut sidecar_restarts = Restarts::default();
        for (at, status) in row.list(&["status", "initContainerStatuses"]).iter().enumerate() {
            let sidecar = specs.iter().any(|c| c.text(&["name"]) == status.text(&["name"]) && is_sidecar(c));
            self.restarts.add(status);
            if sidecar {
                sidecar_restarts.add(status);
            }
            let terminated = status.at(&["state", "terminated"]).filter(|t| t.is_object());
            let waiting = status.text(&["state", "waiting", "reason"]);
            if terminated.is_some_and(|t| t.int(&["exitCode"]).unwrap_or_default() == 0) {
                continue;
            }
            if sidecar && status.flag(&["started"]) == Some(true) {
                self.ready += usize::from(status.flag(&["ready"]) == Some(true));
                continue;
            }
            self.reason = match terminated {
                Some(terminated) => format!("Init:{}", termination(terminated)),
                None if !waiting.is_empty() && waiting != "PodInitializing" => format!("Init:{waiting}"),
                None => format!("Init:{at}/{}", specs.len()),
            };
            return (true, sidecar_restarts);
        }
        (false, sidecar_restarts)
    }

    fn containers(&mut self, row: &Row<'a>) {
        let (mut running, mut failure) = (false, String::new());
        for status in row.list(&["status", "containerStatuses"]).iter().rev() {
            self.restarts.add(status);
            let waiting = status.text(&["state", "waiting", "reason"]);
            if !waiting.is_empty() {
                self.reason = waiting.to_owned();
            } else if let Some(terminated) = status.at(&["state", "terminated"]).filter(|t| t.is_object()) {
                self.reason = termination(terminated);
                if terminated.int(&["exitCode"]).unwrap_or_default() != 0 {
                    failure.clone_from(&self.reason);
                }
            } else if status.flag(&["ready"]) == Some(true) && status.at(&["state", "running"]).is_some() {
                running = true;
                self.ready += 1;
            }
        }
        // One container that still runs makes the pod run.
        if self.reason == "Completed" {
            if running && row.has_condition("Ready") {
                self.reason = "Running".into();
            } else if !failure.is_empty() {
                self.reason = failure;
            } else if running {
                self.reason = "NotReady".into();
            }
        }
    }
}

fn is_sidecar(container: &Value) -> bool {
    container.text(&["restartPolicy"]) == "Always"
}

fn termination(state: &Value) -> String {
    let (reason, signal) = (state.text(&["reason"]), state.int(&["signal"]).unwrap_or_default());
    match () {
        () if !reason.is_empty() => reason.to_owned(),
        () if signal != 0 => format!("Signal:{signal}"),
        () => format!("ExitCode:{}", state.int(&["exitCode"]).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn shown(pod: &Value) -> String {
        let now = "2026-01-01T00:10:00Z".parse().unwrap();
        let cells = POD.row(pod, now);
        cells[1..4].iter().map(|cell| cell.as_str().unwrap()).collect::<Vec<_>>().join(" | ")
    }

    #[test]
    fn restarts_tell_when_the_last_one_was() {
        let pod = json!({"spec": {"containers": [{}]}, "status": {"phase": "Running", "containerStatuses": [
            {"ready": false, "restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
             "lastState": {"terminated": {"finishedAt": "2026-01-01T00:05:00Z"}}}]}});
        assert_eq!(shown(&pod), "0/1 | CrashLoopBackOff | 3 (5m ago)");
    }

    #[test]
    fn init_containers_are_counted() {
        let pod = |state: Value| {
            json!({"spec": {"containers": [{}], "initContainers": [{"name": "a"}, {"name": "b"}]},
                "status": {"phase": "Pending", "initContainerStatuses": [
                    {"name": "a", "state": {"terminated": {"exitCode": 0}}}, {"name": "b", "state": state}],
                "containerStatuses": [{"state": {"waiting": {"reason": "PodInitializing"}}}]}})
        };
        assert_eq!(shown(&pod(json!({"running": {}}))), "0/1 | Init:1/2 | 0");
        assert_eq!(shown(&pod(json!({"terminated": {"exitCode": 2}}))), "0/1 | Init:ExitCode:2 | 0");
        assert_eq!(shown(&pod(json!({"waiting": {"reason": "ErrImagePull"}}))), "0/1 | Init:ErrImagePull | 0");
    }

    #[test]
    fn sidecars_count_as_containers() {
        let pod = json!({"spec": {"containers": [{}], "initContainers": [{"name": "s", "restartPolicy": "Always"}]},
            "status": {"phase": "Running", "conditions": [{"type": "Initialized", "status": "True"}],
                "initContainerStatuses": [{"name": "s", "started": true, "ready": true, "restartCount": 1}],
                "containerStatuses": [{"ready": true, "state": {"running": {}}}]}});
        assert_eq!(shown(&pod), "2/2 | Running | 1");
    }

    #[test]
    fn a_deleted_pod_terminates_until_it_has_ended() {
        let mut pod = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"containers": [{}]}, "status": {"phase": "Running"}});
        assert_eq!(shown(&pod), "0/1 | Terminating | 0");
        pod["status"] = json!({"phase": "Succeeded", "containerStatuses": [
            {"state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}]});
        assert_eq!(shown(&pod), "0/1 | Completed | 0");
        pod["metadata"] = json!({});
        pod["status"]["phase"] = json!("Failed");
        pod["status"]["reason"] = json!("Evicted");
        pod["status"]["containerStatuses"] = json!([]);
        assert_eq!(shown(&pod), "0/1 | Evicted | 0");
    }
}
