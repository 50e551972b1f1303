//! Host ports: the table `ip kedge-hostport`.
//!
//! Invariant: the table follows from the records alone and is replaced as a whole, so it repairs
//! itself with the next pod that has a host port.

use crate::conf::{Invocation, PortMapping};
use crate::error::CniError;
use crate::ipam::Record;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::Ipv4Addr;

/// The table of host ports.
pub const TABLE: &str = "kedge-hostport";

const RULES: &str = r#"
add map ip kedge-hostport ports { type inet_proto . inet_service : ipv4_addr . inet_service; }
add map ip kedge-hostport address-ports { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }
add set ip kedge-hostport pods { type ipv4_addr . ipv4_addr; }
add chain ip kedge-hostport dispatch
add rule ip kedge-hostport dispatch dnat ip to ip daddr . meta l4proto . th dport map @address-ports
add rule ip kedge-hostport dispatch dnat ip to meta l4proto . th dport map @ports
add chain ip kedge-hostport prerouting { type nat hook prerouting priority -100; }
add rule ip kedge-hostport prerouting fib daddr type local jump dispatch
add chain ip kedge-hostport output { type nat hook output priority -100; }
add rule ip kedge-hostport output fib daddr type local jump dispatch
add chain ip kedge-hostport postrouting { type nat hook postrouting priority 100; }
"#;

/// The script that replaces the table; without any host port it only removes it.
pub fn script(records: &BTreeMap<Ipv4Addr, Record>) -> String {
    let mut out = format!("add table ip {TABLE}\ndelete table ip {TABLE}\n");
    if records.values().all(|record| record.ports.is_empty()) {
        return out;
    }
    let _ = write!(out, "add table ip {TABLE}{RULES}");
    // From 127.0.0.1 of the node, and from a pod to itself, the answer must come back through
    // the node.
    let loopback = "oifname != \"lo\" ip saddr 127.0.0.0/8 masquerade";
    let hairpin = "ct status dnat ip saddr . ip daddr @pods masquerade";
    for rule in [loopback, hairpin] {
        let _ = writeln!(out, "add rule ip {TABLE} postrouting {rule}");
    }
    for (ip, record) in records.iter().filter(|(_, record)| !record.ports.is_empty()) {
        let _ = writeln!(out, "add element ip {TABLE} pods {{ {ip} . {ip} }}");
        for port in &record.ports {
            let (protocol, host, pod) = (&port.protocol, port.host_port, port.container_port);
            let (map, address) = match port.address() {
                Some(address) => ("address-ports", format!("{address} . ")),
                None => ("ports", String::new()),
            };
            let element = format!("{address}{protocol} . {host} : {ip} . {pod}");
            let _ = writeln!(out, "add element ip {TABLE} {map} {{ {element} }}");
        }
    }
    out
}

/// Refuses host ports that another pod has.
///
/// # Errors
/// [`CniError::HostPort`] for the first port that is taken.
pub fn conflicts(
    records: &BTreeMap<Ipv4Addr, Record>,
    invocation: &Invocation,
    ports: &[PortMapping],
) -> Result<(), CniError> {
    for record in records.values().filter(|record| !record.is_of(invocation)) {
        for theirs in &record.ports {
            if let Some(port) = ports.iter().find(|ours| same(ours, theirs)) {
                let port = format!("{}/{}", port.host_port, port.protocol);
                let owner = format!("pod {} ({})", record.pod, record.container_id);
                return Err(CniError::HostPort { port, owner });
            }
        }
    }
    let repeated = |(i, port): (usize, &PortMapping)| ports[..i].iter().any(|other| same(port, other));
    if ports.iter().enumerate().any(repeated) {
        return Err(CniError::Config("portMappings: a host port twice".to_owned()));
    }
    Ok(())
}

/// The same key in the table. A port of one address may stand beside the same port of all others.
fn same(a: &PortMapping, b: &PortMapping) -> bool {
    a.host_port == b.host_port && a.protocol == b.protocol && a.address() == b.address()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn port(host_ip: &str, host_port: u16) -> PortMapping {
        let (protocol, host_ip) = ("tcp".into(), host_ip.into());
        PortMapping { host_port, container_port: 80, protocol, host_ip }
    }

    fn records(ports: Vec<PortMapping>) -> BTreeMap<Ipv4Addr, Record> {
        let record = Record { container_id: "a".into(), ifname: "eth0".into(), pod: "ns/web".into(), ports };
        BTreeMap::from([(Ipv4Addr::new(10, 42, 0, 2), record)])
    }

    #[test]
    fn the_table_follows_from_the_records() {
        let text = script(&records(vec![port("", 8080), port("192.168.1.2", 8443)]));
        assert!(text.contains("ports { tcp . 8080 : 10.42.0.2 . 80 }"), "{text}");
        assert!(text.contains("address-ports { 192.168.1.2 . tcp . 8443 : 10.42.0.2 . 80 }"), "{text}");
        let none = script(&records(Vec::new()));
        assert_eq!(none, "add table ip kedge-hostport\ndelete table ip kedge-hostport\n");
    }

    #[test]
    fn a_taken_port_is_refused_but_not_to_its_owner() {
        let pod =
            |id: &str| Invocation { container_id: id.into(), ifname: "eth0".into(), netns: None, pod: String::new() };
        let records = records(vec![port("", 8080)]);
        let error = conflicts(&records, &pod("b"), &[port("", 8080)]).unwrap_err();
        assert_eq!(error.to_string(), "host port 8080/tcp is in use by pod ns/web (a)");
        conflicts(&records, &pod("a"), &[port("", 8080)]).unwrap();
        conflicts(&records, &pod("b"), &[port("", 8081)]).unwrap();
        conflicts(&records, &pod("b"), &[port("127.0.0.1", 8080)]).unwrap();
        assert!(conflicts(&records, &pod("b"), &[port("", 1), port("", 1)]).is_err());
    }
}
