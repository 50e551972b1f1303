//! The autoscaler's two versions. `autoscaling/v1` knows one metric, CPU utilization; all else that `v2` says travels in
//! annotations, in the forms that upstream gives it there.

use serde_json::{Map, Value, json};

use crate::value::ValueExt;

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

/// The sources of metrics: the type, the field that describes it.
const SOURCES: [(&str, &str); 5] = [
    ("Object", "object"),
    ("Pods", "pods"),
    ("Resource", "resource"),
    ("ContainerResource", "containerResource"),
    ("External", "external"),
];

/// Fields of a source: the name in `v1`, the place in `v2`; in the order in which upstream writes them.
type Fields = &'static [(&'static str, &'static [&'static str])];

fn fields(source: &str, current: bool) -> Fields {
    match (source, current) {
        ("object", false) => &[
            ("target", &["describedObject"]),
            ("metricName", &["metric", "name"]),
            ("targetValue", &["target", "value"]),
            ("selector", &["metric", "selector"]),
            ("averageValue", &["target", "averageValue"]),
        ],
        ("object", true) => &[
            ("target", &["describedObject"]),
            ("metricName", &["metric", "name"]),
            ("currentValue", &["current", "value"]),
            ("selector", &["metric", "selector"]),
            ("averageValue", &["current", "averageValue"]),
        ],
        ("pods", false) => &[
            ("metricName", &["metric", "name"]),
            ("targetAverageValue", &["target", "averageValue"]),
            ("selector", &["metric", "selector"]),
        ],
        ("pods", true) => &[
            ("metricName", &["metric", "name"]),
            ("currentAverageValue", &["current", "averageValue"]),
            ("selector", &["metric", "selector"]),
        ],
        ("external", false) => &[
            ("metricName", &["metric", "name"]),
            ("metricSelector", &["metric", "selector"]),
            ("targetValue", &["target", "value"]),
            ("targetAverageValue", &["target", "averageValue"]),
        ],
        ("external", true) => &[
            ("metricName", &["metric", "name"]),
            ("metricSelector", &["metric", "selector"]),
            ("currentValue", &["current", "value"]),
            ("currentAverageValue", &["current", "averageValue"]),
        ],
        (_, false) => &[
            ("name", &["name"]),
            ("targetAverageUtilization", &["target", "averageUtilization"]),
            ("targetAverageValue", &["target", "averageValue"]),
            ("container", &["container"]),
        ],
        (_, true) => &[
            ("name", &["name"]),
            ("currentAverageUtilization", &["current", "averageUtilization"]),
            ("currentAverageValue", &["current", "averageValue"]),
            ("container", &["container"]),
        ],
    }
}

fn is_cpu_utilization(metric: &Value) -> bool {
    metric.text(&["type"]) == "Resource"
        && metric.text(&["resource", "name"]) == "cpu"
        && metric.int(&["resource", "target", "averageUtilization"]).is_some()
}

/// From `v2` to `v1`.
pub(super) fn to_v1(value: &mut Value) {
    let spec = value.entry("spec");
    let (metrics, behavior) = (list(spec.remove("metrics")), spec.remove("behavior"));
    let (cpu, others): (Vec<_>, Vec<_>) = metrics.into_iter().partition(is_cpu_utilization);
    if let Some(target) = cpu.last().and_then(|m| m.int(&["resource", "target", "averageUtilization"])) {
        spec.insert("targetCPUUtilizationPercentage".into(), target.into());
    }
    let status = value.entry("status");
    let (current, conditions) = (list(status.remove("currentMetrics")), list(status.remove("conditions")));
    let utilization = current.iter().filter(|m| m.text(&["resource", "name"]) == "cpu");
    if let Some(now) = utilization.filter_map(|m| m.int(&["resource", "current", "averageUtilization"])).next() {
        status.insert("currentCPUUtilizationPercentage".into(), now.into());
    }
    annotate(value, METRICS, (!others.is_empty()).then(|| metrics_to_v1(&others, false)));
    annotate(value, CURRENT_METRICS, (!current.is_empty()).then(|| metrics_to_v1(&current, true)));
    annotate(value, CONDITIONS, (!conditions.is_empty()).then(|| Value::Array(conditions).to_string()));
    annotate(value, BEHAVIOR, behavior.filter(|b| !b.is_null()).map(|b| behavior_to_v1(&b)));
}

