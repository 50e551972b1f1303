//! Budgets over pods of all kinds of managers, at a time that only moves when told to.
#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use super::*;
use crate::testing::Bench;

const BUDGET: &str = "/apis/policy/v1/namespaces/a/poddisruptionbudgets/web";

fn budget(spec: &Value) -> Value {
    let mut spec = spec.clone();
    spec["selector"] = json!({"matchLabels": {"app": "web"}});
    json!({"metadata": {"name": "web", "namespace": "a", "uid": "b", "generation": 3}, "spec": spec})
}

fn pod(name: &str, owner: Option<(&str, &str, &str)>) -> Value {
    let owners = owner.map(|(api_version, kind, name)| {
        json!([{"apiVersion": api_version, "kind": kind, "name": name, "uid": name, "controller": true}])
    });
    json!({"metadata": {"name": name, "namespace": "a", "uid": name, "labels": {"app": "web"}, "ownerReferences": owners.unwrap_or(json!([]))},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}})
}

fn scaled(name: &str, replicas: i64, owner: Option<&str>) -> Value {
    let owners = owner.map(
        |name| json!([{"apiVersion": "apps/v1", "kind": "Deployment", "name": name, "uid": name, "controller": true}]),
    );
    json!({"metadata": {"name": name, "namespace": "a", "uid": name, "ownerReferences": owners.unwrap_or(json!([]))}, "spec": {"replicas": replicas}})
}

fn status(bench: &Bench) -> (Value, Value, Value, String, Value) {
    let status = bench.api.object(BUDGET)["status"].clone();
    let condition = &status["conditions"][0];
    let reason = condition["reason"].as_str().unwrap_or_default().to_owned();
    let of = |field: &str| status[field].clone();
    (of("expectedPods"), of("desiredHealthy"), of("disruptionsAllowed"), reason, condition["message"].clone())
}

async fn bench(spec: &Value, objects: Vec<(&str, Value)>) -> Bench {
    let mut all = vec![(BUDGET, budget(spec))];
    all.extend(objects);
    let bench = Bench::new(all);
    start(&bench.ctx);
    bench.advance(1).await;
    bench
}

#[tokio::test]
async fn what_the_managers_want_counts() {
    let objects = vec![
        ("/apis/apps/v1/namespaces/a/deployments/d", scaled("d", 4, None)),
        ("/apis/apps/v1/namespaces/a/replicasets/r1", scaled("r1", 3, Some("d"))),
        ("/apis/apps/v1/namespaces/a/replicasets/r2", scaled("r2", 1, Some("d"))),
        ("/apis/apps/v1/namespaces/a/statefulsets/s", scaled("s", 2, None)),
        ("/api/v1/namespaces/a/pods/p1", pod("p1", Some(("apps/v1", "ReplicaSet", "r1")))),
        ("/api/v1/namespaces/a/pods/p2", pod("p2", Some(("apps/v1", "ReplicaSet", "r2")))),
        ("/api/v1/namespaces/a/pods/p3", pod("p3", Some(("apps/v1", "StatefulSet", "s")))),
    ];
    let bench = bench(&json!({"maxUnavailable": "50%"}), objects).await;
    assert_eq!(status(&bench), (json!(6), json!(3), json!(0), "InsufficientPods".into(), json!("")));
    assert_eq!(bench.api.object(BUDGET)["status"]["observedGeneration"], 3);
}

#[tokio::test]
async fn custom_resources_have_a_say_when_they_have_a_scale() {
    let bench = Bench::new(vec![
        (BUDGET, budget(&json!({"minAvailable": "50%"}))),
        ("/apis/example.com/v1/namespaces/a/farms/f/scale", json!({"metadata": {"uid": "f"}, "spec": {"replicas": 2}})),
        (
            "/apis/example.com/v1",
            json!({"resources": [{"name": "farms", "kind": "Farm"}, {"name": "farms/scale", "kind": "Scale"}]}),
        ),
        ("/api/v1/namespaces/a/pods/p1", pod("p1", Some(("example.com/v1", "Farm", "f")))),
        ("/api/v1/namespaces/a/pods/p2", pod("p2", Some(("example.com/v1", "Farm", "f")))),
    ]);
    bench.api.serve("example.com", "v1", "farms", "Farm");
    start(&bench.ctx);
    bench.advance(1).await;
    assert_eq!(status(&bench), (json!(2), json!(1), json!(1), "SufficientPods".into(), json!("")));
    // Without it nothing may be disrupted, and it is said why.
    bench.api.remove("/apis/example.com/v1/namespaces/a/farms/f/scale");
    bench.api.put("/api/v1/namespaces/a/pods/p3", pod("p3", Some(("example.com/v1", "Farm", "f"))));
    bench.advance(1).await;
    let why = "found no controllers for pod \"p1\"";
    assert_eq!(status(&bench), (json!(2), json!(1), json!(0), "SyncFailed".into(), json!(why)));
    let wanted = format!("CalculateExpectedPodCountFailed: Failed to calculate the number of expected pods: {why}");
    assert!(bench.api.events().contains(&wanted), "{:?}", bench.api.events());
    bench.api.put("/apis/example.com/v1", json!({"resources": [{"name": "farms", "kind": "Farm"}]}));
    bench.api.remove("/api/v1/namespaces/a/pods/p3");
    bench.advance(1).await;
    assert_eq!(status(&bench).4, "farms.example.com does not implement the scale subresource");
}

