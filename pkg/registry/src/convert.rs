//! Conversion between the served versions of a kind: events of two groups, and two versions of the autoscaler.

use kedge_meta::Status;
use kedge_schema::ResourceInfo;
use kedge_storage::Object;
use serde_json::{Map, Value, json};

use crate::registry::Served;
use crate::value::ValueExt;

/// `(core v1 name, events.k8s.io/v1 name)` of fields that only differ in their name.
const EVENT_FIELDS: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

/// The object as `served` shows it.
///
/// # Errors
/// 500 when what is stored cannot be read.
pub fn read(served: &Served, object: &Object) -> Result<Value, Status> {
    let mut value = object.to_value().map_err(Status::internal)?;
    if served.needs_conversion() {
        from_storage(served.info, &mut value);
    }
    Ok(value)
}

/// From the stored to the served version.
pub fn from_storage(info: &ResourceInfo, value: &mut Value) {
    match (info.group, info.version, info.plural) {
        ("events.k8s.io", "v1", "events") => rename(value, |(core, new)| (core, new)),
        ("autoscaling", "v1", _) => autoscaler_to_v1(value),
        _ => {}
    }
    value.set("apiVersion", info.api_version());
}

/// From the served to the stored version.
pub fn to_storage(info: &ResourceInfo, value: &mut Value) {
    match (info.group, info.version, info.plural) {
        ("events.k8s.io", "v1", "events") => rename(value, |(core, new)| (new, core)),
        ("autoscaling", "v1", _) => autoscaler_to_v2(value),
        _ => {}
    }
    let stored = kedge_meta::GroupVersion::new(info.storage_group, info.storage_version);
    value.set("apiVersion", stored.to_string());
}

fn rename(value: &mut Value, direction: impl Fn((&'static str, &'static str)) -> (&'static str, &'static str)) {
    let Value::Object(map) = value else { return };
    for pair in EVENT_FIELDS {
        let (from, to) = direction(pair);
        if let Some(field) = map.remove(from) {
            map.insert(to.into(), field);
        }
    }
}

const CPU_METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";

fn is_cpu_utilization(metric: &Value) -> bool {
    metric.text(&["type"]) == "Resource"
        && metric.text(&["resource", "name"]) == "cpu"
        && metric.text(&["resource", "target", "type"]) == "Utilization"
}

/// v1 knows one metric, CPU utilization; others travel in an annotation, as upstream has it.
fn autoscaler_to_v1(value: &mut Value) {
    let mut metrics: Vec<Value> = value.list(&["spec", "metrics"]).to_vec();
    let cpu = metrics.iter().position(is_cpu_utilization).map(|at| metrics.remove(at));
    let spec = value.entry("spec");
    spec.remove("metrics");
    if let Some(target) = cpu.as_ref().and_then(|m| m.int(&["resource", "target", "averageUtilization"])) {
        spec.insert("targetCPUUtilizationPercentage".into(), target.into());
    }
    if !metrics.is_empty() {
        annotate(value, CPU_METRICS, Value::Array(metrics).to_string());
    }
    let status = value.entry("status");
    let current = status.remove("currentMetrics");
    let utilization = current.as_ref().and_then(|m| m.as_array()).into_iter().flatten();
    let utilization = utilization.filter_map(|m| m.int(&["resource", "current", "averageUtilization"])).next();
    if let Some(utilization) = utilization {
        status.insert("currentCPUUtilizationPercentage".into(), utilization.into());
    }
    status.remove("conditions");
}

fn autoscaler_to_v2(value: &mut Value) {
    let kept = value.text(&["metadata", "annotations", CPU_METRICS]).to_owned();
    let mut metrics: Vec<Value> = serde_json::from_str(&kept).unwrap_or_default();
    if let Some(annotations) = value.entry("metadata").get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.remove(CPU_METRICS);
    }
    let spec = value.entry("spec");
    if let Some(target) = spec.remove("targetCPUUtilizationPercentage") {
        let target = json!({"type": "Utilization", "averageUtilization": target});
        metrics.insert(0, json!({"type": "Resource", "resource": {"name": "cpu", "target": target}}));
    }
    if !metrics.is_empty() {
        spec.insert("metrics".into(), metrics.into());
    }
    value.entry("status").remove("currentCPUUtilizationPercentage");
}

fn annotate(value: &mut Value, key: &str, text: String) {
    let annotations = value.entry("metadata").entry("annotations").or_insert_with(|| Value::Object(Map::new()));
    annotations.set(key, text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_converts_there_and_back() {
        let Some(info) = kedge_schema::resource("events.k8s.io", "v1", "events") else { panic!() };
        let stored =
            json!({"apiVersion": "v1", "kind": "Event", "involvedObject": {"name": "x"}, "message": "m", "count": 2});
        let mut value = stored.clone();
        from_storage(info, &mut value);
        assert_eq!(value["regarding"]["name"], "x");
        assert_eq!((&value["note"], &value["apiVersion"]), (&json!("m"), &json!("events.k8s.io/v1")));
        to_storage(info, &mut value);
        assert_eq!(value, stored);
    }
}
