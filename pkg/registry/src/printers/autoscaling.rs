//! Horizontal pod autoscalers, in both of their versions, and the scales of others.

use serde_json::{Value, json};

use super::row::{Row, first, or, printed};
use super::{AGE, NAME, Printer, integer, text};
use crate::value::ValueExt;

/// How many metrics are shown.
const SHOWN: usize = 2;

pub(super) static AUTOSCALER: Printer = Printer {
    columns: &[NAME, text("Reference"), text("Targets"), text("MinPods"), text("MaxPods"), text("Replicas"), AGE],
    cells: |row| {
        let target = |field: &str| row.text(&["spec", "scaleTargetRef", field]);
        vec![
            row.name(),
            json!(format!("{}/{}", target("kind"), target("name"))),
            json!(metrics(row)),
            json!(printed(row.object.at(&["spec", "minReplicas"]), "<unset>")),
            json!(row.int(&["spec", "maxReplicas"])),
            json!(row.int(&["status", "currentReplicas"])),
            row.age(),
        ]
    },
};

pub(super) fn printer(plural: &str) -> &'static Printer {
    if plural == "scales" { &SCALE } else { &AUTOSCALER }
}

/// What the subresource `scale` of any kind shows.
static SCALE: Printer = Printer {
    columns: &[text("Name"), integer("Desired"), integer("Available"), AGE],
    cells: |row| {
        let replicas = |of: &str| json!(row.int(&[of, "replicas"]));
        vec![row.name(), replicas("spec"), replicas("status"), row.age()]
    },
};

fn metrics(row: &Row<'_>) -> String {
    // Version 1 knows the utilization of CPU and nothing else.
    if let Some(wanted) = row.object.int(&["spec", "targetCPUUtilizationPercentage"]) {
        let current = row.object.int(&["status", "currentCPUUtilizationPercentage"]);
        return format!("cpu: {}/{wanted}%", current.map_or("<unknown>".into(), |c| format!("{c}%")));
    }
    let statuses = row.list(&["status", "currentMetrics"]);
    let specs = row.list(&["spec", "metrics"]).iter().enumerate();
    let list: Vec<_> = specs.map(|(at, spec)| metric(spec, statuses.get(at).unwrap_or(&Value::Null))).collect();
    or(&first(&list, SHOWN, ", "), "<none>").to_owned()
}

fn metric(spec: &Value, status: &Value) -> String {
    let (source, named) = match spec.text(&["type"]) {
        "External" => ("external", false),
        "Pods" => ("pods", false),
        "Object" => ("object", false),
        "Resource" => ("resource", true),
        "ContainerResource" => ("containerResource", true),
        _ => return "<unknown type>".into(),
    };
    let target = |field: &str| spec.at(&[source, "target", field]).filter(|value| !value.is_null());
    let current = |field: &str| printed(status.at(&[source, "current", field]), "<unknown>");
    let name = if named { format!("{}: ", spec.text(&[source, "name"])) } else { String::new() };
    let average = if matches!(source, "external" | "object") { " (avg)" } else { "" };
    match (target("averageValue"), named) {
        (Some(wanted), _) => format!("{name}{}/{}{average}", current("averageValue"), printed(Some(wanted), "")),
        (None, true) => {
            let percent = |value: String| if value.starts_with('<') { value } else { format!("{value}%") };
            let wanted = percent(printed(target("averageUtilization"), "<auto>"));
            format!("{name}{}/{wanted}", percent(current("averageUtilization")))
        }
        (None, false) => format!("{}/{}", current("value"), printed(target("value"), "0")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_show_what_is_and_what_should_be() {
        let scaler = json!({"spec": {"metrics": [
            {"type": "Resource", "resource": {"name": "cpu", "target": {"averageUtilization": 80}}},
            {"type": "Pods", "pods": {"target": {"averageValue": "10"}}},
            {"type": "External", "external": {"target": {"value": "3"}}}]},
            "status": {"currentMetrics": [{"resource": {"current": {"averageUtilization": 7}}}]}});
        let shown = |scaler: &Value| AUTOSCALER.row(scaler, jiff::Timestamp::UNIX_EPOCH)[2].clone();
        assert_eq!(shown(&scaler), "cpu: 7%/80%, <unknown>/10 + 1 more...");
        assert_eq!(shown(&json!({"spec": {"targetCPUUtilizationPercentage": 50}})), "cpu: <unknown>/50%");
        assert_eq!(shown(&json!({})), "<none>");
    }
}
