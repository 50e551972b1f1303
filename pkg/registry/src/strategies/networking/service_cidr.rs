//! Ranges of service addresses.

use kedge_meta::field::{Error, ErrorList};
use kedge_schema::ResourceInfo;
use serde_json::{Value, json};

use super::super::validation::{At, Report, scalar};
use crate::strategy::{Context, Strategy};
use crate::value::ValueExt;

const IMMUTABLE: &str = "field is immutable";

pub(crate) struct ServiceCidr;

impl Strategy for ServiceCidr {
    fn has_generation(&self, _: &ResourceInfo) -> bool {
        false
    }

    fn validate(&self, _ctx: &Context<'_>, object: &Value) -> ErrorList {
        validate(object)
    }

    fn validate_update(&self, _ctx: &Context<'_>, new: &Value, old: &Value) -> ErrorList {
        validate_changes(new, old)
    }
}

fn validate(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let ranges = At::field(object, "spec").child("cidrs");
    match ranges.len() {
        0 => errors.push(ranges.required("at least one CIDR required")),
        1 | 2 => {
            for range in ranges.items() {
                errors.complaints(&range, scalar::strict_cidr(range.text()).into_iter().collect());
            }
            let families: Vec<bool> = ranges.items().filter_map(|range| is_v6(range.text())).collect();
            if families.len() == 2 && families[0] == families[1] {
                let what = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
                errors.push(ranges.invalid(what));
            }
        }
        // As upstream shows its own form of it.
        _ => errors.push(Error::invalid(&ranges.path, json!({"CIDRs": ranges.value}), "may only hold up to 2 values")),
    }
    errors
}

/// The family of a range; none of a text that is no range.
fn is_v6(text: &str) -> Option<bool> {
    let (address, _) = text.split_once('/')?;
    scalar::sloppy_ip(address).map(|ip| ip.is_ipv6())
}

/// A second range may be added to one of one family; all else stays.
fn validate_changes(new: &Value, old: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let ranges = At::field(new, "spec").child("cidrs");
    let had = old.list(&["spec", "cidrs"]);
    let added = had.len() == 1 && ranges.len() == 2;
    if !added && ranges.len() != had.len() {
        // None are an empty list.
        let shown = if ranges.is_set() { ranges.value.clone() } else { json!([]) };
        errors.push(Error::invalid(&ranges.path, shown, IMMUTABLE));
        return errors;
    }
    let changed = ranges.items().zip(had).filter(|(range, had)| range.value != *had);
    errors.extend(changed.map(|(range, _)| range.invalid(IMMUTABLE)));
    if added {
        errors.extend(validate(new));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(cidrs: &[&str]) -> Value {
        json!({"spec": {"cidrs": cidrs}})
    }

    fn texts(errors: &ErrorList) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn there_is_a_range_of_each_family_at_most() {
        let of = |cidrs: &[&str]| texts(&validate(&object(cidrs)));
        assert!(of(&["10.0.0.0/24"]).is_empty() && of(&["fd00::/64", "10.0.0.0/24"]).is_empty());
        assert_eq!(of(&[]), ["spec.cidrs: Required value: at least one CIDR required"]);
        assert_eq!(
            of(&["10.0.0.0/24", "10.0.1.0/24"]),
            [
                "spec.cidrs: Invalid value: [\"10.0.0.0/24\",\"10.0.1.0/24\"]: may specify no more than one IP for each IP family, \
              i.e 192.168.0.0/24 and 2001:db8::/64"
            ]
        );
        assert_eq!(
            of(&["10.0.0.0/24", "fd00::/64", "x"]),
            [
                "spec.cidrs: Invalid value: {\"CIDRs\":[\"10.0.0.0/24\",\"fd00::/64\",\"x\"]}: may only hold up to 2 values"
            ]
        );
        assert_eq!(
            of(&["10.0.0.1/24"]),
            ["spec.cidrs[0]: Invalid value: \"10.0.0.1/24\": must not have bits set beyond the prefix length"]
        );
    }

    #[test]
    fn a_range_stays_and_the_other_family_may_come() {
        let of = |new: &[&str], old: &[&str]| texts(&validate_changes(&object(new), &object(old)));
        assert!(of(&["10.0.0.0/24", "fd00::/64"], &["10.0.0.0/24"]).is_empty());
        assert_eq!(of(&["10.0.0.0/24", "x/64"], &["10.0.0.0/24"]).len(), 1);
        assert_eq!(
            of(&["10.0.0.0/25"], &["10.0.0.0/24"]),
            ["spec.cidrs[0]: Invalid value: \"10.0.0.0/25\": field is immutable"]
        );
        assert_eq!(
            of(&["10.0.0.0/24"], &["10.0.0.0/24", "fd00::/64"]),
            ["spec.cidrs: Invalid value: [\"10.0.0.0/24\"]: field is immutable"]
        );
        let none = texts(&validate_changes(&json!({"spec": {}}), &object(&["10.0.0.0/24"])));
        assert_eq!(none, ["spec.cidrs: Invalid value: []: field is immutable"]);
    }
}
