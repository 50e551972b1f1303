//! The vocabulary of the plan: what can be in the table, as numbers and not as text.
//!
//! Invariant: an [`Item`] names one kernel object (an element, a set or a chain) and a [`Value`]
//! says all there is to say about it, so two plans can be compared without looking at the kernel.

use crate::objects::Protocol;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

/// Where a service listens: an address and port, or a port on every address of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vip {
    /// `None` for node ports.
    pub address: Option<Ipv4Addr>,
    /// The transport.
    pub protocol: Protocol,
    /// The port.
    pub port: u16,
}

impl fmt::Display for Vip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(address) = self.address {
            write!(f, "{address} . ")?;
        }
        write!(f, "{} . {}", self.protocol, self.port)
    }
}

/// Which of the slot maps: by address or node port, all endpoints or those of this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Family {
    /// Keys carry no address.
    pub node_port: bool,
    /// The endpoints under a `Local` policy of traffic from outside.
    pub local: bool,
}

/// A slot map with the chains that read it: one for each family and number of endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slots {
    /// Which family.
    pub family: Family,
    /// How many endpoints every service in this map has.
    pub count: u16,
}

impl fmt::Display for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.family.node_port { "np" } else { "ip" };
        let scope = if self.family.local { "-local" } else { "" };
        write!(f, "{kind}{scope}-ep{}", self.count)
    }
}

/// A set or map of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Container {
    /// Active cluster addresses.
    ClusterIps,
    /// Endpoint twice, protocol, port: connections of an endpoint to itself.
    Hairpin,
    /// Where traffic to a service address goes.
    ServiceIps,
    /// Where traffic to a node port goes.
    NodePorts,
    /// `Local` external policy: where traffic from pods and the node itself goes.
    InsideIps,
    /// `Local` external policy: where traffic from elsewhere goes.
    OutsideIps,
    /// As `InsideIps`, for node ports.
    InsideNodePorts,
    /// As `OutsideIps`, for node ports.
    OutsideNodePorts,
    /// Service addresses without endpoints: reject or drop.
    NoEndpointIps,
    /// Node ports without endpoints: reject or drop.
    NoEndpointNodePorts,
    /// Load balancer addresses with source ranges.
    Firewall,
    /// The endpoints.
    Endpoints(Slots),
}

impl fmt::Display for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClusterIps => "cluster-ips",
            Self::Hairpin => "hairpin-connections",
            Self::ServiceIps => "service-ips",
            Self::NodePorts => "service-nodeports",
            Self::InsideIps => "inside-ips",
            Self::OutsideIps => "outside-ips",
            Self::InsideNodePorts => "inside-nodeports",
            Self::OutsideNodePorts => "outside-nodeports",
            Self::NoEndpointIps => "no-endpoint-services",
            Self::NoEndpointNodePorts => "no-endpoint-nodeports",
            Self::Firewall => "firewall-ips",
            Self::Endpoints(slots) => return slots.fmt(f),
        })
    }
}

/// The key of an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// An address alone.
    Address(Ipv4Addr),
    /// An endpoint's connection to itself.
    Hairpin(Protocol, SocketAddrV4),
    /// A place where a service listens.
    Vip(Vip),
    /// One of several endpoints of such a place.
    Slot(Vip, u16),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Hairpin(protocol, endpoint) => {
                let ip = endpoint.ip();
                write!(f, "{ip} . {ip} . {protocol} . {}", endpoint.port())
            }
            Self::Vip(vip) => vip.fmt(f),
            Self::Slot(vip, slot) => write!(f, "{vip} . {slot}"),
        }
    }
}

/// Something that can be in the table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Item {
    /// A set of client addresses with a timeout.
    AffinitySet(Arc<str>),
    /// A chain of one service or endpoint.
    Chain(Arc<str>),
    /// An element of a set or map.
    Element(Container, Key),
}

/// What the table says about an [`Item`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A set's element carries nothing.
    Present,
    /// A backend.
    Target(SocketAddrV4),
    /// What happens to a packet.
    Verdict(Verdict),
    /// The lines of a chain.
    Rules(Arc<[String]>),
    /// The chain of one endpoint that notes its clients in an affinity set.
    Endpoint { set: Arc<str>, protocol: Protocol, target: SocketAddrV4 },
    /// The timeout of an affinity set.
    Seconds(u32),
}

/// What a verdict map answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Choose one of the endpoints in the slot map, masquerading first if asked to.
    Endpoints { slots: Slots, masquerade: bool },
    /// Tell traffic from inside from traffic from outside first.
    External { node_port: bool },
    /// Go to a chain of the service's own.
    Chain(Arc<str>),
    /// Say that nobody listens.
    Reject,
    /// Say nothing.
    Drop,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endpoints { slots, masquerade: false } => write!(f, "goto {slots}-dnat"),
            Self::Endpoints { slots, masquerade: true } => write!(f, "goto {slots}-masq-dnat"),
            Self::External { node_port: false } => f.write_str("goto external-ips"),
            Self::External { node_port: true } => f.write_str("goto external-nodeports"),
            Self::Chain(name) => write!(f, "goto {name}"),
            Self::Reject => f.write_str("goto reject-chain"),
            Self::Drop => f.write_str("drop"),
        }
    }
}
