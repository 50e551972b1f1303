//! Cases of the planner.
#![allow(clippy::unwrap_used)]

use jiff::Timestamp;
use serde_json::json;

use super::*;
use crate::pod::testing::pod;
use crate::runtime::{ContainerRun, Sandbox};

pub(super) struct Results {
    liveness: Option<bool>,
    startup: Option<bool>,
}

impl ProbeView for Results {
    fn liveness(&self, _: &str) -> Option<bool> {
        self.liveness
    }
    fn startup(&self, _: &str) -> Option<bool> {
        self.startup
    }
}

const NONE: Results = Results { liveness: None, startup: None };

fn sandbox(ready: bool) -> Sandbox {
    Sandbox {
        id: "s".into(),
        attempt: 0,
        ready,
        created_at: 1,
        host_network: false,
        ips: Some(vec!["10.0.0.1".into()]),
    }
}

fn run(pod: &Pod, name: &str, state: State, exit_code: i32) -> ContainerRun {
    ContainerRun {
        id: format!("{name}-id"),
        sandbox_id: "s".into(),
        name: name.into(),
        runtime: "containerd".into(),
        state,
        created_at: Timestamp::UNIX_EPOCH,
        started_at: None,
        finished_at: None,
        exit_code,
        reason: String::new(),
        message: String::new(),
        image: String::new(),
        image_ref: String::new(),
        hash: container_hash(&pod.container(name).unwrap()),
        restart_count: 0,
        stop_signal: None,
        user: None,
    }
}

fn runtime(ready: bool, containers: Vec<ContainerRun>) -> PodRuntime {
    PodRuntime { sandboxes: vec![sandbox(ready)], containers }
}

#[test]
fn a_new_pod_gets_a_sandbox_and_its_containers() {
    let pod = pod(json!({"containers": [{"name": "a"}, {"name": "b"}]}));
    let actions = compute_actions(&pod, &PodRuntime::default(), &NONE);
    assert!(actions.create_sandbox && actions.kill_pod);
    assert_eq!(actions.containers, [0, 1]);
    assert_eq!((actions.attempt, actions.sandbox_id), (0, None));
}

#[test]
fn init_containers_come_one_by_one() {
    let pod = pod(json!({"initContainers": [{"name": "i"}, {"name": "j"}], "containers": [{"name": "a"}]}));
    let fresh = compute_actions(&pod, &PodRuntime::default(), &NONE);
    assert_eq!((fresh.init_containers, fresh.containers), (vec![0], vec![]));
    let first_done = runtime(true, vec![run(&pod, "i", State::Exited, 0)]);
    let actions = compute_actions(&pod, &first_done, &NONE);
    assert_eq!((actions.init_containers, actions.containers), (vec![1], vec![]));
    let done = vec![run(&pod, "j", State::Exited, 0), run(&pod, "i", State::Exited, 0)];
    let actions = compute_actions(&pod, &runtime(true, done), &NONE);
    assert_eq!((actions.init_containers, actions.containers), (vec![], vec![0]));
}

#[test]
fn a_sidecar_lets_the_next_start_while_it_runs_and_is_restarted() {
    let pod = pod(json!({
        "initContainers": [{"name": "s", "restartPolicy": "Always"}, {"name": "i"}],
        "containers": [{"name": "a"}]}));
    let running = runtime(true, vec![run(&pod, "s", State::Running, 0)]);
    assert_eq!(compute_actions(&pod, &running, &NONE).init_containers, [1]);
    let died = vec![run(&pod, "a", State::Running, 0), run(&pod, "s", State::Exited, 1)];
    let actions = compute_actions(&pod, &runtime(true, died), &NONE);
    assert_eq!((actions.init_containers, actions.kill_pod), (vec![0], false));
}

