//! Persistent volumes.

use kedge_meta::field::{Error, ErrorList};
use kedge_meta::names;
use kedge_schema::ResourceInfo;
use serde_json::{Value, json};

use super::super::validation::scalar::{POSITIVE, quantity};
use super::super::validation::{At, Report, diff, scheduling};
use super::persistent_volume_claim::access_modes;
use super::volume_sources::sources;
use crate::strategy::{Context, Strategy};
use crate::value::ValueExt;

/// Fields of the spec that are no volume source.
const COMMON: &[&str] = &[
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];

pub(crate) struct PersistentVolume;

impl Strategy for PersistentVolume {
    fn has_generation(&self, _: &ResourceInfo) -> bool {
        false
    }

    fn prepare_for_create(&self, ctx: &Context<'_>, volume: &mut Value) {
        let now = kedge_base::time::rfc3339(ctx.now);
        volume.set("status", json!({ "phase": "Pending", "lastPhaseTransitionTime": now }));
    }

    fn prepare_for_update(&self, ctx: &Context<'_>, new: &mut Value, old: &Value) {
        let changed = new.text(&["status", "phase"]) != old.text(&["status", "phase"]);
        let untold = new.at(&["status", "lastPhaseTransitionTime"]) == old.at(&["status", "lastPhaseTransitionTime"]);
        if ctx.subresource == "status" && changed && untold {
            let now = kedge_base::time::rfc3339(ctx.now);
            new.entry("status").insert("lastPhaseTransitionTime".into(), now.into());
        }
    }

    fn validate(&self, _ctx: &Context<'_>, volume: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        spec(&At::field(volume, "spec"), volume.name(), true, &mut errors);
        errors
    }

    fn validate_update(&self, _ctx: &Context<'_>, new: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        changes(new, old, &mut errors);
        errors
    }
}

fn changes(new: &Value, old: &Value, errors: &mut ErrorList) {
    // Values that no label can have were taken once, and hold up no change of what has them.
    let mut was = ErrorList::new();
    scheduling::sound_node_selector(&affinity(old).child("required"), &mut was);
    spec(&At::field(new, "spec"), new.name(), was.is_empty(), errors);
    if affinity(old).is_set() && of_today(affinity(new).value) != of_today(affinity(old).value) {
        let path = kedge_meta::field::Path::new("nodeAffinity");
        let why = "field is immutable, except for updating from beta label to GA";
        errors.push(Error::invalid(&path, affinity(new).value, why));
    }
    let sources = |volume: &Value| -> Value {
        let fields = volume["spec"].as_object().cloned().unwrap_or_default();
        Value::Object(fields.into_iter().filter(|(key, _)| !COMMON.contains(&key.as_str())).collect())
    };
    let (now, was) = (sources(new), sources(old));
    if now != was {
        let path = kedge_meta::field::Path::new("spec").child("persistentvolumesource");
        let detail = format!("spec.persistentvolumesource is immutable after creation\n{}", diff::diff(&was, &now));
        errors.push(Error::forbidden(&path, detail));
    }
    let field = |volume, name: &str| At::field(volume, "spec").child(name);
    // Upstream names this as if it were no part of the spec.
    let mode = At { path: kedge_meta::field::Path::new("volumeMode"), ..field(new, "volumeMode") };
    errors.immutable(&mode, &field(old, "volumeMode"));
    let class = field(new, "volumeAttributesClassName");
    if field(old, "volumeAttributesClassName").is_set() && !class.is_set() {
        errors.push(class.forbidden("update from non-nil value to nil is forbidden"));
    }
}

fn affinity(volume: &Value) -> At<'_> {
    At::field(volume, "spec").child("nodeAffinity")
}

/// Labels of nodes that were renamed when they had proved themselves.
const RENAMED: [(&str, &str); 5] = [
    ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    ("failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region"),
    ("beta.kubernetes.io/instance-type", "node.kubernetes.io/instance-type"),
    ("beta.kubernetes.io/os", "kubernetes.io/os"),
    ("beta.kubernetes.io/arch", "kubernetes.io/arch"),
];

/// An affinity with the names that labels have now.
fn of_today(affinity: &Value) -> Value {
    let mut affinity = affinity.clone();
    let terms = affinity.pointer_mut("/required/nodeSelectorTerms").and_then(Value::as_array_mut);
    for term in terms.into_iter().flatten() {
        let requirements = term.get_mut("matchExpressions").and_then(Value::as_array_mut);
        for requirement in requirements.into_iter().flatten() {
            let renamed = RENAMED.iter().find(|(old, _)| *old == requirement.text(&["key"]));
            if let Some((_, new)) = renamed {
                requirement.set("key", *new);
            }
        }
    }
    affinity
}

