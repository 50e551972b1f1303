//! Services: addresses and node ports are taken from the cluster's ranges.

use std::net::Ipv4Addr;
use std::sync::Arc;

use kedge_meta::field::{Error, Path};
use kedge_meta::{GroupKind, Status, names};
use kedge_schema::ResourceInfo;
use serde_json::{Value, json};

use super::super::allocators::{Pool, Refused, cluster_ips, node_ports};
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
        names::is_dns1035_label(&masked(name, prefix))
    }

    fn has_generation(&self, _: &ResourceInfo) -> bool {
        false
    }

    fn prepare_for_create(&self, _ctx: &Context<'_>, service: &mut Value) {
        service.set("status", json!({ "loadBalancer": {} }));
    }

    fn prepare_for_update(&self, _ctx: &Context<'_>, new: &mut Value, old: &Value) {
        // What an update leaves out of what the cluster gave it, it keeps, as long as the type stays.
        if needs_address(new) && needs_address(old) && new.text(&["spec", "clusterIP"]).is_empty() {
            for field in ["clusterIP", "clusterIPs"] {
                if let Some(value) = old.at(&["spec", field]) {
                    new.entry("spec").insert(field.into(), value.clone());
                }
            }
        }
        for field in ["ipFamilies", "ipFamilyPolicy"] {
            if let (None, Some(value)) = (new.at(&["spec", field]), old.at(&["spec", field])) {
                new.entry("spec").insert(field.into(), value.clone());
            }
        }
        keep_node_ports(new, old);
    }

    fn reserve(&self, ctx: &Context<'_>, new: &mut Value, old: Option<&Value>) -> Result<Reservation, Status> {
        if ctx.subresource == "status" {
            return Ok(Reservation::none());
        }
        let state = &ctx.registry.state;
        let mut addresses = Taken { pool: state.addresses.clone(), numbers: Vec::new() };
        let mut ports = Taken { pool: state.node_ports.clone(), numbers: Vec::new() };
        let taken =
            take_addresses(&mut addresses, new, old).and_then(|()| take_ports(&mut ports, new, old, ctx.registry));
        let release = move |taken: Taken| taken.numbers.iter().for_each(|n| taken.pool.release(*n));
        if let Err(error) = taken {
            release(addresses);
            release(ports);
            return Err(Status::invalid(&GroupKind::new("", "Service"), new.name(), &vec![error]));
        }
        // What the old service had and the new one does not is given back once the new one is stored.
        let gone: Vec<(Arc<Pool>, Vec<u32>)> = old.map_or_else(Vec::new, |old| {
            let (ips, numbers): (Vec<u32>, Vec<u32>) = (cluster_ips(new).collect(), node_ports(new).collect());
            vec![
                (state.addresses.clone(), cluster_ips(old).filter(|ip| !ips.contains(ip)).collect()),
                (state.node_ports.clone(), node_ports(old).filter(|p| !numbers.contains(p)).collect()),
            ]
        });
        let dry_run = ctx.dry_run;
        Ok(Reservation::new(move |stored| {
            if !stored || dry_run {
                release(addresses);
                release(ports);
            } else {
                gone.iter().for_each(|(pool, numbers)| numbers.iter().for_each(|n| pool.release(*n)));
            }
        }))
    }

    fn after_delete(&self, registry: &Registry, service: &Value) {
        cluster_ips(service).for_each(|ip| registry.state.addresses.release(ip));
        node_ports(service).for_each(|port| registry.state.node_ports.release(port));
    }
}

fn needs_address(service: &Value) -> bool {
    matches!(service.text(&["spec", "type"]), "ClusterIP" | "NodePort" | "LoadBalancer")
}

fn needs_ports(service: &Value) -> bool {
    match service.text(&["spec", "type"]) {
        "NodePort" => true,
        "LoadBalancer" => service.flag(&["spec", "allocateLoadBalancerNodePorts"]) != Some(false),
        _ => false,
    }
}

