//! Cases with upstream's numbers.
#![allow(clippy::unwrap_used)]

use super::*;
use serde_json::json;

const NOW: &str = "2026-01-01T12:00:00Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

/// One pod a letter: `r`eady, `u`nready ever since it began, `h`ot (just begun, and ready only now), `p`ending, `f`ailed, `d`eleted.
fn pods(kinds: &str, requests: &[&str]) -> Vec<Arc<Pod>> {
    let pod = |(i, kind): (usize, char)| {
        let (phase, ready, started, since) = match kind {
            'u' => ("Running", "False", "2026-01-01T10:00:00Z", "2026-01-01T10:00:00Z"),
            'h' => ("Running", "True", "2026-01-01T11:59:00Z", NOW),
            'p' => ("Pending", "False", NOW, NOW),
            'f' => ("Failed", "False", NOW, NOW),
            _ => ("Running", "True", "2026-01-01T10:00:00Z", "2026-01-01T10:00:30Z"),
        };
        let mut metadata = json!({"name": format!("p{i}")});
        if kind == 'd' {
            metadata["deletionTimestamp"] = NOW.into();
        }
        let containers = match requests.get(i).or(requests.last()) {
            Some(cpu) => json!([{"name": "main", "resources": {"requests": {"cpu": cpu}}}]),
            None => json!([{"name": "main"}]),
        };
        let value = json!({
            "metadata": metadata, "spec": {"containers": containers},
            "status": {"phase": phase, "startTime": started,
                "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": since}]}
        });
        Arc::new(serde_json::from_value(value).unwrap())
    };
    kinds.chars().enumerate().map(pod).collect()
}

fn metrics(levels: &[i64]) -> PodMetrics {
    let metric = |(i, value): (usize, &i64)| {
        (format!("p{i}"), PodMetric { value: *value, timestamp: now(), window: Duration::from_secs(60) })
    };
    levels.iter().enumerate().map(metric).collect()
}

fn workload(pods: &[Arc<Pod>], replicas: i32) -> Workload<'_> {
    Workload {
        pods,
        replicas,
        tolerances: Tolerances { down: 0.1, up: 0.1 },
        cpu_initialization: Duration::from_secs(120),
        initial_readiness: Duration::from_secs(10),
        now: now(),
    }
}

