//! Endpoint slices.

use kedge_meta::field::{Error, ErrorList};
use kedge_meta::names;
use kedge_schema::ResourceInfo;
use serde_json::Value;

use super::super::core::endpoints::reachable;
use super::super::validation::{At, Report, scalar};
use crate::strategy::{Context, Strategy};

const MAX_ENDPOINTS: usize = 1000;
const MAX_ADDRESSES: usize = 100;
const MAX_PORTS: usize = 20_000;

pub(crate) struct EndpointSlice;

impl Strategy for EndpointSlice {
    fn has_generation(&self, _: &ResourceInfo) -> bool {
        true
    }

    fn counted_metadata(&self) -> &'static [&'static str] {
        &["labels"]
    }

    fn validate(&self, _ctx: &Context<'_>, slice: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let kind = At::field(slice, "addressType");
        errors.need_one_of(&kind, &["FQDN", "IPv4", "IPv6"]);
        ports(&At::field(slice, "ports"), &mut errors);
        endpoints(&At::field(slice, "endpoints"), kind.text(), &mut errors);
        errors
    }

    fn validate_update(&self, ctx: &Context<'_>, new: &Value, old: &Value) -> ErrorList {
        let mut errors = self.validate(ctx, new);
        errors.immutable(&At::field(new, "addressType"), &At::field(old, "addressType"));
        errors
    }
}

fn ports(at: &At<'_>, errors: &mut ErrorList) {
    if at.len() > MAX_PORTS {
        errors.push(Error::too_many(&at.path, at.len(), MAX_PORTS));
        return;
    }
    let mut seen: Vec<&str> = Vec::new();
    for port in at.items() {
        let name = port.child("name");
        errors.name(&name, names::is_dns1123_label);
        if seen.contains(&name.text()) {
            errors.push(name.duplicate());
        }
        seen.push(name.text());
        errors.need_one_of(&port.child("protocol"), &["SCTP", "TCP", "UDP"]);
        errors.name(&port.child("appProtocol"), names::is_qualified_name);
    }
}

fn endpoints(at: &At<'_>, kind: &str, errors: &mut ErrorList) {
    if at.len() > MAX_ENDPOINTS {
        errors.push(Error::too_many(&at.path, at.len(), MAX_ENDPOINTS));
        return;
    }
    for endpoint in at.items() {
        let addresses = endpoint.child("addresses");
        if addresses.len() == 0 {
            errors.push(addresses.required("must contain at least 1 address"));
        } else if addresses.len() > MAX_ADDRESSES {
            errors.push(Error::too_many(&addresses.path, addresses.len(), MAX_ADDRESSES));
        }
        for address in addresses.items() {
            one_address(&address, &addresses, kind, errors);
        }
        errors.name(&endpoint.child("nodeName"), names::is_dns1123_subdomain);
        errors.name(&endpoint.child("hostname"), names::is_dns1123_label);
        hints(&endpoint.child("hints"), errors);
    }
}

fn one_address(at: &At<'_>, list: &At<'_>, kind: &str, errors: &mut ErrorList) {
    let before = errors.len();
    match kind {
        "IPv4" | "IPv6" => {
            scalar::ip(at, errors);
            if errors.len() != before {
                return;
            }
            let is_v6 = at.text().contains(':');
            if is_v6 != (kind == "IPv6") {
                let detail = format!("must be an {kind} address");
                errors.push(Error::invalid(&list.path, at.text(), detail));
            }
            reachable(at, errors);
        }
        "FQDN" => {
            let name = at.text().strip_suffix('.').unwrap_or(at.text());
            errors.complaints(at, names::is_dns1123_subdomain(name));
            if errors.len() == before && !name.contains('.') {
                errors.push(at.invalid("should be a domain with at least two segments separated by dots"));
            }
        }
        _ => {}
    }
}

fn hints(at: &At<'_>, errors: &mut ErrorList) {
    for (list, limit) in [("forZones", 8), ("forNodes", 8)] {
        let hints = at.child(list);
        if hints.len() > limit {
            errors.push(Error::too_many(&hints.path, hints.len(), limit));
            continue;
        }
        let mut seen: Vec<&str> = Vec::new();
        for hint in hints.items() {
            let name = hint.child("name");
            if seen.contains(&name.text()) {
                errors.push(Error::duplicate(&name.path, name.text()));
            }
            seen.push(name.text());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn addresses_are_of_the_slices_family() {
        let slice = json!({"endpoints": [{"addresses": ["10.0.0.1", "fd00::1", "x"]}, {"addresses": []}]});
        let mut errors = ErrorList::new();
        endpoints(&At::field(&slice, "endpoints"), "IPv4", &mut errors);
        let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(texts[0], "endpoints[0].addresses: Invalid value: \"fd00::1\": must be an IPv4 address");
        assert!(texts[1].starts_with("endpoints[0].addresses[2]: Invalid value: \"x\": must be a valid IP address"));
        assert_eq!(texts[2], "endpoints[1].addresses: Required value: must contain at least 1 address");
    }
}
