//! Owners of the number of replicas, as the scale of an object shows them.
//!
//! Invariant: of all that an object's managers own, its scale has the replicas alone, and a write of the scale changes nothing else.

use serde_json::Value;

use crate::element::Element;
use crate::entry::{Entry, EntryError, Managed};
use crate::set::Set;

const SCALE_VERSION: &str = "autoscaling/v1";
const IN_SCALE: [&str; 2] = ["spec", "replicas"];

fn path(names: &[&str]) -> Vec<Element> {
    names.iter().map(|name| Element::field(name)).collect()
}

/// The managers of an object's replicas, for its scale. `replicas` says where they are in the object, of the versions that have a scale.
///
/// # Errors
/// When the entries make no sense.
pub fn to_scale(
    parent: Option<&Value>,
    replicas: &dyn Fn(&str) -> Option<Vec<String>>,
) -> Result<Option<Value>, EntryError> {
    let mut out = Managed::default();
    for mut entry in Managed::decode(parent)?.0 {
        let Some(names) = replicas(&entry.manager.api_version) else { continue };
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        if entry.set()?.has(&path(&names)) {
            entry.manager.api_version = SCALE_VERSION.to_owned();
            out.0.push(Entry::new(entry.manager, entry.time, Set::of_fields(&[&IN_SCALE])));
        }
    }
    Ok(out.encode())
}

/// The managers of an object whose scale has been written.
///
/// # Errors
/// When the entries make no sense.
pub fn to_parent(
    parent: Option<&Value>,
    scale: Option<&Value>,
    api_version: &str,
    replicas: &dyn Fn(&str) -> Option<Vec<String>>,
) -> Result<Option<Value>, EntryError> {
    let mut scale = Managed::decode(scale)?;
    let mut out = Managed::default();
    let before = Managed::decode(parent)?;
    for mut entry in before.0.clone() {
        // Of versions that are not served nothing is known.
        let Some(names) = replicas(&entry.manager.api_version) else { continue };
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        if !entry.set()?.has(&path(&names)) {
            out.0.push(entry);
            continue;
        }
        let mut in_scale = entry.manager.clone();
        in_scale.api_version = SCALE_VERSION.to_owned();
        match scale.find(&in_scale) {
            // Still its own.
            Some(at) => drop(scale.0.remove(at)),
            None => {
                let set = entry.take_set()?.difference(&Set::of_fields(&[&names]));
                entry = Entry::new(entry.manager, entry.time, set);
            }
        }
        out.0.push(entry);
    }
    let names = replicas(api_version).unwrap_or_default();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for mut entry in scale.0 {
        if entry.set()?.has(&path(&IN_SCALE)) {
            // As upstream: whoever has just come to own them has no time.
            let time = before.find(&entry.manager).and_then(|at| before.0[at].time.clone());
            entry.manager.api_version = api_version.to_owned();
            match out.find(&entry.manager) {
                Some(at) => {
                    let set = out.0[at].take_set()?.union(Set::of_fields(&[&names]));
                    out.0[at] = Entry::new(entry.manager, time, set);
                }
                None => out.0.push(Entry::new(entry.manager, time, Set::of_fields(&[&names]))),
            }
        }
    }
    out.drop_empty();
    Ok(out.encode())
}
