//! Ingresses and their classes.

use serde_json::json;

use super::row::{first, load_balancer, or, printed};
use super::{AGE, NAME, Printer, text};
use crate::value::ValueExt;

/// How many hosts are shown.
const SHOWN: usize = 3;

pub(super) static INGRESS: Printer = Printer {
    columns: &[NAME, text("Class"), text("Hosts"), text("Address"), text("Ports"), AGE],
    cells: |row| {
        let hosts = row.list(&["spec", "rules"]).iter().map(|rule| rule.text(&["host"]).to_owned());
        let hosts: Vec<_> = hosts.filter(|host| !host.is_empty()).collect();
        let ports = if row.list(&["spec", "tls"]).is_empty() { "80" } else { "80, 443" };
        vec![
            row.name(),
            row.text_or(&["spec", "ingressClassName"], "<none>"),
            json!(or(&first(&hosts, SHOWN, ","), "*")),
            json!(load_balancer(row.list(&["status", "loadBalancer", "ingress"]))),
            json!(ports),
            row.age(),
        ]
    },
};

pub(super) static CLASS: Printer = Printer {
    columns: &[NAME, text("Controller"), text("Parameters"), AGE],
    cells: |row| {
        let is_default =
            row.text(&["metadata", "annotations", "ingressclass.kubernetes.io/is-default-class"]) == "true";
        let name = format!("{}{}", row.object.name(), if is_default { " (default)" } else { "" });
        let parameters = row.object.at(&["spec", "parameters"]).filter(|p| p.is_object());
        let parameters = parameters.map_or("<none>".into(), |p| {
            let group = p.at(&["apiGroup"]).map_or(String::new(), |group| format!(".{}", printed(Some(group), "")));
            format!("{}{group}/{}", p.text(&["kind"]), p.text(&["name"]))
        });
        vec![json!(name), row.text_or(&["spec", "controller"], ""), json!(parameters), row.age()]
    },
};
