//! Endpoint slices.

use kedge_meta::field::{Error, ErrorList};
use kedge_meta::names;
use kedge_schema::ResourceInfo;
use serde_json::Value;

use super::super::core::endpoints::reachable;
use super::super::validation::{At, Report, scalar, selector};
use crate::strategy::{Context, Strategy};
use crate::value::ValueExt;

const MAX_ENDPOINTS: usize = 1000;
const MAX_ADDRESSES: usize = 100;
const MAX_PORTS: usize = 20_000;
const MAX_TOPOLOGY: usize = 16;
const HOST_NAME: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";

pub(crate) struct EndpointSlice;

impl Strategy for EndpointSlice {
    fn has_generation(&self, _: &ResourceInfo) -> bool {
        true
    }

    fn counted_metadata(&self) -> &'static [&'static str] {
        &["labels"]
    }

    fn prepare_for_create(&self, _ctx: &Context<'_>, slice: &mut Value) {
        drop_topology(slice, None);
    }

    fn prepare_for_update(&self, _ctx: &Context<'_>, new: &mut Value, old: &Value) {
        drop_topology(new, Some(old));
    }

    fn validate(&self, _ctx: &Context<'_>, slice: &Value) -> ErrorList {
        validate(slice, None)
    }

    fn validate_update(&self, _ctx: &Context<'_>, new: &Value, old: &Value) -> ErrorList {
        let mut errors = validate(new, Some(old));
        errors.immutable(&At::field(new, "addressType"), &At::field(old, "addressType"));
        errors
    }
}

/// This version does not write the old topology; a node that only that named stays known.
fn drop_topology(slice: &mut Value, old: Option<&Value>) {
    if old.is_some_and(|old| old.list(&["endpoints"]) == slice.list(&["endpoints"])) {
        return;
    }
    let topology = |endpoint: &Value| endpoint.text(&["deprecatedTopology", HOST_NAME]).to_owned();
    let known: Vec<String> = old.map_or(&[][..], |old| old.list(&["endpoints"])).iter().map(topology).collect();
    let Some(Value::Array(endpoints)) = slice.get_mut("endpoints") else { return };
    for endpoint in endpoints {
        let node = topology(endpoint);
        let unnamed = endpoint.at(&["nodeName"]).is_none_or(Value::is_null);
        if unnamed && known.contains(&node) && names::is_dns1123_subdomain(&node).is_empty() {
            endpoint.set("nodeName", node);
        }
        endpoint.set_or_remove("deprecatedTopology", None);
    }
}

/// Endpoints that stay as they were are not looked at: they may be from before a rule.
fn validate(slice: &Value, old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::new();
    let kind = At::field(slice, "addressType");
    errors.need_one_of(&kind, &["FQDN", "IPv4", "IPv6"]);
    ports(&At::field(slice, "ports"), &mut errors);
    let all = At::field(slice, "endpoints");
    if old.is_none_or(|old| At::field(old, "endpoints").value != all.value) {
        endpoints(&all, kind.text(), &mut errors);
    }
    errors
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
            errors.push(Error::duplicate(&name.path, name.text()));
        }
        seen.push(name.text());
        errors.need_one_of(&port.child("protocol"), &["SCTP", "TCP", "UDP"]);
        let protocol = port.child("appProtocol");
        if protocol.is_set() {
            errors.complaints(&protocol, names::is_qualified_name(protocol.text()));
        }
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
        let (node, host) = (endpoint.child("nodeName"), endpoint.child("hostname"));
        if node.is_set() {
            errors.complaints(&node, names::is_dns1123_subdomain(node.text()));
        }
        topology(&endpoint.child("deprecatedTopology"), errors);
        if host.is_set() {
            errors.complaints(&host, names::is_dns1123_label(host.text()));
        }
        hints(&endpoint.child("hints"), errors);
    }
}