#[tokio::test]
async fn a_scale_that_could_not_be_read_is_looked_for_again() {
    let bench = Bench::new(vec![
        (BUDGET, budget(&json!({"maxUnavailable": 1}))),
        ("/apis/example.com/v1", json!({"resources": [{"name": "farms/scale", "kind": "Scale"}]})),
        ("/api/v1/namespaces/a/pods/p", pod("p", Some(("example.com/v1", "Farm", "f")))),
    ]);
    bench.api.serve("example.com", "v1", "farms", "Farm");
    start(&bench.ctx);
    bench.advance(1).await;
    assert_eq!(status(&bench).3, "SyncFailed");
    let scale = json!({"metadata": {"uid": "f"}, "spec": {"replicas": 1}});
    bench.api.put("/apis/example.com/v1/namespaces/a/farms/f/scale", scale);
    bench.advance(28).await;
    assert_eq!(status(&bench).3, "SyncFailed");
    bench.advance(3).await;
    assert_eq!(status(&bench), (json!(1), json!(0), json!(1), "SufficientPods".into(), json!("")));
}

#[tokio::test]
async fn pods_of_nobody_are_said() {
    let bench = bench(&json!({"maxUnavailable": 1}), vec![("/api/v1/namespaces/a/pods/p", pod("p", None))]).await;
    assert_eq!(status(&bench), (json!(0), json!(0), json!(0), "InsufficientPods".into(), json!("")));
    let events = bench.api.events();
    let wanted = "UnmanagedPods: Pods selected by this PodDisruptionBudget (selector: &LabelSelector{MatchLabels:map[string]string{app: web,},MatchExpressions:[]LabelSelectorRequirement{},}) were found to be unmanaged.";
    assert!(events.iter().any(|event| event.starts_with(wanted)), "{events:?}");
    // A number needs no managers.
    let bench = self::bench(&json!({"minAvailable": 0}), vec![("/api/v1/namespaces/a/pods/p", pod("p", None))]).await;
    assert_eq!(status(&bench), (json!(1), json!(0), json!(1), "SufficientPods".into(), json!("")));
}

#[tokio::test]
async fn an_eviction_that_comes_to_nothing_is_forgotten() {
    let mut evicted = budget(&json!({"minAvailable": 0}));
    evicted["status"] = json!({"disruptedPods": {"p": "2026-01-01T11:59:00Z"}});
    let bench = Bench::new(vec![(BUDGET, evicted), ("/api/v1/namespaces/a/pods/p", pod("p", None))]);
    start(&bench.ctx);
    bench.advance(2).await;
    assert_eq!(bench.api.object(BUDGET)["status"]["currentHealthy"], 0);
    bench.advance(62).await;
    assert_eq!(bench.api.object(BUDGET)["status"]["currentHealthy"], 1);
    let wanted = "NotDeleted: Pod was expected by PDB a/a to be deleted but it wasn't";
    assert!(bench.api.events().iter().any(|event| event == wanted), "{:?}", bench.api.events());
}

#[tokio::test]
async fn a_mark_without_a_deletion_is_taken_away() {
    let mut marked = pod("p", None);
    marked["status"]["conditions"] = json!([{"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
        "message": "m", "lastTransitionTime": "2026-01-01T11:59:00Z"}]);
    let bench = bench(&json!({"minAvailable": 1}), vec![("/api/v1/namespaces/a/pods/p", marked)]).await;
    bench.advance(58).await;
    assert!(bench.api.calls("/pods/p").is_empty());
    bench.advance(4).await;
    let patch = &bench.api.calls("/pods/p")[0].body["status"]["conditions"][0];
    assert_eq!(
        (&patch["type"], &patch["status"], &patch["reason"]),
        (&json!("DisruptionTarget"), &json!("False"), &Value::Null)
    );
}
