//! Whole passes, at a time that only moves when told to.
#![allow(clippy::unwrap_used)]

use http::Method;
use serde_json::{Value, json};

use super::*;
use crate::testing::Bench;

const WEB: &str = "/apis/autoscaling/v2/namespaces/a/horizontalpodautoscalers/web";
const SCALE: &str = "/apis/apps/v1/namespaces/a/deployments/web/scale";
const USAGE: &str = "/apis/metrics.k8s.io/v1beta1/namespaces/a/pods/web-";

fn autoscaler(name: &str, spec: &Value) -> Value {
    let mut whole = json!({"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}, "minReplicas": 1, "maxReplicas": 10});
    whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    json!({"metadata": {"name": name, "namespace": "a", "uid": name}, "spec": whole})
}

fn scale(replicas: i64) -> Value {
    json!({"kind": "Scale", "metadata": {"name": "web", "namespace": "a"}, "spec": {"replicas": replicas},
        "status": {"replicas": replicas, "selector": "app=web"}})
}

fn cpu(percent: i32) -> Value {
    json!({"metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": percent}}}]})
}

fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "a", "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "main", "resources": {"requests": {"cpu": "100m"}}}]},
        "status": {"phase": "Running", "startTime": "2026-01-01T10:00:00Z",
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T10:00:05Z"}]}})
}

/// Two pods that use as much CPU of the 100m that each requests.
fn bench(spec: &Value, used: &str) -> Bench {
    let bench = Bench::new(vec![
        (WEB, autoscaler("web", spec)),
        (SCALE, scale(2)),
        ("/api/v1/namespaces/a/pods/web-1", pod("web-1")),
        ("/api/v1/namespaces/a/pods/web-2", pod("web-2")),
    ]);
    bench.api.serve("apps", "v1", "deployments", "Deployment");
    usage(&bench, used);
    start(&bench.ctx);
    bench
}

fn usage(bench: &Bench, used: &str) {
    for name in ["1", "2"] {
        let metrics = json!({"metadata": {"name": format!("web-{name}"), "namespace": "a"}, "timestamp": "2026-01-01T12:00:00Z",
            "window": "30s", "containers": [{"name": "main", "usage": {"cpu": used}}]});
        bench.api.put(&format!("{USAGE}{name}"), metrics);
    }
}

fn conditions(bench: &Bench) -> Vec<String> {
    let object = bench.api.object(WEB);
    let all = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    all.iter().map(|c| format!("{}={} {}", text(&c["type"]), text(&c["status"]), text(&c["reason"]))).collect()
}

#[tokio::test]
async fn a_workload_that_is_busy_grows() {
    let bench = bench(&cpu(50), "100m");
    bench.advance(14).await;
    assert!(bench.api.calls(SCALE).is_empty(), "not before its period");
    bench.advance(2).await;
    assert_eq!(bench.api.object(SCALE)["spec"]["replicas"], 4);
    assert_eq!(bench.api.object(SCALE)["status"]["selector"], "app=web", "the rest is as it was");
    let wanted =
        "SuccessfulRescale: New size: 4; reason: cpu resource utilization (percentage of request) above target";
    assert_eq!(bench.api.events(), [wanted]);
    let wanted = [
        "AbleToScale=True SucceededRescale",
        "ScalingActive=True ValidMetricFound",
        "ScalingLimited=False DesiredWithinRange",
    ];
    assert_eq!(conditions(&bench), wanted);
    let status = bench.api.object(WEB)["status"].clone();
    assert_eq!((&status["currentReplicas"], &status["desiredReplicas"]), (&json!(2), &json!(4)));
    assert_eq!(status["lastScaleTime"], "2026-01-01T12:00:15Z");
    let current = json!({"averageUtilization": 100, "averageValue": "100m"});
    assert_eq!(
        status["currentMetrics"],
        json!([{"type": "Resource", "resource": {"name": "cpu", "current": current}}])
    );
}

#[tokio::test]
async fn it_shrinks_when_nothing_more_was_wanted_for_five_minutes() {
    let bench = bench(&cpu(50), "10m");
    bench.advance(290).await;
    assert_eq!(bench.api.object(SCALE)["spec"]["replicas"], 2);
    assert_eq!(conditions(&bench)[0], "AbleToScale=True ScaleDownStabilized");
    bench.advance(60).await;
    assert_eq!(bench.api.object(SCALE)["spec"]["replicas"], 1);
    assert_eq!(bench.api.events(), ["SuccessfulRescale: New size: 1; reason: All metrics below target"]);
}

