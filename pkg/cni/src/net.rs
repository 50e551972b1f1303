//! An IPv4 network.
//!
//! Invariant: the address is the network's, with no host bits, and a pod network can hold the
//! network address, a gateway, a pod and the broadcast address.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// An IPv4 network such as `10.42.0.0/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Ipv4Net {
    network: Ipv4Addr,
    prefix: u8,
}

impl Ipv4Net {
    /// The network address.
    pub fn network(self) -> Ipv4Addr {
        self.network
    }

    /// The length of the prefix in bits.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// The address of the bridge: the first of the network.
    pub fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.network.to_bits() | 1)
    }

    /// How many addresses pods can have: all but the network's, the gateway's and the broadcast's.
    pub fn pods(self) -> u32 {
        (u32::MAX >> self.prefix).saturating_sub(2)
    }

    /// The pod address number `index`, counted from 0.
    pub fn pod(self, index: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.network.to_bits() + 2 + index)
    }

    /// The number of a pod's address; `None` when no pod can have it.
    pub fn index(self, address: Ipv4Addr) -> Option<u32> {
        let index = address.to_bits().checked_sub(self.network.to_bits())?.checked_sub(2)?;
        (index < self.pods()).then_some(index)
    }
}

impl FromStr for Ipv4Net {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('/').and_then(|(address, prefix)| {
            let (address, prefix): (Ipv4Addr, u8) = (address.parse().ok()?, prefix.parse().ok()?);
            // The length comes first: nothing can be shifted by what is left of the bits where it is longer than an address.
            let prefix = (1..=30).contains(&prefix).then_some(prefix)?;
            let network = Ipv4Addr::from_bits(address.to_bits() & (u32::MAX << (32 - prefix)));
            Some(Self { network, prefix })
        });
        parsed.ok_or_else(|| format!("{text:?} is not an IPv4 network such as 10.42.0.0/24"))
    }
}

impl TryFrom<String> for Ipv4Net {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Ipv4Net> for String {
    fn from(net: Ipv4Net) -> Self {
        net.to_string()
    }
}

impl fmt::Display for Ipv4Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_network_knows_its_addresses() {
        let net: Ipv4Net = "10.42.3.7/24".parse().unwrap();
        assert_eq!(net.to_string(), "10.42.3.0/24");
        assert_eq!(net.gateway(), Ipv4Addr::new(10, 42, 3, 1));
        assert_eq!(net.pods(), 253);
        assert_eq!(net.pod(0), Ipv4Addr::new(10, 42, 3, 2));
        assert_eq!(net.pod(252), Ipv4Addr::new(10, 42, 3, 254));
        assert_eq!(net.index(Ipv4Addr::new(10, 42, 3, 254)), Some(252));
        assert_eq!(net.index(Ipv4Addr::new(10, 42, 3, 255)), None);
        assert_eq!(net.index(Ipv4Addr::new(10, 42, 3, 1)), None);
        assert_eq!(net.index(Ipv4Addr::new(9, 0, 0, 1)), None);
    }

    #[test]
    fn networks_too_small_or_malformed_are_refused() {
        // A prefix longer than an address was once subtracted from its bits before anybody looked at it.
        for text in ["10.42.0.0", "10.42.0.0/31", "10.42.0.0/0", "10.42.0.0/36", "10.42.0.0/255", "x/24", "fd00::/64"] {
            assert!(text.parse::<Ipv4Net>().is_err(), "{text}");
        }
    }
}
