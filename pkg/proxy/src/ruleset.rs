//! The part of the table that does not depend on any service: hooks, dispatch, masquerading.
//!
//! Invariant: this text is the packet's way as the README tells it. It names every set and map of
//! [`Container`](crate::item::Container) but the slot maps, which come and go with endpoint counts.

use crate::item::Slots;
use std::fmt::Write as _;
use std::net::Ipv4Addr;

/// The one table; nobody else writes into it, and nothing of ours is outside it.
pub const TABLE: &str = "kedge-proxy";
/// The table's address family.
pub const FAMILY: &str = "ip";

/// Marks a packet for masquerading after routing. The bit is upstream's, so that network plug-ins
/// which spare it keep working.
pub const MARK_RULE: &str = "meta mark set meta mark or 0x4000";
const MASQUERADE_RULE: &str = "meta mark and 0x4000 != 0 meta mark set meta mark xor 0x4000 masquerade fully-random";

/// What of the configuration shapes the rules.
#[derive(Debug, Clone, Default)]
pub struct Shape {
    /// The addresses of all pods; traffic from elsewhere to cluster addresses is masqueraded.
    pub cluster_cidrs: Vec<Cidr>,
    /// The addresses of services; those that are not in use are dropped.
    pub service_cidrs: Vec<Cidr>,
    /// Whether node ports answer on 127.0.0.1 of the node, too.
    pub localhost_node_ports: bool,
}

/// An IPv4 network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    address: Ipv4Addr,
    bits: u8,
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

impl std::str::FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('/').and_then(|(address, bits)| {
            let (address, bits) = (address.parse().ok()?, bits.parse().ok()?);
            (bits <= 32).then_some(Self { address, bits })
        });
        parsed.ok_or_else(|| format!("{text:?} is not an IPv4 network such as 10.42.0.0/16"))
    }
}

const SETS: &str = "\
add set ip kedge-proxy cluster-ips { type ipv4_addr; }
add set ip kedge-proxy hairpin-connections { type ipv4_addr . ipv4_addr . inet_proto . inet_service; }
";

const ADDRESS_MAPS: [&str; 5] = ["service-ips", "inside-ips", "outside-ips", "no-endpoint-services", "firewall-ips"];
const NODE_PORT_MAPS: [&str; 4] =
    ["service-nodeports", "inside-nodeports", "outside-nodeports", "no-endpoint-nodeports"];

/// Hooks and their priorities: firewalling goes before the translation, checks come after it.
const BASE_CHAINS: [(&str, &str); 8] = [
    ("filter-prerouting-pre-dnat", "type filter hook prerouting priority -110"),
    ("filter-output-pre-dnat", "type filter hook output priority -110"),
    ("nat-prerouting", "type nat hook prerouting priority -100"),
    ("nat-output", "type nat hook output priority -100"),
    ("nat-postrouting", "type nat hook postrouting priority 100"),
    ("filter-input", "type filter hook input priority 0"),
    ("filter-forward", "type filter hook forward priority 0"),
    ("filter-output", "type filter hook output priority 0"),
];

const CHAINS: [&str; 8] = [
    "services",
    "external-ips",
    "external-nodeports",
    "masquerading",
    "firewall-check",
    "service-endpoints-check",
    "nodeport-endpoints-check",
    "cluster-ips-check",
];

const ADDRESS_KEY: &str = "ip daddr . meta l4proto . th dport";
const PORT_KEY: &str = "meta l4proto . th dport";

/// The script that makes the table anew, without any service, whatever was there before.
pub fn base(shape: &Shape) -> String {
    let mut out = String::with_capacity(8192);
    // The deletion needs the table to exist; all of this is one transaction.
    out.push_str("add table ip kedge-proxy\ndelete table ip kedge-proxy\nadd table ip kedge-proxy\n");
    out.push_str(SETS);
    for map in ADDRESS_MAPS {
        line(
            &mut out,
            format_args!("add map ip {TABLE} {map} {{ type ipv4_addr . inet_proto . inet_service : verdict; }}"),
        );
    }
    for map in NODE_PORT_MAPS {
        line(&mut out, format_args!("add map ip {TABLE} {map} {{ type inet_proto . inet_service : verdict; }}"));
    }
    line(&mut out, format_args!("add chain ip {TABLE} reject-chain"));
    // A pod's SYN is answered before its connect() has let go of the socket. The kernel takes a
    // reset then, but only remembers an ICMP error, and the client would try again for a second.
    rule(&mut out, "reject-chain", "meta l4proto tcp reject with tcp reset");
    rule(&mut out, "reject-chain", "reject");
    for chain in CHAINS {
        line(&mut out, format_args!("add chain ip {TABLE} {chain}"));
    }
    for (chain, hook) in BASE_CHAINS {
        line(&mut out, format_args!("add chain ip {TABLE} {chain} {{ {hook}; }}"));
    }
    dispatch(&mut out, shape);
    external(&mut out, shape);
    checks(&mut out, shape);
    out
}

