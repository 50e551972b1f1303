//! Horizontal pod autoscalers in both versions.

use super::Hook::{self, Before};
use super::object::{Object, child, if_absent, if_empty, is_absent, make};
use serde_json::{Value, json};

pub(super) const HOOKS: &[Hook] = &[
    Before("api.autoscaling.v1.HorizontalPodAutoscaler", autoscaler_v1),
    Before("api.autoscaling.v2.HorizontalPodAutoscaler", autoscaler_v2),
];

/// Percent of the requested CPU that an autoscaler without metrics aims at.
const CPU_UTILIZATION: i32 = 80;
const METRICS_ANNOTATION: &str = "autoscaling.alpha.kubernetes.io/metrics";

fn autoscaler_v1(object: &mut Object) {
    let metrics = object.get("metadata").and_then(|metadata| metadata.get("annotations"));
    let other_metrics = metrics.is_some_and(|annotations| annotations.get(METRICS_ANNOTATION).is_some());
    let Some(spec) = make(object, "spec") else { return };
    if_absent(spec, "minReplicas", 1);
    if !other_metrics {
        if_absent(spec, "targetCPUUtilizationPercentage", CPU_UTILIZATION);
    }
}

fn autoscaler_v2(object: &mut Object) {
    let Some(spec) = make(object, "spec") else { return };
    if_absent(spec, "minReplicas", 1);
    let cpu = json!([{"type": "Resource", "resource": {"name": "cpu",
        "target": {"type": "Utilization", "averageUtilization": CPU_UTILIZATION}}}]);
    if_empty(spec, "metrics", cpu);
    if let Some(behavior) = child(spec, "behavior") {
        let pods = json!({"type": "Pods", "value": 4, "periodSeconds": 15});
        let percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
        scaling_rules(behavior, "scaleUp", json!([pods, percent.clone()]), Some(0));
        scaling_rules(behavior, "scaleDown", json!([percent]), None);
    }
}

fn scaling_rules(behavior: &mut Object, direction: &str, policies: Value, window: Option<i32>) {
    let Some(rules) = make(behavior, direction) else { return };
    if_absent(rules, "selectPolicy", "Max");
    if is_absent(rules, "policies") {
        rules.insert("policies".into(), policies);
    }
    if let Some(window) = window {
        if_absent(rules, "stabilizationWindowSeconds", window);
    }
}

#[cfg(test)]
mod tests {
    use super::super::apply;
    use serde_json::json;

    #[test]
    fn behaviour_is_completed_only_where_given() {
        let mut scaler = json!({"spec": {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 5}}}});
        apply("autoscaling", "v2", "HorizontalPodAutoscaler", &mut scaler);
        let behavior = &scaler["spec"]["behavior"];
        assert_eq!(behavior["scaleUp"]["stabilizationWindowSeconds"], 0);
        assert_eq!(behavior["scaleUp"]["policies"].as_array().map(Vec::len), Some(2));
        assert_eq!(behavior["scaleDown"]["stabilizationWindowSeconds"], 5);
        assert_eq!(scaler["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 80);
        let mut bare = json!({"spec": {}});
        apply("autoscaling", "v1", "HorizontalPodAutoscaler", &mut bare);
        assert_eq!(bare["spec"], json!({"minReplicas": 1, "targetCPUUtilizationPercentage": 80}));
    }
}
