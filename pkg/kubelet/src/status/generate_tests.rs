//! Cases of a whole status.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;

use jiff::Timestamp;
use serde_json::json;

use super::*;
use crate::pod::testing::{pod, pod_with};
use crate::runtime::{ContainerRun, Sandbox, State};

struct Probes(Option<bool>);

impl ReadinessView for Probes {
    fn started(&self, _: &str, _: &str, _: &str) -> Option<bool> {
        None
    }
    fn ready(&self, _: &str, _: &str, _: &str) -> Option<bool> {
        self.0
    }
}

fn runtime(containers: Vec<ContainerRun>) -> PodRuntime {
    let sandbox = Sandbox {
        id: "s".into(),
        attempt: 0,
        ready: true,
        created_at: 1,
        host_network: false,
        ips: Some(vec!["10.0.0.7".into()]),
    };
    PodRuntime { sandboxes: vec![sandbox], containers }
}

fn run(name: &str, state: State, exit_code: i32, restart_count: i32) -> ContainerRun {
    let at: Timestamp = "2026-01-01T00:00:00.9Z".parse().unwrap();
    ContainerRun {
        id: format!("{name}{restart_count}"),
        sandbox_id: "s".into(),
        name: name.into(),
        runtime: "containerd".into(),
        state,
        created_at: at,
        started_at: Some(at),
        finished_at: (state == State::Exited).then_some(at),
        exit_code,
        reason: if state == State::Exited { "Error".into() } else { String::new() },
        message: String::new(),
        image: "docker.io/library/i:1".into(),
        image_ref: "sha256:1".into(),
        hash: 0,
        restart_count,
        stop_signal: None,
        user: None,
    }
}

fn status_of(pod: &Pod, runtime: &PodRuntime, errors: &StartErrors, ready: Option<bool>) -> PodStatus {
    let host: [IpAddr; 1] = ["192.168.0.1".parse().unwrap()];
    generate(&Subject {
        pod,
        runtime,
        old: pod.status(),
        start_errors: errors,
        probes: &Probes(ready),
        host: &host,
        terminal: false,
    })
}

fn condition<'a>(status: &'a PodStatus, kind: &str) -> &'a PodCondition {
    find_condition(status, kind).unwrap()
}

#[test]
fn a_running_pod() {
    let pod = pod(json!({"containers": [{"name": "a"}]}));
    let running = runtime(vec![run("a", State::Running, 0, 0)]);
    let status = status_of(&pod, &running, &HashMap::new(), None);
    assert_eq!(status.phase.as_deref(), Some("Running"));
    assert_eq!(status.pod_ip.as_deref(), Some("10.0.0.7"));
    assert_eq!(status.host_ip.as_deref(), Some("192.168.0.1"));
    assert_eq!(condition(&status, "Ready").status, "True");
    assert_eq!(condition(&status, "PodReadyToStartContainers").status, "True");
    let container = &status.container_statuses.unwrap()[0];
    assert!(container.ready && container.started == Some(true));
    assert_eq!(container.container_id.as_deref(), Some("containerd://a0"));
    let started = container.state.as_ref().unwrap().running.as_ref().unwrap().started_at.clone();
    assert_eq!(started.unwrap().0.to_string(), "2026-01-01T00:00:00Z");
}

#[test]
fn a_readiness_probe_that_has_not_succeeded() {
    let pod = pod(json!({"containers": [{"name": "a"}]}));
    let running = runtime(vec![run("a", State::Running, 0, 0)]);
    let status = status_of(&pod, &running, &HashMap::new(), Some(false));
    let ready = condition(&status, "Ready");
    assert_eq!(ready.reason.as_deref(), Some("ContainersNotReady"));
    assert_eq!(ready.message.as_deref(), Some("containers with unready status: [a]"));
}

#[test]
fn a_pod_before_its_sandbox() {
    let spec = json!({"initContainers": [{"name": "i"}], "containers": [{"name": "a"}]});
    let status = status_of(&pod(spec), &PodRuntime::default(), &HashMap::new(), None);
    assert_eq!(status.phase.as_deref(), Some("Pending"));
    let waiting = status.container_statuses.as_ref().unwrap()[0].state.clone().unwrap().waiting;
    assert_eq!(waiting.unwrap().reason.as_deref(), Some("PodInitializing"));
    let initialized = condition(&status, "Initialized");
    assert_eq!(initialized.message.as_deref(), Some("containers with incomplete status: [i]"));
    assert_eq!(condition(&status, "PodReadyToStartContainers").status, "False");
}

#[test]
fn a_crash_loop_shows_the_wait_and_the_last_end() {
    let pod = pod(json!({"containers": [{"name": "a"}]}));
    let exited = runtime(vec![run("a", State::Exited, 1, 2), run("a", State::Exited, 3, 1)]);
    let errors = HashMap::from([("a".to_string(), ("CrashLoopBackOff".to_string(), "back-off".to_string()))]);
    let status = status_of(&pod, &exited, &errors, None);
    assert_eq!(status.phase.as_deref(), Some("Running"));
    let container = &status.container_statuses.unwrap()[0];
    let state = container.state.as_ref().unwrap();
    assert_eq!(state.waiting.as_ref().unwrap().reason.as_deref(), Some("CrashLoopBackOff"));
    let last = container.last_state.as_ref().unwrap().terminated.as_ref().unwrap();
    assert_eq!((last.exit_code, container.restart_count), (1, 2));
}

#[test]
fn readiness_gates_and_the_end_stay() {
    let gated = json!({"containers": [{"name": "a"}], "readinessGates": [{"conditionType": "x"}]});
    let running = runtime(vec![run("a", State::Running, 0, 0)]);
    let status = status_of(&pod(gated), &running, &HashMap::new(), None);
    let ready = condition(&status, "Ready");
    assert_eq!(ready.message.as_deref(), Some("corresponding condition of pod readiness gate \"x\" does not exist."));
    let old = json!({"phase": "Failed", "reason": "Evicted"});
    let ended = pod_with(json!({}), json!({"containers": [{"name": "a"}]}), old);
    let status = status_of(&ended, &running, &HashMap::new(), None);
    assert_eq!((status.phase.as_deref(), status.reason.as_deref()), (Some("Failed"), Some("Evicted")));
}