#[tokio::test]
async fn a_status_that_says_nothing_new_is_not_written() {
    let bench = bench(&cpu(50), "50m");
    bench.advance(16).await;
    let written = bench.api.calls(WEB);
    assert_eq!(written.len(), 1);
    assert!(written[0].body["metadata"]["resourceVersion"].is_string(), "it is written over what was looked at");
    bench.advance(60).await;
    assert_eq!(bench.api.calls(WEB).len(), 1);
}

#[tokio::test]
async fn a_metric_that_is_not_there_is_said() {
    let bench = bench(&cpu(50), "50m");
    for name in ["1", "2"] {
        bench.api.remove(&format!("{USAGE}{name}"));
    }
    bench.advance(16).await;
    let cause = "failed to get cpu utilization: unable to get metrics for resource cpu: no metrics returned from resource metrics API";
    let mut events = bench.api.events();
    events.sort();
    assert_eq!(
        events,
        [
            format!(
                "FailedComputeMetricsReplicas: invalid metrics (1 invalid out of 1), first error is: failed to get cpu resource metric value: {cause}"
            ),
            format!("FailedGetResourceMetric: {cause}"),
        ]
    );
    assert_eq!(
        conditions(&bench),
        ["AbleToScale=True SucceededGetScale", "ScalingActive=False FailedGetResourceMetric"]
    );
    let message = &bench.api.object(WEB)["status"]["conditions"][1]["message"];
    assert_eq!(*message, format!("the HPA was unable to compute the replica count: {cause}"));
    assert_eq!(bench.api.object(WEB)["status"]["currentMetrics"], json!([{"type": ""}]));
}

#[tokio::test]
async fn what_cannot_be_found_is_said() {
    let spec = json!({"scaleTargetRef": {"apiVersion": "example.com/v1", "kind": "Thing", "name": "web"}});
    let bench = bench(&spec, "50m");
    bench.advance(16).await;
    assert_eq!(bench.api.events(), ["FailedGetScale: no matches for kind \"Thing\" in group \"example.com\""]);
    assert_eq!(conditions(&bench), ["AbleToScale=False FailedGetScale"]);
    // It comes, with a scale like any other.
    bench.api.serve("example.com", "v2", "things", "Thing");
    bench.api.put("/apis/example.com/v2/namespaces/a/things/web/scale", scale(20));
    bench.advance(15).await;
    assert_eq!(bench.api.object("/apis/example.com/v2/namespaces/a/things/web/scale")["spec"]["replicas"], 10);
    assert_eq!(
        bench.api.events()[1],
        "SuccessfulRescale: New size: 10; reason: Current number of replicas above Spec.MaxReplicas"
    );
}

#[tokio::test]
async fn a_scale_that_others_change_is_written_over_what_they_wrote() {
    let bench = bench(&cpu(50), "100m");
    bench.api.refuse(Method::PUT, SCALE, 409);
    bench.advance(17).await;
    assert_eq!(bench.api.calls(SCALE).len(), 2);
    assert_eq!(bench.api.object(SCALE)["spec"]["replicas"], 4);
    // One that is refused is told, and tried again after the period.
    let other = self::bench(&cpu(50), "100m");
    other.api.refuse(Method::PUT, SCALE, 500);
    other.advance(17).await;
    assert_eq!(conditions(&other)[0], "AbleToScale=False FailedUpdateScale");
    let wanted = "FailedRescale: New size: 4; reason: cpu resource utilization (percentage of request) above target; error: made to fail: InternalError";
    assert_eq!(other.api.events(), [wanted]);
    other.advance(16).await;
    assert_eq!(other.api.object(SCALE)["spec"]["replicas"], 4);
}

#[tokio::test]
async fn nothing_is_scaled_from_nothing() {
    let bench = bench(&cpu(50), "100m");
    bench.api.put(SCALE, scale(0));
    bench.advance(16).await;
    assert!(bench.api.calls(SCALE).is_empty());
    assert_eq!(conditions(&bench)[1], "ScalingActive=False ScalingDisabled");
}

