//! Persistent volumes.

use kedge_meta::field::{Error, ErrorList};
use kedge_meta::names;
use kedge_schema::ResourceInfo;
use serde_json::{Value, json};

use super::super::validation::scalar::{POSITIVE, quantity};
use super::super::validation::{At, Report, diff, scheduling};
use super::persistent_volume_claim::access_modes;
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
        spec(&At::field(volume, "spec"), &mut errors);
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
        errors.immutable(&field(new, "volumeMode"), &field(old, "volumeMode"));
        errors
    }
}

fn spec(at: &At<'_>, errors: &mut ErrorList) {
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
        if quantity(&amount).is_some_and(|amount| amount.is_zero() || amount.is_negative()) {
            errors.push(amount.invalid(POSITIVE));
        }
    }
    let policy = at.child("persistentVolumeReclaimPolicy");
    if !policy.text().is_empty() {
        errors.one_of(&policy, &["Delete", "Recycle", "Retain"]);
    }
    let required = at.child("nodeAffinity").child("required");
    if required.is_set() {
        scheduling::node_selector(&required, errors);
    } else if at.child("nodeAffinity").is_set() {
        errors.push(required.required("must specify required node constraints"));
    }
    sources(at, errors);
    errors.name(&at.child("storageClassName"), names::is_dns1123_subdomain);
    errors.one_of(&at.child("volumeMode"), &["Block", "Filesystem"]);
}

fn sources(at: &At<'_>, errors: &mut ErrorList) {
    let fields = at.value.as_object().into_iter().flatten();
    let sources: Vec<&String> =
        fields.filter(|(key, value)| !COMMON.contains(&key.as_str()) && !value.is_null()).map(|(key, _)| key).collect();
    for extra in sources.iter().skip(1) {
        errors.push(at.child(extra).forbidden("may not specify more than 1 volume type"));
    }
    match sources.first().map(|source| (source.as_str(), at.child(source))) {
        None => errors.push(at.required("must specify a volume type")),
        Some(("hostPath" | "local", source)) => {
            errors.need_text(&source.child("path"));
            super::super::validation::files::no_backsteps(&source.child("path"), errors);
            if at.child("local").is_set() && !at.child("nodeAffinity").child("required").is_set() {
                errors.push(at.child("nodeAffinity").required("Local volume requires node affinity"));
            }
        }
        Some(("nfs", source)) => {
            errors.need_text(&source.child("server"));
            errors.need_text(&source.child("path"));
        }
        Some(("csi", source)) => {
            errors.need_text(&source.child("driver"));
            errors.need_text(&source.child("volumeHandle"));
        }
        Some(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_has_one_source_and_a_size() {
        let volume = json!({"spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "0"},
            "hostPath": {"path": "/x"}, "nfs": {"server": "s", "path": "/"}}});
        let mut errors = ErrorList::new();
        spec(&At::field(&volume, "spec"), &mut errors);
        let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "spec.capacity[storage]: Invalid value: \"0\": must be greater than zero",
                "spec.nfs: Forbidden: may not specify more than 1 volume type"
            ]
        );
    }
}
