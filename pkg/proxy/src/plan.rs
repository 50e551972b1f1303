//! What one service puts into the table: the planner.
//!
//! Invariant: pure. It reads one Service and its EndpointSlices and returns a [`Fragment`]; it
//! knows neither other services nor what the kernel holds.

use crate::affinity;
use crate::endpoints::{Endpoints, Place, Uses, categorize};
use crate::item::{Container, Family, Item, Key, Slots, Value, Verdict, Vip};
use crate::objects::{EndpointSlice, Service, ServicePort};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

/// What one service asks of the table.
pub type Fragment = BTreeMap<Item, Value>;

/// The most addresses or source ranges of one service that are programmed.
const MAX_ADDRESSES: usize = 64;

/// What is the same for all services of this node.
#[derive(Debug, Clone, Default)]
pub struct Context {
    /// The node's name and zone.
    pub place: Place,
    /// The node's addresses; they may pass source ranges that contain one of them.
    pub node_ips: Vec<Ipv4Addr>,
}

/// Plans one service. A service that needs no proxy gives an empty fragment.
pub fn plan_service(service: &Service, slices: &[Arc<EndpointSlice>], context: &Context) -> Fragment {
    let mut out = Fragment::new();
    let Some(cluster_ip) = service.proxied_cluster_ip() else { return out };
    out.insert(Item::Element(Container::ClusterIps, Key::Address(cluster_ip)), Value::Present);
    for port in service.spec.ports.iter().filter(|port| port.port != 0) {
        PortPlan::new(service, port, slices, context, &mut out).build(cluster_ip);
    }
    out
}

/// The planning of one service port.
struct PortPlan<'a> {
    service: &'a Service,
    port: &'a ServicePort,
    endpoints: Endpoints,
    context: &'a Context,
    affinity: Option<affinity::Chains>,
    out: &'a mut Fragment,
}

impl<'a> PortPlan<'a> {
    fn new(
        service: &'a Service,
        port: &'a ServicePort,
        slices: &[Arc<EndpointSlice>],
        context: &'a Context,
        out: &'a mut Fragment,
    ) -> Self {
        let external = external_addresses(service).next().is_some() || port.node_port != 0;
        let uses = Uses {
            cluster: !service.internal_local() || external,
            local: service.internal_local() || (external && service.external_local()),
        };
        let endpoints = categorize(slices, &port.name, port.protocol, uses, &context.place);
        let affinity = affinity::plan(service, port, &endpoints, out);
        Self { service, port, endpoints, context, affinity, out }
    }

    fn build(mut self, cluster_ip: Ipv4Addr) {
        for endpoint in std::mem::take(&mut self.endpoints.hairpin) {
            let key = Key::Hairpin(self.port.protocol, endpoint);
            self.out.insert(Item::Element(Container::Hairpin, key), Value::Present);
        }
        self.internal(self.vip(Some(cluster_ip)));
        let addresses: Vec<Ipv4Addr> = external_addresses(self.service).collect();
        for address in addresses {
            self.external(self.vip(Some(address)));
        }
        if self.port.node_port != 0 {
            let vip = Vip { address: None, protocol: self.port.protocol, port: self.port.node_port };
            self.external(vip);
        }
        self.firewall();
    }

    fn vip(&self, address: Option<Ipv4Addr>) -> Vip {
        Vip { address, protocol: self.port.protocol, port: self.port.port }
    }

    /// Traffic to the cluster address.
    fn internal(&mut self, vip: Vip) {
        let local = self.service.internal_local();
        let usable = if local { &self.endpoints.local } else { &self.endpoints.cluster };
        if usable.is_empty() {
            let verdict = if self.endpoints.any { Verdict::Drop } else { Verdict::Reject };
            return self.verdict(Container::NoEndpointIps, vip, verdict);
        }
        let endpoints = usable.clone();
        let verdict = match &self.affinity {
            Some(chains) => Verdict::Chain(if local { &chains.local } else { &chains.cluster }.clone()),
            None => self.slots(Family { node_port: false, local: false }, vip, &endpoints, false),
        };
        self.verdict(Container::ServiceIps, vip, verdict);
    }

    /// Traffic to external addresses, load balancer addresses and node ports.
    fn external(&mut self, vip: Vip) {
        let node_port = vip.address.is_none();
        let (services, no_endpoints) = if node_port {
            (Container::NodePorts, Container::NoEndpointNodePorts)
        } else {
            (Container::ServiceIps, Container::NoEndpointIps)
        };
        if !self.endpoints.any {
            return self.verdict(no_endpoints, vip, Verdict::Reject);
        }
        if self.service.external_local() {
            if self.endpoints.local.is_empty() {
                self.verdict(no_endpoints, vip, Verdict::Drop);
            }
            self.external_local(vip);
            return self.verdict(services, vip, Verdict::External { node_port });
        }
        if self.endpoints.cluster.is_empty() {
            return self.verdict(no_endpoints, vip, Verdict::Drop);
        }
        let verdict = match &self.affinity {
            Some(chains) => Verdict::Chain(chains.external.clone()),
            None => {
                let endpoints = self.endpoints.cluster.clone();
                self.slots(Family { node_port, local: false }, vip, &endpoints, true)
            }
        };
        self.verdict(services, vip, verdict);
    }

