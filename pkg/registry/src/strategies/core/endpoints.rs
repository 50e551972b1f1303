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
    let before = errors.len();
    scalar::ip(&ip, errors);
    errors.name(&at.child("hostname"), names::is_dns1123_label);
    errors.name(&at.child("nodeName"), names::is_dns1123_subdomain);
    if errors.len() == before {
        reachable(&ip, errors);
    }
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
    errors.name(&at.child("appProtocol"), names::is_qualified_name);
}

/// An address that others can reach.
pub(crate) fn reachable(at: &At<'_>, errors: &mut ErrorList) {
    let Ok(ip) = at.text().parse::<IpAddr>() else { return };
    let told = |detail: String| Error::invalid(&at.path, at.text(), detail);
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
            ["10.0.0.1", "127.0.0.1", "169.254.1.1", "224.0.0.1", "0.0.0.0", "fe80::1"].map(check),
            [0, 1, 1, 1, 1, 1]
        );
    }
}
