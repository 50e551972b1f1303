//! Rules for single values: ports, quantities, percentages, addresses, environment names.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use kedge_meta::field::ErrorList;
use kedge_meta::quantity::Quantity;
use kedge_meta::{Cidr, names};

use super::{At, Report};

pub(crate) const POSITIVE: &str = "must be greater than zero";

/// A port by number, or by the name of a container's port.
pub(crate) fn port_or_name(at: &At<'_>, errors: &mut ErrorList) {
    match at.int() {
        Some(number) => errors.complaints(at, names::is_valid_port_num(number)),
        None => errors.complaints(at, names::is_valid_port_name(at.text())),
    }
}

/// The quantity of a field; none for what cannot be read, which decoding has refused already.
pub(crate) fn quantity(at: &At<'_>) -> Option<Quantity> {
    match at.value {
        serde_json::Value::Number(number) => Quantity::parse(&number.to_string()).ok(),
        _ => Quantity::parse(at.text()).ok(),
    }
}

pub(crate) fn non_negative_quantity(at: &At<'_>, errors: &mut ErrorList) {
    if quantity(at).is_some_and(|amount| amount.is_negative()) {
        errors.push(at.invalid("must be greater than or equal to 0"));
    }
}

/// A number that is not negative, or a percentage.
pub(crate) fn number_or_percent(at: &At<'_>, errors: &mut ErrorList) {
    match at.int() {
        Some(_) => errors.non_negative(at),
        None if !is_percent(at.text()) => errors.push(at.invalid(
            "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', \
             regex used for validation is '[0-9]+%')",
        )),
        None => {}
    }
}

fn is_percent(text: &str) -> bool {
    text.strip_suffix('%').is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
}

/// The percentage that a field names, if it names one.
pub(crate) fn percent(at: &At<'_>) -> Option<u32> {
    at.text().strip_suffix('%')?.parse().ok()
}

/// No more than everything.
pub(crate) fn at_most_all(at: &At<'_>, errors: &mut ErrorList) {
    if percent(at).is_some_and(|percent| percent > 100) {
        errors.push(at.invalid("must not be greater than 100%"));
    }
}

/// An address of either family.
pub(crate) fn ip(at: &At<'_>, errors: &mut ErrorList) {
    if at.text().parse::<std::net::IpAddr>().is_err() {
        errors.push(at.invalid("must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"));
    }
}

/// An address range such as `10.0.0.0/8`.
pub(crate) fn cidr(at: &At<'_>, errors: &mut ErrorList) {
    let parsed = at.text().split_once('/').and_then(|(address, bits)| {
        let address: std::net::IpAddr = address.parse().ok()?;
        let bits: u8 = bits.parse().ok()?;
        (bits <= if address.is_ipv4() { 32 } else { 128 }).then_some(())
    });
    if parsed.is_none() {
        errors.push(at.invalid("must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"));
    }
}

/// What is wrong with an address that everybody is to read the same way.
pub(crate) fn unambiguous_ip(text: &str) -> Option<&'static str> {
    if sloppy_ip(text).is_none() {
        return Some("must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)");
    }
    match text.parse::<IpAddr>() {
        Err(_) => Some("must not have leading 0s"),
        Ok(IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_some() => Some("must not be an IPv4-mapped IPv6 address"),
        Ok(_) => None,
    }
}

/// What is wrong with an address that is to be written in the one way.
pub(crate) fn strict_ip(text: &str) -> Option<String> {
    let canonical = || {
        let ip = text.parse::<IpAddr>().ok()?.to_string();
        (ip != text).then(|| format!("must be in canonical form ({ip:?})"))
    };
    unambiguous_ip(text).map(str::to_owned).or_else(canonical)
}

/// What is wrong with a range that is to be written in the one way, without bits behind the prefix.
pub(crate) fn strict_cidr(text: &str) -> Option<String> {
    let invalid = || Some("must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)".to_owned());
    let Some((address, bits)) = text.split_once('/') else { return invalid() };
    let digits = !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit());
    let (Some(ip), Ok(length)) = (sloppy_ip(address), bits.parse::<u8>()) else { return invalid() };
    let written_as_v6 = address.contains(':');
    if !digits || length > if written_as_v6 { 128 } else { 32 } {
        return invalid();
    }
    let mapped = written_as_v6 && ip.is_ipv4();
    if mapped {
        return Some("must not have an IPv4-mapped IPv6 address".into());
    }
    if address.parse::<IpAddr>().is_err() || (bits.len() > 1 && bits.starts_with('0')) {
        return Some("must not have leading 0s in IP or prefix length".into());
    }
    let range = Cidr::new(ip, length)?;
    if range.network() != ip {
        return Some("must not have bits set beyond the prefix length".into());
    }
    (range.to_string() != text).then(|| format!("must be in canonical form ({:?})", range.to_string()))
}

