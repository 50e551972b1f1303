//! What can be wrong with the addresses of a service and their families, and with a change of them.

use std::net::IpAddr;

use kedge_meta::field::{Error, ErrorList, Path};
use serde_json::Value;

use super::super::validation::{At, Report, scalar};
use crate::value::ValueExt;

const ONCE: &str = "may not change once set";

/// Everything that does not depend on what was before.
pub(super) fn validate(service: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let spec = At::field(service, "spec");
    if spec.child("type").text() == "ExternalName" {
        return errors;
    }
    let (single, listed) = (spec.child("clusterIP"), spec.child("clusterIPs"));
    let first = listed.items().next().map_or("", |ip| ip.text());
    if single.text().is_empty() {
        if listed.len() > 0 {
            errors.push(listed.invalid("must be empty when `clusterIP` is not specified"));
        }
    } else if listed.len() == 0 {
        errors.push(listed.required(""));
    } else if first != single.text() {
        errors.push(listed.invalid("first value must match `clusterIP`"));
    }
    let mut seen: Vec<&str> = Vec::new();
    for family in spec.child("ipFamilies").items() {
        errors.one_of(&family, &["IPv4", "IPv6"]);
        if seen.contains(&family.text()) {
            errors.push(family.duplicate());
        }
        seen.push(family.text());
    }
    errors.one_of(&spec.child("ipFamilyPolicy"), &["PreferDualStack", "RequireDualStack", "SingleStack"]);
    if addresses(&listed, &mut errors) {
        families_fit(&spec, &listed, &mut errors);
    }
    errors
}

/// Whether each of them is an address, or there is none on purpose.
fn addresses(listed: &At<'_>, errors: &mut ErrorList) -> bool {
    let mut fine = true;
    for (i, ip) in listed.items().enumerate() {
        let before = errors.len();
        if i > 0 || ip.text() != "None" {
            errors.extend(scalar::unambiguous_ip(ip.text()).map(|what| ip.invalid(what)));
        } else if listed.len() > 1 {
            errors.push(listed.invalid("'None' must be the first and only value"));
        }
        fine &= errors.len() == before;
    }
    if listed.len() > 2 {
        errors.push(listed.invalid("may only hold up to 2 values"));
    }
    fine
}

fn families_fit(spec: &At<'_>, listed: &At<'_>, errors: &mut ErrorList) {
    let is_v6 = |ip: &At<'_>| ip.text().parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6());
    let v6 = listed.items().filter(is_v6).count();
    if listed.len() > 1 && (v6 == 0 || v6 == listed.len()) {
        errors.push(listed.invalid("may specify no more than one IP for each IP family"));
    }
    if is_headless(spec) {
        return;
    }
    for (i, (ip, family)) in listed.items().zip(spec.child("ipFamilies").items()).enumerate() {
        let wanted = family.text();
        if matches!((wanted, is_v6(&ip)), ("IPv4", true) | ("IPv6", false)) {
            errors.push(ip.invalid(format!("expected an {wanted} value as indicated by `ipFamilies[{i}]`")));
        }
    }
}

fn is_headless(spec: &At<'_>) -> bool {
    let listed = spec.child("clusterIPs");
    listed.len() == 1 && listed.items().all(|ip| ip.text() == "None")
}

/// What may not change: the first address and the first family stay, a second one may come, and go when that is said.
pub(super) fn validate_changes(new: &Value, old: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let (spec, was) = (At::field(new, "spec"), At::field(old, "spec"));
    let named = |at: &At<'_>| at.child("type").text() == "ExternalName";
    if named(&spec) || named(&was) {
        return errors;
    }
    let (now_headless, was_headless) = (is_headless(&spec), is_headless(&was));
    if !(now_headless && was_headless) {
        changes_of(new, old, "clusterIPs", "clusterIP", &mut errors);
    }
    if !now_headless && !was_headless {
        changes_of(new, old, "ipFamilies", "ipFamily", &mut errors);
    }
    errors
}

