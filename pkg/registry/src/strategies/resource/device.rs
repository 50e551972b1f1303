//! One device of a slice: what it is, what it has, and who may use it.

use jiff::{Timestamp, Unit};
use kedge_meta::field::{Error, ErrorList, GoText};
use kedge_meta::names::{is_dns1123_subdomain, is_valid_label_value};
use serde_json::{Value, json};

use super::super::validation::scalar::quantity;
use super::super::validation::scheduling::sound_node_selector;
use super::super::validation::{At, Report};
use super::capacity::policy;
use super::claim::TAINT_EFFECTS;
use super::items::{self, by};
use super::names::{label, label_key, qualified};
use super::slice::{bindings, counted};
use crate::value::ValueExt;

const MAX_NAMES: usize = 32;
const MAX_VALUES: usize = 48;
const MAX_VALUE: usize = 64;
/// A domain, a slash and an identifier; longer names are shown shortened.
const MAX_SHOWN: usize = 63 + 1 + 32;
const MAX_TAINTS: usize = 16;
const MAX_CONSUMED: usize = 2;
/// Attributes that are lists, with what upstream calls them.
const LISTS: [(&str, &str); 4] =
    [("ints", "IntValues"), ("bools", "BoolValues"), ("strings", "StringValues"), ("versions", "VersionValues")];
const SINGLES: [(&str, &str); 4] =
    [("int", "IntValue"), ("bool", "BoolValue"), ("string", "StringValue"), ("version", "VersionValue")];
const NODES: &str = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec";

fn attributes(device: &Value) -> impl Iterator<Item = &Value> {
    device.map(&["attributes"]).into_iter().flatten().map(|(_, attribute)| attribute)
}

/// Whether an attribute is a list.
pub(super) fn has_lists(device: &Value) -> bool {
    attributes(device).any(|attribute| LISTS.iter().any(|(list, _)| attribute.get(list).is_some()))
}

/// Whether it takes of the node's own resources.
pub(super) fn has_mappings(device: &Value) -> bool {
    device.map(&["nodeAllocatableResourceMappings"]).is_some_and(|mappings| !mappings.is_empty())
}

/// Whether it has what costs more to look at.
pub(super) fn is_advanced(device: &Value) -> bool {
    !device.list(&["taints"]).is_empty() || !device.list(&["consumesCounters"]).is_empty() || has_lists(device)
}

/// Leaves out attributes that are lists.
pub(super) fn drop_lists(device: &mut Value) {
    let Some(Value::Object(attributes)) = device.get_mut("attributes") else { return };
    for (_, attribute) in attributes {
        LISTS.iter().for_each(|(list, _)| attribute.set_or_remove(list, None));
    }
}

/// Taints are from now on if they do not say since when.
pub(super) fn date_taints(device: &mut Value, now: Timestamp) {
    let Some(Value::Array(taints)) = device.get_mut("taints") else { return };
    let seconds = now.round(Unit::Second).ok().filter(|rounded| *rounded <= now);
    let now = seconds.unwrap_or_else(|| Timestamp::from_second(now.as_second()).unwrap_or(now)).to_string();
    for taint in taints.iter_mut().filter(|taint| taint.at(&["timeAdded"]).is_none_or(Value::is_null)) {
        taint.set("timeAdded", now.clone());
    }
}

/// A device; `selected` says that each is on nodes of its own. Taints that stay are not looked at again.
pub(super) fn device(at: &At<'_>, old: Option<&At<'_>>, selected: bool, errors: &mut ErrorList) {
    label(&at.child("name"), errors);
    let (attributes, capacity) = (at.child("attributes"), at.child("capacity"));
    let names = attributes.len() + capacity.len();
    if names > MAX_NAMES {
        let why = format!("the total number of attributes and capacities must not exceed {MAX_NAMES}");
        errors.push(Error::invalid(&at.path, names, why));
    }
    let in_lists = |at: At<'_>| LISTS.iter().map(|(list, _)| at.child(list).len()).sum::<usize>();
    let values: usize = attributes.entries().map(|(_, at)| in_lists(at).max(1)).sum();
    if values > MAX_VALUES {
        let why = format!("the total number of attribute values must not exceed {MAX_VALUES}");
        errors.push(Error::invalid(&at.path, values, why));
    }
    named(&attributes, errors, attribute);
    let shared = at.child("allowMultipleAllocations").is_true();
    named(&capacity, errors, |capacity, errors| {
        let policies = capacity.child("requestPolicy");
        match (policies.is_set(), shared) {
            (true, true) => policy(&capacity.child("value"), &policies, errors),
            (true, false) => errors.push(policies.forbidden("allowMultipleAllocations must be true")),
            _ => {}
        }
    });
    let taints = at.child("taints");
    if old.is_none_or(|old| old.child("taints").value != taints.value) {
        items::list(&taints, MAX_TAINTS, errors, |taint, errors| tainted(&taint, errors));
    }
    items::set(&at.child("consumesCounters"), MAX_CONSUMED, errors, by("counterSet"), |consumed, errors| {
        let set = consumed.child("counterSet");
        if errors.need_text(&set) {
            label(&set, errors);
        }
        counted(&consumed.child("counters"), errors);
    });
    nodes(at, selected, errors);
    bindings(at, errors);
    mappings(at, errors);
}

/// What is under names of drivers' own.
fn named(map: &At<'_>, errors: &mut ErrorList, mut each: impl FnMut(&At<'_>, &mut ErrorList)) {
    for (name, at) in map.entries() {
        qualified(&map.path, name, errors);
        each(&At { path: map.path.key(&shortened(name)), ..at }, errors);
    }
}

