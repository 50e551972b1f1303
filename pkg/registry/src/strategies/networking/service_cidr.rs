//! Ranges of service addresses, and the addresses taken from them.

use kedge_meta::field::{Error, ErrorList};
use kedge_schema::ResourceInfo;
use serde_json::Value;

use super::super::validation::{At, Report, scalar};
use crate::strategy::{Context, Strategy};
use crate::value::ValueExt;

pub(crate) struct ServiceCidr;

impl Strategy for ServiceCidr {
    fn has_generation(&self, _: &ResourceInfo) -> bool {
        false
    }

    fn validate(&self, _ctx: &Context<'_>, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let ranges = At::field(object, "spec").child("cidrs");
        if ranges.len() == 0 {
            errors.push(ranges.required("at least one CIDR required"));
        }
        if ranges.len() > 2 {
            errors.push(ranges.invalid("only 2 CIDRs are allowed"));
        }
        ranges.items().for_each(|range| scalar::cidr(&range, &mut errors));
        errors
    }

    fn validate_update(&self, _ctx: &Context<'_>, new: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let ranges = |object| At::field(object, "spec").child("cidrs");
        errors.immutable(&ranges(new), &ranges(old));
        errors
    }
}

pub(crate) struct IpAddress;

impl Strategy for IpAddress {
    fn validate_name(&self, name: &str, _prefix: bool) -> Vec<String> {
        if name.parse::<std::net::IpAddr>().is_ok() {
            return Vec::new();
        }
        vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".into()]
    }

    fn validate(&self, _ctx: &Context<'_>, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let parent = At::field(object, "spec").child("parentRef");
        if parent.is_set() {
            errors.need_text(&parent.child("resource"));
            errors.need_text(&parent.child("name"));
        } else {
            errors.push(parent.required(""));
        }
        errors
    }

    fn validate_update(&self, _ctx: &Context<'_>, new: &Value, old: &Value) -> ErrorList {
        if new.at(&["spec"]) == old.at(&["spec"]) {
            return ErrorList::new();
        }
        let parent = At::field(new, "spec").child("parentRef");
        vec![Error::invalid(&parent.path, parent.value, "field is immutable")]
    }
}
