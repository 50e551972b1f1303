//! What an update of a service keeps without saying so, and what it loses with a change of type.

use serde_json::{Value, json};

use super::service::{needs_address, needs_health_port, needs_ports};
use crate::value::ValueExt;

/// `clusterIP` and `clusterIPs` say the same; old clients know only the first.
pub(super) fn one_address_in_both_fields(new: &mut Value, old: Option<&Value>) {
    let text = |service: &Value| service.text(&["spec", "clusterIP"]).to_owned();
    let list = |service: &Value| service.list(&["spec", "clusterIPs"]).to_vec();
    let (single, listed) = (text(new), list(new));
    let spec = new.entry("spec");
    let Some((was_single, was_listed)) = old.map(|old| (text(old), list(old))) else {
        if !single.is_empty() && listed.is_empty() {
            spec.insert("clusterIPs".into(), json!([single]));
        }
        return;
    };
    if single == was_single {
        // An old client, which knows no lists.
        if listed.is_empty() && !was_listed.is_empty() {
            spec.insert("clusterIPs".into(), was_listed.into());
        }
    } else if listed == was_listed {
        // The client changed the one field it knows.
        match single.as_str() {
            "" => spec.remove("clusterIPs"),
            single => spec.insert("clusterIPs".into(), json!([single])),
        };
    }
}

/// What an update leaves out of what the cluster gave it, it keeps, as long as the type needs it.
pub(super) fn keep(new: &mut Value, old: &Value) {
    if needs_address(new) && needs_address(old) {
        for field in ["clusterIP", "clusterIPs"] {
            let unset = new.text(&["spec", field]).is_empty() && new.list(&["spec", field]).is_empty();
            if let (true, Some(value)) = (unset, old.at(&["spec", field])) {
                new.entry("spec").insert(field.into(), value.clone());
            }
        }
    }
    if needs_ports(new) && needs_ports(old) {
        keep_node_ports(new, old);
    }
    let health = ["spec", "healthCheckNodePort"];
    if needs_health_port(new)
        && needs_health_port(old)
        && new.int(&health).unwrap_or_default() == 0
        && let Some(port) = old.at(&health)
    {
        new.entry("spec").insert(health[1].into(), port.clone());
    }
}

/// Ports that are named without their node port keep the one that the port of this name had.
fn keep_node_ports(new: &mut Value, old: &Value) {
    let same = |a: &Value, b: &Value| a.text(&["name"]) == b.text(&["name"]);
    let mut used: Vec<i64> = new.list(&["spec", "ports"]).iter().filter_map(|port| port.int(&["nodePort"])).collect();
    let Some(Value::Array(ports)) = new.entry("spec").get_mut("ports") else { return };
    for port in ports.iter_mut().filter(|p| p.int(&["nodePort"]).unwrap_or_default() == 0) {
        let had = old.list(&["spec", "ports"]).iter().find(|o| same(port, o)).and_then(|o| o.int(&["nodePort"]));
        if let Some(had) = had.filter(|had| !used.contains(had)) {
            used.push(had);
            port.set("nodePort", had);
        }
    }
}

/// A field that only the old type had, and that the update does not touch, goes with the type.
pub(super) fn drop_what_the_type_had(new: &mut Value, old: &Value) {
    let spec = |object: &Value, field: &str| object.at(&["spec", field]).cloned();
    let untouched = |new: &Value, field: &str| spec(new, field) == spec(old, field);
    let mut gone: Vec<&str> = Vec::new();
    if needs_address(old) && !needs_address(new) {
        if untouched(new, "clusterIP") && untouched(new, "clusterIPs") {
            gone.extend(["clusterIP", "clusterIPs"]);
        }
        gone.extend(["ipFamilies", "ipFamilyPolicy"].iter().filter(|f| untouched(new, f)));
    }
    if new.text(&["spec", "type"]) == "ExternalName" {
        // Upstream stores it, and does not show it.
        gone.push("internalTrafficPolicy");
    }
    if needs_health_port(old) && !needs_health_port(new) && untouched(new, "healthCheckNodePort") {
        gone.push("healthCheckNodePort");
    }
    let balanced = |service: &Value| service.text(&["spec", "type"]) == "LoadBalancer";
    if balanced(old) && !balanced(new) {
        gone.extend(["allocateLoadBalancerNodePorts", "loadBalancerClass"].iter().filter(|f| untouched(new, f)));
    }
    if is_external(old) && !is_external(new) && untouched(new, "externalTrafficPolicy") {
        gone.push("externalTrafficPolicy");
    }
    for field in gone {
        new.entry("spec").remove(field);
    }
    if needs_ports(old) && !needs_ports(new) && same_node_ports(new, old) {
        for port in new.entry("spec").get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
            port.set_or_remove("nodePort", None);
        }
    }
}