/// Names that are too long lose their middle.
fn shortened(name: &str) -> String {
    if name.len() <= MAX_SHOWN {
        return name.to_owned();
    }
    let left = MAX_SHOWN - 3;
    let (mut head, mut tail) = (left.div_ceil(2), name.len() - left / 2);
    while !name.is_char_boundary(head) {
        head -= 1;
    }
    while !name.is_char_boundary(tail) {
        tail += 1;
    }
    format!("{}...{}", &name[..head], &name[tail..])
}

/// One value, or one list of values.
fn attribute(at: &At<'_>, errors: &mut ErrorList) {
    text(&at.child("string"), errors);
    version(&at.child("version"), errors);
    for list in ["bools", "ints", "strings", "versions"] {
        let list = at.child(list);
        if list.is_set() && list.len() == 0 {
            errors.push(list.invalid("must not be empty if specified"));
        }
    }
    at.child("strings").items().for_each(|item| text(&item, errors));
    at.child("versions").items().for_each(|item| version(&item, errors));
    const ONE: &str = "exactly one value must be specified";
    match SINGLES.iter().chain(&LISTS).filter(|(field, _)| at.child(field).is_set()).count() {
        0 => errors.push(Error::invalid(&at.path, "", ONE)),
        1 => {}
        _ => {
            let shown = |(field, called): &(&str, &str)| format!("{:?}:{}", called, at.child(field).value);
            let shown: Vec<String> = SINGLES.iter().chain(&LISTS).map(shown).collect();
            errors.push(Error::invalid(&at.path, GoText(format!("{{{}}}", shown.join(","))), ONE));
        }
    }
}

fn text(at: &At<'_>, errors: &mut ErrorList) {
    if at.text().len() > MAX_VALUE {
        errors.push(Error::too_long(&at.path, MAX_VALUE));
    }
}

fn version(at: &At<'_>, errors: &mut ErrorList) {
    if at.is_set() && !is_version(at.text()) {
        errors.push(at.invalid("must be a string compatible with semver.org spec 2.0.0"));
    }
    text(at, errors);
}

/// `1.2.3`, `1.2.3-rc.1+build.2`.
fn is_version(text: &str) -> bool {
    let (rest, build) = text.split_once('+').map_or((text, None), |(rest, build)| (rest, Some(build)));
    let (core, before) = rest.split_once('-').map_or((rest, None), |(core, before)| (core, Some(before)));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let number = |part: &str| digits(part) && (part.len() == 1 || !part.starts_with('0'));
    let word = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    core.split('.').count() == 3
        && core.split('.').all(number)
        && before.is_none_or(|parts| parts.split('.').all(|part| word(part) && (!digits(part) || number(part))))
        && build.is_none_or(|parts| parts.split('.').all(word))
}

fn tainted(at: &At<'_>, errors: &mut ErrorList) {
    label_key(&at.child("key"), errors);
    let value = at.child("value");
    errors.complaints(&value, is_valid_label_value(value.text()));
    errors.need_one_of(&at.child("effect"), &TAINT_EFFECTS);
}

/// Where it is, if the slice does not say so.
fn nodes(at: &At<'_>, selected: bool, errors: &mut ErrorList) {
    let (name, selector, all) = (at.child("nodeName"), at.child("nodeSelector"), at.child("allNodes"));
    if !selected {
        if name.is_set() || selector.is_set() || all.is_set() {
            let why = "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
            errors.push(Error::invalid(&at.path, Value::Null, why));
        }
        return;
    }
    let mut ways = Vec::new();
    if name.is_set() {
        match name.text() {
            "" => errors.push(name.invalid("must not be empty")),
            text => {
                ways.push("`nodeName`");
                errors.complaints(&name, is_dns1123_subdomain(text));
            }
        }
    }
    if selector.is_set() {
        ways.push("`nodeSelector`");
        sound_node_selector(&selector, errors);
    }
    match all.flag() {
        Some(true) => ways.push("`allNodes`"),
        Some(false) => errors.push(all.invalid("must be either unset or set to true")),
        None => {}
    }
    match ways.len() {
        0 => errors.push(at.required(NODES)),
        1 => {}
        _ => errors.push(Error::invalid(&at.path, format!("{{{}}}", ways.join(", ")), NODES)),
    }
}

/// What it takes of the node's own resources.
fn mappings(device: &At<'_>, errors: &mut ErrorList) {
    for (resource, at) in device.child("nodeAllocatableResourceMappings").entries() {
        if resource.contains('/') && !resource.contains("kubernetes.io/") {
            errors.push(Error::invalid(&at.path, resource, "must be a node allocatable resource name"));
        }
        let (factor, key) = (at.child("allocationMultiplier"), at.child("capacityKey"));
        if !factor.is_set() && !key.is_set() {
            let why = "at least one of allocationMultiplier or capacityKey must be set";
            errors.push(Error::invalid(&at.path, "", why));
        }
        if let Some(amount) = quantity(&factor).filter(|amount| amount.is_zero() || amount.is_negative()) {
            errors.push(Error::invalid(&factor.path, json!(amount.to_string()), "must be positive"));
        }
        match key.value {
            Value::String(name) if name.is_empty() => {
                errors.push(key.invalid("capacityKey must not be an empty string"))
            }
            Value::String(name) if device.child("capacity").value.get(name).is_none() => errors.push(key.not_found()),
            _ => {}
        }
    }
}

#[cfg(test)]
#[path = "device_tests.rs"]
mod tests;