/// `sound`: whether values that nodes are selected by have to be such as labels have.
fn spec(at: &At<'_>, name: &str, sound: bool, errors: &mut ErrorList) {
    let modes = at.child("accessModes");
    if modes.len() == 0 {
        errors.push(modes.required(""));
    }
    access_modes(&modes, errors);
    let capacity = at.child("capacity");
    if capacity.len() == 0 {
        errors.push(capacity.required(""));
    }
    if !capacity.child("storage").is_set() || capacity.len() > 1 {
        errors.push(capacity.not_supported(&["storage"]));
    }
    for (_, amount) in capacity.entries() {
        let Some(parsed) = quantity(&amount) else { continue };
        if parsed.value() < 0 {
            errors.push(Error::invalid(&amount.path, parsed.value(), "must be a valid resource quantity"));
        }
        if parsed.is_zero() || parsed.is_negative() {
            errors.push(amount.invalid(POSITIVE));
        }
    }
    let policy = at.child("persistentVolumeReclaimPolicy");
    if !policy.text().is_empty() {
        errors.one_of(&policy, &["Delete", "Recycle", "Retain"]);
    }
    let required = at.child("nodeAffinity").child("required");
    if required.is_set() && !sound {
        scheduling::node_selector(&required, errors);
    } else if required.is_set() {
        scheduling::sound_node_selector(&required, errors);
    } else if at.child("nodeAffinity").is_set() {
        errors.push(required.required("must specify required node constraints"));
    }
    sources(at, name, errors);
    let host = at.child("hostPath").child("path").text();
    if policy.text() == "Recycle" && !host.is_empty() && is_root(host) {
        errors.push(policy.forbidden("may not be 'recycle' for a hostPath mount of '/'"));
    }
    errors.name(&at.child("storageClassName"), names::is_dns1123_subdomain);
    errors.one_of(&at.child("volumeMode"), &["Block", "Filesystem"]);
    let class = at.child("volumeAttributesClassName");
    if class.is_set() {
        match class.text() {
            "" => errors.push(class.required("an empty string is disallowed")),
            text => errors.complaints(&class, names::is_dns1123_subdomain(text)),
        }
        if !at.child("csi").is_set() {
            errors.push(at.child("csi").required("has to be specified when using volumeAttributesClassName"));
        }
    }
}

/// Whether a path leads nowhere but to the root.
fn is_root(path: &str) -> bool {
    let depth = path.split('/').fold(0_usize, |depth, part| match part {
        "" | "." => depth,
        ".." => depth.saturating_sub(1),
        _ => depth + 1,
    });
    path.starts_with('/') && depth == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_has_one_source_and_a_size() {
        let volume = json!({"spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "0"},
            "hostPath": {"path": "/x"}, "nfs": {"server": "s", "path": "/"}}});
        let mut errors = ErrorList::new();
        spec(&At::field(&volume, "spec"), "v", true, &mut errors);
        let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "spec.capacity[storage]: Invalid value: \"0\": must be greater than zero",
                "spec.nfs: Forbidden: may not specify more than 1 volume type"
            ]
        );
    }

    /// The place of a volume could be changed, and one with values that were taken once could not be changed at all.
    #[test]
    fn a_volume_stays_where_it_is_and_can_be_changed_otherwise() {
        let of = |key: &str, value: &str| {
            let terms = json!([{"matchExpressions": [{"key": key, "operator": "In", "values": [value]}]}]);
            json!({"spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1"}, "hostPath": {"path": "/x"},
                "nodeAffinity": {"required": {"nodeSelectorTerms": terms}}}})
        };
        let judged = |new: &Value, old: &Value| -> Vec<String> {
            let mut errors = ErrorList::new();
            changes(new, old, &mut errors);
            errors.iter().map(ToString::to_string).collect()
        };
        assert!(judged(&of("a", "b c"), &of("a", "b c")).is_empty());
        assert!(judged(&of("kubernetes.io/os", "linux"), &of("beta.kubernetes.io/os", "linux")).is_empty());
        let moved = judged(&of("a", "2"), &of("a", "1"));
        assert!(moved[0].ends_with("field is immutable, except for updating from beta label to GA"), "{moved:?}");
        assert_eq!(judged(&of("a", "b c"), &of("a", "1")).len(), 2);
    }

    fn said(fields: Value) -> Vec<String> {
        let csi = json!({"driver": "d", "volumeHandle": "h"});
        let mut object = json!({"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1"}, "csi": csi});
        for (name, value) in fields.as_object().into_iter().flatten() {
            object.set_or_remove(name, Some(value.clone()).filter(|value| !value.is_null()));
        }
        let (volume, mut errors) = (json!({ "spec": object }), ErrorList::new());
        spec(&At::field(&volume, "spec"), "v", true, &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_root_is_not_recycled_and_sizes_are_sizes() {
        assert!(said(json!({"volumeAttributesClassName": "gold"})).is_empty());
        for (path, root) in [("/", true), ("/x/..", true), ("//", true), ("/x", false), ("x/..", false)] {
            assert_eq!(is_root(path), root, "{path}");
        }
        assert_eq!(
            said(json!({"csi": null, "hostPath": {"path": "/"}, "persistentVolumeReclaimPolicy": "Recycle"})),
            ["spec.persistentVolumeReclaimPolicy: Forbidden: may not be 'recycle' for a hostPath mount of '/'"]
        );
        assert_eq!(
            said(json!({"capacity": {"storage": "-1"}})),
            [
                "spec.capacity[storage]: Invalid value: -1: must be a valid resource quantity",
                "spec.capacity[storage]: Invalid value: \"-1\": must be greater than zero"
            ]
        );
        assert_eq!(
            said(json!({"csi": null, "nfs": {"server": "s", "path": "/"}, "volumeAttributesClassName": ""})),
            [
                "spec.volumeAttributesClassName: Required value: an empty string is disallowed",
                "spec.csi: Required value: has to be specified when using volumeAttributesClassName"
            ]
        );
    }
}