fn same_node_ports(new: &Value, old: &Value) -> bool {
    let ports = |service: &Value| -> Vec<Option<i64>> {
        service.list(&["spec", "ports"]).iter().map(|port| port.int(&["nodePort"])).collect()
    };
    ports(new) == ports(old)
}

/// Whether it can be reached from outside by itself.
pub(super) fn is_external(service: &Value) -> bool {
    let by_type = matches!(service.text(&["spec", "type"]), "NodePort" | "LoadBalancer");
    let by_address =
        service.text(&["spec", "type"]) == "ClusterIP" && !service.list(&["spec", "externalIPs"]).is_empty();
    by_type || by_address
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node_port() -> Value {
        json!({"spec": {"type": "NodePort", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack", "externalTrafficPolicy": "Cluster",
            "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30000}]}})
    }

    #[test]
    fn what_is_left_out_is_kept() {
        let mut new = json!({"spec": {"type": "NodePort", "ports": [{"port": 80, "protocol": "TCP"}, {"port": 81, "protocol": "TCP"}]}});
        keep(&mut new, &node_port());
        assert_eq!(new["spec"]["clusterIP"], "10.0.0.1");
        assert_eq!(new["spec"]["ports"][0]["nodePort"], 30000);
        assert!(new["spec"]["ports"][1].get("nodePort").is_none());
    }

    /// As upstream: a port that changes its number is the same port, and one that changes its name is another.
    #[test]
    fn node_ports_are_kept_by_name() {
        let port = |name: &str, port: u32| json!({"name": name, "port": port, "protocol": "TCP"});
        let mut old = node_port();
        old["spec"]["ports"] = json!([port("a", 80), port("b", 81)]);
        (old["spec"]["ports"][0]["nodePort"], old["spec"]["ports"][1]["nodePort"]) = (json!(30_000), json!(30_001));
        let mut new = json!({"spec": {"type": "NodePort", "ports": [port("b", 90), port("c", 80)]}});
        keep(&mut new, &old);
        assert_eq!(new["spec"]["ports"][0]["nodePort"], 30_001);
        assert!(new["spec"]["ports"][1].get("nodePort").is_none());
    }

    /// An old client knows only the one field, and must not lose the second address with it.
    #[test]
    fn a_client_that_knows_no_lists_keeps_both_addresses() {
        let mut old = node_port();
        old["spec"]["clusterIPs"] = json!(["10.0.0.1", "fd00::1"]);
        for unset in [json!(null), json!([])] {
            let mut new = old.clone();
            new["spec"]["clusterIPs"] = unset;
            keep(&mut new, &old);
            one_address_in_both_fields(&mut new, Some(&old));
            assert_eq!(new["spec"]["clusterIPs"], old["spec"]["clusterIPs"]);
        }
    }

    #[test]
    fn a_change_of_type_takes_its_fields_with_it() {
        let mut new = node_port();
        new["spec"]["type"] = json!("ClusterIP");
        drop_what_the_type_had(&mut new, &node_port());
        assert!(new["spec"].get("externalTrafficPolicy").is_none());
        assert!(new["spec"]["ports"][0].get("nodePort").is_none());
        new["spec"]["type"] = json!("ExternalName");
        drop_what_the_type_had(&mut new, &node_port());
        assert!(new["spec"].get("clusterIP").is_none() && new["spec"].get("ipFamilies").is_none());
    }

    #[test]
    fn the_single_address_leads() {
        let old = node_port();
        let mut new = node_port();
        new["spec"]["clusterIP"] = json!("10.0.0.9");
        one_address_in_both_fields(&mut new, Some(&old));
        assert_eq!(new["spec"]["clusterIPs"], json!(["10.0.0.9"]));
        let mut created = json!({"spec": {"clusterIP": "None"}});
        one_address_in_both_fields(&mut created, None);
        assert_eq!(created["spec"]["clusterIPs"], json!(["None"]));
    }
}