/// What is wrong with an address that is written with the length of its network's prefix.
pub(crate) fn interface_address(text: &str) -> Option<String> {
    let parsed = text.split_once('/').and_then(|(address, bits)| {
        let digits = !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit());
        let length: u32 = bits.parse().ok().filter(|_| digits)?;
        let most = if address.contains(':') { 128 } else { 32 };
        Some((sloppy_ip(address)?, length)).filter(|_| length <= most)
    });
    let Some((ip, length)) = parsed else {
        return Some("must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)".into());
    };
    // An IPv4 one may have been written as IPv6.
    let mapped = ip.is_ipv4() && text.contains(':');
    let length = if mapped { i64::from(length) - 96 } else { i64::from(length) };
    let canonical = format!("{ip}/{length}");
    (canonical != text).then(|| format!("must be in canonical form ({canonical:?})"))
}

/// An address as Go once read it: with zeros before its numbers; an IPv4 one written as IPv6 is an IPv4 one.
pub(crate) fn sloppy_ip(text: &str) -> Option<IpAddr> {
    if text.contains(':') {
        return text.parse::<Ipv6Addr>().ok().map(|ip| IpAddr::V6(ip).to_canonical());
    }
    let parts: Vec<&str> = text.split('.').collect();
    let [a, b, c, d] = parts.as_slice() else { return None };
    let part = |part: &str| {
        let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if digits { part.trim_start_matches('0').parse().or_else(|_| "0".parse()).ok() } else { None }
    };
    // Too large a number is none, also when it begins with zeros.
    let fits =
        |text: &&str| text.trim_start_matches('0').is_empty() || text.trim_start_matches('0').parse::<u8>().is_ok();
    parts.iter().all(fits).then(|| Some(IpAddr::V4(Ipv4Addr::new(part(a)?, part(b)?, part(c)?, part(d)?))))?
}

/// What an environment variable may be called: any printable ASCII but the equals sign.
pub(crate) fn env_name(name: &str) -> Vec<String> {
    if !name.is_empty() && name.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'=') {
        return Vec::new();
    }
    vec!["a valid environment variable name must consist only of printable ASCII characters other than '='".into()]
}

/// User and group numbers.
pub(crate) fn id(at: &At<'_>, errors: &mut ErrorList) {
    errors.range(at, 0, i64::from(i32::MAX));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_of_addresses_are_written_in_one_way() {
        let ip = |text: &str| strict_ip(text).unwrap_or_default();
        assert_eq!((ip("10.9.8.7"), ip("2001:db8::ffff")), (String::new(), String::new()));
        assert_eq!(ip("x"), "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)");
        assert_eq!(ip("010.9.8.7"), "must not have leading 0s");
        assert_eq!(ip("::ffff:1.2.3.4"), "must not be an IPv4-mapped IPv6 address");
        assert_eq!(ip("2001:DB8::0001"), "must be in canonical form (\"2001:db8::1\")");
        let cidr = |text: &str| strict_cidr(text).unwrap_or_default();
        assert_eq!((cidr("10.9.8.0/24"), cidr("2001:db8::/64")), (String::new(), String::new()));
        for bad in ["x", "10.0.0.0", "10.0.0.0/33", "10.0.0.0/+8", "10.0.0.0/", "2001:db8::/129", "10.0.0/8"] {
            assert_eq!(cidr(bad), "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)", "{bad}");
        }
        assert_eq!(cidr("10.0.0.0/08"), "must not have leading 0s in IP or prefix length");
        assert_eq!(cidr("010.0.0.0/8"), "must not have leading 0s in IP or prefix length");
        assert_eq!(cidr("::ffff:1.2.3.0/120"), "must not have an IPv4-mapped IPv6 address");
        assert_eq!(cidr("10.9.8.7/24"), "must not have bits set beyond the prefix length");
        assert_eq!(cidr("2001:DB8::/64"), "must be in canonical form (\"2001:db8::/64\")");
    }

    #[test]
    fn addresses_of_interfaces_say_how_long_the_prefix_is() {
        let said = |text: &str| interface_address(text).unwrap_or_default();
        assert_eq!((said("10.9.8.7/24"), said("2001:db8::1/64")), (String::new(), String::new()));
        for bad in ["10.9.8.7", "10.9.8.7/33", "10.9.8.7/", "x/8", "2001:db8::1/129"] {
            assert!(said(bad).starts_with("must be a valid address in CIDR form"), "{bad}");
        }
        assert_eq!(said("010.9.8.7/024"), "must be in canonical form (\"10.9.8.7/24\")");
        assert_eq!(said("::ffff:1.2.3.4/120"), "must be in canonical form (\"1.2.3.4/24\")");
        assert_eq!(said("2001:DB8::1/64"), "must be in canonical form (\"2001:db8::1/64\")");
    }

    #[test]
    fn ranges_and_percentages() {
        let object = json!({"a": "10.0.0.0/8", "b": "10.0.0.0/33", "c": "50%", "d": "50", "e": "101%", "f": -1});
        let mut errors = ErrorList::new();
        cidr(&At::field(&object, "a"), &mut errors);
        number_or_percent(&At::field(&object, "c"), &mut errors);
        assert!(errors.is_empty());
        cidr(&At::field(&object, "b"), &mut errors);
        number_or_percent(&At::field(&object, "d"), &mut errors);
        at_most_all(&At::field(&object, "e"), &mut errors);
        number_or_percent(&At::field(&object, "f"), &mut errors);
        assert_eq!(errors.len(), 4);
        assert_eq!(env_name("A B"), Vec::<String>::new());
        assert_eq!(env_name("A=B").len(), 1);
    }
}
