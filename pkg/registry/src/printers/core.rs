//! The core group's small kinds, and where its larger ones are.

use serde_json::json;

use super::row::{Row, condition};
use super::{
    AGE, AGED, NAME, PLAIN, Printer, claim, endpoints, event, node, pod, quota, service, text, volume, workload,
};
use crate::value::ValueExt;

pub(super) fn printer(plural: &str) -> &'static Printer {
    match plural {
        "componentstatuses" => &COMPONENT_STATUS,
        "configmaps" => &CONFIG_MAP,
        "endpoints" => &endpoints::ENDPOINTS,
        "events" => &event::EVENT,
        "namespaces" => &NAMESPACE,
        "nodes" => &node::NODE,
        "persistentvolumeclaims" => &claim::CLAIM,
        "persistentvolumes" => &volume::VOLUME,
        "pods" => &pod::POD,
        "podtemplates" => &workload::POD_TEMPLATE,
        "replicationcontrollers" => &workload::REPLICAS,
        "resourcequotas" => &quota::QUOTA,
        "secrets" => &SECRET,
        "serviceaccounts" => &AGED,
        "services" => &service::SERVICE,
        _ => &PLAIN,
    }
}

static NAMESPACE: Printer = Printer {
    columns: &[NAME, text("Status"), AGE],
    cells: |row| vec![row.name(), row.text_or(&["status", "phase"], ""), row.age()],
};

fn entries(row: &Row<'_>, field: &str) -> usize {
    row.object.map(&[field]).map_or(0, serde_json::Map::len)
}

static CONFIG_MAP: Printer = Printer {
    columns: &[NAME, text("Data"), AGE],
    cells: |row| vec![row.name(), json!(entries(row, "data") + entries(row, "binaryData")), row.age()],
};

static SECRET: Printer = Printer {
    columns: &[NAME, text("Type"), text("Data"), AGE],
    cells: |row| vec![row.name(), row.text_or(&["type"], ""), json!(entries(row, "data")), row.age()],
};

static COMPONENT_STATUS: Printer = Printer {
    columns: &[NAME, text("Status"), text("Message"), text("Error")],
    cells: |row| {
        let healthy = condition(row.list(&["conditions"]), "Healthy");
        let status = match healthy.map(|c| c.text(&["status"])) {
            None => "Unknown",
            Some("True") => "Healthy",
            Some(_) => "Unhealthy",
        };
        let told = |field: &str| json!(healthy.map_or("", |c| c.text(&[field])));
        vec![row.name(), json!(status), told("message"), told("error")]
    },
};