#[test]
fn a_sidecar_with_a_startup_probe_holds_the_others_back() {
    let pod = pod(json!({
        "initContainers": [{"name": "s", "restartPolicy": "Always", "startupProbe": {}}],
        "containers": [{"name": "a"}]}));
    let running = runtime(true, vec![run(&pod, "s", State::Running, 0)]);
    assert!(compute_actions(&pod, &running, &NONE).containers.is_empty());
    let started = Results { liveness: None, startup: Some(true) };
    assert_eq!(compute_actions(&pod, &running, &started).containers, [0]);
}

#[test]
fn a_failed_init_container_ends_a_pod_that_never_restarts() {
    let spec = |policy: &str| json!({"restartPolicy": policy, "initContainers": [{"name": "i"}], "containers": [{"name": "a"}]});
    let never = pod(spec("Never"));
    let failed = runtime(true, vec![run(&never, "i", State::Exited, 1)]);
    assert!(compute_actions(&never, &failed, &NONE).kill_pod);
    let always = pod(spec("Always"));
    let actions = compute_actions(&always, &failed, &NONE);
    assert_eq!((actions.kill_pod, actions.init_containers), (false, vec![0]));
}

#[test]
fn probes_that_fail_kill_and_restart() {
    let pod = pod(json!({"containers": [{"name": "a"}]}));
    let running = runtime(true, vec![run(&pod, "a", State::Running, 0)]);
    let dead = Results { liveness: Some(false), startup: None };
    let actions = compute_actions(&pod, &running, &dead);
    assert_eq!(actions.kill[0].message, "Container a failed liveness probe, will be restarted");
    assert_eq!(actions.kill[0].reason, KillReason::Liveness);
    assert_eq!(actions.containers, [0]);
    assert_eq!(compute_actions(&pod, &running, &NONE).kill, []);
}

#[test]
fn restart_policies_decide_about_exited_containers() {
    let of = |policy: &str, code| {
        let pod = pod(json!({"restartPolicy": policy, "containers": [{"name": "a"}]}));
        compute_actions(&pod, &runtime(true, vec![run(&pod, "a", State::Exited, code)]), &NONE)
    };
    assert_eq!(of("Always", 0).containers, [0]);
    assert_eq!(of("OnFailure", 1).containers, [0]);
    assert!(of("OnFailure", 0).kill_pod && of("Never", 1).kill_pod);
}

#[test]
fn a_dead_sandbox_is_made_anew_unless_the_pod_never_restarts() {
    let always = pod(json!({"containers": [{"name": "a"}]}));
    let dead = runtime(false, vec![run(&always, "a", State::Exited, 137)]);
    let actions = compute_actions(&always, &dead, &NONE);
    assert!(actions.kill_pod && actions.create_sandbox);
    assert_eq!((actions.attempt, actions.containers), (1, vec![0]));
    let never = pod(json!({"restartPolicy": "Never", "containers": [{"name": "a"}]}));
    let actions = compute_actions(&never, &dead, &NONE);
    assert!(actions.kill_pod && !actions.create_sandbox);
}

#[test]
fn a_changed_image_restarts_even_what_never_restarts() {
    let old = pod(json!({"containers": [{"name": "a", "image": "i:1"}]}));
    let new = pod(json!({"restartPolicy": "Never", "containers": [{"name": "a", "image": "i:2"}]}));
    let running = runtime(true, vec![run(&old, "a", State::Running, 0)]);
    let actions = compute_actions(&new, &running, &NONE);
    assert_eq!(actions.kill[0].message, "Container a definition changed, will be restarted");
    assert_eq!(actions.containers, [0]);
}

#[test]
fn ephemeral_containers_start_once() {
    let pod = pod(json!({"containers": [{"name": "a"}], "ephemeralContainers": [{"name": "e"}]}));
    let running = vec![run(&pod, "a", State::Running, 0)];
    let actions = compute_actions(&pod, &runtime(true, running.clone()), &NONE);
    assert_eq!(actions.ephemeral_containers, [0]);
    let mut both = running;
    both.push(run(&pod, "e", State::Exited, 0));
    assert!(compute_actions(&pod, &runtime(true, both), &NONE).ephemeral_containers.is_empty());
}
