//! Services: addresses and node ports are taken from the cluster's ranges.

use std::net::Ipv4Addr;
use std::sync::Arc;

use kedge_meta::field::{Error, ErrorList, Path};
use kedge_meta::{GroupKind, Status, names};
use kedge_schema::ResourceInfo;
use serde_json::{Value, json};

use super::super::allocators::{Pool, Refused, cluster_ips, may_have_node_ports, node_ports};
use super::{service_update, service_validation};
use crate::registry::Registry;
use crate::strategy::{Context, Reservation, Strategy, masked};
use crate::value::ValueExt;

pub(crate) struct Service;

/// Numbers taken for one service, given back unless the service is stored.
struct Taken {
    pool: Arc<Pool>,
    numbers: Vec<u32>,
}

impl Strategy for Service {
    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        names::is_dns1123_label(&masked(name, prefix))
    }

    fn has_generation(&self, _: &ResourceInfo) -> bool {
        false
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn prepare_for_create(&self, _ctx: &Context<'_>, service: &mut Value) {
        service.set("status", json!({ "loadBalancer": {} }));
        service_update::one_address_in_both_fields(service, None);
    }

    fn prepare_for_update(&self, ctx: &Context<'_>, new: &mut Value, old: &Value) {
        if ctx.subresource != "status" {
            service_update::one_address_in_both_fields(new, Some(old));
            service_update::keep(new, old);
            service_update::drop_what_the_type_had(new, old);
        }
    }

    fn validate(&self, _ctx: &Context<'_>, service: &Value) -> ErrorList {
        service_validation::validate(service)
    }

    fn validate_update(&self, _ctx: &Context<'_>, new: &Value, old: &Value) -> ErrorList {
        let mut errors = service_validation::validate_changes(new, old);
        errors.extend(service_validation::validate(new));
        errors
    }

    fn validate_status_update(&self, _ctx: &Context<'_>, new: &Value, _old: &Value) -> ErrorList {
        service_validation::validate_load_balancer(new)
    }

    fn reserve(&self, ctx: &Context<'_>, new: &mut Value, old: Option<&Value>) -> Result<Reservation, Status> {
        if ctx.subresource == "status" {
            return Ok(Reservation::none());
        }
        let state = &ctx.registry.state;
        let mut addresses = Taken { pool: state.addresses.clone(), numbers: Vec::new() };
        let mut ports = Taken { pool: state.node_ports.clone(), numbers: Vec::new() };
        let taken = families(new)
            .and_then(|()| take_addresses(&mut addresses, new, old))
            .and_then(|()| take_ports(&mut ports, new, old, ctx.registry))
            .and_then(|()| take_health_port(&mut ports, new, old));
        let release = move |taken: Taken| taken.numbers.iter().for_each(|n| taken.pool.release(*n));
        if let Err(error) = taken {
            release(addresses);
            release(ports);
            return Err(Status::invalid(&GroupKind::new("", "Service"), new.name(), &vec![error]));
        }
        let claims = claims(&addresses, &ports, new, ctx.now)?;
        // What the old service had and the new one does not is given back in the same transaction.
        let (ips, numbers): (Vec<u32>, Vec<u32>) = (cluster_ips(new).collect(), node_ports(new).collect());
        let mut releases = Vec::new();
        if let Some(old) = old {
            releases.extend(cluster_ips(old).filter(|ip| !ips.contains(ip)).map(|ip| state.addresses.key(ip)));
            releases.extend(node_ports(old).filter(|p| !numbers.contains(p)).map(|p| state.node_ports.key(p)));
        }
        // From the moment on that the claims are stored, they speak for themselves.
        let settle = move |_| {
            release(addresses);
            release(ports);
        };
        Ok(Reservation::new(settle).with_keys(claims, releases))
    }

    fn releases(&self, registry: &Registry, service: &Value) -> Vec<String> {
        let state = &registry.state;
        let addresses = cluster_ips(service).map(|ip| state.addresses.key(ip));
        addresses.chain(node_ports(service).map(|port| state.node_ports.key(port))).collect()
    }
}

fn claims(
    addresses: &Taken,
    ports: &Taken,
    service: &Value,
    now: jiff::Timestamp,
) -> Result<Vec<(String, bytes::Bytes)>, Status> {
    let mut claims = addresses.pool.claims(&addresses.numbers, service, now).map_err(Status::internal)?;
    claims.extend(ports.pool.claims(&ports.numbers, service, now).map_err(Status::internal)?);
    Ok(claims)
}

