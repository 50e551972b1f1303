//! The smallest pods that each control forbids and lets pass, by level and version; and what a stock server said of pods that mix
//! them, recorded with `cargo xtask pod-security --record`.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::Read as _;

use flate2::read::ZlibDecoder;
use serde_json::json;

use super::super::policy::{LATEST, parse_version};
use super::*;

const CONTROLS: &str = include_str!("testdata/controls.txt");
const RECORDED: &[u8] = include_bytes!("testdata/recorded.z");

/// Beyond the last version in which a check changed.
const NEWEST: Minor = 40;

/// A line of the table.
struct Line {
    control: &'static str,
    reason: &'static str,
    baseline: &'static str,
    restricted: &'static str,
    change: &'static str,
}

fn lines() -> Vec<Line> {
    let parse = |line: &'static str| {
        let parts: Vec<&str> = line.splitn(5, '|').map(str::trim).collect();
        let [control, reason, baseline, restricted, change] = parts[..] else { panic!("no line: {line}") };
        Line { control, reason, baseline, restricted, change }
    };
    CONTROLS.lines().filter(|line| !line.starts_with('#')).map(parse).collect()
}

/// Whether a version is in a range such as `0-`, `8-24` and `-`.
fn covers(range: &str, minor: Minor) -> bool {
    let (from, to) = range.split_once('-').unwrap();
    let bound = |text: &str, open: Minor| if text.is_empty() { open } else { text.parse().unwrap() };
    !from.is_empty() && (bound(from, 0)..=bound(to, LATEST)).contains(&minor)
}

/// A pod that the restricted standard lets pass, with a change.
fn pod(change: &Value) -> Value {
    let context = json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": true,
        "seccompProfile": {"type": "RuntimeDefault"}});
    let mut container = json!({"name": "c", "securityContext": context});
    merge(&mut container, &change["container"]);
    let mut pod = json!({"metadata": {"annotations": change["annotations"]}, "spec": {}});
    merge(&mut pod["spec"], &change["pod"]);
    pod["spec"]["containers"] = json!([container]);
    if let Value::Object(volume) = &change["volume"] {
        let mut volume = volume.clone();
        volume.insert("name".into(), "v".into());
        pod["spec"]["volumes"] = json!([volume]);
    }
    pod
}

fn merge(target: &mut Value, patch: &Value) {
    for (field, value) in patch.as_object().into_iter().flatten() {
        match value {
            Value::Object(_) if target[field].is_object() => merge(&mut target[field], value),
            value => target[field] = value.clone(),
        }
    }
}

fn violations(level: Level, minor: Minor, pod: &Value) -> Vec<Violation> {
    evaluate(Standard { level, minor }, Pod { annotations: pod.map(&["metadata", "annotations"]), spec: &pod["spec"] })
}

#[test]
fn each_control_forbids_and_lets_pass_what_is_smallest() {
    let mut by_change: BTreeMap<&str, Vec<Line>> = BTreeMap::new();
    lines().into_iter().for_each(|line| by_change.entry(line.change).or_default().push(line));
    by_change.entry("{}").or_default();
    for (change, lines) in by_change {
        let pod = pod(&serde_json::from_str(change).unwrap());
        for minor in (0..=NEWEST).chain([LATEST]) {
            for level in [Level::Privileged, Level::Baseline, Level::Restricted] {
                let forbids = |line: &&Line| match level {
                    Level::Privileged => false,
                    Level::Baseline => covers(line.baseline, minor),
                    Level::Restricted => covers(line.restricted, minor),
                };
                let wanted: Vec<&str> = lines.iter().filter(forbids).map(|line| line.reason).collect();
                let found = violations(level, minor, &pod);
                let found: Vec<&str> = found.iter().map(|violation| &*violation.reason).collect();
                assert_eq!(found, wanted, "{} of {change}", Standard { level, minor });
            }
        }
    }
}

#[test]
fn no_control_is_without_a_pod_that_fails_and_one_that_passes() {
    let lines = lines();
    for rule in BASELINE.iter().chain(&RESTRICTED) {
        let has = |fails: bool| lines.iter().any(|l| l.control == rule.name && l.reason.is_empty() != fails);
        assert!(has(true) && has(false), "{}", rule.name);
        // Of every form, a pod tells it from the one before.
        for (since, _) in rule.forms.iter().filter(|(since, _)| *since > 0) {
            let begins = |range: &str| range.split_once('-').unwrap().0 == since.to_string();
            let ends = |range: &str| range.split_once('-').unwrap().1 == (since - 1).to_string();
            let changes =
                |line: &&Line| [line.baseline, line.restricted].iter().any(|range| begins(range) || ends(range));
            assert!(lines.iter().filter(|l| l.control == rule.name).any(|l| changes(&l)), "{} v1.{since}", rule.name);
        }
    }
    let known = |name: &str| BASELINE.iter().chain(&RESTRICTED).any(|rule| rule.name == name);
    assert!(lines.iter().all(|line| known(line.control)));
}

/// Ports of pods in the node's network are ports of the node, which servers write down before they look.
fn host_ports(pod: &mut Value) {
    if pod["spec"]["hostNetwork"] != true {
        return;
    }
    for field in ["containers", "initContainers"] {
        let containers = pod["spec"][field].as_array_mut().into_iter().flatten();
        for port in containers.filter_map(|container| container.get_mut("ports")?.as_array_mut()).flatten() {
            port["hostPort"] = port["containerPort"].clone();
        }
    }
}

/// What was said from a version on, as it was recorded.
fn recorded(said: &Value, level: &str, minor: Minor) -> String {
    let changes = said[level].as_array().unwrap().iter();
    let at = |change: &&Value| parse_version(change[0].as_str().unwrap()).unwrap() <= minor;
    changes.rev().find(at).unwrap()[1].as_str().unwrap().to_owned()
}

#[test]
fn verdicts_on_pods_that_mix_controls_are_those_of_a_stock_server() {
    let mut text = String::new();
    ZlibDecoder::new(RECORDED).read_to_string(&mut text).unwrap();
    let mut forbidden = 0;
    for line in text.lines() {
        let Value::Object(mut line) = serde_json::from_str::<Value>(line).unwrap() else { panic!("{line}") };
        host_ports(&mut line["pod"]);
        let (pod, said) = (&line["pod"], &line["said"]);
        for minor in (0..=NEWEST).chain([LATEST]) {
            for (level, name) in [(Level::Baseline, "baseline"), (Level::Restricted, "restricted")] {
                let found = detailed(&violations(level, minor, pod));
                assert_eq!(found, recorded(said, name, minor), "{} of {pod}", Standard { level, minor });
                forbidden += usize::from(!found.is_empty());
            }
        }
    }
    assert_eq!(text.lines().count(), 200);
    // Both come often enough to tell something.
    assert!((8_000..16_000).contains(&forbidden), "{forbidden}");
}
