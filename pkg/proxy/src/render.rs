//! From differences to nft text.
//!
//! Invariant: the order of the script is such that every line finds what it names: declarations,
//! then rules, then elements out, elements in, and only then what nothing refers to any more.

use crate::item::{Container, Item, Slots, Value};
use crate::ruleset::{self, FAMILY, Shape, TABLE, line, rule};
use crate::state::Change;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

/// What is known of the table in the kernel beyond the plan's items.
#[derive(Debug, Clone, Default)]
pub struct Kernel {
    /// The slot maps that are declared, and how many elements each has. One without any goes with the leftovers.
    declared: BTreeMap<Slots, usize>,
    /// Chains that are empty and unused. Kernels before 6.2 notice only a moment after the
    /// transaction that nothing points to them, so they are deleted in a later one.
    stale: BTreeSet<Arc<str>>,
}

impl Kernel {
    /// Whether something is there that nothing needs any more.
    pub fn has_leftovers(&self) -> bool {
        !self.stale.is_empty() || self.unused().next().is_some()
    }

    /// Slot maps without elements. What led to them may still be noticed, as with chains.
    fn unused(&self) -> impl Iterator<Item = Slots> {
        self.declared.iter().filter(|(_, count)| **count == 0).map(|(slots, _)| *slots)
    }

    /// Counts a change of an element of a slot map, and says whether the map is new.
    fn count(&mut self, slots: Slots, change: &Change) -> bool {
        let is_new = change.after.is_some() && !self.declared.contains_key(&slots);
        let count = self.declared.entry(slots).or_default();
        match (&change.before, &change.after) {
            (None, Some(_)) => *count += 1,
            (Some(_), None) => *count = count.saturating_sub(1),
            _ => {}
        }
        is_new
    }
}

/// A script, and what the kernel holds once it is applied.
#[derive(Debug)]
pub struct Rendered {
    /// nft text.
    pub script: String,
    /// The kernel afterwards.
    pub kernel: Kernel,
}

/// The script that replaces the whole table.
pub fn full(shape: &Shape, everything: &[Change]) -> Rendered {
    let mut rendered = incremental(&Kernel::default(), everything);
    rendered.script.insert_str(0, &ruleset::base(shape));
    rendered
}

/// The script that makes `changes` to a table that is there.
pub fn incremental(kernel: &Kernel, changes: &[Change]) -> Rendered {
    let mut out = String::with_capacity(256 + changes.len() * 48);
    let mut after = kernel.clone();
    declarations(&mut out, &mut after, changes);
    chain_rules(&mut out, changes);
    elements(&mut out, changes);
    removals(&mut out, &mut after, kernel, changes);
    Rendered { script: out, kernel: after }
}

fn declarations(out: &mut String, after: &mut Kernel, changes: &[Change]) {
    for change in changes {
        match (&change.item, &change.after) {
            // Counted in any case.
            (Item::Element(Container::Endpoints(slots), _), _) if after.count(*slots, change) => {
                ruleset::declare_slots(out, *slots);
            }
            (_, None) => {}
            (Item::AffinitySet(name), Some(Value::Seconds(seconds))) => line(
                out,
                format_args!(
                    "add set {FAMILY} {TABLE} {name} {{ type ipv4_addr; flags dynamic, timeout; timeout {seconds}s; }}"
                ),
            ),
            (Item::Chain(name), _) => {
                after.stale.remove(name);
                line(out, format_args!("add chain {FAMILY} {TABLE} {name}"));
            }
            _ => {}
        }
    }
}

fn chain_rules(out: &mut String, changes: &[Change]) {
    for change in changes {
        let (Item::Chain(name), Some(value)) = (&change.item, &change.after) else { continue };
        line(out, format_args!("flush chain {FAMILY} {TABLE} {name}"));
        match value {
            Value::Rules(rules) => rules.iter().for_each(|text| rule(out, name, text)),
            Value::Endpoint { set, protocol, target } => {
                rule(out, name, &format!("update @{set} {{ ip saddr }}"));
                rule(out, name, &format!("meta l4proto {protocol} dnat ip to {target}"));
            }
            Value::Present | Value::Target(_) | Value::Verdict(_) | Value::Seconds(_) => {}
        }
    }
}

/// Elements are written one statement a container: parsing them is most of what nft does.
fn elements(out: &mut String, changes: &[Change]) {
    let mut gone: BTreeMap<Container, String> = BTreeMap::new();
    let mut come: BTreeMap<Container, String> = BTreeMap::new();
    for change in changes {
        let Item::Element(container, key) = &change.item else { continue };
        if change.before.is_some() {
            // The data of an element cannot be changed in place.
            let list = gone.entry(*container).or_default();
            separate(list);
            let _ = write!(list, "{key}");
        }
        let Some(value) = &change.after else { continue };
        let list = come.entry(*container).or_default();
        separate(list);
        let _ = match value {
            Value::Target(target) => write!(list, "{key} : {} . {}", target.ip(), target.port()),
            Value::Verdict(verdict) => write!(list, "{key} : {verdict}"),
            _ => write!(list, "{key}"),
        };
    }
    for (verb, lists) in [("delete", gone), ("add", come)] {
        for (container, list) in lists {
            line(out, format_args!("{verb} element {FAMILY} {TABLE} {container} {{ {list} }}"));
        }
    }
}

fn separate(list: &mut String) {
    if !list.is_empty() {
        list.push_str(", ");
    }
}

fn removals(out: &mut String, after: &mut Kernel, kernel: &Kernel, changes: &[Change]) {
    let removed = |change: &&Change| change.after.is_none();
    for change in changes.iter().filter(removed) {
        if let Item::Chain(name) = &change.item {
            line(out, format_args!("flush chain {FAMILY} {TABLE} {name}"));
            after.stale.insert(name.clone());
        }
    }
    for change in changes.iter().filter(removed) {
        if let Item::AffinitySet(name) = &change.item {
            line(out, format_args!("delete set {FAMILY} {TABLE} {name}"));
        }
    }
    for name in &kernel.stale {
        if after.stale.contains(name) {
            line(out, format_args!("delete chain {FAMILY} {TABLE} {name}"));
            after.stale.remove(name);
        }
    }
    for slots in kernel.unused() {
        if after.declared.get(&slots) == Some(&0) {
            ruleset::remove_slots(out, slots);
            after.declared.remove(&slots);
        }
    }
}