#[tokio::test]
async fn pods_have_one_autoscaler() {
    let bench = Bench::new(vec![
        (WEB, autoscaler("web", &cpu(50))),
        ("/apis/autoscaling/v2/namespaces/a/horizontalpodautoscalers/two", autoscaler("two", &cpu(50))),
        (SCALE, scale(2)),
        ("/api/v1/namespaces/a/pods/web-1", pod("web-1")),
    ]);
    bench.api.serve("apps", "v1", "deployments", "Deployment");
    usage(&bench, "100m");
    start(&bench.ctx);
    bench.advance(32).await;
    let wanted = "AmbiguousSelector: pods by selector app=web are controlled by multiple HPAs: [a/two a/web]";
    assert!(bench.api.events().iter().any(|event| event == wanted), "{:?}", bench.api.events());
    assert_eq!(conditions(&bench)[1], "ScalingActive=False AmbiguousSelector");
}

#[tokio::test]
async fn an_autoscaler_that_goes_while_it_is_looked_at_leaves_no_selector() {
    let bench = Bench::new(vec![(WEB, autoscaler("web", &cpu(50)))]);
    let controller = Controller {
        ctx: bench.ctx.clone(),
        settings: Settings::default(),
        events: bench.ctx.recorder("test"),
        queue: bench.ctx.queue(),
        autoscalers: bench.ctx.informer(&HORIZONTAL_POD_AUTOSCALERS),
        histories: Mutex::default(),
        selectors: Mutex::default(),
        meters: Meters::new(),
    };
    controller.autoscalers.synced().await;
    let selector = Selector::parse("app=web").unwrap();
    let pods: Vec<Arc<crate::objects::Pod>> = vec![Arc::new(serde_json::from_value(pod("web-1")).unwrap())];
    let (web, gone) = (ObjectKey::new("a", "web"), ObjectKey::new("a", "gone"));
    assert_eq!(controller.selecting(&web, &selector, &pods), ["a/web"]);
    assert_eq!(controller.selecting(&gone, &selector, &pods), ["a/web"], "it has no pods any more");
    // What is there in spite of that goes with the next look at it.
    controller.selectors.lock().entry("a".to_owned()).or_default().insert("gone".to_owned(), selector.clone());
    assert_eq!(controller.selecting(&web, &selector, &pods).len(), 2);
    controller.reconcile(gone).await.unwrap();
    assert_eq!(controller.selecting(&web, &selector, &pods), ["a/web"]);
}

#[tokio::test]
async fn metrics_of_objects_and_of_things_outside() {
    let spec = json!({"metrics": [
        {"type": "Pods", "pods": {"metric": {"name": "qps"}, "target": {"type": "AverageValue", "averageValue": "10"}}},
        {"type": "Object", "object": {"describedObject": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "metric": {"name": "hits"}, "target": {"type": "Value", "value": "1k"}}},
        {"type": "External", "external": {"metric": {"name": "queue", "selector": {"matchLabels": {"q": "1"}}},
            "target": {"type": "AverageValue", "averageValue": "30"}}},
    ]});
    let bench = bench(&spec, "50m");
    let group = json!({"versions": [{"version": "v1beta1"}, {"version": "v1beta2"}], "preferredVersion": {"version": "v1beta2"}});
    bench.api.put("/apis/custom.metrics.k8s.io", group);
    let custom = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/a";
    let of = |name: &str, value: &str| json!({"describedObject": {"name": name}, "timestamp": "2026-01-01T12:00:00Z", "value": value});
    bench.api.put(&format!("{custom}/pods/%2A/qps"), json!({"items": [of("web-1", "20"), of("web-2", "10")]}));
    bench.api.put(&format!("{custom}/deployments.apps/web/hits"), json!({"items": [of("web", "1500")]}));
    let queue = "/apis/external.metrics.k8s.io/v1beta1/namespaces/a/queue";
    bench.api.put(
        queue,
        json!({"items": [{"metricName": "queue", "value": "100"}, {"metricName": "queue", "value": "20"}]}),
    );
    bench.advance(16).await;
    let wanted = "SuccessfulRescale: New size: 4; reason: external metric queue(&LabelSelector{MatchLabels:map[string]string{q: 1,},MatchExpressions:[]LabelSelectorRequirement{},}) above target";
    assert_eq!(bench.api.events(), [wanted]);
    let seen = &bench.api.object(WEB)["status"]["currentMetrics"];
    assert_eq!(seen[0]["pods"]["current"], json!({"averageValue": "15"}));
    assert_eq!(seen[1]["object"]["current"], json!({"value": "1500"}));
    assert_eq!(seen[2]["external"]["current"], json!({"averageValue": "60"}));
    assert_eq!(seen[2]["external"]["metric"]["selector"], json!({"matchLabels": {"q": "1"}}));
}
