//! Address ranges and their division into equal parts for nodes.

use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;

/// An address range; the address is its first one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cidr {
    first: u128,
    prefix: u8,
    v6: bool,
}

impl Cidr {
    /// Reads `10.42.0.0/16`; bits behind the prefix are cleared.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.trim().split_once('/')?;
        let (address, prefix) = (address.parse::<IpAddr>().ok()?, prefix.parse::<u8>().ok()?);
        let (bits, v6) = match address {
            IpAddr::V4(ip) => (u128::from(u32::from(ip)), false),
            IpAddr::V6(ip) => (u128::from(ip), true),
        };
        let width = if v6 { 128 } else { 32 };
        (prefix <= width).then(|| {
            let mut range = Self { first: bits, prefix, v6 };
            range.first &= !range.host_mask();
            range
        })
    }

    fn width(&self) -> u8 {
        if self.v6 { 128 } else { 32 }
    }

    fn host_mask(&self) -> u128 {
        match u32::from(self.width() - self.prefix) {
            128 => u128::MAX,
            bits => (1 << bits) - 1,
        }
    }

    /// Whether its addresses are of IPv6.
    pub fn is_ipv6(&self) -> bool {
        self.v6
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.v6 == other.v6
            && self.first <= other.first | other.host_mask()
            && other.first <= self.first | self.host_mask()
    }

    /// The first part of this range with so many bits for a node that overlaps none of `used`.
    pub fn first_free(&self, bits: u8, used: &HashSet<Self>) -> Option<Self> {
        let prefix = bits.clamp(self.prefix, self.width());
        let step = 1_u128.checked_shl(u32::from(self.width() - prefix)).unwrap_or(u128::MAX);
        // Among one part more than are used, one is free: no need to look further, however large the range is.
        let parts = 1_u128.checked_shl(u32::from(prefix - self.prefix)).unwrap_or(u128::MAX);
        let exact: HashSet<u128> = used.iter().filter(|u| u.prefix == prefix).map(|u| u.first).collect();
        let odd: Vec<&Self> = used.iter().filter(|u| u.prefix != prefix).collect();
        let mut first = self.first;
        for _ in 0..parts {
            let part = Self { first, prefix, v6: self.v6 };
            if !exact.contains(&first) && !odd.iter().any(|u| u.overlaps(&part)) {
                return Some(part);
            }
            first = first.checked_add(step)?;
        }
        None
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = match u32::try_from(self.first) {
            Ok(bits) if !self.v6 => IpAddr::from(bits.to_be_bytes()),
            _ => IpAddr::from(self.first.to_be_bytes()),
        };
        write!(f, "{address}/{}", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn cidr(text: &str) -> Cidr {
        Cidr::parse(text).unwrap()
    }

    #[test]
    fn the_first_free_part_is_taken_and_odd_sizes_are_respected() {
        let cluster = cidr("10.42.0.0/16");
        let mut used = HashSet::new();
        assert_eq!(cluster.first_free(24, &used).unwrap().to_string(), "10.42.0.0/24");
        used.extend([cidr("10.42.0.0/24"), cidr("10.42.1.128/25"), cidr("10.42.3.0/24")]);
        assert_eq!(cluster.first_free(24, &used).unwrap().to_string(), "10.42.2.0/24");
    }

    #[test]
    fn a_full_range_has_none() {
        let cluster = cidr("10.0.0.0/23");
        let used = HashSet::from([cidr("10.0.0.0/24"), cidr("10.0.1.0/24")]);
        assert!(cluster.first_free(24, &used).is_none());
    }

    #[test]
    fn ipv6_nodes_get_64() {
        assert_eq!(cidr("fd00::/56").first_free(64, &HashSet::new()).unwrap().to_string(), "fd00::/64");
        assert!(Cidr::parse("10.0.0.0/33").is_none());
    }
}