pub(super) fn needs_address(service: &Value) -> bool {
    matches!(service.text(&["spec", "type"]), "ClusterIP" | "NodePort" | "LoadBalancer")
}

pub(super) fn needs_ports(service: &Value) -> bool {
    match service.text(&["spec", "type"]) {
        "NodePort" => true,
        "LoadBalancer" => service.flag(&["spec", "allocateLoadBalancerNodePorts"]) != Some(false),
        _ => false,
    }
}

/// Whether load balancers ask each node if it has endpoints.
pub(super) fn needs_health_port(service: &Value) -> bool {
    service.text(&["spec", "type"]) == "LoadBalancer" && service.text(&["spec", "externalTrafficPolicy"]) == "Local"
}

/// Decides the address families; the cluster has only IPv4.
fn families(service: &mut Value) -> Result<(), Error> {
    if !needs_address(service) {
        return Ok(());
    }
    let headless = service.text(&["spec", "clusterIP"]) == "None";
    let selectorless = service.map(&["spec", "selector"]).is_none_or(serde_json::Map::is_empty);
    let unknown = headless && selectorless;
    let spec = service.entry("spec");
    let policy = spec.entry("ipFamilyPolicy").or_insert(Value::Null);
    if policy.is_null() {
        *policy = json!(if unknown { "RequireDualStack" } else { "SingleStack" });
    }
    let policy = policy.clone();
    let families = spec.entry("ipFamilies").or_insert(Value::Null);
    if families.as_array().is_none_or(Vec::is_empty) {
        *families = json!(["IPv4"]);
    }
    let Value::Array(list) = families else { return Ok(()) };
    let path = Path::new("spec");
    if unknown {
        // Its endpoints are somebody else's, and may be of any family.
        if list.len() < 2 && policy != "SingleStack" {
            list.push(json!(if list[0] == "IPv6" { "IPv4" } else { "IPv6" }));
        }
        return Ok(());
    }
    if policy == "SingleStack" && list.len() == 2 {
        let detail = "must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified";
        return Err(Error::invalid(&path.child("ipFamilyPolicy"), policy, detail));
    }
    if policy == "RequireDualStack" {
        let detail = "this cluster is not configured for dual-stack services";
        return Err(Error::invalid(&path.child("ipFamilyPolicy"), policy, detail));
    }
    match list.iter().position(|family| family == "IPv6") {
        Some(at) => Err(Error::invalid(&path.child("ipFamilies").index(at), "IPv6", "not configured on this cluster")),
        None => Ok(()),
    }
}

