//! Service addresses and node ports: which are taken.
//!
//! The truth is the stored services; this is an index over them, filled at start. Taking is atomic, and what was taken
//! for a service that was not stored is given back by its reservation.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use kedge_base::random;
use kedge_storage::{Matcher, ResourceStore};
use parking_lot::Mutex;
use serde_json::Value;

use crate::registry::ClusterConfig;
use crate::value::ValueExt;

/// What strategies keep between requests.
pub(crate) struct State {
    pub(crate) addresses: Arc<Pool>,
    pub(crate) node_ports: Arc<Pool>,
}

/// Why something could not be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    OutOfRange,
    Taken,
    Full,
}

/// Numbers of a range, each free or taken.
pub(crate) struct Pool {
    first: u32,
    last: u32,
    /// Numbers below this are only taken when asked for by name.
    dynamic_from: u32,
    taken: Mutex<BTreeSet<u32>>,
}

impl Pool {
    fn new(first: u32, last: u32, dynamic_from: u32) -> Arc<Self> {
        Arc::new(Self { first, last, dynamic_from, taken: Mutex::default() })
    }

    /// Takes a certain number.
    pub(crate) fn take(&self, number: u32) -> Result<(), Refused> {
        if !(self.first..=self.last).contains(&number) {
            return Err(Refused::OutOfRange);
        }
        if self.taken.lock().insert(number) { Ok(()) } else { Err(Refused::Taken) }
    }

    /// Takes any free number: a random one of the upper band, when that is full one of the lower.
    pub(crate) fn take_any(&self) -> Result<u32, Refused> {
        let mut taken = self.taken.lock();
        for (from, to) in [(self.dynamic_from, self.last), (self.first, self.dynamic_from.saturating_sub(1))] {
            if from > to {
                continue;
            }
            let size = u64::from(to - from) + 1;
            let start = from + (random::u64() % size) as u32;
            if let Some(free) = (start..=to).chain(from..start).find(|n| !taken.contains(n)) {
                taken.insert(free);
                return Ok(free);
            }
        }
        Err(Refused::Full)
    }

    /// Gives a number back.
    pub(crate) fn release(&self, number: u32) {
        self.taken.lock().remove(&number);
    }
}

impl State {
    pub(crate) fn new(config: &ClusterConfig, services: Option<&ResourceStore>) -> Self {
        let (first, last) = usable_addresses(&config.service_cidr).unwrap_or((1, 0));
        // As upstream: the lower band of min(max(16, size/16), 256) addresses is left to those that ask by name.
        let size = last.saturating_sub(first);
        let addresses = Pool::new(first, last, first.saturating_add((size / 16).clamp(16, 256)).min(last));
        let (low, high) = (u32::from(config.node_ports.0), u32::from(config.node_ports.1));
        let band = ((high.saturating_sub(low)) / 32).clamp(16, 128);
        let node_ports = Pool::new(low, high, (low + band).min(high));
        let state = Self { addresses, node_ports };
        let listing = services.map(|s| s.list("", &Matcher::default(), 0));
        for (_, object) in listing.iter().flat_map(|l| &l.objects) {
            if let Ok(service) = object.to_value() {
                state.mark(&service);
            }
        }
        state
    }

    fn mark(&self, service: &Value) {
        for ip in cluster_ips(service) {
            // Out of range after a change of the range: the service keeps its address.
            let _ = self.addresses.take(ip);
        }
        for port in node_ports(service) {
            let _ = self.node_ports.take(port);
        }
    }
}

/// First and last address that a service can have: without the network's own and the broadcast address.
fn usable_addresses(cidr: &str) -> Option<(u32, u32)> {
    let (address, bits) = cidr.split_once('/')?;
    let address = u32::from(address.parse::<Ipv4Addr>().ok()?);
    let bits: u32 = bits.parse().ok().filter(|b| (1..=30).contains(b))?;
    let mask = u32::MAX << (32 - bits);
    Some(((address & mask) + 1, (address | !mask) - 1))
}

/// The IPv4 cluster addresses of a service.
pub(crate) fn cluster_ips(service: &Value) -> impl Iterator<Item = u32> + '_ {
    let listed = service.list(&["spec", "clusterIPs"]).iter().filter_map(Value::as_str);
    let single =
        Some(service.text(&["spec", "clusterIP"])).filter(|_| service.list(&["spec", "clusterIPs"]).is_empty());
    listed.chain(single).filter_map(|ip| ip.parse::<Ipv4Addr>().ok()).map(u32::from)
}

/// The node ports of a service.
pub(crate) fn node_ports(service: &Value) -> impl Iterator<Item = u32> + '_ {
    let ports = service.list(&["spec", "ports"]).iter().filter_map(|p| p.int(&["nodePort"]));
    let health = service.int(&["spec", "healthCheckNodePort"]);
    ports.chain(health).filter(|p| *p > 0).filter_map(|p| u32::try_from(p).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_gives_each_number_once() {
        let pool = Pool::new(1, 4, 3);
        assert_eq!(pool.take(9), Err(Refused::OutOfRange));
        assert_eq!(pool.take(1), Ok(()));
        assert_eq!(pool.take(1), Err(Refused::Taken));
        let mut any: Vec<_> = (0..3).filter_map(|_| pool.take_any().ok()).collect();
        assert!(any[..2].iter().all(|n| *n >= 3), "the upper band first");
        any.sort_unstable();
        assert_eq!(any, [2, 3, 4]);
        assert_eq!(pool.take_any(), Err(Refused::Full));
        pool.release(2);
        assert_eq!(pool.take_any(), Ok(2));
    }

    #[test]
    fn the_ends_of_the_range_are_not_given_away() {
        assert_eq!(usable_addresses("10.43.0.0/30"), Some((0x0a2b_0001, 0x0a2b_0002)));
        assert_eq!(usable_addresses("nonsense"), None);
    }
}