/// From `v1` to `v2`. What an annotation says that cannot be read is lost, as upstream.
pub(super) fn to_v2(value: &mut Value) {
    let mut taken = |name| take_annotation(value, name);
    let mut metrics = metrics_to_v2(list(taken(METRICS)), false);
    let current = metrics_to_v2(list(taken(CURRENT_METRICS)), true);
    let (conditions, behavior) = (list(taken(CONDITIONS)), taken(BEHAVIOR));
    let spec = value.entry("spec");
    if let Some(target) = spec.remove("targetCPUUtilizationPercentage").filter(|target| !target.is_null()) {
        let target = json!({"type": "Utilization", "averageUtilization": target});
        metrics.insert(0, json!({"type": "Resource", "resource": {"name": "cpu", "target": target}}));
    }
    if !metrics.is_empty() {
        spec.insert("metrics".into(), metrics.into());
    }
    if let Some(behavior) = behavior.filter(Value::is_object) {
        spec.insert("behavior".into(), renamed(behavior, &lower));
    }
    let status = value.entry("status");
    let utilization = status.remove("currentCPUUtilizationPercentage");
    if !current.is_empty() {
        status.insert("currentMetrics".into(), current.into());
    } else if let Some(now) = utilization.filter(|now| !now.is_null()) {
        let current = json!({"name": "cpu", "current": {"averageUtilization": now}});
        status.insert("currentMetrics".into(), json!([{"type": "Resource", "resource": current}]));
    }
    if !conditions.is_empty() {
        status.insert("conditions".into(), conditions.into());
    }
}

fn list(value: Option<Value>) -> Vec<Value> {
    match value {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    }
}

fn annotate(value: &mut Value, name: &str, text: Option<String>) {
    let Some(text) = text else { return };
    let annotations = value.entry("metadata").entry("annotations").or_insert_with(|| Value::Object(Map::new()));
    annotations.set(name, text);
}

fn take_annotation(value: &mut Value, name: &str) -> Option<Value> {
    let metadata = value.entry("metadata");
    let annotations = metadata.get_mut("annotations").and_then(Value::as_object_mut)?;
    let taken = annotations.remove(name)?;
    if annotations.is_empty() {
        metadata.remove("annotations");
    }
    serde_json::from_str(taken.as_str()?).ok()
}

/// An object with its fields in this order.
fn ordered(fields: impl Iterator<Item = (String, String)>) -> String {
    let fields: Vec<_> = fields.map(|(name, json)| format!("\"{name}\":{json}")).collect();
    format!("{{{}}}", fields.join(","))
}

fn metrics_to_v1(metrics: &[Value], current: bool) -> String {
    let metrics: Vec<_> = metrics.iter().map(|metric| metric_to_v1(metric, current)).collect();
    format!("[{}]", metrics.join(","))
}

fn metric_to_v1(metric: &Value, current: bool) -> String {
    let kind = ("type".to_owned(), json!(metric.text(&["type"])).to_string());
    let described = SOURCES.iter().filter_map(|(_, source)| {
        let from = metric.get(source).filter(|from| from.is_object())?;
        let fields = fields(source, current).iter();
        let fields = fields.filter_map(|(name, at)| {
            let found = from.at(at).filter(|found| !found.is_null()).cloned();
            // An object's value is no pointer in v1.
            let needed = *source == "object" && matches!(*name, "targetValue" | "currentValue");
            Some(((*name).to_owned(), found.or_else(|| needed.then(|| json!("0")))?.to_string()))
        });
        Some(((*source).to_owned(), ordered(fields)))
    });
    ordered(std::iter::once(kind).chain(described))
}

fn metrics_to_v2(metrics: Vec<Value>, current: bool) -> Vec<Value> {
    let known = |metric: &Value| {
        let kind = metric.text(&["type"]);
        let (kind, source) = SOURCES.iter().find(|(name, _)| *name == kind)?;
        let from = metric.get(source)?;
        let mut described = json!({});
        for (name, at) in fields(source, current) {
            let zero = *source == "object" && name.ends_with("Value") && from.text(&[name]) == "0";
            if let (Some(found), false) = (from.get(name), zero) {
                put(&mut described, at, found.clone());
            }
        }
        if !current {
            let target = described.entry("target");
            let kinds = [("averageUtilization", "Utilization"), ("value", "Value"), ("averageValue", "AverageValue")];
            let kind = kinds.iter().find(|(field, _)| target.contains_key(*field)).map_or("", |(_, kind)| kind);
            target.insert("type".into(), kind.into());
        }
        Some(json!({"type": kind, *source: described}))
    };
    metrics.iter().filter_map(known).collect()
}

fn put(object: &mut Value, at: &[&str], found: Value) {
    match at {
        [] => *object = found,
        [name] => object.set(name, found),
        [outer, inner @ ..] => {
            let mut below = object.get(*outer).cloned().unwrap_or_else(|| json!({}));
            put(&mut below, inner, found);
            object.set(outer, below);
        }
    }
}

