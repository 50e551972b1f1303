//! What can be wrong with a service.

use kedge_meta::field::{Error, ErrorList, Path};
use kedge_meta::names;
use serde_json::{Value, json};

use super::super::validation::{At, Report, scalar, selector};
use super::endpoints::reachable;
use super::service::needs_health_port;
use super::service_address_rules;
use super::service_update::is_external;
use crate::value::ValueExt;

const ONLY_BALANCED: &str = "may only be used when `type` is 'LoadBalancer'";
const MAX_AFFINITY_SECONDS: i64 = 86_400;

/// Everything that does not depend on what was before.
pub(super) fn validate(service: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let spec = At::field(service, "spec");
    let kind = spec.child("type");
    let headless = spec.child("clusterIP").text() == "None";
    if spec.child("ports").len() == 0 && !headless && kind.text() != "ExternalName" {
        errors.push(spec.child("ports").required(""));
    }
    of_type(&spec, kind.text(), headless, &mut errors);
    ports(&spec.child("ports"), &mut errors);
    selector::labels(&spec.child("selector"), &mut errors);
    affinity(&spec, &mut errors);
    errors.extend(service_address_rules::validate(service));
    for ip in spec.child("externalIPs").items() {
        let before = errors.len();
        scalar::ip(&ip, &mut errors);
        if errors.len() == before {
            reachable(&ip, &mut errors);
        }
    }
    errors.need_one_of(&kind, &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"]);
    port_numbers(&spec, kind.text(), &mut errors);
    balancing(&spec, kind.text(), &mut errors);
    traffic(service, &spec, kind.text(), &mut errors);
    errors
}

fn of_type(spec: &At<'_>, kind: &str, headless: bool, errors: &mut ErrorList) {
    match kind {
        "LoadBalancer" | "NodePort" if headless => {
            let path = spec.child("clusterIPs").path.index(0);
            errors.push(Error::invalid(&path, "None", format!("may not be set to 'None' for {kind} services")));
        }
        "ExternalName" => {
            for field in ["clusterIPs", "ipFamilies"] {
                if spec.child(field).len() > 0 {
                    errors.push(spec.child(field).forbidden("may not be set for ExternalName services"));
                }
            }
            if spec.child("ipFamilyPolicy").is_set() {
                errors.push(spec.child("ipFamilyPolicy").forbidden("may not be set for ExternalName services"));
            }
            let name = spec.child("externalName");
            match name.text().strip_suffix('.').unwrap_or(name.text()) {
                "" => errors.push(name.required("")),
                bare => errors.complaints(&name, names::is_dns1123_subdomain(bare)),
            }
        }
        _ => {}
    }
}

fn ports(at: &At<'_>, errors: &mut ErrorList) {
    let mut seen: Vec<&str> = Vec::new();
    for port in at.items() {
        let name = port.child("name");
        if name.text().is_empty() {
            if at.len() > 1 {
                errors.push(name.required(""));
            }
        } else {
            errors.complaints(&name, names::is_dns1123_label(name.text()));
            if seen.contains(&name.text()) {
                errors.push(name.duplicate());
            }
            seen.push(name.text());
        }
        let number = port.child("port");
        errors.complaints(&number, names::is_valid_port_num(number.int().unwrap_or_default()));
        errors.need_one_of(&port.child("protocol"), &["SCTP", "TCP", "UDP"]);
        scalar::port_or_name(&port.child("targetPort"), errors);
        if port.child("appProtocol").is_set() {
            let protocol = port.child("appProtocol");
            errors.complaints(&protocol, names::is_qualified_name(protocol.text()));
        }
    }
}

fn affinity(spec: &At<'_>, errors: &mut ErrorList) {
    let (kind, config) = (spec.child("sessionAffinity"), spec.child("sessionAffinityConfig"));
    errors.need_one_of(&kind, &["ClientIP", "None"]);
    match kind.text() {
        "ClientIP" => {
            let seconds = config.child("clientIP").child("timeoutSeconds");
            if !config.is_set() {
                errors.push(config.required("when session affinity type is ClientIP"));
            } else if !seconds.is_set() {
                errors.push(seconds.required("when session affinity type is ClientIP"));
            } else if !(1..=MAX_AFFINITY_SECONDS).contains(&seconds.int().unwrap_or_default()) {
                let detail = format!("must be greater than 0 and less than {MAX_AFFINITY_SECONDS}");
                errors.push(seconds.invalid(detail));
            }
        }
        "None" if config.is_set() => {
            errors.push(config.forbidden("must not be set when session affinity is None"));
        }
        _ => {}
    }
}

fn port_numbers(spec: &At<'_>, kind: &str, errors: &mut ErrorList) {
    let ports = spec.child("ports");
    let node_port = |port: &At<'_>| port.child("nodePort").int().filter(|number| *number != 0);
    if kind == "ClusterIP" {
        for port in ports.items().filter(|port| node_port(port).is_some()) {
            errors.push(port.child("nodePort").forbidden("may not be used when `type` is 'ClusterIP'"));
        }
    }
    let mut seen: Vec<(&str, i64)> = Vec::new();
    for port in ports.items() {
        let Some(number) = node_port(&port) else { continue };
        let key = (port.child("protocol").text(), number);
        if seen.contains(&key) {
            errors.push(port.child("nodePort").duplicate());
        }
        seen.push(key);
    }
    seen.clear();
    for port in ports.items() {
        let key = (port.child("protocol").text(), port.child("port").int().unwrap_or_default());
        if seen.contains(&key) {
            errors.push(Error::duplicate(&port.path, json!({"protocol": key.0, "port": key.1})));
        }
        seen.push(key);
    }
}

fn balancing(spec: &At<'_>, kind: &str, errors: &mut ErrorList) {
    let balanced = kind == "LoadBalancer";
    let ranges = spec.child("loadBalancerSourceRanges");
    // Upstream spells this one with a capital.
    let path = spec.path.child("LoadBalancerSourceRanges");
    if ranges.len() > 0 && !balanced {
        errors.push(Error::forbidden(&path, ONLY_BALANCED));
    }
    for (i, range) in ranges.items().enumerate() {
        let trimmed = Value::from(range.text().trim());
        scalar::cidr(&At { value: &trimmed, path: path.index(i) }, errors);
    }
    let allocate = spec.child("allocateLoadBalancerNodePorts");
    if allocate.is_set() && !balanced {
        errors.push(allocate.forbidden(ONLY_BALANCED));
    }
    if balanced && !allocate.is_set() {
        errors.push(Error::required(&Path::new("allocateLoadBalancerNodePorts"), ""));
    }
    let class = spec.child("loadBalancerClass");
    if class.is_set() {
        if balanced {
            errors.complaints(&class, names::is_qualified_name(class.text()));
        } else {
            errors.push(class.forbidden(ONLY_BALANCED));
        }
    }
}

fn traffic(service: &Value, spec: &At<'_>, kind: &str, errors: &mut ErrorList) {
    let (external, health) = (spec.child("externalTrafficPolicy"), spec.child("healthCheckNodePort"));
    if is_external(service) {
        errors.need_one_of(&external, &["Cluster", "Local"]);
    } else if !external.text().is_empty() {
        errors.push(external.invalid("may only be set for externally-accessible services"));
    }
    let port = health.int().unwrap_or_default();
    match (needs_health_port(service), port) {
        (false, 0) => {}
        (false, _) => errors.push(
            health.invalid("may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"),
        ),
        (true, 0) => errors.push(health.required("")),
        (true, port) => errors.complaints(&health, names::is_valid_port_num(port)),
    }
    let internal = spec.child("internalTrafficPolicy");
    if !internal.is_set() && matches!(kind, "ClusterIP" | "LoadBalancer" | "NodePort") {
        errors.push(internal.required(""));
    }
    errors.one_of(&internal, &["Cluster", "Local"]);
    errors.one_of(&spec.child("trafficDistribution"), &["PreferClose", "PreferSameZone", "PreferSameNode"]);
}

/// What may not change, beside addresses.
pub(super) fn validate_changes(new: &Value, old: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let (spec, was) = (At::field(new, "spec"), At::field(old, "spec"));
    let kind = |at: &At<'_>| at.child("type").text().to_owned();
    let (now_kind, was_kind) = (kind(&spec), kind(&was));
    let class = spec.child("loadBalancerClass");
    if now_kind == "LoadBalancer" && was_kind == "LoadBalancer" && class.value != was.child("loadBalancerClass").value {
        errors.push(class.invalid("may not change once set"));
    }
    if needs_health_port(new) && needs_health_port(old) {
        let health = spec.child("healthCheckNodePort");
        if health.value != was.child("healthCheckNodePort").value {
            errors.push(health.forbidden("field is immutable"));
        }
    }
    errors
}

/// What a load balancer may report.
pub(super) fn validate_load_balancer(service: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let ingress = At::field(service, "status").child("loadBalancer").child("ingress");
    if service.text(&["spec", "type"]) != "LoadBalancer" && ingress.len() > 0 {
        errors.push(ingress.forbidden("may only be used when `spec.type` is 'LoadBalancer'"));
        return errors;
    }
    for one in ingress.items() {
        let (ip, mode, host) = (one.child("ip"), one.child("ipMode"), one.child("hostname"));
        if !ip.text().is_empty() {
            scalar::ip(&ip, &mut errors);
            if !mode.is_set() {
                errors.push(mode.required("must be specified when `ip` is set"));
            }
        } else if mode.is_set() {
            errors.push(mode.forbidden("may not be specified when `ip` is not set"));
        }
        errors.one_of(&mode, &["Proxy", "VIP"]);
        if !host.text().is_empty() {
            errors.complaints(&host, names::is_dns1123_subdomain(host.text()));
            if host.text().parse::<std::net::IpAddr>().is_ok() {
                errors.push(host.invalid("must be a DNS name, not an IP address"));
            }
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Value {
        json!({"spec": {"type": "ClusterIP", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "sessionAffinity": "None",
            "internalTrafficPolicy": "Cluster", "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}]}})
    }

    fn texts(service: &Value) -> Vec<String> {
        validate(service).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn ports_are_there_and_unique() {
        assert!(texts(&good()).is_empty());
        let mut service = good();
        service["spec"]["ports"] = json!([]);
        assert_eq!(texts(&service), ["spec.ports: Required value"]);
        service["spec"]["ports"] = json!([{"name": "a", "port": 80, "protocol": "TCP", "targetPort": "web"},
            {"port": 80, "protocol": "TCP", "targetPort": 0, "nodePort": 30000}]);
        assert_eq!(
            texts(&service),
            [
                "spec.ports[1].name: Required value",
                "spec.ports[1].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive",
                "spec.ports[1].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
                "spec.ports[1]: Duplicate value: {\"port\":80,\"protocol\":\"TCP\"}",
            ]
        );
    }

    #[test]
    fn an_external_name_has_no_address() {
        let service = json!({"spec": {"type": "ExternalName", "sessionAffinity": "None", "clusterIPs": ["10.0.0.1"]}});
        assert_eq!(
            texts(&service),
            [
                "spec.clusterIPs: Forbidden: may not be set for ExternalName services",
                "spec.externalName: Required value"
            ]
        );
    }
}
