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
        spec(&At::field(volume, "spec"), volume.name(), &mut errors);
        errors
    }

    fn validate_update(&self, ctx: &Context<'_>, new: &Value, old: &Value) -> ErrorList {
        let mut errors = self.validate(ctx, new);
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
        errors
    }
}

fn spec(at: &At<'_>, name: &str, errors: &mut ErrorList) {
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
    if required.is_set() {
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
        spec(&At::field(&volume, "spec"), "v", &mut errors);
        let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "spec.capacity[storage]: Invalid value: \"0\": must be greater than zero",
                "spec.nfs: Forbidden: may not specify more than 1 volume type"
            ]
        );
    }

    fn said(fields: Value) -> Vec<String> {
        let csi = json!({"driver": "d", "volumeHandle": "h"});
        let mut object = json!({"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1"}, "csi": csi});
        for (name, value) in fields.as_object().into_iter().flatten() {
            object.set_or_remove(name, Some(value.clone()).filter(|value| !value.is_null()));
        }
        let (volume, mut errors) = (json!({ "spec": object }), ErrorList::new());
        spec(&At::field(&volume, "spec"), "v", &mut errors);
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