#[test]
fn shares_of_the_cpu() {
    // What is called how; pods, their size before, what they use, the target; pods wanted, the share, a pod's use.
    type Case = (&'static str, &'static str, i32, &'static [i64], i32, (i32, i32, i64));
    let cases: &[Case] = &[
        ("up", "rrr", 3, &[300, 500, 700], 30, (5, 50, 500)),
        ("less for one that is unready", "urr", 3, &[300, 500, 700], 30, (4, 60, 600)),
        ("less for one that has begun", "hrr", 3, &[300, 500, 700], 30, (4, 60, 600)),
        ("not, with two that are unready", "ruu", 3, &[400, 500, 700], 30, (3, 40, 400)),
        ("failed ones are nothing", "rrff", 2, &[500, 700], 30, (4, 60, 600)),
        ("nor those that go", "rrdd", 2, &[500, 700], 30, (4, 60, 600)),
        ("down", "rrrrr", 5, &[100, 300, 500, 250, 250], 50, (3, 28, 280)),
        ("down without the unready", "rrruu", 5, &[100, 300, 500, 250, 250], 50, (2, 30, 300)),
        ("one is missing and it fits", "rr", 2, &[1000], 100, (2, 100, 1000)),
        ("one is missing and it grows", "rr", 2, &[1900], 100, (2, 190, 1900)),
        ("one is missing and it shrinks", "rr", 2, &[600], 100, (2, 60, 600)),
        ("missing and unready", "urr", 3, &[100, 450], 50, (3, 45, 450)),
        ("missing and new", "hrr", 3, &[100, 450], 50, (3, 45, 450)),
        ("missing and unready, up", "urr", 3, &[100, 2000], 50, (4, 200, 2000)),
        ("missing and unready, down", "urrr", 4, &[100, 100, 100], 50, (3, 10, 100)),
        ("pending ones are unready", "rrp", 3, &[600, 600], 30, (4, 60, 600)),
    ];
    for (name, kinds, replicas, levels, target, (wanted, share, raw)) in cases {
        let pods = pods(kinds, &["1"]);
        let found = workload(&pods, *replicas).by_utilization(metrics(levels), ("cpu", ""), *target);
        let wanted = Utilized { replicas: *wanted, utilization: *share, raw: *raw };
        assert_eq!(found, Ok(wanted), "{name}");
    }
    let different = pods("rrr", &["900m", "1", "1100m"]);
    let found = workload(&different, 3).by_utilization(metrics(&[1010, 1030, 1020]), ("cpu", ""), 100).unwrap();
    assert_eq!((found.replicas, found.utilization, found.raw), (3, 102, 1020), "within the tolerance");
    let tight = Workload { tolerances: Tolerances { down: 0.0, up: 0.0 }, ..workload(&different, 3) };
    let found = tight.by_utilization(metrics(&[909, 1010, 1111]), ("cpu", ""), 100).unwrap();
    assert_eq!((found.replicas, found.utilization), (4, 101), "without tolerance");
    let over = pods("urrr", &["1", "1", "2", "2"]);
    let found = workload(&over, 4).by_utilization(metrics(&[200, 100, 100]), ("cpu", ""), 300).unwrap();
    assert_eq!(
        (found.replicas, found.utilization),
        (2, 6),
        "a missing one uses its target, even above all it requests"
    );
}

#[test]
fn averages_of_pods() {
    type Case = (&'static str, &'static str, i32, &'static [i64], i64, (i32, i64));
    let cases: &[Case] = &[
        ("up", "rrr", 3, &[20_000, 10_000, 30_000], 15_000, (4, 20_000)),
        ("one that has begun counts in full", "rrh", 3, &[50_000, 10_000, 30_000], 15_000, (6, 30_000)),
        ("unready ones count in full", "uru", 3, &[50_000, 15_000, 30_000], 15_000, (7, 31_666)),
        ("down", "rrrrr", 5, &[12_000, 12_000, 12_000, 12_000, 12_000], 20_000, (3, 12_000)),
        ("within the tolerance", "rrr", 3, &[20_000, 21_000, 21_000], 20_000, (3, 20_666)),
        ("missing ones use their target", "rrrrr", 5, &[20_000, 19_000, 21_000], 20_000, (5, 20_000)),
        ("a pod too many while one is replaced", "rrr", 2, &[10_000, 10_000], 17_000, (2, 10_000)),
    ];
    for (name, kinds, replicas, levels, target, wanted) in cases {
        let pods = pods(kinds, &[]);
        assert_eq!(workload(&pods, *replicas).by_average(metrics(levels), "", *target), Ok(*wanted), "{name}");
    }
}

#[test]
fn values_of_one_thing() {
    let ratio = |kinds: &str, replicas, ratio| workload(&pods(kinds, &[]), replicas).by_ratio(ratio);
    assert_eq!(ratio("rrr", 3, 20_000.0 / 15_000.0), Ok(4));
    assert_eq!(ratio("uru", 3, 5.0), Ok(5), "unready ones do not count");
    assert_eq!(ratio("uru", 3, 8_600.0 / 4_400.0), Ok(2));
    assert_eq!(ratio("rrr", 3, 20_666.0 / 20_000.0), Ok(3));
    assert_eq!(ratio("rrr", 3, i64::MAX as f64), Ok(i32::MAX));
    assert_eq!(ratio("", 0, 2.1), Ok(3), "from nothing");
    assert_eq!(ratio("", 3, 2.0), Err(format!("unable to calculate ready pods: {NO_PODS}")));
    let tolerances = Tolerances { down: 0.1, up: 0.1 };
    assert_eq!(by_share(20_000, 5_000, 3, tolerances), (4, 6_667));
    assert_eq!(by_share(20_166, 5_000, 4, tolerances), (4, 5_042));
    assert_eq!(by_share(8_600, 2_150, 3, tolerances), (4, 2_867));
    assert_eq!(by_share(8_600, 2_900, 3, tolerances), (3, 2_867));
    assert_eq!(by_share(20_208, 5_000, 4, Tolerances { down: 0.1, up: 0.01 }), (5, 5_052));
    assert_eq!(by_share(i64::MAX, 1, 1, tolerances), (i32::MAX, i64::MAX));
    assert_eq!(by_share(i64::MAX, i64::MAX, 1, tolerances), (1, i64::MAX));
}

#[test]
fn what_is_not_known_is_said() {
    let fails = |pods: &[Arc<Pod>], metrics, container: &str| {
        workload(pods, 1).by_utilization(metrics, ("cpu", container), 100).unwrap_err()
    };
    assert_eq!(fails(&[], metrics(&[1]), ""), NO_PODS);
    assert_eq!(fails(&pods("u", &["1"]), metrics(&[1]), ""), NO_METRICS);
    let missing = "missing request for cpu in container main of Pod p0";
    assert_eq!(fails(&pods("r", &[]), metrics(&[1]), ""), missing);
    assert_eq!(fails(&pods("r", &["1"]), metrics(&[1]), "other"), "container other not found in Pod p0");
    let older = PodMetrics::from([("older".to_owned(), metrics(&[100])["p0"])]);
    assert_eq!(fails(&pods("r", &["1"]), older, ""), "no metrics returned matched known pods");
}

#[test]
fn requests_are_those_of_the_pod_before_those_of_its_containers() {
    let pod = |spec| Arc::new(serde_json::from_value::<Pod>(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap());
    let of =
        |spec, container: &str, resource: &str| pods::requests(&[pod(spec)], container, resource).map(|all| all["p"]);
    let cpu = |amount: &str| json!({"requests": {"cpu": amount}});
    let containers = json!({"containers": [{"name": "a", "resources": cpu("100m")}, {"name": "b", "resources": cpu("200m")}],
        "initContainers": [{"name": "i", "resources": cpu("5")}, {"name": "s", "restartPolicy": "Always", "resources": cpu("50m")}]});
    assert_eq!(of(containers.clone(), "", "cpu"), Ok(350));
    assert_eq!(of(containers.clone(), "s", "cpu"), Ok(50));
    assert_eq!(of(containers.clone(), "i", "cpu"), Err("container i not found in Pod p".to_owned()));
    let mut whole = containers;
    whole["resources"] = cpu("2");
    whole["overhead"] = json!({"cpu": "10m"});
    assert_eq!(of(whole.clone(), "", "cpu"), Ok(2010));
    assert_eq!(of(whole.clone(), "b", "cpu"), Ok(200));
    assert_eq!(of(whole, "", "memory"), Err("missing pod-level request for memory in Pod p".to_owned()));
    let memory = json!({"resources": {"requests": {"memory": "1Gi"}},
        "containers": [{"name": "a", "resources": cpu("1")}], "initContainers": [{"name": "i", "resources": cpu("3")}]});
    assert_eq!(of(memory, "", "cpu"), Ok(3000), "what runs before may need the most");
}
