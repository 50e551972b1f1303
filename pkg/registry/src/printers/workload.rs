//! Deployments, replica sets, stateful sets, daemon sets, replication controllers, and what belongs to them.

use serde_json::{Value, json};

use super::row::{Row, labels};
use super::{AGE, NAME, PLAIN, Printer, integer, text, wide};
use crate::value::ValueExt;

const CONTAINERS: &[&str] = &["spec", "template", "spec", "containers"];

pub(super) fn printer(plural: &str) -> &'static Printer {
    match plural {
        "controllerrevisions" => &REVISION,
        "daemonsets" => &DAEMON_SET,
        "deployments" => &DEPLOYMENT,
        "replicasets" => &REPLICAS,
        "statefulsets" => &STATEFUL_SET,
        _ => &PLAIN,
    }
}

/// Containers, images and selector, as all workloads end.
fn wide_cells(row: &Row<'_>, cells: &mut Vec<Value>) {
    cells.extend(row.containers(CONTAINERS));
    // A replication controller selects by a plain map.
    cells.push(match row.object.at(&["kind"]).and_then(Value::as_str) {
        Some("ReplicationController") => json!(labels(row.object.map(&["spec", "selector"]))),
        _ => row.selector(&["spec", "selector"]),
    });
}

static DEPLOYMENT: Printer = Printer {
    columns: &[
        NAME,
        text("Ready"),
        text("Up-to-date"),
        text("Available"),
        AGE,
        wide("Containers"),
        wide("Images"),
        wide("Selector"),
    ],
    cells: |row| {
        let ready = format!("{}/{}", row.int(&["status", "readyReplicas"]), row.int(&["spec", "replicas"]));
        let mut cells = vec![
            row.name(),
            json!(ready),
            json!(row.int(&["status", "updatedReplicas"])),
            json!(row.int(&["status", "availableReplicas"])),
            row.age(),
        ];
        wide_cells(row, &mut cells);
        cells
    },
};

pub(super) static REPLICAS: Printer = Printer {
    columns: &[
        NAME,
        integer("Desired"),
        integer("Current"),
        integer("Ready"),
        AGE,
        wide("Containers"),
        wide("Images"),
        wide("Selector"),
    ],
    cells: |row| {
        let mut cells = vec![
            row.name(),
            json!(row.int(&["spec", "replicas"])),
            json!(row.int(&["status", "replicas"])),
            json!(row.int(&["status", "readyReplicas"])),
            row.age(),
        ];
        wide_cells(row, &mut cells);
        cells
    },
};

static STATEFUL_SET: Printer = Printer {
    columns: &[NAME, text("Ready"), AGE, wide("Containers"), wide("Images")],
    cells: |row| {
        let ready = format!("{}/{}", row.int(&["status", "readyReplicas"]), row.int(&["spec", "replicas"]));
        let mut cells = vec![row.name(), json!(ready), row.age()];
        cells.extend(row.containers(CONTAINERS));
        cells
    },
};

static DAEMON_SET: Printer = Printer {
    columns: &[
        NAME,
        integer("Desired"),
        integer("Current"),
        integer("Ready"),
        integer("Up-to-date"),
        integer("Available"),
        text("Node Selector"),
        AGE,
        wide("Containers"),
        wide("Images"),
        wide("Selector"),
    ],
    cells: |row| {
        let mut cells = vec![row.name()];
        let counts = [
            "desiredNumberScheduled",
            "currentNumberScheduled",
            "numberReady",
            "updatedNumberScheduled",
            "numberAvailable",
        ];
        cells.extend(counts.map(|count| json!(row.int(&["status", count]))));
        cells.push(json!(labels(row.object.map(&["spec", "template", "spec", "nodeSelector"]))));
        cells.push(row.age());
        wide_cells(row, &mut cells);
        cells
    },
};

pub(super) static POD_TEMPLATE: Printer = Printer {
    columns: &[NAME, text("Containers"), text("Images"), text("Pod Labels")],
    cells: |row| {
        let [names, images] = row.containers(&["template", "spec", "containers"]);
        vec![row.name(), names, images, json!(labels(row.object.map(&["template", "metadata", "labels"])))]
    },
};

static REVISION: Printer = Printer {
    columns: &[NAME, text("Controller"), text("Revision"), AGE],
    cells: |row| {
        let owners = row.list(&["metadata", "ownerReferences"]);
        let controller = owners.iter().find(|owner| owner.flag(&["controller"]) == Some(true));
        let controller = controller.map_or("<none>".into(), |owner| {
            let group =
                owner.text(&["apiVersion"]).split_once('/').map_or(String::new(), |(group, _)| format!(".{group}"));
            format!("{}{group}/{}", owner.text(&["kind"]).to_lowercase(), owner.text(&["name"]))
        });
        vec![row.name(), json!(controller), json!(row.int(&["revision"])), row.age()]
    },
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deployment_shows_its_replicas_and_images() {
        let deployment = json!({"metadata": {"name": "web"}, "spec": {"replicas": 3,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"spec": {"containers": [{"name": "a", "image": "x:1"}, {"name": "b", "image": "y"}]}}},
            "status": {"readyReplicas": 2, "updatedReplicas": 3}});
        assert_eq!(
            Value::from(DEPLOYMENT.row(&deployment, jiff::Timestamp::UNIX_EPOCH)),
            json!(["web", "2/3", 3, 0, "<unknown>", "a,b", "x:1,y", "app=web"])
        );
    }

    #[test]
    fn a_revision_names_its_controller() {
        let revision = json!({"metadata": {"name": "r", "ownerReferences": [
            {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "d", "controller": true}]}, "revision": 4});
        let cells = REVISION.row(&revision, jiff::Timestamp::UNIX_EPOCH);
        assert_eq!((&cells[1], &cells[2]), (&json!("daemonset.apps/d"), &json!(4)));
    }
}