/// Upstream writes the behavior with the names of its Go fields, and says what is not set.
fn behavior_to_v1(behavior: &Value) -> String {
    let rules = |name: &str| {
        let Some(rules) = behavior.get(name).filter(|rules| rules.is_object()) else { return "null".to_owned() };
        let field = |name: &str| rules.get(name).unwrap_or(&Value::Null).to_string();
        let policies = rules.list(&["policies"]).iter().map(|policy| {
            let field = |name: &str| (upper(name), policy.get(name).unwrap_or(&Value::Null).to_string());
            ordered(["type", "value", "periodSeconds"].iter().map(|name| field(name)))
        });
        let policies = format!("[{}]", policies.collect::<Vec<_>>().join(","));
        let policies = if rules.get("policies").is_some_and(Value::is_array) { policies } else { "null".to_owned() };
        ordered(["stabilizationWindowSeconds", "selectPolicy", "policies", "tolerance"].iter().map(|name| {
            let value = if *name == "policies" { policies.clone() } else { field(name) };
            (upper(name), value)
        }))
    };
    ordered(["scaleUp", "scaleDown"].iter().map(|name| (upper(name), rules(name))))
}

fn upper(name: &str) -> String {
    name[..1].to_ascii_uppercase() + &name[1..]
}

fn lower(name: &str) -> String {
    let mut chars = name.chars();
    chars.next().map(|first| first.to_ascii_lowercase()).into_iter().chain(chars).collect()
}

/// The same with other names of fields, and without what is null.
fn renamed(value: Value, name: &impl Fn(&str) -> String) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.into_iter().filter(|(_, value)| !value.is_null());
            kept.map(|(key, value)| (name(&key), renamed(value, name))).collect::<Map<_, _>>().into()
        }
        Value::Array(items) => items.into_iter().map(|item| renamed(item, name)).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn metrics() -> Value {
        let metric = json!({"name": "q", "selector": {"matchLabels": {"app": "a"}}});
        let target = json!({"type": "AverageValue", "averageValue": "100"});
        json!([
            {"type": "External", "external": {"metric": metric, "target": target}},
            {"type": "Pods", "pods": {"metric": {"name": "p"}, "target": target}},
            {"type": "Object", "object": {"metric": {"name": "o"}, "describedObject": {"kind": "K", "name": "n"},
                "target": target}},
            {"type": "ContainerResource", "containerResource": {"name": "cpu", "container": "c",
                "target": {"type": "Utilization", "averageUtilization": 3}}},
        ])
    }

    #[test]
    fn what_v1_cannot_say_travels_in_annotations() {
        let mut all = metrics();
        let cpu = json!({"type": "Utilization", "averageUtilization": 50});
        let cpu = json!({"type": "Resource", "resource": {"name": "cpu", "target": cpu}});
        all.as_array_mut().unwrap().insert(0, cpu);
        let rules = json!({"stabilizationWindowSeconds": 0, "selectPolicy": "Max",
            "policies": [{"type": "Pods", "value": 4, "periodSeconds": 15}]});
        let current = json!([{"type": "Resource", "resource": {"name": "cpu",
            "current": {"averageUtilization": 40, "averageValue": "20m"}}}]);
        let stored = json!({"metadata": {"name": "a"}, "spec": {"metrics": all, "behavior": {"scaleUp": rules}},
            "status": {"currentMetrics": current, "conditions": [{"type": "AbleToScale", "status": "True"}]}});
        let mut value = stored.clone();
        to_v1(&mut value);
        assert_eq!(value["spec"], json!({"targetCPUUtilizationPercentage": 50}));
        assert_eq!(value["status"], json!({"currentCPUUtilizationPercentage": 40}));
        let annotation = |name: &str| value["metadata"]["annotations"][name].as_str().unwrap().to_owned();
        assert!(annotation(METRICS).starts_with(
            r#"[{"type":"External","external":{"metricName":"q","metricSelector":{"matchLabels":{"app":"a"}},"targetAverageValue":"100"}}"#
        ));
        assert_eq!(
            annotation(BEHAVIOR),
            r#"{"ScaleUp":{"StabilizationWindowSeconds":0,"SelectPolicy":"Max","Policies":[{"Type":"Pods","Value":4,"PeriodSeconds":15}],"Tolerance":null},"ScaleDown":null}"#
        );
        assert!(annotation(CURRENT_METRICS).contains(r#""currentAverageUtilization":40,"currentAverageValue":"20m""#));
        to_v2(&mut value);
        assert_eq!(value, stored);
    }

    #[test]
    fn annotations_that_cannot_be_read_are_dropped() {
        let mut value = json!({"metadata": {"annotations": {METRICS: "{", BEHAVIOR: "7", "other": "x"}},
            "spec": {"targetCPUUtilizationPercentage": null}});
        to_v2(&mut value);
        assert_eq!(value["metadata"]["annotations"], json!({"other": "x"}));
        assert_eq!(value["spec"], json!({}));
    }
}
