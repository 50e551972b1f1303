//! Which endpoints of a service this node sends traffic to.
//!
//! Invariant: pure. The same slices give the same lists in the same order, so an unchanged service
//! never makes a change in the kernel.

use crate::objects::{EndpointSlice, Protocol, SliceEndpoint};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

/// The most endpoints of one service port that are programmed.
///
/// A thousand is what the conformance limits of a service promise; beyond it a slot map grows
/// without making the choice any better.
pub const MAX_ENDPOINTS: usize = 1000;

/// Where this node stands, for locality decisions.
#[derive(Debug, Clone, Default)]
pub struct Place {
    /// The node's name.
    pub node: String,
    /// The zone from the node's label, when it has one.
    pub zone: String,
}

#[derive(Debug, Clone)]
struct Endpoint<'a> {
    ready: bool,
    serving_terminating: bool,
    local: bool,
    of: &'a SliceEndpoint,
}

/// The endpoints of one service port, by traffic policy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// For traffic that may leave the node.
    pub cluster: Vec<SocketAddrV4>,
    /// For traffic that must stay on the node.
    pub local: Vec<SocketAddrV4>,
    /// Whether there is a usable endpoint anywhere, reachable under the policies or not.
    pub any: bool,
    /// Endpoints on this node among the two lists; they need hairpin masquerading.
    pub hairpin: Vec<SocketAddrV4>,
}

/// The policies under which a service port looks for endpoints.
#[derive(Debug, Clone, Copy)]
pub struct Uses {
    /// Some traffic may go to any node.
    pub cluster: bool,
    /// Some traffic must stay here.
    pub local: bool,
}

/// Sorts the endpoints of the port `name`/`protocol` by traffic policy.
///
/// Ready endpoints are preferred; where there is none, endpoints that terminate but still serve
/// stand in for them, separately for each of the two lists.
pub fn categorize(
    slices: &[Arc<EndpointSlice>],
    name: &str,
    protocol: Protocol,
    uses: Uses,
    place: &Place,
) -> Endpoints {
    let all = collect(slices, name, protocol, place);
    let mut out = Endpoints::default();
    if uses.cluster {
        let topology = Topology::choose(&all, place);
        out.cluster = pick(&all, |e| e.ready && topology.admits(e, place));
        if out.cluster.is_empty() {
            out.cluster = pick(&all, |e| e.serving_terminating);
        }
        out.any = !out.cluster.is_empty();
    }
    if uses.local {
        out.any |= all.values().any(|e| e.ready || e.serving_terminating);
        out.local = pick(&all, |e| e.local && e.ready);
        if out.local.is_empty() {
            out.local = pick(&all, |e| e.local && e.serving_terminating);
        }
    }
    out.hairpin = out.cluster.iter().chain(&out.local).copied().collect();
    out.hairpin.sort_unstable();
    out.hairpin.dedup();
    out.hairpin.retain(|address| all.get(address).is_some_and(|e| e.local));
    out
}

fn pick(all: &BTreeMap<SocketAddrV4, Endpoint<'_>>, wanted: impl Fn(&Endpoint<'_>) -> bool) -> Vec<SocketAddrV4> {
    all.iter().filter(|(_, e)| wanted(e)).map(|(a, _)| *a).take(MAX_ENDPOINTS).collect()
}

fn collect<'a>(
    slices: &'a [Arc<EndpointSlice>],
    name: &str,
    protocol: Protocol,
    place: &Place,
) -> BTreeMap<SocketAddrV4, Endpoint<'a>> {
    let mut all = BTreeMap::new();
    for slice in slices.iter().filter(|slice| slice.address_type == "IPv4") {
        let ports = slice.ports.iter().filter(|port| {
            port.name.as_deref().unwrap_or_default() == name && port.protocol.unwrap_or_default() == protocol
        });
        for port in ports.filter_map(|port| port.port) {
            for of in &slice.endpoints {
                let Some(ip) = of.addresses.first().and_then(|a| a.parse::<Ipv4Addr>().ok()) else {
                    continue;
                };
                let local = of.node_name.as_deref() == Some(place.node.as_str());
                let ready = of.conditions.ready.unwrap_or(true);
                let serving = of.conditions.serving.unwrap_or(ready);
                let serving_terminating = !ready && serving && of.conditions.terminating.unwrap_or(false);
                let endpoint = Endpoint { ready, serving_terminating, local, of };
                let address = SocketAddrV4::new(ip, port);
                // Two slices can name one endpoint while it moves between them.
                if local || !all.contains_key(&address) {
                    all.insert(address, endpoint);
                }
            }
        }
    }
    all
}

/// Which hints restrict the choice, if any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Topology {
    Anywhere,
    SameNode,
    SameZone,
}