fn take_addresses(taken: &mut Taken, new: &mut Value, old: Option<&Value>) -> Result<(), Error> {
    if !needs_address(new) {
        return Ok(());
    }
    let path = Path::new("spec").child("clusterIPs");
    let wanted = new.text(&["spec", "clusterIP"]).to_owned();
    let held: Vec<u32> = old.map(|o| cluster_ips(o).collect()).unwrap_or_default();
    let ip = if wanted == "None" {
        wanted
    } else if wanted.is_empty() {
        let full = |_| Error::invalid(&path, json!([]), "failed to allocate IP: range is full");
        let number = taken.pool.take_any().map_err(full)?;
        taken.numbers.push(number);
        Ipv4Addr::from(number).to_string()
    } else {
        let listed = json!([wanted]);
        let Ok(address) = wanted.parse::<Ipv4Addr>() else {
            let detail = match wanted.parse::<std::net::Ipv6Addr>() {
                Ok(_) => "IPv6 is not configured on this cluster",
                Err(_) => "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            };
            return Err(Error::invalid(&path.index(0), listed[0].clone(), detail));
        };
        let number = u32::from(address);
        if !held.contains(&number) {
            match taken.pool.take(number) {
                Ok(()) => taken.numbers.push(number),
                Err(Refused::OutOfRange) => {
                    let detail = format!(
                        "failed to allocate IP {wanted}: the provided network does not match the current range"
                    );
                    return Err(Error::invalid(&path, listed, detail));
                }
                Err(_) => {
                    let detail = format!("failed to allocate IP {wanted}: provided IP is already allocated");
                    return Err(Error::invalid(&path, listed, detail));
                }
            }
        }
        wanted
    };
    let spec = new.entry("spec");
    spec.insert("clusterIP".into(), ip.clone().into());
    if spec.get("clusterIPs").and_then(Value::as_array).is_none_or(|list| list.len() < 2) {
        spec.insert("clusterIPs".into(), json!([ip]));
    }
    Ok(())
}

fn take_ports(taken: &mut Taken, new: &mut Value, old: Option<&Value>, registry: &Registry) -> Result<(), Error> {
    let wants = needs_ports(new);
    // A load balancer that wants no node ports still gets those that are asked for by number.
    let may_have = may_have_node_ports(new);
    let held: Vec<u32> = old.map(|o| node_ports(o).collect()).unwrap_or_default();
    let (low, high) = registry.config.node_ports;
    let spec = new.entry("spec");
    let Some(Value::Array(ports)) = spec.get_mut("ports") else { return Ok(()) };
    let range = format!("provided port is not in the valid range. The range of valid ports is {low}-{high}");
    // What is asked for by number is taken first, so that nothing else gets it.
    for (i, port) in ports.iter().enumerate() {
        let path = Path::new("spec").child("ports").index(i).child("nodePort");
        let Some(number) = port.int(&["nodePort"]).filter(|p| *p > 0).and_then(|p| u32::try_from(p).ok()) else {
            continue;
        };
        // One number may serve two protocols of the same service.
        if !may_have || held.contains(&number) || taken.numbers.contains(&number) {
            continue;
        }
        match taken.pool.take(number) {
            Ok(()) => taken.numbers.push(number),
            Err(Refused::OutOfRange) => return Err(Error::invalid(&path, number, range)),
            Err(_) => return Err(Error::invalid(&path, number, "provided port is already allocated")),
        }
    }
    for (i, port) in ports.iter_mut().enumerate().filter(|_| wants) {
        if port.int(&["nodePort"]).unwrap_or_default() > 0 {
            continue;
        }
        let path = Path::new("spec").child("ports").index(i).child("nodePort");
        let full = |_| Error::invalid(&path, 0, "failed to allocate a nodePort: range is full");
        let number = taken.pool.take_any().map_err(full)?;
        taken.numbers.push(number);
        port.set("nodePort", number);
    }
    Ok(())
}

fn take_health_port(taken: &mut Taken, new: &mut Value, old: Option<&Value>) -> Result<(), Error> {
    if !needs_health_port(new) {
        return Ok(());
    }
    let path = Path::new("spec").child("healthCheckNodePort");
    let field = ["spec", "healthCheckNodePort"];
    let wanted = new.int(&field).filter(|port| *port > 0).and_then(|port| u32::try_from(port).ok());
    let held = old.and_then(|old| old.int(&field)).filter(|port| *port > 0).and_then(|port| u32::try_from(port).ok());
    match wanted {
        Some(number) if held == Some(number) => Ok(()),
        Some(number) => {
            let refused = |_| Error::invalid(&path, number, "failed to allocate requested HealthCheck NodePort");
            taken.pool.take(number).map_err(refused)?;
            taken.numbers.push(number);
            Ok(())
        }
        None => {
            let full = |_| Error::invalid(&path, 0, "failed to allocate a HealthCheck NodePort: range is full");
            let number = taken.pool.take_any().map_err(full)?;
            taken.numbers.push(number);
            new.entry("spec").insert(field[1].into(), number.into());
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_those_of_the_cluster() {
        let with = |spec: Value| {
            let mut service = json!({ "spec": spec });
            families(&mut service).map(|()| service["spec"].take())
        };
        let plain = with(json!({"type": "ClusterIP"}));
        assert_eq!(
            plain.ok(),
            Some(json!({"type": "ClusterIP", "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"}))
        );
        let headless = with(json!({"type": "ClusterIP", "clusterIP": "None"}));
        assert_eq!(headless.ok().map(|spec| spec["ipFamilies"].clone()), Some(json!(["IPv4", "IPv6"])));
        let both = with(json!({"type": "ClusterIP", "ipFamilyPolicy": "RequireDualStack", "selector": {"a": "b"}}));
        assert!(both.is_err_and(|error| error.to_string().ends_with("not configured for dual-stack services")));
        let prefer = with(json!({"type": "ClusterIP", "ipFamilyPolicy": "PreferDualStack", "selector": {"a": "b"}}));
        assert_eq!(prefer.ok().map(|spec| spec["ipFamilies"].clone()), Some(json!(["IPv4"])));
    }
}
