//! The writes of the binder, each of which is of one object at the version that was looked at: nothing where it says so already.

use serde_json::{Map, Value, json};

use crate::objects::volume::{
    BETA_PROVISIONER, BIND_COMPLETED, BOUND_BY_CONTROLLER, PROVISIONER, SIZE_BEFORE, VolumePhase,
};
use crate::objects::{Claim, ClaimPhase, Volume};
use kedge_meta::quantity::Quantity;
use kedge_meta::{ObjectMeta, StringMap};

/// A patch of the object as it was seen.
pub(super) fn of(metadata: &ObjectMeta, annotations: Value, spec: Value) -> Value {
    let mut patch = json!({"metadata": {"uid": metadata.uid, "resourceVersion": metadata.resource_version}});
    if !annotations.is_null() {
        patch["metadata"]["annotations"] = annotations;
    }
    if !spec.is_null() {
        patch["spec"] = spec;
    }
    patch
}

fn of_status(metadata: &ObjectMeta, status: Map<String, Value>) -> Value {
    let mut patch = of(metadata, Value::Null, Value::Null);
    patch["status"] = status.into();
    patch
}

/// Binds a volume to a claim.
pub(super) fn volume_to_claim(volume: &Volume, claim: &Claim) -> Option<Value> {
    let meta = &claim.metadata;
    let same = volume
        .claim
        .as_ref()
        .is_some_and(|of| of.name == meta.name && of.namespace == meta.namespace && of.uid == meta.uid);
    let reference = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": meta.namespace, "name": meta.name,
        "uid": meta.uid, "resourceVersion": meta.resource_version, "fieldPath": null,
    });
    let spec = if same { Value::Null } else { json!({ "claimRef": reference }) };
    let mark = !volume.is_for(claim) && volume.annotation(BOUND_BY_CONTROLLER).is_none();
    let annotations = if mark { json!({ BOUND_BY_CONTROLLER: "yes" }) } else { Value::Null };
    (!same || mark).then(|| of(&volume.metadata, annotations, spec))
}

/// Takes a volume from the claim that it is bound to. One that was reserved by whoever made it stays reserved.
pub(super) fn unbound(volume: &Volume) -> Value {
    if volume.annotation(BOUND_BY_CONTROLLER).is_some() {
        of(&volume.metadata, json!({ BOUND_BY_CONTROLLER: null }), json!({ "claimRef": null }))
    } else {
        of(&volume.metadata, Value::Null, json!({"claimRef": {"uid": null}}))
    }
}

/// Gives a volume a phase, and says why.
pub(super) fn volume_phase(volume: &Volume, phase: VolumePhase, message: &str) -> Option<Value> {
    if volume.phase == phase {
        return None;
    }
    let message = if message.is_empty() { Value::Null } else { message.into() };
    let status = [("phase".to_owned(), json!(phase)), ("message".to_owned(), message)];
    Some(of_status(&volume.metadata, status.into_iter().collect()))
}

/// Binds a claim to a volume.
pub(super) fn claim_to_volume(claim: &Claim, volume: &Volume) -> Option<Value> {
    let name = &volume.metadata.name;
    let mut annotations = Map::new();
    let mut spec = Value::Null;
    if claim.volume_name != *name {
        spec = json!({ "volumeName": name });
        if claim.annotation(BOUND_BY_CONTROLLER).is_none() {
            annotations.insert(BOUND_BY_CONTROLLER.to_owned(), "yes".into());
        }
    }
    if !claim.is_bound() {
        annotations.insert(BIND_COMPLETED.to_owned(), "yes".into());
    }
    let annotations = if annotations.is_empty() { Value::Null } else { annotations.into() };
    (!spec.is_null() || !annotations.is_null()).then(|| of(&claim.metadata, annotations, spec))
}

/// Gives a claim a phase and what its volume has. Without a volume it has nothing.
pub(super) fn claim_status(claim: &Claim, phase: ClaimPhase, volume: Option<&Volume>) -> Option<Value> {
    let (had, mut status) = (&claim.has, Map::new());
    let mut set = |field: &str, value: Value| {
        status.insert(field.to_owned(), value);
    };
    let changes = claim.phase != phase;
    if changes {
        set("phase", json!(phase));
    }
    match volume {
        None => {
            for (field, empty) in [
                ("accessModes", had.access_modes.is_empty()),
                ("capacity", had.capacity.is_empty()),
                ("currentVolumeAttributesClassName", had.attributes_class.is_none()),
            ] {
                if !empty {
                    set(field, Value::Null);
                }
            }
        }
        Some(volume) => {
            if had.access_modes != volume.access_modes {
                set("accessModes", json!(volume.access_modes));
            }
            // Later it is whoever enlarges volumes who says what there is.
            if changes && let Some(capacity) = capacity(volume, &had.capacity) {
                set("capacity", json!({ "storage": capacity.to_string() }));
            }
            let comes_to_be = claim.phase == ClaimPhase::Pending && phase == ClaimPhase::Bound;
            if comes_to_be && had.attributes_class != volume.attributes_class {
                set("currentVolumeAttributesClassName", json!(volume.attributes_class));
            }
        }
    }
    (!status.is_empty()).then(|| of_status(&claim.metadata, status))
}

/// What a claim gets of a volume, if it does not have that.
fn capacity(volume: &Volume, had: &StringMap) -> Option<Quantity> {
    let all = volume.storage?;
    if let Some(text) = volume.annotation(SIZE_BEFORE) {
        return Some(Quantity::parse(text).unwrap_or(all));
    }
    let had = had.get("storage").and_then(|text| Quantity::parse(text).ok());
    (had != Some(all)).then_some(all)
}

/// Says on a claim who is to make its volume.
pub(super) fn provisioner(claim: &Claim, name: &str) -> Option<Value> {
    let annotations = json!({ PROVISIONER: name, BETA_PROVISIONER: name });
    (claim.annotation(PROVISIONER) != Some(name)).then(|| of(&claim.metadata, annotations, Value::Null))
}
