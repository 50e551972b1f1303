//! Volumes, claims and classes of storage.

use serde_json::Value;

use super::{At, fraction, node_label};
use crate::value::ValueExt;

const CLASS: &str = "volume.beta.kubernetes.io/storage-class";
const OPTIONS: &str = "volume.beta.kubernetes.io/mount-options";

/// Kinds of volumes that went, and when; in pods those of the first list, in persistent volumes both.
pub(super) const GONE: [(&str, &str); 7] = [
    ("photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
    ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
];

/// The name by which upstream's warnings call a field.
pub(super) fn called(field: &str) -> &str {
    if field == "storageos" { "storageOS" } else { field }
}

pub(super) fn volume(volume: &Value, warnings: &mut Vec<String>) {
    let annotations = At::field(volume, "metadata").child("annotations");
    for (key, message) in [
        (CLASS, "deprecated since v1.8; use \"storageClassName\" attribute instead"),
        (OPTIONS, "deprecated since v1.31; use \"mountOptions\" attribute instead"),
    ] {
        if annotations.child(key).is_set() {
            warnings.push(format!("metadata.annotations[{key}]: {message}"));
        }
    }
    let spec = At::field(volume, "spec");
    if spec.child("persistentVolumeReclaimPolicy").text() == "Recycle" {
        warnings.push(
            "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended \
             approach is to use dynamic provisioning."
                .into(),
        );
    }
    let terms = spec.child("nodeAffinity").child("required").child("nodeSelectorTerms");
    terms.items().for_each(|term| node_label::term(&term, false, warnings));
    for (field, message) in GONE.iter().filter(|(field, _)| *field != "flocker") {
        if spec.child(field).is_set() {
            warnings.push(format!("spec.{}: {message}", called(field)));
        }
    }
}

pub(super) fn claim(claim: &Value, warnings: &mut Vec<String>) {
    if claim.at(&["metadata", "annotations", CLASS]).is_some() {
        let message = "deprecated since v1.8; use \"storageClassName\" attribute instead";
        warnings.push(format!("metadata.annotations[{CLASS}]: {message}"));
    }
    claim_spec(&At::field(claim, "spec"), warnings);
}

/// What a claim, or the template of one, asks for.
pub(super) fn claim_spec(spec: &At<'_>, warnings: &mut Vec<String>) {
    for kind in ["requests", "limits"] {
        let amounts = spec.child("resources").child(kind);
        let amount = At { value: amounts.child("storage").value, path: amounts.path.key("storage") };
        fraction(&amount, warnings);
    }
}

pub(super) fn class(class: &Value, warnings: &mut Vec<String>) {
    for topology in At::field(class, "allowedTopologies").items() {
        for expression in topology.child("matchLabelExpressions").items() {
            let key = expression.child("key");
            if let Some(message) = node_label::deprecated(key.text()) {
                warnings.push(format!("{}: {message}", key.path));
            }
        }
    }
}

pub(super) fn driver(new: &Value, old: Option<&Value>, warnings: &mut Vec<String>) {
    let asked = |driver: &Value| driver.at(&["spec", "tokenRequests"]).cloned().unwrap_or_default();
    let changed = old.is_none_or(|old| asked(old) != asked(new));
    let secret = new.at(&["spec", "serviceAccountTokenInSecrets"]).is_some_and(|value| !value.is_null());
    if changed && !new.list(&["spec", "tokenRequests"]).is_empty() && !secret {
        warnings.push(
            "spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent possible \
             logging of tokens in volume attributes"
                .into(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_going_away_is_named() {
        let mut warnings = Vec::new();
        let term = json!({"matchExpressions": [{"key": "beta.kubernetes.io/os", "operator": "Exists"}]});
        volume(
            &json!({"metadata": {"annotations": {CLASS: "x"}}, "spec": {"persistentVolumeReclaimPolicy": "Recycle",
                "nodeAffinity": {"required": {"nodeSelectorTerms": [term]}}, "rbd": {}, "hostPath": {"path": "/x"}}}),
            &mut warnings,
        );
        assert_eq!(warnings.len(), 4, "{warnings:?}");
        assert!(
            warnings[2].starts_with("spec.nodeAffinity.required.nodeSelectorTerms[0].matchExpressions[0].key: beta.k")
        );
        let mut warnings = Vec::new();
        claim(&json!({"metadata": {}, "spec": {"resources": {"requests": {"storage": "0.5"}}}}), &mut warnings);
        let fraction =
            "spec.resources.requests[storage]: fractional byte value \"500m\" is invalid, must be an integer";
        assert_eq!(warnings, [fraction]);
    }
}
