//! Session affinity by client address: chains of the service's own.
//!
//! Invariant: a client's choice is kept per endpoint, in a set with the service's timeout; so an
//! endpoint that goes takes exactly its own clients' choices with it.

use crate::endpoints::Endpoints;
use crate::item::{Item, Value};
use crate::objects::{Service, ServicePort};
use crate::plan::Fragment;
use std::net::SocketAddrV4;
use std::sync::Arc;

/// The chains of a service port with affinity. Those for a policy that is not used are not made.
#[derive(Debug, Clone)]
pub struct Chains {
    /// To any endpoint.
    pub cluster: Arc<str>,
    /// To endpoints of this node.
    pub local: Arc<str>,
    /// To any endpoint, with masquerading.
    pub external: Arc<str>,
}

/// A chain name for people and machines: the kind, a hash that makes it unique, the service.
pub fn chain_name(kind: &str, service: &Service, port: &ServicePort, extra: &str) -> Arc<str> {
    let meta = &service.metadata;
    let text = format!("{}/{}/{}/{}/{}/{extra}", meta.namespace, meta.name, port.protocol, port.port, port.name);
    // Object names are limited by validation; a stock server could still be wrong about that.
    let plain =
        |text: &str| -> String { text.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(63).collect() };
    Arc::from(format!("{kind}-{:016x}-{}/{}", fnv(text.as_bytes()), plain(&meta.namespace), plain(&meta.name)))
}

/// FNV-1a: stable between versions of the binary, so names are, too.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

/// Adds the chains and sets of a service port with client affinity; `None` when it has none.
pub fn plan(service: &Service, port: &ServicePort, endpoints: &Endpoints, out: &mut Fragment) -> Option<Chains> {
    let seconds = service.affinity_seconds()?;
    let chains = Chains {
        cluster: chain_name("svc", service, port, ""),
        local: chain_name("svl", service, port, ""),
        external: chain_name("ext", service, port, ""),
    };
    let one = |endpoint: &SocketAddrV4| endpoint_chain(service, port, endpoint, seconds);
    let mut service_chain = |name: &Arc<str>, list: &[SocketAddrV4]| {
        if list.is_empty() {
            return;
        }
        let mut rules: Vec<String> = Vec::with_capacity(list.len() + 1);
        let mut choices = Vec::with_capacity(list.len());
        for (slot, endpoint) in list.iter().enumerate() {
            let (set, chain) = one(endpoint);
            rules.push(format!("ip saddr @{set} goto {chain}"));
            choices.push(format!("{slot} : goto {chain}"));
            let value = Value::Endpoint { set: set.clone(), protocol: port.protocol, target: *endpoint };
            out.insert(Item::Chain(chain), value);
            out.insert(Item::AffinitySet(set), Value::Seconds(seconds));
        }
        rules.push(format!("numgen random mod {} vmap {{ {} }}", list.len(), choices.join(", ")));
        out.insert(Item::Chain(name.clone()), Value::Rules(rules.into()));
    };
    service_chain(&chains.cluster, &endpoints.cluster);
    service_chain(&chains.local, &endpoints.local);
    if !endpoints.cluster.is_empty() {
        let rules = [crate::ruleset::MARK_RULE.to_owned(), format!("goto {}", chains.cluster)];
        out.insert(Item::Chain(chains.external.clone()), Value::Rules(Arc::from(rules)));
    }
    Some(chains)
}

/// The set and the chain of one endpoint. The timeout is part of the set's name, because the
/// timeout of a set that exists cannot be changed.
fn endpoint_chain(
    service: &Service,
    port: &ServicePort,
    endpoint: &SocketAddrV4,
    seconds: u32,
) -> (Arc<str>, Arc<str>) {
    let chain = chain_name("ep", service, port, &endpoint.to_string());
    let set = chain_name("aff", service, port, &format!("{endpoint}/{seconds}"));
    (set, chain)
}
