//! Services.

use serde_json::json;

use super::row::{Row, join, labels, load_balancer, or};
use super::{AGE, NAME, Printer, text, wide};
use crate::value::ValueExt;

pub(super) static SERVICE: Printer = Printer {
    columns: &[NAME, text("Type"), text("Cluster-IP"), text("External-IP"), text("Port(s)"), AGE, wide("Selector")],
    cells: |row| {
        let cluster_ip = row.list(&["spec", "clusterIPs"]).first().and_then(|ip| ip.as_str()).unwrap_or("<none>");
        vec![
            row.name(),
            row.text_or(&["spec", "type"], ""),
            json!(cluster_ip),
            json!(external_ip(row)),
            json!(or(&ports(row), "<none>")),
            row.age(),
            json!(labels(row.object.map(&["spec", "selector"]))),
        ]
    },
};

fn external_ip(row: &Row<'_>) -> String {
    let listed = join(row.list(&["spec", "externalIPs"]).iter().filter_map(|ip| ip.as_str()), ",");
    match row.text(&["spec", "type"]) {
        "ClusterIP" | "NodePort" => or(&listed, "<none>").to_owned(),
        "LoadBalancer" => {
            let balancer = load_balancer(row.list(&["status", "loadBalancer", "ingress"]));
            let both = join([balancer.as_str(), listed.as_str()].into_iter().filter(|part| !part.is_empty()), ",");
            or(&both, "<pending>").to_owned()
        }
        "ExternalName" => row.text(&["spec", "externalName"]).to_owned(),
        _ => "<unknown>".to_owned(),
    }
}

fn ports(row: &Row<'_>) -> String {
    let port = |port: &serde_json::Value| {
        let (number, protocol) = (port.int(&["port"]).unwrap_or_default(), port.text(&["protocol"]));
        match port.int(&["nodePort"]) {
            Some(node) if node > 0 => format!("{number}:{node}/{protocol}"),
            _ => format!("{number}/{protocol}"),
        }
    };
    row.list(&["spec", "ports"]).iter().map(port).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_balancer_shows_its_addresses_and_ports() {
        let mut service = json!({"metadata": {"name": "web"}, "spec": {"type": "LoadBalancer", "clusterIPs": ["10.0.0.1"],
            "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]}});
        let show = |service: &serde_json::Value| SERVICE.row(service, jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(show(&service)[3..5], [json!("<pending>"), json!("80:30080/TCP,53/UDP")]);
        service["status"] =
            json!({"loadBalancer": {"ingress": [{"ip": "2.2.2.2"}, {"hostname": "a"}, {"ip": "1.1.1.1"}]}});
        service["spec"]["externalIPs"] = json!(["9.9.9.9"]);
        assert_eq!(show(&service)[3], "1.1.1.1,2.2.2.2,a,9.9.9.9");
        assert_eq!(
            show(&json!({"spec": {"type": "ClusterIP"}}))[2..5],
            [json!("<none>"), json!("<none>"), json!("<none>")]
        );
    }
}
