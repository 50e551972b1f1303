//! Slices of the devices that a driver has on a node, or on many.

use std::collections::HashSet;

use jiff::Timestamp;
use kedge_meta::field::{Error, ErrorList};
use kedge_meta::names::is_dns1123_subdomain;
use kedge_schema::ResourceInfo;
use serde_json::Value;

use super::super::validation::scheduling::sound_node_selector;
use super::super::validation::{At, Report};
use super::device::{self, device};
use super::items::{self, by};
use super::names::{driver, label, label_key, pool};
use crate::strategy::{Context, Strategy};
use crate::value::ValueExt;

const MAX_DEVICES: usize = 128;
/// Where some of them have taints, or share counters.
const MAX_ADVANCED_DEVICES: usize = 64;
const MAX_COUNTER_SETS: usize = 8;
const MAX_COUNTERS: usize = 32;
const MAX_CONDITIONS: usize = 4;
const IMMUTABLE: &str = "field is immutable";
const ONE_OF: &str = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";

pub(crate) struct ResourceSlice;

impl Strategy for ResourceSlice {
    fn has_generation(&self, _: &ResourceInfo) -> bool {
        true
    }

    fn prepare_for_create(&self, ctx: &Context<'_>, slice: &mut Value) {
        prepare(slice, None, ctx.now);
    }

    fn prepare_for_update(&self, ctx: &Context<'_>, new: &mut Value, old: &Value) {
        prepare(new, Some(old), ctx.now);
    }

    fn validate(&self, _ctx: &Context<'_>, slice: &Value) -> ErrorList {
        validate(slice, None)
    }

    fn validate_update(&self, _ctx: &Context<'_>, new: &Value, old: &Value) -> ErrorList {
        validate(new, Some(old))
    }

    fn warnings(&self, _ctx: &Context<'_>, slice: &Value, _old: Option<&Value>) -> Vec<String> {
        let driver = slice.text(&["spec", "driver"]);
        let capitals = driver.to_lowercase() != driver;
        let why = || format!("spec.driver: driver names should be lowercase; {driver:?} contains uppercase characters");
        capitals.then(why).into_iter().collect()
    }
}

/// Leaves out what gates keep away that are off, unless it is there already; taints are from now on.
fn prepare(slice: &mut Value, old: Option<&Value>, now: Timestamp) {
    let uses = |uses: fn(&Value) -> bool| old.is_some_and(|old| old.list(&["spec", "devices"]).iter().any(uses));
    let (lists, mappings) = (uses(device::has_lists), uses(device::has_mappings));
    let Some(Value::Array(devices)) = slice.get_mut("spec").and_then(|spec| spec.get_mut("devices")) else { return };
    for device in devices {
        if !lists {
            device::drop_lists(device);
        }
        if !mappings {
            device.set_or_remove("nodeAllocatableResourceMappings", None);
        }
        device::date_taints(device, now);
    }
}

fn validate(slice: &Value, old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::new();
    let (spec, was) = (At::field(slice, "spec"), old.map(|old| At::field(old, "spec")));
    driver(&spec.child("driver"), &mut errors);
    let of = spec.child("pool");
    pool(&of.child("name"), &mut errors);
    let count = of.child("resourceSliceCount");
    if count.int().unwrap_or_default() <= 0 {
        errors.push(Error::invalid(&count.path, count.int().unwrap_or_default(), "must be greater than zero"));
    }
    let generation = of.child("generation");
    if generation.int().is_some_and(|number| number < 0) {
        errors.push(generation.invalid("must be greater than or equal to zero"));
    }
    if let Some(was) = &was {
        let (name, had) = (of.child("name"), was.child("pool").child("name"));
        for (now, had) in [(name, had), (spec.child("driver"), was.child("driver"))] {
            if now.text() != had.text() {
                errors.push(Error::invalid(&now.path, now.text(), IMMUTABLE));
            }
        }
        errors.immutable(&spec.child("nodeName"), &was.child("nodeName"));
    }
    nodes(&spec, &mut errors);
    devices(&spec, was.as_ref(), &mut errors);
    errors
}