fn take_addresses(taken: &mut Taken, new: &mut Value, old: Option<&Value>) -> Result<(), Error> {
    if !needs_address(new) {
        let spec = new.entry("spec");
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            spec.remove(field);
        }
        return Ok(());
    }
    let path = Path::new("spec").child("clusterIPs");
    let wanted = match new.text(&["spec", "clusterIP"]) {
        "" => new.list(&["spec", "clusterIPs"]).first().and_then(Value::as_str).unwrap_or_default().to_owned(),
        ip => ip.to_owned(),
    };
    let held: Vec<u32> = old.map(|o| cluster_ips(o).collect()).unwrap_or_default();
    let ip = if wanted == "None" {
        wanted
    } else if wanted.is_empty() {
        let number = taken
            .pool
            .take_any()
            .map_err(|_| Error::invalid(&path, json!([]), "failed to allocate IP: range is full"))?;
        taken.numbers.push(number);
        Ipv4Addr::from(number).to_string()
    } else {
        let listed = json!([wanted]);
        let number = wanted.parse::<Ipv4Addr>().map(u32::from).map_err(|_| {
            Error::invalid(&path.index(0), wanted.as_str(), "must be a valid IPv4 address: this cluster has no IPv6")
        })?;
        if !held.contains(&number) {
            match taken.pool.take(number) {
                Ok(()) => taken.numbers.push(number),
                Err(Refused::OutOfRange) => {
                    let detail = format!("failed to allocate IP {wanted}: the provided IP is not in the valid range");
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
    spec.insert("clusterIPs".into(), json!([ip]));
    spec.entry("ipFamilies").or_insert_with(|| json!(["IPv4"]));
    spec.entry("ipFamilyPolicy").or_insert_with(|| json!("SingleStack"));
    Ok(())
}

fn take_ports(taken: &mut Taken, new: &mut Value, old: Option<&Value>, registry: &Registry) -> Result<(), Error> {
    let wants = needs_ports(new);
    let held: Vec<u32> = old.map(|o| node_ports(o).collect()).unwrap_or_default();
    let (low, high) = registry.config.node_ports;
    let spec = new.entry("spec");
    let Some(Value::Array(ports)) = spec.get_mut("ports") else { return Ok(()) };
    for (i, port) in ports.iter_mut().enumerate() {
        let path = Path::new("spec").child("ports").index(i).child("nodePort");
        let wanted = port.int(&["nodePort"]).filter(|p| *p > 0).and_then(|p| u32::try_from(p).ok());
        match wanted {
            None if !wants => {}
            Some(number) if held.contains(&number) || taken.numbers.contains(&number) => {}
            Some(number) => match taken.pool.take(number) {
                Ok(()) => taken.numbers.push(number),
                Err(Refused::OutOfRange) => {
                    let detail =
                        format!("provided port is not in the valid range. The range of valid ports is {low}-{high}");
                    return Err(Error::invalid(&path, number, detail));
                }
                Err(_) => return Err(Error::invalid(&path, number, "provided port is already allocated")),
            },
            None => {
                let number = taken
                    .pool
                    .take_any()
                    .map_err(|_| Error::invalid(&path, 0, "failed to allocate a nodePort: range is full"))?;
                taken.numbers.push(number);
                port.set("nodePort", number);
            }
        }
    }
    Ok(())
}

/// Ports that are named without their node port keep the one they had.
fn keep_node_ports(new: &mut Value, old: &Value) {
    if !needs_ports(new) || !needs_ports(old) {
        return;
    }
    let same =
        |a: &Value, b: &Value| a.int(&["port"]) == b.int(&["port"]) && a.text(&["protocol"]) == b.text(&["protocol"]);
    let Some(Value::Array(ports)) = new.entry("spec").get_mut("ports") else { return };
    for port in ports.iter_mut().filter(|p| p.int(&["nodePort"]).unwrap_or_default() == 0) {
        let had = old.list(&["spec", "ports"]).iter().find(|o| same(port, o)).and_then(|o| o.int(&["nodePort"]));
        if let Some(had) = had {
            port.set("nodePort", had);
        }
    }
}
