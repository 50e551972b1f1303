//! Endpoints.

use std::net::IpAddr;

use kedge_meta::field::{Error, ErrorList};
use kedge_meta::names;
use serde_json::Value;

use super::super::validation::{At, Report, scalar};
use crate::strategy::{Context, Strategy};

pub(crate) struct Endpoints;

impl Strategy for Endpoints {
    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn validate(&self, _ctx: &Context<'_>, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        for subset in At::field(object, "subsets").items() {
            let (ready, other, ports) =
                (subset.child("addresses"), subset.child("notReadyAddresses"), subset.child("ports"));
            if ready.len() + other.len() == 0 {
                errors.push(subset.required("must specify `addresses` or `notReadyAddresses`"));
            }
            ready.items().chain(other.items()).for_each(|at| address(&at, &mut errors));
            ports.items().for_each(|at| port(&at, ports.len() > 1, &mut errors));
        }
        errors
    }

    fn validate_update(&self, ctx: &Context<'_>, new: &Value, old: &Value) -> ErrorList {
        // What is stored may be from before a rule; unchanged it may stay.
        if new.get("subsets") == old.get("subsets") { ErrorList::new() } else { self.validate(ctx, new) }
    }
}

fn address(at: &At<'_>, errors: &mut ErrorList) {
    let ip = at.child("ip");
    errors.complaints(&ip, scalar::unambiguous_ip(ip.text()).map(str::to_owned).into_iter().collect());
    errors.name(&at.child("hostname"), names::is_dns1123_label);
    let node = at.child("nodeName");
    if node.is_set() {
        errors.complaints(&node, names::is_dns1123_subdomain(node.text()));
    }
    reachable(&ip, errors);
}

fn port(at: &At<'_>, need_name: bool, errors: &mut ErrorList) {
    let name = at.child("name");
    if need_name {
        errors.need_name(&name, names::is_dns1123_label);
    } else {
        errors.name(&name, names::is_dns1123_label);
    }
    let number = at.child("port");
    errors.complaints(&number, names::is_valid_port_num(number.int().unwrap_or_default()));
    errors.need_one_of(&at.child("protocol"), &["SCTP", "TCP", "UDP"]);
    let protocol = at.child("appProtocol");
    if protocol.is_set() {
        errors.complaints(&protocol, names::is_qualified_name(protocol.text()));
    }
}

/// An address that others can reach. Upstream says once more of what is none that it is none.
pub(crate) fn reachable(at: &At<'_>, errors: &mut ErrorList) {
    let told = |detail: String| Error::invalid(&at.path, at.text(), detail);
    let Some(ip) = scalar::sloppy_ip(at.text()) else {
        errors.push(told("must be a valid IP address".into()));
        return;
    };
    if ip.is_unspecified() {
        errors.push(told(format!("may not be unspecified ({})", at.text())));
    }
    if ip.is_loopback() {
        errors.push(told("may not be in the loopback range (127.0.0.0/8, ::1/128)".into()));
    }
    let (link_local, multicast) = match ip {
        IpAddr::V4(ip) => (ip.is_link_local(), ip.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(ip) => (ip.segments()[0] & 0xffc0 == 0xfe80, ip.segments()[0] & 0xff0f == 0xff02),
    };
    if link_local {
        errors.push(told("may not be in the link-local range (169.254.0.0/16, fe80::/10)".into()));
    }
    if multicast {
        errors.push(told("may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".into()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn addresses_are_reachable() {
        let check = |ip: &str| {
            let object = json!({ "ip": ip });
            let mut errors = ErrorList::new();
            reachable(&At::field(&object, "ip"), &mut errors);
            errors.len()
        };
        assert_eq!(
            ["10.0.0.1", "127.0.0.1", "169.254.1.1", "224.0.0.1", "0.0.0.0", "fe80::1", "x"].map(check),
            [0, 1, 1, 1, 1, 1, 1]
        );
    }

    #[test]
    fn what_is_no_address_is_said_twice() {
        let said = |at: Value| {
            let (object, mut errors) = (json!({ "a": at }), ErrorList::new());
            address(&At::field(&object, "a"), &mut errors);
            errors.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            said(json!({"ip": "x"})),
            [
                "a.ip: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
                "a.ip: Invalid value: \"x\": must be a valid IP address"
            ]
        );
        assert_eq!(said(json!({"ip": "010.0.0.1"})), ["a.ip: Invalid value: \"010.0.0.1\": must not have leading 0s"]);
        assert!(said(json!({"ip": "10.0.0.1", "nodeName": ""}))[0].starts_with("a.nodeName: Invalid value: \"\""));
    }
}