fn one_address(at: &At<'_>, list: &At<'_>, kind: &str, errors: &mut ErrorList) {
    let before = errors.len();
    match kind {
        "IPv4" | "IPv6" => {
            // Those of the older family may be written in other ways than the one.
            let wrong = match kind {
                "IPv4" => scalar::unambiguous_ip(at.text()).map(str::to_owned),
                _ => scalar::strict_ip(at.text()),
            };
            errors.complaints(at, wrong.into_iter().collect());
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
        "FQDN" => domain(at, errors),
        _ => {}
    }
}

/// A name with a domain; the first thing that is wrong with it.
fn domain(at: &At<'_>, errors: &mut ErrorList) {
    let invalid = |text: &str, why: String| Error::invalid(&at.path, text, why);
    let name = at.text().strip_suffix('.').unwrap_or(at.text());
    let complaints = names::is_dns1123_subdomain(name);
    if at.text().is_empty() {
        errors.push(at.required(""));
    } else if !complaints.is_empty() {
        errors.push(invalid(name, complaints.join(",")));
    } else if !name.contains('.') {
        errors.push(invalid(name, "should be a domain with at least two segments separated by dots".into()));
    } else if let Some(label) = name.split('.').find(|label| !names::is_dns1123_label(label).is_empty()) {
        errors.push(invalid(label, names::is_dns1123_label(label).join(",")));
    }
}

/// What was said of places before there were fields for them.
fn topology(at: &At<'_>, errors: &mut ErrorList) {
    if at.len() > MAX_TOPOLOGY {
        errors.push(Error::too_many(&at.path, at.len(), MAX_TOPOLOGY));
    }
    selector::labels(at, errors);
    if at.child(ZONE).is_set() {
        errors.push(Error::internal(&at.path.key(ZONE), "reserved key was not removed in conversion"));
    }
}

fn hints(at: &At<'_>, errors: &mut ErrorList) {
    for (list, limit, rule) in [
        ("forZones", 8, names::is_valid_label_value as fn(&str) -> Vec<String>),
        ("forNodes", 8, names::is_dns1123_subdomain),
    ] {
        let hints = at.child(list);
        if hints.len() > limit {
            errors.push(Error::too_many(&hints.path, hints.len(), limit));
            return;
        }
        let mut seen: Vec<&str> = Vec::new();
        for hint in hints.items() {
            let name = hint.child("name");
            if seen.contains(&name.text()) {
                errors.push(Error::duplicate(&name.path, name.text()));
            }
            seen.push(name.text());
            let complaints = rule(name.text());
            errors.extend(complaints.into_iter().map(|why| Error::invalid(&name.path, name.text(), why)));
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

    #[test]
    fn domains_have_two_parts() {
        let said = |name: &str| {
            let slice = json!({"endpoints": [{ "addresses": [name] }]});
            let mut errors = ErrorList::new();
            endpoints(&At::field(&slice, "endpoints"), "FQDN", &mut errors);
            errors.iter().map(|error| error.error_body()).collect::<Vec<_>>().join("; ")
        };
        assert_eq!(said("a.example.com."), "");
        assert_eq!(said(""), "Required value");
        assert_eq!(said("a"), "Invalid value: \"a\": should be a domain with at least two segments separated by dots");
        assert!(said("a b.c").starts_with("Invalid value: \"a b.c\": a lowercase RFC 1123 subdomain"));
        let long = "a".repeat(64);
        assert_eq!(said(&format!("{long}.b")), format!("Invalid value: {long:?}: must be no more than 63 characters"));
    }

    #[test]
    fn endpoints_that_stay_are_not_looked_at() {
        let slice = |kind: &str, address: &str| json!({"addressType": kind, "endpoints": [{"addresses": [address]}]});
        let old = slice("IPv4", "010.0.0.1");
        assert_eq!(validate(&old, None).len(), 1);
        assert!(validate(&old, Some(&old)).is_empty());
        assert_eq!(validate(&slice("IPv6", "2001:DB8::1"), Some(&old)).len(), 1);
    }

    #[test]
    fn the_old_topology_goes_and_leaves_its_node() {
        let host = |name: &str| json!({HOST_NAME: name});
        let old = json!({"endpoints": [{"addresses": ["10.0.0.1"], "deprecatedTopology": host("a")}]});
        let mut same = old.clone();
        drop_topology(&mut same, Some(&old));
        assert_eq!(same, old);
        let mut new = json!({"endpoints": [{"addresses": ["10.0.0.2"], "deprecatedTopology": host("a")},
            {"addresses": ["10.0.0.3"], "deprecatedTopology": host("b")}]});
        drop_topology(&mut new, Some(&old));
        let kept = json!({"endpoints": [{"addresses": ["10.0.0.2"], "nodeName": "a"}, {"addresses": ["10.0.0.3"]}]});
        assert_eq!(new, kept);
    }

    #[test]
    fn hints_are_names_and_none_is_there_twice() {
        let object = json!({"hints": {"forZones": [{"name": "a"}, {"name": "a"}], "forNodes": [{"name": "A_"}]}});
        let mut errors = ErrorList::new();
        hints(&At::field(&object, "hints"), &mut errors);
        let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(texts[0], "hints.forZones[1].name: Duplicate value: \"a\"");
        assert!(texts[1].starts_with("hints.forNodes[0].name: Invalid value: \"A_\": a lowercase RFC 1123 subdomain"));
    }
}