fn changes_of(new: &Value, old: &Value, field: &str, one: &str, errors: &mut ErrorList) {
    let path = Path::new("spec").child(field);
    let (now, had) = (new.list(&["spec", field]), old.list(&["spec", field]));
    let value = new.at(&["spec", field]).unwrap_or(&Value::Null);
    let families = field == "ipFamilies";
    if now.len() == had.len() {
        for (i, _) in now.iter().zip(had).enumerate().filter(|(_, (now, had))| now != had) {
            // As upstream, which names the first family whichever has changed.
            let path = path.index(if families { 0 } else { i });
            errors.push(Error::invalid(&path, value, ONCE));
        }
        return;
    }
    let lost = now.len() < had.len();
    let none = if families { new.list(&["spec", "clusterIPs"]).is_empty() } else { now.is_empty() };
    if lost && none {
        errors.push(Error::invalid(&path.index(0), value, format!("primary {one} can not be unset")));
    }
    if let (Some(first), Some(was)) = (now.first(), had.first())
        && first != was
    {
        // As upstream, which shows the addresses when families become fewer.
        let addresses = new.at(&["spec", "clusterIPs"]).unwrap_or(&Value::Null);
        let shown = if families && lost { addresses } else { value };
        errors.push(Error::invalid(&path.index(0), shown, ONCE));
    }
    if lost && now.len() == 1 && new.text(&["spec", "ipFamilyPolicy"]) != "SingleStack" {
        let policy = new.at(&["spec", "ipFamilyPolicy"]).unwrap_or(&Value::Null);
        let detail = format!("must be set to 'SingleStack' when releasing the secondary {one}");
        errors.push(Error::invalid(&Path::new("spec").child("ipFamilyPolicy"), policy, detail));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn service(ips: Value, families: Value, policy: &str) -> Value {
        json!({"spec": {"type": "ClusterIP", "clusterIP": ips[0], "clusterIPs": ips, "ipFamilies": families,
            "ipFamilyPolicy": policy}})
    }

    fn texts(errors: &ErrorList) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn addresses_are_one_of_each_family() {
        let of = |ips: Value| texts(&validate(&service(ips, json!(null), "PreferDualStack")));
        assert!(of(json!(["10.0.0.1", "fd00::1"])).is_empty() && of(json!(["None"])).is_empty());
        assert_eq!(
            of(json!(["10.0.0.1", "10.0.0.2"])),
            [
                "spec.clusterIPs: Invalid value: [\"10.0.0.1\",\"10.0.0.2\"]: may specify no more than one IP for each IP family"
            ]
        );
        assert_eq!(
            of(json!(["None", "10.0.0.2"])),
            ["spec.clusterIPs: Invalid value: [\"None\",\"10.0.0.2\"]: 'None' must be the first and only value"]
        );
        let three = of(json!(["10.0.0.1", "fd00::1", "10.0.0.2"]));
        assert!(three.len() == 1 && three[0].ends_with("may only hold up to 2 values"), "{three:?}");
        let wrong = service(json!(["10.0.0.1"]), json!(["IPv6", "IPv6", "IPX"]), "x");
        let wrong = texts(&validate(&wrong));
        assert_eq!(wrong.len(), 4, "{wrong:?}");
        assert!(wrong[0].starts_with("spec.ipFamilies[1]: Duplicate value"));
        assert!(wrong[3].ends_with("expected an IPv6 value as indicated by `ipFamilies[0]`"));
    }

    #[test]
    fn the_first_address_stays_and_the_second_goes_when_that_is_said() {
        let one = service(json!(["10.0.0.1"]), json!(["IPv4"]), "SingleStack");
        let two = service(json!(["10.0.0.1", "fd00::1"]), json!(["IPv4", "IPv6"]), "RequireDualStack");
        assert!(validate_changes(&two, &one).is_empty() && validate_changes(&one, &two).is_empty());
        let mut silent = one.clone();
        silent["spec"]["ipFamilyPolicy"] = json!("PreferDualStack");
        assert_eq!(
            texts(&validate_changes(&silent, &two)),
            [
                "spec.ipFamilyPolicy: Invalid value: \"PreferDualStack\": must be set to 'SingleStack' when releasing the secondary clusterIP",
                "spec.ipFamilyPolicy: Invalid value: \"PreferDualStack\": must be set to 'SingleStack' when releasing the secondary ipFamily",
            ]
        );
        let swapped = service(json!(["10.0.0.1", "fd00::2"]), json!(["IPv4", "IPv6"]), "RequireDualStack");
        assert_eq!(
            texts(&validate_changes(&swapped, &two)),
            ["spec.clusterIPs[1]: Invalid value: [\"10.0.0.1\",\"fd00::2\"]: may not change once set"]
        );
        let other = service(json!(["fd00::1"]), json!(["IPv6"]), "SingleStack");
        assert_eq!(
            texts(&validate_changes(&other, &one)),
            [
                "spec.clusterIPs[0]: Invalid value: [\"fd00::1\"]: may not change once set",
                "spec.ipFamilies[0]: Invalid value: [\"IPv6\"]: may not change once set",
            ]
        );
        let none = json!({"spec": {"type": "ClusterIP", "ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv4"]}});
        assert_eq!(
            texts(&validate_changes(&none, &one)),
            ["spec.clusterIPs[0]: Invalid value: null: primary clusterIP can not be unset"]
        );
        let headless = service(json!(["None"]), json!(["IPv6", "IPv4"]), "RequireDualStack");
        let was = service(json!(["None"]), json!(["IPv4"]), "SingleStack");
        assert!(validate_changes(&headless, &was).is_empty());
    }
}