/// Where the devices are: in one of four ways.
fn nodes(spec: &At<'_>, errors: &mut ErrorList) {
    let mut ways = Vec::new();
    let (name, selector) = (spec.child("nodeName"), spec.child("nodeSelector"));
    if name.is_set() {
        match name.text() {
            "" => errors.push(name.invalid("must be either unset or set to a non-empty string")),
            text => {
                ways.push("`nodeName`");
                errors.complaints(&name, is_dns1123_subdomain(text));
            }
        }
    }
    if selector.is_set() {
        ways.push("`nodeSelector`");
        sound_node_selector(&selector, errors);
        let terms = selector.child("nodeSelectorTerms");
        if terms.len() != 1 {
            errors.push(terms.invalid("must have exactly one node selector term"));
        }
    }
    for (field, way) in [("allNodes", "`allNodes`"), ("perDeviceNodeSelection", "`perDeviceNodeSelection`")] {
        let flag = spec.child(field);
        match flag.flag() {
            Some(true) => ways.push(way),
            Some(false) => errors.push(flag.invalid("must be either unset or set to true")),
            None => {}
        }
    }
    match ways.len() {
        0 => errors.push(spec.required(ONE_OF)),
        1 => {}
        _ => {
            let why = format!("{ONE_OF}, but multiple fields are set");
            errors.push(Error::invalid(&spec.path, format!("{{{}}}", ways.join(", ")), why));
        }
    }
}

fn devices(spec: &At<'_>, was: Option<&At<'_>>, errors: &mut ErrorList) {
    let (devices, counters) = (spec.child("devices"), spec.child("sharedCounters"));
    if devices.is_set() && counters.is_set() {
        let why = "only one of `sharedCounters` or `devices` is allowed";
        errors.push(Error::invalid(&spec.path, "", why));
    }
    let advanced = devices.items().any(|device| device::is_advanced(device.value));
    let most = if advanced { MAX_ADVANCED_DEVICES } else { MAX_DEVICES };
    let selected = spec.child("perDeviceNodeSelection").is_true();
    items::set(&devices, most, errors, by("name"), |at, errors| {
        let name = at.child("name");
        let known =
            was.and_then(|was| was.child("devices").items().find(|old| old.child("name").text() == name.text()));
        device(&at, known.as_ref(), selected, errors);
    });
    items::set(&counters, MAX_COUNTER_SETS, errors, by("name"), |set, errors| {
        let name = set.child("name");
        if errors.need_text(&name) {
            label(&name, errors);
        }
        counted(&set.child("counters"), errors);
    });
}

/// Counters of a set, or what a device takes of them.
pub(super) fn counted(at: &At<'_>, errors: &mut ErrorList) {
    match at.len() {
        0 => errors.push(at.required("")),
        length if length > MAX_COUNTERS => errors.push(Error::too_many(&at.path, length, MAX_COUNTERS)),
        _ => {
            for (name, _) in at.entries() {
                let complaints = kedge_meta::names::is_dns1123_label(name);
                errors.extend(complaints.into_iter().map(|why| Error::invalid(&at.path, name, why)));
            }
        }
    }
}

/// What must be and what must not become true of a device before a pod is bound; there is one only with the other.
pub(super) fn bindings(at: &At<'_>, errors: &mut ErrorList) {
    let (conditions, failures) = (at.child("bindingConditions"), at.child("bindingFailureConditions"));
    for list in [&conditions, &failures] {
        items::list(list, MAX_CONDITIONS, errors, |item, errors| label_key(&item, errors));
    }
    let mut seen = HashSet::new();
    errors.extend(conditions.items().filter(|item| !seen.insert(item.text())).map(|item| item.duplicate()));
    let mut failed = HashSet::new();
    for item in failures.items() {
        if !failed.insert(item.text()) {
            errors.push(item.duplicate());
        }
        if seen.contains(item.text()) {
            errors.push(item.invalid("bindingFailureConditions must not overlap with bindingConditions"));
        }
    }
    for (one, other, names) in [
        (&conditions, &failures, ("bindingConditions", "bindingFailureConditions")),
        (&failures, &conditions, ("bindingFailureConditions", "bindingConditions")),
    ] {
        if one.len() == 0 && other.len() > 0 {
            errors.push(one.invalid(format!("{} are required to use {}", names.0, names.1)));
        }
    }
}

#[cfg(test)]
#[path = "slice_tests.rs"]
mod tests;
