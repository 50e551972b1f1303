//! Network policies.

use std::net::IpAddr;

use kedge_meta::field::{Error, ErrorList};
use kedge_meta::names;
use kedge_schema::ResourceInfo;
use serde_json::Value;

use super::super::validation::selector::label_selector;
use super::super::validation::{At, Report, scalar};
use crate::strategy::{Context, Strategy};

pub(crate) struct NetworkPolicy;

impl Strategy for NetworkPolicy {
    fn has_generation(&self, _: &ResourceInfo) -> bool {
        true
    }

    fn validate(&self, _ctx: &Context<'_>, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let spec = At::field(object, "spec");
        label_selector(&spec.child("podSelector"), &mut errors);
        for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
            for rule in spec.child(direction).items() {
                rule.child("ports").items().for_each(|at| port(&at, &mut errors));
                rule.child(peers).items().for_each(|at| peer(&at, &mut errors));
            }
        }
        let types = spec.child("policyTypes");
        if types.len() > 2 {
            errors.push(types.invalid("may not specify more than two policyTypes"));
            return errors;
        }
        types.items().for_each(|kind| errors.one_of(&kind, &["Ingress", "Egress"]));
        errors
    }
}

fn port(at: &At<'_>, errors: &mut ErrorList) {
    errors.one_of(&at.child("protocol"), &["TCP", "UDP", "SCTP"]);
    let (port, end) = (at.child("port"), at.child("endPort"));
    match (port.is_set(), port.int(), end.int()) {
        (false, _, Some(_)) => errors.push(end.invalid("may not be specified when `port` is not specified")),
        (false, ..) => {}
        (true, Some(first), last) => {
            errors.complaints(&port, names::is_valid_port_num(first));
            if let Some(last) = last {
                if last < first {
                    errors.push(Error::invalid(&end.path, first, "must be greater than or equal to `port`"));
                }
                errors.complaints(&end, names::is_valid_port_num(last));
            }
        }
        (true, None, last) => {
            if last.is_some() {
                errors.push(end.invalid("may not be specified when `port` is non-numeric"));
            }
            errors.complaints(&port, names::is_valid_port_name(port.text()));
        }
    }
}

fn peer(at: &At<'_>, errors: &mut ErrorList) {
    let block = at.child("ipBlock");
    let selectors = [at.child("podSelector"), at.child("namespaceSelector")];
    let set = selectors.iter().filter(|selector| selector.is_set()).count();
    selectors.iter().for_each(|selector| label_selector(selector, errors));
    if block.is_set() {
        ip_block(&block, errors);
    }
    if set == 0 && !block.is_set() {
        errors.push(at.required("must specify a peer"));
    } else if set > 0 && block.is_set() {
        errors.push(at.forbidden("may not specify both ipBlock and another peer"));
    }
}

fn ip_block(at: &At<'_>, errors: &mut ErrorList) {
    let range = at.child("cidr");
    if !errors.need_text(&range) {
        return;
    }
    scalar::cidr(&range, errors);
    let Some(whole) = parse(range.text()) else { return };
    for except in at.child("except").items() {
        scalar::cidr(&except, errors);
        let Some(part) = parse(except.text()) else { continue };
        if !contains(whole, part.0) || whole.1 >= part.1 {
            errors.push(except.invalid("must be a strict subset of `cidr`"));
        }
    }
}

fn parse(text: &str) -> Option<(IpAddr, u32)> {
    let (address, bits) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let bits: u32 = bits.parse().ok()?;
    (bits <= if address.is_ipv4() { 32 } else { 128 }).then_some((address, bits))
}

fn contains((network, bits): (IpAddr, u32), address: IpAddr) -> bool {
    match (network, address) {
        (IpAddr::V4(a), IpAddr::V4(b)) => bits == 0 || (u32::from(a) ^ u32::from(b)) >> (32 - bits) == 0,
        (IpAddr::V6(a), IpAddr::V6(b)) => bits == 0 || (u128::from(a) ^ u128::from(b)) >> (128 - bits) == 0,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn exceptions_are_inside() {
        let object = json!({"b": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16", "10.0.0.0/8", "11.0.0.0/16"]}});
        let mut errors = ErrorList::new();
        ip_block(&At::field(&object, "b"), &mut errors);
        let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "b.except[1]: Invalid value: \"10.0.0.0/8\": must be a strict subset of `cidr`",
                "b.except[2]: Invalid value: \"11.0.0.0/16\": must be a strict subset of `cidr`"
            ]
        );
    }

    #[test]
    fn ports_go_up() {
        let object = json!({"p": {"protocol": "ICMP", "port": 80, "endPort": 70}});
        let mut errors = ErrorList::new();
        port(&At::field(&object, "p"), &mut errors);
        assert_eq!(errors.len(), 2);
    }
}
