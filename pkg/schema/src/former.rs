//! Versions that upstream's servers stored once and serve no more. An object keeps the version in which it was written
//! last, so that a cluster that has been upgraded may hold them for years.

use serde_json::{Value, json};

use crate::table::{ResourceInfo, resources};

/// Kinds of these versions whose every field is in the version that is stored now: under its name, under its number, in
/// its form, and with a default of the same meaning. Others of the same versions would have to be converted.
const SAME: &[(&str, &str, &[&str])] = &[
    (
        "admissionregistration.k8s.io",
        "v1alpha1",
        &[
            "MutatingAdmissionPolicy",
            "MutatingAdmissionPolicyBinding",
            "ValidatingAdmissionPolicy",
            "ValidatingAdmissionPolicyBinding",
        ],
    ),
    (
        "admissionregistration.k8s.io",
        "v1beta1",
        &[
            "MutatingAdmissionPolicy",
            "MutatingAdmissionPolicyBinding",
            "ValidatingAdmissionPolicy",
            "ValidatingAdmissionPolicyBinding",
        ],
    ),
    ("apiregistration.k8s.io", "v1beta1", &["APIService"]),
    ("apps", "v1beta2", &["ControllerRevision", "DaemonSet", "Deployment", "ReplicaSet", "StatefulSet"]),
    ("batch", "v1beta1", &["CronJob"]),
    ("certificates.k8s.io", "v1beta1", &["CertificateSigningRequest"]),
    ("coordination.k8s.io", "v1beta1", &["Lease"]),
    ("flowcontrol.apiserver.k8s.io", "v1beta1", &["FlowSchema"]),
    ("flowcontrol.apiserver.k8s.io", "v1beta2", &["FlowSchema"]),
    ("flowcontrol.apiserver.k8s.io", "v1beta3", &["FlowSchema", "PriorityLevelConfiguration"]),
    ("networking.k8s.io", "v1beta1", &["IPAddress", "IngressClass", "ServiceCIDR"]),
    ("node.k8s.io", "v1beta1", &["RuntimeClass"]),
    ("policy", "v1beta1", &["PodDisruptionBudget"]),
    ("rbac.authorization.k8s.io", "v1beta1", &["ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"]),
    ("resource.k8s.io", "v1beta1", &["DeviceClass"]),
    ("resource.k8s.io", "v1beta2", &["DeviceClass", "ResourceClaim", "ResourceClaimTemplate", "ResourceSlice"]),
    ("scheduling.k8s.io", "v1beta1", &["PriorityClass"]),
    ("storage.k8s.io", "v1alpha1", &["CSIStorageCapacity", "VolumeAttachment", "VolumeAttributesClass"]),
    (
        "storage.k8s.io",
        "v1beta1",
        &["CSIDriver", "CSINode", "CSIStorageCapacity", "StorageClass", "VolumeAttachment", "VolumeAttributesClass"],
    ),
];

/// The resource as which objects of a former version are read.
pub fn successor(group: &str, version: &str, kind: &str) -> Option<&'static ResourceInfo> {
    let same = SAME.iter().any(|(g, v, kinds)| (*g, *v) == (group, version) && kinds.contains(&kind));
    same.then(|| resources().iter().find(|r| r.group == group && r.kind == kind)).flatten()
}

/// Makes an object of a former version one of the version that is stored now; others are left alone.
pub fn bring_up(value: &mut Value) {
    let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
    let (group, version) = text("apiVersion").split_once('/').unwrap_or_default();
    let Some(resource) = successor(group, version, text("kind")) else { return };
    if resource.storage_group == group && resource.storage_version == version {
        return;
    }
    if (group, version) == ("policy", "v1beta1") {
        budget(value);
    }
    value["apiVersion"] = format!("{}/{}", resource.storage_group, resource.storage_version).into();
}

/// In `policy/v1beta1` the empty selector selects nothing, in `v1` everything; each says the other with this label.
fn budget(value: &mut Value) {
    const LABEL: &str = "pdb.kubernetes.io/deprecated-v1beta1-empty-selector-match";
    let Some(selector) = value.pointer_mut("/spec/selector") else { return };
    let by = |operator: &str| json!({ "matchExpressions": [{ "key": LABEL, "operator": operator }] });
    if *selector == json!({}) {
        *selector = by("Exists");
    } else if *selector == by("DoesNotExist") {
        *selector = json!({});
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_former_version_leads_to_a_stored_one() {
        for (group, version, kinds) in SAME {
            for kind in *kinds {
                let resource = successor(group, version, kind).unwrap_or_else(|| panic!("{group} {kind}"));
                assert!(resource.is_stored(), "{group} {kind}");
                let mut value = json!({"apiVersion": format!("{group}/{version}"), "kind": kind});
                bring_up(&mut value);
                let stored = format!("{}/{}", resource.storage_group, resource.storage_version);
                assert_eq!(value, json!({"apiVersion": stored, "kind": kind}));
            }
        }
        assert!(successor("networking.k8s.io", "v1beta1", "Ingress").is_none(), "it has other fields");
        assert!(successor("apps", "v1", "Deployment").is_none() && successor("", "v1", "Pod").is_none());
    }

    #[test]
    fn a_budgets_empty_selector_keeps_its_meaning() {
        let label = "pdb.kubernetes.io/deprecated-v1beta1-empty-selector-match";
        let by = |operator: &str| json!({"matchExpressions": [{"key": label, "operator": operator}]});
        let other = json!({"matchLabels": {"a": "b"}});
        for (was, is) in [(json!({}), by("Exists")), (by("DoesNotExist"), json!({})), (other.clone(), other)] {
            let mut value = json!({"apiVersion": "policy/v1beta1", "kind": "PodDisruptionBudget",
                "spec": {"selector": was}});
            bring_up(&mut value);
            assert_eq!((&value["apiVersion"], &value["spec"]["selector"]), (&json!("policy/v1"), &is));
        }
    }
}
