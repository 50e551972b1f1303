//! The pods of a StatefulSet and their claims: names, labels, volumes, and who owns the claims.

use kedge_meta::{ObjectMeta, OwnerReference, resources};
use serde_json::{Map, Value, json};

use super::plan::{REVISION_LABEL, ordinal};
use crate::objects::{Pod, StatefulSet};
use crate::workload::controller_ref;
use crate::workload::pod_control::from_template;

const NAME_LABEL: &str = "statefulset.kubernetes.io/pod-name";
const INDEX_LABEL: &str = "apps.kubernetes.io/pod-index";

/// The names of the claims of a pod, with those of their templates.
pub fn claims(set: &StatefulSet, ordinal: i64) -> Vec<(String, String)> {
    let name = |template: &Value| {
        let template = template.pointer("/metadata/name").and_then(Value::as_str)?.to_owned();
        Some((template.clone(), format!("{template}-{}-{ordinal}", set.metadata.name)))
    };
    set.spec.volume_claim_templates.iter().filter_map(name).collect()
}

/// The pod with that ordinal from a template of the given revision.
pub fn pod(set: &StatefulSet, template: &Value, ordinal: i64, revision: &str) -> Value {
    let owner = controller_ref(&resources::STATEFUL_SETS, &set.metadata);
    let mut pod = from_template(template, &set.metadata.namespace, &owner);
    let name = format!("{}-{ordinal}", set.metadata.name);
    pod["metadata"]["name"] = name.as_str().into();
    for (label, value) in [(NAME_LABEL, name.as_str()), (INDEX_LABEL, &ordinal.to_string()), (REVISION_LABEL, revision)]
    {
        pod["metadata"]["labels"][label] = value.into();
    }
    let spec = &mut pod["spec"];
    spec["hostname"] = name.into();
    spec["subdomain"] = set.spec.service_name.as_str().into();
    let claims = claims(set, ordinal);
    if !claims.is_empty() {
        let mut volumes = spec["volumes"].as_array().cloned().unwrap_or_default();
        volumes.retain(|v| !claims.iter().any(|(template, _)| v["name"] == template.as_str()));
        for (template, claim) in claims {
            volumes.push(json!({ "name": template, "persistentVolumeClaim": { "claimName": claim } }));
        }
        spec["volumes"] = volumes.into();
    }
    pod
}

/// The claims that the pod with that ordinal needs.
pub fn claim_bodies(set: &StatefulSet, ordinal: i64) -> Vec<(String, Value)> {
    let names = claims(set, ordinal).into_iter();
    let with = |((_, name), template): ((String, String), &Value)| {
        let mut labels = template.pointer("/metadata/labels").and_then(Value::as_object).cloned().unwrap_or_default();
        if let Some(selected) = set.spec.selector.get("matchLabels").and_then(Value::as_object) {
            labels.extend(selected.clone());
        }
        let mut metadata = Map::new();
        metadata.insert("name".into(), name.as_str().into());
        metadata.insert("namespace".into(), set.metadata.namespace.as_str().into());
        metadata.insert("labels".into(), labels.into());
        if let Some(annotations) = template.pointer("/metadata/annotations") {
            metadata.insert("annotations".into(), annotations.clone());
        }
        if set.spec.persistent_volume_claim_retention_policy.when_deleted == "Delete" {
            metadata.insert("ownerReferences".into(), json!([set_owner(set)]));
        }
        let body = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": template["spec"]
        });
        (name, body)
    };
    names.zip(&set.spec.volume_claim_templates).map(with).collect()
}

fn set_owner(set: &StatefulSet) -> OwnerReference {
    OwnerReference { block_owner_deletion: Some(true), ..controller_ref(&resources::STATEFUL_SETS, &set.metadata) }
}

/// The owners that a claim should have by the retention policy, or none if it has them. `pod` is the claim's pod, with
/// whether it is beyond the wanted number.
pub fn claim_owners(set: &StatefulSet, claim: &ObjectMeta, pod: &Pod, condemned: bool) -> Option<Vec<OwnerReference>> {
    let policy = &set.spec.persistent_volume_claim_retention_policy;
    let by_pod = condemned && policy.when_scaled == "Delete";
    let by_set = !by_pod && policy.when_deleted == "Delete";
    let mut owners = claim.owner_references.clone();
    owners.retain(|o| o.uid != set.metadata.uid && o.uid != pod.metadata.uid);
    // A claim that somebody else manages is left alone.
    if owners.iter().any(|o| o.controller == Some(true)) {
        return None;
    }
    if by_set {
        owners.push(set_owner(set));
    }
    if by_pod {
        owners.push(controller_ref(&resources::PODS, &pod.metadata));
    }
    let ids = |list: &[OwnerReference]| {
        let mut ids: Vec<String> = list.iter().map(|o| o.uid.clone()).collect();
        ids.sort();
        ids
    };
    (ids(&owners) != ids(&claim.owner_references)).then_some(owners)
}

/// The labels that the pod lacks or has wrong.
pub fn wrong_labels(set: &StatefulSet, pod: &Pod) -> Map<String, Value> {
    let index = ordinal(set, &pod.metadata.name).map(|n| n.to_string()).unwrap_or_default();
    let mut out = Map::new();
    for (label, value) in [(NAME_LABEL, &pod.metadata.name), (INDEX_LABEL, &index)] {
        if pod.metadata.labels.get(label) != Some(value) {
            out.insert(label.to_owned(), value.as_str().into());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn set(policy: Value) -> StatefulSet {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "ns", "uid": "su"},
            "spec": {"serviceName": "svc", "selector": {"matchLabels": {"app": "web"}},
                "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"x": 1}}],
                "persistentVolumeClaimRetentionPolicy": policy},
        }))
        .unwrap()
    }

    #[test]
    fn a_pod_has_its_name_and_its_claims() {
        let set = set(json!({}));
        let template = json!({"spec": {"volumes": [{"name": "data", "emptyDir": {}}, {"name": "tmp"}]}});
        let pod = pod(&set, &template, 2, "web-abc");
        assert_eq!(pod["metadata"]["name"], "web-2");
        assert_eq!(pod["metadata"]["labels"][INDEX_LABEL], "2");
        assert_eq!((&pod["spec"]["hostname"], &pod["spec"]["subdomain"]), (&json!("web-2"), &json!("svc")));
        assert_eq!(pod["spec"]["volumes"][1]["persistentVolumeClaim"]["claimName"], "data-web-2");
        let (name, claim) = claim_bodies(&set, 2).remove(0);
        assert_eq!((name.as_str(), &claim["metadata"]["labels"]["app"]), ("data-web-2", &json!("web")));
        assert!(claim["metadata"].get("ownerReferences").is_none());
    }

    #[test]
    fn claims_follow_the_retention_policy() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "web-0", "uid": "pu"}})).unwrap();
        let owners = |policy: Value, condemned| {
            let owners = claim_owners(&set(policy), &ObjectMeta::default(), &pod, condemned);
            owners.map(|o| o.into_iter().map(|o| o.uid).collect::<Vec<_>>())
        };
        assert_eq!(owners(json!({"whenDeleted": "Retain", "whenScaled": "Retain"}), true), None);
        assert_eq!(owners(json!({"whenDeleted": "Delete", "whenScaled": "Retain"}), false).unwrap(), ["su"]);
        assert_eq!(owners(json!({"whenDeleted": "Retain", "whenScaled": "Delete"}), false), None);
        assert_eq!(owners(json!({"whenDeleted": "Delete", "whenScaled": "Delete"}), true).unwrap(), ["pu"]);
    }
}
