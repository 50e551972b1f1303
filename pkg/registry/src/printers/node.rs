//! Nodes.

use serde_json::{Value, json};

use super::row::{Row, condition, or};
use super::{AGE, NAME, Printer, text, wide};
use crate::value::ValueExt;

const ROLE_PREFIX: &str = "node-role.kubernetes.io/";
const ROLE: &str = "kubernetes.io/role";

pub(super) static NODE: Printer = Printer {
    columns: &[
        NAME,
        text("Status"),
        text("Roles"),
        AGE,
        text("Version"),
        wide("Internal-IP"),
        wide("External-IP"),
        wide("OS-Image"),
        wide("Kernel-Version"),
        wide("Container-Runtime"),
    ],
    cells: |row| {
        let info = |field: &str| or(row.text(&["status", "nodeInfo", field]), "<unknown>").to_owned();
        let architecture = row.text(&["status", "nodeInfo", "architecture"]);
        let mut kernel = info("kernelVersion");
        if !architecture.is_empty() {
            kernel.push_str(&format!(" ({architecture})"));
        }
        vec![
            row.name(),
            json!(status(row)),
            json!(or(&roles(row), "<none>")),
            row.age(),
            row.text_or(&["status", "nodeInfo", "kubeletVersion"], ""),
            address(row, "InternalIP"),
            address(row, "ExternalIP"),
            json!(info("osImage")),
            json!(kernel),
            json!(info("containerRuntimeVersion")),
        ]
    },
};

fn status(row: &Row<'_>) -> String {
    let ready = condition(row.list(&["status", "conditions"]), "Ready");
    let ready = match ready.map(|c| c.text(&["status"])) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    let cordoned = if row.flag(&["spec", "unschedulable"]) { ",SchedulingDisabled" } else { "" };
    format!("{ready}{cordoned}")
}

fn roles(row: &Row<'_>) -> String {
    let labels = row.object.map(&["metadata", "labels"]).into_iter().flatten();
    let mut roles: Vec<&str> = labels
        .filter_map(|(key, value)| match key.strip_prefix(ROLE_PREFIX) {
            Some(role) => Some(role),
            None if key == ROLE => value.as_str(),
            None => None,
        })
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort_unstable();
    roles.dedup();
    roles.join(",")
}

fn address(row: &Row<'_>, kind: &str) -> Value {
    let address = condition(row.list(&["status", "addresses"]), kind).map_or("", |a| a.text(&["address"]));
    json!(or(address, "<none>"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cordoned_control_plane() {
        let node = json!({"metadata": {"name": "n", "labels": {"node-role.kubernetes.io/master": "",
            "node-role.kubernetes.io/control-plane": "true", "kubernetes.io/role": "edge"}},
            "spec": {"unschedulable": true},
            "status": {"conditions": [{"type": "Ready", "status": "Unknown"}],
                "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
                "nodeInfo": {"kernelVersion": "6.1", "architecture": "arm64"}}});
        let cells = NODE.row(&node, jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(cells[1..3], [json!("NotReady,SchedulingDisabled"), json!("control-plane,edge,master")]);
        assert_eq!(cells[5..9], [json!("10.0.0.1"), json!("<none>"), json!("<unknown>"), json!("6.1 (arm64)")]);
    }
}
