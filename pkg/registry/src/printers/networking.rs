//! Network policies, service address ranges and addresses.

use serde_json::{Value, json};

use super::row::join;
use super::{AGE, NAME, PLAIN, Printer, ingress, text};
use crate::value::ValueExt;

pub(super) fn printer(plural: &str) -> &'static Printer {
    match plural {
        "ingresses" => &ingress::INGRESS,
        "ingressclasses" => &ingress::CLASS,
        "networkpolicies" => &POLICY,
        "servicecidrs" => &SERVICE_CIDR,
        "ipaddresses" => &ADDRESS,
        _ => &PLAIN,
    }
}

static POLICY: Printer = Printer {
    columns: &[NAME, text("Pod-Selector"), AGE],
    cells: |row| vec![row.name(), row.selector(&["spec", "podSelector"]), row.age()],
};

static SERVICE_CIDR: Printer = Printer {
    columns: &[NAME, text("CIDRs"), AGE],
    cells: |row| {
        let cidrs = join(row.list(&["spec", "cidrs"]).iter().filter_map(Value::as_str), ",");
        vec![row.name(), json!(cidrs), row.age()]
    },
};

static ADDRESS: Printer = Printer {
    columns: &[NAME, text("ParentRef")],
    cells: |row| {
        let parent = row.object.at(&["spec", "parentRef"]).filter(|parent| parent.is_object());
        let parent = parent.map_or("<none>".into(), |parent| {
            let resource = kedge_meta::GroupResource::new(parent.text(&["group"]), parent.text(&["resource"]));
            let namespace = parent.text(&["namespace"]);
            let namespace = if namespace.is_empty() { String::new() } else { format!("/{namespace}") };
            format!("{}{namespace}/{}", resource.to_string().to_lowercase(), parent.text(&["name"]))
        });
        vec![row.name(), json!(parent)]
    },
};