    /// The two ways under a `Local` external policy: traffic from pods and from this node behaves
    /// as if it had gone out and come back through a load balancer, so it may use all endpoints.
    fn external_local(&mut self, vip: Vip) {
        let node_port = vip.address.is_none();
        let (inside, outside) = if node_port {
            (Container::InsideNodePorts, Container::OutsideNodePorts)
        } else {
            (Container::InsideIps, Container::OutsideIps)
        };
        let (cluster, local) = (self.endpoints.cluster.clone(), self.endpoints.local.clone());
        if !cluster.is_empty() {
            let verdict = match &self.affinity {
                Some(chains) => Verdict::Chain(chains.cluster.clone()),
                None => self.slots(Family { node_port, local: false }, vip, &cluster, false),
            };
            self.verdict(inside, vip, verdict);
        }
        if !local.is_empty() {
            let verdict = match &self.affinity {
                Some(chains) => Verdict::Chain(chains.local.clone()),
                None => self.slots(Family { node_port, local: true }, vip, &local, false),
            };
            self.verdict(outside, vip, verdict);
        }
    }

    /// Source ranges apply to the load balancer's addresses only, not to node ports.
    fn firewall(&mut self) {
        let ranges = source_ranges(self.service);
        let vips: Vec<Ipv4Addr> = self.service.load_balancer_ips().take(MAX_ADDRESSES).collect();
        if self.service.spec.load_balancer_source_ranges.is_empty() || vips.is_empty() {
            return;
        }
        let mut sources: Vec<String> = ranges.iter().map(|(ip, bits)| format!("{ip}/{bits}")).collect();
        // A request of the node itself to an address it also holds has that address as its source.
        if ranges.iter().any(|range| self.context.node_ips.iter().any(|ip| contains(*range, *ip))) {
            sources
                .extend(vips.iter().filter(|ip| !ranges.iter().any(|r| contains(*r, **ip))).map(Ipv4Addr::to_string));
        }
        let rule = if sources.is_empty() {
            "drop".to_owned()
        } else {
            format!("ip saddr != {{ {} }} drop", sources.join(", "))
        };
        let name = affinity::chain_name("fw", self.service, self.port, "");
        self.out.insert(Item::Chain(name.clone()), Value::Rules(Arc::from([rule])));
        for ip in vips {
            self.verdict(Container::Firewall, self.vip(Some(ip)), Verdict::Chain(name.clone()));
        }
    }

    fn verdict(&mut self, container: Container, vip: Vip, verdict: Verdict) {
        self.out.insert(Item::Element(container, Key::Vip(vip)), Value::Verdict(verdict));
    }

    /// Puts the endpoints into the slot map for their number and says how to get there.
    fn slots(&mut self, family: Family, vip: Vip, endpoints: &[SocketAddrV4], masquerade: bool) -> Verdict {
        let slots = Slots { family, count: endpoints.len() as u16 };
        for (slot, endpoint) in (0_u16..).zip(endpoints) {
            // With one endpoint there is nothing to draw, so its map has no slot in the key.
            let key = if slots.count == 1 { Key::Vip(vip) } else { Key::Slot(vip, slot) };
            self.out.insert(Item::Element(Container::Endpoints(slots), key), Value::Target(*endpoint));
        }
        Verdict::Endpoints { slots, masquerade }
    }
}

fn external_addresses(service: &Service) -> impl Iterator<Item = Ipv4Addr> + '_ {
    let external = service.spec.external_ips.iter().filter_map(|ip| ip.parse().ok());
    external.take(MAX_ADDRESSES).chain(service.load_balancer_ips().take(MAX_ADDRESSES))
}

/// The parsed IPv4 source ranges, without those that another one contains: nft refuses overlaps.
fn source_ranges(service: &Service) -> Vec<(Ipv4Addr, u8)> {
    let parsed = service.spec.load_balancer_source_ranges.iter().filter_map(|text| {
        let (ip, bits) = text.trim().split_once('/')?;
        let (ip, bits): (Ipv4Addr, u8) = (ip.parse().ok()?, bits.parse().ok()?);
        (bits <= 32).then(|| (Ipv4Addr::from_bits(ip.to_bits() & mask(bits)), bits))
    });
    let mut all: Vec<_> = parsed.take(MAX_ADDRESSES).collect();
    all.sort_unstable_by_key(|(ip, bits)| (*bits, *ip));
    let mut kept: Vec<(Ipv4Addr, u8)> = Vec::new();
    for range in all {
        if !kept.iter().any(|wider| contains(*wider, range.0)) {
            kept.push(range);
        }
    }
    kept
}

fn mask(bits: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0)
}

fn contains((network, bits): (Ipv4Addr, u8), ip: Ipv4Addr) -> bool {
    ip.to_bits() & mask(bits) == network.to_bits()
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