impl Topology {
    /// Hints count only when every ready endpoint has them and one of them is for us.
    fn choose(all: &BTreeMap<SocketAddrV4, Endpoint<'_>>, place: &Place) -> Self {
        let mut ready = all.values().filter(|e| e.ready).peekable();
        if ready.peek().is_none() {
            return Self::Anywhere;
        }
        let ready: Vec<_> = ready.collect();
        if ready.iter().all(|e| !e.of.hints.for_nodes.is_empty())
            && ready.iter().any(|e| Self::SameNode.admits(e, place))
        {
            return Self::SameNode;
        }
        if ready.iter().all(|e| !e.of.hints.for_zones.is_empty())
            && ready.iter().any(|e| Self::SameZone.admits(e, place))
        {
            return Self::SameZone;
        }
        Self::Anywhere
    }

    fn admits(self, endpoint: &Endpoint<'_>, place: &Place) -> bool {
        let hints = &endpoint.of.hints;
        match self {
            Self::Anywhere => true,
            Self::SameNode => hints.for_nodes.iter().any(|hint| hint.name == place.node),
            Self::SameZone => hints.for_zones.iter().any(|hint| hint.name == place.zone),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn slice(endpoints: serde_json::Value) -> Vec<Arc<EndpointSlice>> {
        let value = json!({
            "metadata": {"name": "s", "namespace": "default"},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
            "endpoints": endpoints,
        });
        vec![Arc::new(serde_json::from_value(value).unwrap())]
    }

    fn place() -> Place {
        Place { node: "n1".into(), zone: "z1".into() }
    }

    fn both(slices: &[Arc<EndpointSlice>]) -> Endpoints {
        categorize(slices, "http", Protocol::Tcp, Uses { cluster: true, local: true }, &place())
    }

    fn addr(last: u8) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::new(10, 42, 0, last), 8080)
    }

    #[test]
    fn ready_endpoints_win_over_terminating_ones() {
        let slices = slice(json!([
            {"addresses": ["10.42.0.1"], "conditions": {"ready": true}, "nodeName": "n2"},
            {"addresses": ["10.42.0.2"], "conditions": {"ready": false, "serving": true, "terminating": true}, "nodeName": "n1"},
        ]));
        let got = both(&slices);
        assert_eq!(got.cluster, [addr(1)]);
        assert_eq!(got.local, [addr(2)], "no ready local endpoint, so the terminating one stands in");
        assert_eq!(got.hairpin, [addr(2)]);
        assert!(got.any);
    }

    #[test]
    fn an_absent_condition_means_ready_and_unready_is_left_out() {
        let slices = slice(json!([
            {"addresses": ["10.42.0.1"]},
            {"addresses": ["10.42.0.2"], "conditions": {"ready": false}},
        ]));
        assert_eq!(both(&slices).cluster, [addr(1)]);
    }

    #[test]
    fn zone_hints_restrict_only_when_all_have_them() {
        let hinted = json!([
            {"addresses": ["10.42.0.1"], "hints": {"forZones": [{"name": "z1"}]}},
            {"addresses": ["10.42.0.2"], "hints": {"forZones": [{"name": "z2"}]}},
        ]);
        assert_eq!(both(&slice(hinted)).cluster, [addr(1)]);
        let partly = json!([
            {"addresses": ["10.42.0.1"], "hints": {"forZones": [{"name": "z1"}]}},
            {"addresses": ["10.42.0.2"]},
        ]);
        assert_eq!(both(&slice(partly)).cluster.len(), 2);
    }

    #[test]
    fn node_hints_go_before_zone_hints() {
        let hinted = json!([
            {"addresses": ["10.42.0.1"], "hints": {"forZones": [{"name": "z1"}], "forNodes": [{"name": "n2"}]}},
            {"addresses": ["10.42.0.2"], "hints": {"forZones": [{"name": "z2"}], "forNodes": [{"name": "n1"}]}},
        ]);
        assert_eq!(both(&slice(hinted)).cluster, [addr(2)]);
    }

    #[test]
    fn ports_match_by_name_and_protocol() {
        let slices = slice(json!([{"addresses": ["10.42.0.1"]}]));
        let uses = Uses { cluster: true, local: false };
        assert!(categorize(&slices, "other", Protocol::Tcp, uses, &place()).cluster.is_empty());
        assert!(categorize(&slices, "http", Protocol::Udp, uses, &place()).cluster.is_empty());
    }

    #[test]
    fn the_number_of_endpoints_is_limited() {
        let many: Vec<_> =
            (0..1500).map(|i| json!({"addresses": [format!("10.42.{}.{}", i / 250, i % 250 + 1)]})).collect();
        assert_eq!(both(&slice(json!(many))).cluster.len(), MAX_ENDPOINTS);
    }
}
