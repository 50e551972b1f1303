//! Addresses that not everybody reads the same way.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::Value;

use super::super::validation::scalar::sloppy_ip;
use super::At;
use crate::value::ValueExt;

/// An address that is not written as it should be.
pub(super) fn ip(at: &At<'_>, warnings: &mut Vec<String>) {
    let text = at.text();
    match (text.parse::<IpAddr>(), sloppy_ip(text)) {
        (Ok(IpAddr::V6(ip)), _) if ip.to_ipv4_mapped().is_none() => {
            if ip.to_string() != text {
                let canonical = ip.to_string();
                warnings.push(format!(
                    "{}: IPv6 address {text:?} should be in RFC 5952 canonical format ({canonical:?})",
                    at.path
                ));
            }
        }
        (Ok(IpAddr::V4(_)), _) | (_, None) => {}
        (_, Some(ip)) => {
            let canonical = ip.to_string();
            warnings.push(format!("{}: non-standard IP address {text:?} is invalid: use {canonical:?}", at.path));
        }
    }
}

/// A range of addresses that is not written as it should be, or may be meant as one address.
pub(super) fn range(at: &At<'_>, warnings: &mut Vec<String>) {
    let text = at.text();
    let Some((address, bits)) = text.split_once('/') else { return };
    let (Some(ip), Ok(length)) = (sloppy_ip(address), bits.parse::<u32>()) else { return };
    let mapped = address.contains(':') && ip.is_ipv4();
    let length = if mapped { length.saturating_sub(96) } else { length };
    let width = if ip.is_ipv4() { 32 } else { 128 };
    if length > width {
        return;
    }
    let network = masked(ip, length);
    let canonical = format!("{network}/{length}");
    let before = warnings.len();
    if network != ip {
        let single = format!("{ip}/{width}");
        warnings.push(format!(
            "{}: CIDR value {text:?} is ambiguous in this context (should be {canonical:?} or {single:?}?)",
            at.path
        ));
    }
    let strict = address.parse::<IpAddr>().is_ok() && (bits.len() == 1 || !bits.starts_with('0'));
    if !strict || mapped {
        warnings.push(format!("{}: non-standard CIDR value {text:?} is invalid: use {canonical:?}", at.path));
    } else if warnings.len() == before && ip.is_ipv6() && canonical != text {
        warnings.push(format!(
            "{}: IPv6 CIDR value {text:?} should be in RFC 5952 canonical format ({canonical:?})",
            at.path
        ));
    }
}

fn masked(ip: IpAddr, length: u32) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - length).unwrap_or_default();
            IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits() & mask))
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - length).unwrap_or_default();
            IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & mask))
        }
    }
}

/// The status of a service or ingress.
pub(super) fn of_load_balancer(object: &Value, warnings: &mut Vec<String>) {
    for ingress in At::field(object, "status").child("loadBalancer").child("ingress").items() {
        if !ingress.child("ip").text().is_empty() {
            ip(&At { value: ingress.child("ip").value, path: ingress.path }, warnings);
        }
    }
}

/// Endpoints that somebody has written by hand.
pub(super) fn of_endpoints(endpoints: &Value, warnings: &mut Vec<String>) {
    if endpoints.text(&["metadata", "labels", "endpoints.kubernetes.io/managed-by"]) == "endpoint-controller" {
        return;
    }
    for subset in At::field(endpoints, "subsets").items() {
        for list in ["addresses", "notReadyAddresses"] {
            subset.child(list).items().for_each(|address| ip(&address.child("ip"), warnings));
        }
    }
}

/// A slice of endpoints that none of our controllers has written.
pub(super) fn of_slice(slice: &Value, is_new: bool, warnings: &mut Vec<String>) {
    let kind = slice.text(&["addressType"]);
    if is_new && kind == "FQDN" {
        warnings.push("spec.addressType: FQDN endpoints are deprecated".into());
    }
    let managed = slice.text(&["metadata", "labels", "endpointslice.kubernetes.io/managed-by"]);
    let ours = ["endpointslice-controller.k8s.io", "endpointslicemirroring-controller.k8s.io"];
    if ours.contains(&managed) || !matches!(kind, "IPv4" | "IPv6") {
        return;
    }
    for endpoint in At::field(slice, "endpoints").items() {
        endpoint.child("addresses").items().for_each(|address| ip(&address, warnings));
    }
}

/// The ranges that a network policy names.
pub(super) fn of_policy(policy: &Value, warnings: &mut Vec<String>) {
    let spec = At::field(policy, "spec");
    for (rules, peers) in [("ingress", "from"), ("egress", "to")] {
        for peer in spec.child(rules).items().flat_map(|rule| rule.child(peers).items().collect::<Vec<_>>()) {
            let block = peer.child("ipBlock");
            if block.is_set() {
                range(&block.child("cidr"), warnings);
                block.child("except").items().for_each(|except| range(&except, warnings));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(text: &str, check: fn(&At<'_>, &mut Vec<String>)) -> Vec<String> {
        let (object, mut warnings) = (json!({ "a": text }), Vec::new());
        check(&At::field(&object, "a"), &mut warnings);
        warnings
    }

    #[test]
    fn addresses_are_to_be_written_in_one_way() {
        for good in ["10.0.0.1", "0.0.0.0", "fd00::1", "::", "x", ""] {
            assert!(of(good, ip).is_empty(), "{good}");
        }
        assert_eq!(of("010.0.0.01", ip), ["a: non-standard IP address \"010.0.0.01\" is invalid: use \"10.0.0.1\""]);
        assert_eq!(
            of("::ffff:1.2.3.4", ip),
            ["a: non-standard IP address \"::ffff:1.2.3.4\" is invalid: use \"1.2.3.4\""]
        );
        let long = "a: IPv6 address \"FD00:0::1\" should be in RFC 5952 canonical format (\"fd00::1\")";
        assert_eq!(of("FD00:0::1", ip), [long]);
    }

    #[test]
    fn ranges_are_to_be_ranges() {
        for good in ["10.0.0.0/8", "0.0.0.0/0", "10.0.0.1/32", "fd00::/64", "::/0", "x/1", "10.0.0.0"] {
            assert!(of(good, range).is_empty(), "{good}");
        }
        let ambiguous =
            "a: CIDR value \"10.0.0.1/8\" is ambiguous in this context (should be \"10.0.0.0/8\" or \"10.0.0.1/32\"?)";
        assert_eq!(of("10.0.0.1/8", range), [ambiguous]);
        assert_eq!(
            of("010.0.0.0/8", range),
            ["a: non-standard CIDR value \"010.0.0.0/8\" is invalid: use \"10.0.0.0/8\""]
        );
        let long = "a: IPv6 CIDR value \"fd00:0::/64\" should be in RFC 5952 canonical format (\"fd00::/64\")";
        assert_eq!(of("fd00:0::/64", range), [long]);
    }
}