fn dispatch(out: &mut String, shape: &Shape) {
    for chain in ["filter-prerouting-pre-dnat", "filter-output-pre-dnat"] {
        rule(out, chain, "ct state new jump firewall-check");
    }
    if shape.localhost_node_ports {
        // The kernel lets 127.0.0.0/8 leave loopback for the sake of node ports (route_localnet);
        // nobody outside may use that to reach what listens on 127.0.0.1.
        let guard = "iifname != \"lo\" ip daddr 127.0.0.0/8 ct status and dnat == 0 drop";
        rule(out, "filter-prerouting-pre-dnat", guard);
    }
    rule(out, "nat-prerouting", "jump services");
    rule(out, "nat-output", "jump services");
    rule(out, "nat-postrouting", "jump masquerading");
    if !shape.cluster_cidrs.is_empty() {
        let pods = list(&shape.cluster_cidrs);
        rule(out, "services", &format!("ip daddr @cluster-ips ip saddr != {pods} {MARK_RULE}"));
    }
    rule(out, "services", &format!("{ADDRESS_KEY} vmap @service-ips"));
    let here = if shape.localhost_node_ports { "" } else { "ip daddr != 127.0.0.0/8 " };
    rule(out, "services", &format!("fib daddr type local {here}{PORT_KEY} vmap @service-nodeports"));
    rule(out, "masquerading", MASQUERADE_RULE);
    let hairpin = "ct status dnat ip saddr . ip daddr . meta l4proto . th dport @hairpin-connections";
    rule(out, "masquerading", &format!("{hairpin} masquerade fully-random"));
    rule(out, "firewall-check", &format!("{ADDRESS_KEY} vmap @firewall-ips"));
}

/// Services with a `Local` external policy: traffic from inside may use all endpoints.
fn external(out: &mut String, shape: &Shape) {
    for (chain, key, maps) in [("external-ips", ADDRESS_KEY, "ips"), ("external-nodeports", PORT_KEY, "nodeports")] {
        if !shape.cluster_cidrs.is_empty() {
            let pods = list(&shape.cluster_cidrs);
            rule(out, chain, &format!("ip saddr {pods} {key} vmap @inside-{maps}"));
        }
        // The node's own packets carry the service's address as their source if it is local.
        rule(out, chain, &format!("fib saddr type local {MARK_RULE}"));
        rule(out, chain, &format!("fib saddr type local {key} vmap @inside-{maps}"));
        rule(out, chain, &format!("{key} vmap @outside-{maps}"));
    }
}

fn checks(out: &mut String, shape: &Shape) {
    rule(out, "filter-input", "ct state new jump nodeport-endpoints-check");
    for chain in ["filter-input", "filter-forward", "filter-output"] {
        rule(out, chain, "ct state new jump service-endpoints-check");
    }
    for chain in ["filter-forward", "filter-output"] {
        rule(out, chain, "ct state new jump cluster-ips-check");
    }
    rule(out, "service-endpoints-check", &format!("{ADDRESS_KEY} vmap @no-endpoint-services"));
    let key = format!("fib daddr type local {PORT_KEY} vmap @no-endpoint-nodeports");
    rule(out, "nodeport-endpoints-check", &key);
    rule(out, "cluster-ips-check", "ip daddr @cluster-ips goto reject-chain");
    if !shape.service_cidrs.is_empty() {
        let services = list(&shape.service_cidrs);
        rule(out, "cluster-ips-check", &format!("ip daddr {services} drop"));
    }
}

/// The map and the chains for one number of endpoints.
pub fn declare_slots(out: &mut String, slots: Slots) {
    let key = if slots.family.node_port { PORT_KEY } else { ADDRESS_KEY };
    let draw = match slots.count {
        0 | 1 => String::new(),
        count => format!(" . numgen random mod {count}"),
    };
    line(out, format_args!("add map ip {TABLE} {slots} {{ typeof {key}{draw} : ip daddr . th dport; }}"));
    let dnat = format!("dnat ip to {key}{draw} map @{slots}");
    line(out, format_args!("add chain ip {TABLE} {slots}-dnat"));
    rule(out, &format!("{slots}-dnat"), &dnat);
    line(out, format_args!("add chain ip {TABLE} {slots}-masq-dnat"));
    rule(out, &format!("{slots}-masq-dnat"), MARK_RULE);
    rule(out, &format!("{slots}-masq-dnat"), &dnat);
}

/// Removes what [`declare_slots`] made; nothing leads there any more.
pub fn remove_slots(out: &mut String, slots: Slots) {
    for chain in ["dnat", "masq-dnat"] {
        line(out, format_args!("flush chain ip {TABLE} {slots}-{chain}"));
        line(out, format_args!("delete chain ip {TABLE} {slots}-{chain}"));
    }
    line(out, format_args!("delete map ip {TABLE} {slots}"));
}

/// Adds one rule at the end of a chain.
pub fn rule(out: &mut String, chain: &str, text: &str) {
    line(out, format_args!("add rule ip {TABLE} {chain} {text}"));
}

/// Adds one line; writing to a string cannot fail.
pub fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = writeln!(out, "{text}");
}

fn list(cidrs: &[Cidr]) -> String {
    let texts: Vec<String> = cidrs.iter().map(Cidr::to_string).collect();
    format!("{{ {} }}", texts.join(", "))
}
