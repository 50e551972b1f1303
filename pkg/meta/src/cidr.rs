//! Ranges of addresses of either family, and which of their addresses services can have.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A range of addresses, such as `10.43.0.0/16` or `fd00:43::/112`. Bits behind the prefix are cleared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    network: IpAddr,
    bits: u8,
}

/// A text that is no range of addresses.
#[derive(Debug, Clone, thiserror::Error)]
#[error("expected a range such as 10.43.0.0/16 or fd00:43::/112")]
pub struct NotACidr;

impl Cidr {
    /// The range of `address` with a prefix of `bits`; none when the family has fewer.
    pub fn new(address: IpAddr, bits: u8) -> Option<Self> {
        let width = if address.is_ipv4() { 32 } else { 128 };
        if bits > width {
            return None;
        }
        let (number, v4) = number(address);
        let network = self::address(number & !host_mask(width - bits), v4);
        Some(Self { network, bits })
    }

    pub fn is_ipv6(&self) -> bool {
        self.network.is_ipv6()
    }

    /// The length of the prefix.
    pub fn bits(&self) -> u8 {
        self.bits
    }

    /// The first address, which is the network's own.
    pub fn network(&self) -> IpAddr {
        self.network
    }

    fn width(&self) -> u8 {
        if self.is_ipv6() { 128 } else { 32 }
    }

    /// First and last address as numbers.
    pub fn numbers(&self) -> (u128, u128) {
        let first = number(self.network).0;
        (first, first | host_mask(self.width() - self.bits))
    }

    /// The address of this family with such a number.
    pub fn address(&self, number: u128) -> IpAddr {
        address(number, !self.is_ipv6())
    }

    /// The number of an address of this family.
    pub fn number(&self, ip: IpAddr) -> Option<u128> {
        (ip.is_ipv6() == self.is_ipv6()).then(|| number(ip).0)
    }

    /// The address at a distance from the first; none behind the last.
    pub fn nth(&self, distance: u128) -> Option<IpAddr> {
        let (first, last) = self.numbers();
        let number = first.checked_add(distance).filter(|number| *number <= last)?;
        Some(self.address(number))
    }

    /// First and last of the addresses that services can have: neither the network's own nor, in IPv4, the broadcast address.
    /// None when there is none.
    pub fn usable(&self) -> Option<(u128, u128)> {
        let (first, last) = self.numbers();
        let (first, last) = (first.checked_add(1)?, if self.is_ipv6() { last } else { last.checked_sub(1)? });
        (first <= last).then_some((first, last))
    }

    pub fn contains(&self, ip: IpAddr) -> bool {
        let (first, last) = self.numbers();
        self.number(ip).is_some_and(|number| (first..=last).contains(&number))
    }

    /// Whether a service can have the address because of this range.
    pub fn has_service_address(&self, ip: IpAddr) -> bool {
        let usable = self.number(ip).zip(self.usable());
        usable.is_some_and(|(number, (first, last))| (first..=last).contains(&number))
    }

    /// Whether two ranges share addresses.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.network) || other.contains(self.network)
    }

    /// Whether the whole of another range lies in this one.
    pub fn covers(&self, other: &Self) -> bool {
        self.bits <= other.bits && self.contains(other.network)
    }
}

fn host_mask(bits: u8) -> u128 {
    if bits >= 128 { u128::MAX } else { (1 << bits) - 1 }
}

fn number(ip: IpAddr) -> (u128, bool) {
    match ip {
        IpAddr::V4(ip) => (u128::from(u32::from(ip)), true),
        IpAddr::V6(ip) => (u128::from(ip), false),
    }
}

fn address(number: u128, v4: bool) -> IpAddr {
    match u32::try_from(number) {
        Ok(number) if v4 => Ipv4Addr::from(number).into(),
        _ => Ipv6Addr::from(number).into(),
    }
}

impl FromStr for Cidr {
    type Err = NotACidr;

    fn from_str(text: &str) -> Result<Self, NotACidr> {
        let (address, bits) = text.split_once('/').ok_or(NotACidr)?;
        // Neither a sign nor zeros before the number.
        if !bits.bytes().all(|b| b.is_ascii_digit()) || (bits.len() > 1 && bits.starts_with('0')) {
            return Err(NotACidr);
        }
        let (address, bits) = (address.parse().map_err(|_| NotACidr)?, bits.parse().map_err(|_| NotACidr)?);
        Self::new(address, bits).ok_or(NotACidr)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.bits)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_range_is_read_and_shown_without_its_host_bits() {
        assert_eq!(cidr("10.43.7.9/16").to_string(), "10.43.0.0/16");
        assert_eq!(cidr("FD00:43:0::5/112").to_string(), "fd00:43::/112");
        assert_eq!(cidr("::/0").numbers(), (0, u128::MAX));
        for bad in ["10.43.0.0", "10.43.0.0/33", "fd00::/129", "10.43.0.0/+8", "10.43.0.0/08", "a/8", "10.0.0.0/"] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
    }

    #[test]
    fn services_have_neither_the_networks_nor_the_broadcast_address() {
        let (v4, v6) = (cidr("10.0.0.0/30"), cidr("fd00::/126"));
        let of = |range: &Cidr, text: &str| range.has_service_address(ip(text));
        assert!(!of(&v4, "10.0.0.0") && of(&v4, "10.0.0.1") && of(&v4, "10.0.0.2") && !of(&v4, "10.0.0.3"));
        assert!(!of(&v6, "fd00::") && of(&v6, "fd00::1") && of(&v6, "fd00::3") && !of(&v6, "fd00::4"));
        assert!(!of(&v4, "::a00:1") && !of(&v4, "10.0.0.4"));
        assert_eq!(cidr("10.0.0.0/31").usable(), None);
        assert_eq!(cidr("10.0.0.0/32").usable(), None);
        assert_eq!(cidr("fd00::/128").usable(), None);
        assert_eq!((v4.nth(3), v4.nth(4)), (Some(ip("10.0.0.3")), None));
    }

    #[test]
    fn ranges_overlap_and_cover_each_other() {
        let (large, small) = (cidr("10.0.0.0/16"), cidr("10.0.3.0/24"));
        assert!(large.overlaps(&small) && small.overlaps(&large) && !small.overlaps(&cidr("10.0.4.0/24")));
        assert!(large.covers(&small) && !small.covers(&large) && small.covers(&small));
        assert!(!cidr("::/0").covers(&small) && !cidr("0.0.0.0/0").overlaps(&cidr("::/0")));
    }
}
