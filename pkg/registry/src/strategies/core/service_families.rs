//! Which families of addresses a service has: what it asks for, what the cluster has, and what it had before.

use kedge_meta::field::{Error, ErrorList, Path};
use serde_json::{Value, json};

use super::super::allocators::Family;
use super::service::needs_address;
use super::service_address_rules as rules;
use crate::value::ValueExt;

const NOT_HERE: &str = "not configured on this cluster";
const SINGLE: &str = "SingleStack";
const REQUIRE: &str = "RequireDualStack";

/// Decides policy and families of a service that needs addresses; `cluster` are the families of the cluster, the first being
/// the one that services have when they do not say.
pub(super) fn decide(service: &mut Value, old: Option<&Value>, cluster: &[Family]) -> Result<(), ErrorList> {
    // A service that takes what there is does not get or lose an address because the cluster has become another.
    if !needs_address(service) || old.is_some_and(|old| keeps_what_it_prefers(service, old)) {
        return Ok(());
    }
    let unknown = service.text(&["spec", "clusterIP"]) == "None"
        && service.map(&["spec", "selector"]).is_none_or(serde_json::Map::is_empty);
    if policy(service).is_empty() {
        let had = old.map(policy).unwrap_or_default();
        let default = if unknown { REQUIRE } else { SINGLE };
        let policy = if had.is_empty() { default } else { had };
        service.entry("spec").insert("ipFamilyPolicy".into(), policy.into());
    }
    none_if_empty(rules::validate(service))?;
    let mut errors = ErrorList::new();
    if let Some(old) = old {
        give_up_the_second(service, old, &mut errors);
    }
    if policy(service) == SINGLE {
        for (field, what) in [("clusterIPs", "cluster IPs"), ("ipFamilies", "IP families")] {
            if service.list(&["spec", field]).len() == 2 {
                let detail =
                    format!("must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified");
                errors.push(of_policy(service, &detail));
            }
        }
    }
    let mut families = families(service);
    add_those_of_addresses(service, &mut families, cluster, &mut errors);
    none_if_empty(errors)?;
    let default = cluster.first().copied().unwrap_or(Family::IPv4);
    if unknown {
        // Its endpoints are somebody else's, and may be of any family.
        if families.is_empty() {
            families.push(default);
        }
        if families.len() < 2 && policy(service) != SINGLE {
            families.push(families[0].other());
        }
        write(service, &families);
        return Ok(());
    }
    let mut errors = ErrorList::new();
    if policy(service) == REQUIRE && cluster.len() < 2 {
        errors.push(of_policy(service, "this cluster is not configured for dual-stack services"));
    }
    for (i, family) in families.iter().enumerate().filter(|(_, family)| !cluster.contains(family)) {
        errors.push(Error::invalid(&Path::new("spec").child("ipFamilies").index(i), family.name(), NOT_HERE));
    }
    none_if_empty(errors)?;
    if families.is_empty() {
        families.push(default);
    }
    if policy(service) != SINGLE && families.len() == 1 && cluster.len() == 2 {
        families.push(families[0].other());
    }
    write(service, &families);
    Ok(())
}

/// The families that a service says it has.
pub(super) fn families(service: &Value) -> Vec<Family> {
    let named = service.list(&["spec", "ipFamilies"]).iter().filter_map(Value::as_str);
    named.filter_map(Family::named).collect()
}

fn policy(service: &Value) -> &str {
    service.text(&["spec", "ipFamilyPolicy"])
}

fn write(service: &mut Value, families: &[Family]) {
    let names: Vec<&str> = families.iter().map(|family| family.name()).collect();
    service.entry("spec").insert("ipFamilies".into(), json!(names));
}

fn of_policy(service: &Value, detail: &str) -> Error {
    Error::invalid(&Path::new("spec").child("ipFamilyPolicy"), policy(service), detail)
}

fn none_if_empty(errors: ErrorList) -> Result<(), ErrorList> {
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// Whether a service that prefers two families keeps the addresses and families that it has.
pub(super) fn keeps_what_it_prefers(new: &Value, old: &Value) -> bool {
    let prefers = |service: &Value| policy(service) == "PreferDualStack";
    let had_none = policy(old).is_empty();
    new.text(&["spec", "type"]) == old.text(&["spec", "type"])
        && needs_address(new)
        && prefers(new)
        && (had_none || prefers(old))
        && same(new, old, "clusterIPs")
        && same(new, old, "ipFamilies")
}

fn same(new: &Value, old: &Value, field: &str) -> bool {
    new.list(&["spec", field]) == old.list(&["spec", field])
}

/// An update that says that one family is enough, and changes nothing else, gives up the second; one that leaves it out must
/// say so.
fn give_up_the_second(new: &mut Value, old: &Value, errors: &mut ErrorList) {
    let single = policy(new) == SINGLE;
    for (field, what) in [("clusterIPs", "cluster IP"), ("ipFamilies", "IP family")] {
        let (now, had) = (new.list(&["spec", field]).len(), old.list(&["spec", field]).len());
        if single && now > 1 && same(new, old, field) {
            if let Some(Value::Array(list)) = new.entry("spec").get_mut(field) {
                list.truncate(1);
            }
        } else if !single && now > 0 && now < had {
            errors.push(of_policy(new, &format!("must be 'SingleStack' to release the secondary {what}")));
        }
    }
}

/// Addresses that are asked for by name say of which family they are.
fn add_those_of_addresses(service: &Value, families: &mut Vec<Family>, cluster: &[Family], errors: &mut ErrorList) {
    let listed = service.list(&["spec", "clusterIPs"]);
    for (i, text) in listed.iter().filter_map(Value::as_str).enumerate().skip(families.len()) {
        let Ok(ip) = text.parse() else { return };
        let family = Family::of(ip);
        if cluster.contains(&family) {
            families.push(family);
        } else {
            let path = Path::new("spec").child("clusterIPs").index(i);
            errors.push(Error::invalid(&path, listed, format!("{} is {NOT_HERE}", family.name())));
        }
    }
}

#[cfg(test)]
#[path = "service_families_tests.rs"]
mod tests;
