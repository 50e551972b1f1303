//! The pods of a StatefulSet and their claims: names, labels, volumes, and who owns the claims.

use kedge_meta::{ObjectMeta, OwnerReference, Resource, resources};
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

fn is_ref_to(reference: &OwnerReference, resource: &Resource, name: &str) -> bool {
    reference.kind == resource.kind && reference.api_version == resource.api_version() && reference.name == name
}

/// Whether a claim belongs to an object of that kind and name that was there before this one.
fn is_stale(claim: &ObjectMeta, resource: &Resource, name: &str, uid: &str) -> bool {
    let first = claim.owner_references.iter().find(|reference| is_ref_to(reference, resource, name));
    first.is_some_and(|reference| reference.uid != uid)
}

/// Whether a claim of the pod that is to be made waits to go with the pod that was there before: it is not this one's.
pub fn is_of_earlier_pod(set: &StatefulSet, claim: &ObjectMeta, ordinal: i64) -> bool {
    let pod = format!("{}-{ordinal}", set.metadata.name);
    set.spec.persistent_volume_claim_retention_policy.when_scaled == "Delete"
        && is_stale(claim, &resources::PODS, &pod, "")
}

/// Whether somebody else manages a claim that the retention policy is about.
pub fn is_managed_by_others(set: &StatefulSet, claim: &ObjectMeta, ordinal: i64) -> bool {
    let policy = &set.spec.persistent_volume_claim_retention_policy;
    let pod = format!("{}-{ordinal}", set.metadata.name);
    let is_other = |reference: &OwnerReference| {
        reference.controller == Some(true)
            && !is_ref_to(reference, &resources::STATEFUL_SETS, &set.metadata.name)
            && !is_ref_to(reference, &resources::PODS, &pod)
    };
    [&policy.when_deleted, &policy.when_scaled].into_iter().any(|policy| policy == "Delete")
        && claim.owner_references.iter().any(is_other)
}

/// The owners that a claim should have by the retention policy, or none if it has them. `pod` is the claim's pod, with its ordinal and
/// whether that is beyond the wanted number.
pub fn claim_owners(
    set: &StatefulSet,
    claim: &ObjectMeta,
    pod: &Pod,
    (ordinal, condemned): (i64, bool),
) -> Option<Vec<OwnerReference>> {
    let (of_set, of_pod) = (&set.metadata, &pod.metadata);
    let stale = is_stale(claim, &resources::STATEFUL_SETS, &of_set.name, &of_set.uid)
        || is_stale(claim, &resources::PODS, &of_pod.name, &of_pod.uid);
    if stale {
        // It goes with whom it belongs to.
        return None;
    }
    let refers = |uid: &str| claim.owner_references.iter().any(|reference| reference.uid == uid);
    let mut owners = claim.owner_references.clone();
    owners.retain(|reference| reference.uid != of_set.uid && reference.uid != of_pod.uid);
    if is_managed_by_others(set, claim, ordinal) {
        // There is one manager; what is ours is taken back.
        return (refers(&of_set.uid) || refers(&of_pod.uid)).then_some(owners);
    }
    let policy = &set.spec.persistent_volume_claim_retention_policy;
    let by_pod = condemned && policy.when_scaled == "Delete";
    let by_set = !by_pod && policy.when_deleted == "Delete";
    let ours = claim.owner_references.iter().filter(|r| r.uid == of_set.uid || r.uid == of_pod.uid);
    let managing = ours.into_iter().all(|reference| reference.controller == Some(true));
    if managing && refers(&of_set.uid) == by_set && refers(&of_pod.uid) == by_pod {
        return None;
    }
    owners.extend(by_set.then(|| set_owner(set)));
    owners.extend(by_pod.then(|| controller_ref(&resources::PODS, of_pod)));
    Some(owners)
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

    fn claim_of(owners: Value) -> ObjectMeta {
        serde_json::from_value(json!({"name": "data-web-0", "ownerReferences": owners})).unwrap()
    }

    fn by(kind: &str, name: &str, uid: &str, manages: bool) -> Value {
        let version = if kind == "Pod" { "v1" } else { "apps/v1" };
        json!({"apiVersion": version, "kind": kind, "name": name, "uid": uid, "controller": manages})
    }

    #[test]
    fn claims_follow_the_retention_policy() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "web-0", "uid": "pu"}})).unwrap();
        let after = |deleted: &str, scaled: &str, owners: Value, condemned| {
            let set = set(json!({"whenDeleted": deleted, "whenScaled": scaled}));
            let owners = claim_owners(&set, &claim_of(owners), &pod, (0, condemned));
            owners.map(|o| o.into_iter().map(|o| o.uid).collect::<Vec<_>>().join(","))
        };
        let owners = |deleted: &str, scaled: &str, condemned| after(deleted, scaled, json!([]), condemned);
        let some = |uids: &str| Some(uids.to_owned());
        assert_eq!(owners("Retain", "Retain", true), None);
        assert_eq!(owners("Delete", "Retain", false), some("su"));
        assert_eq!(owners("Retain", "Delete", false), None);
        assert_eq!(owners("Delete", "Delete", true), some("pu"));
        let (ours, pods) = (by("StatefulSet", "web", "su", true), by("Pod", "web-0", "pu", true));
        assert_eq!(after("Delete", "Delete", json!([ours]), false), None);
        assert_eq!(after("Delete", "Delete", json!([pods]), false), some("su"), "it is wanted again");
        assert_eq!(after("Retain", "Retain", json!([ours]), false), some(""));
        // One that owns without managing is made to manage; those that were there before are left to go.
        assert_eq!(after("Delete", "Retain", json!([by("StatefulSet", "web", "su", false)]), false), some("su"));
        assert_eq!(after("Delete", "Delete", json!([by("StatefulSet", "web", "old", true)]), false), None);
        assert_eq!(after("Delete", "Delete", json!([by("Pod", "web-0", "old", true)]), false), None);
        // Where somebody else manages it, nobody else does.
        let other = by("Other", "x", "ou", true);
        assert_eq!(after("Delete", "Retain", json!([other]), false), None);
        assert_eq!(after("Delete", "Retain", json!([other, ours]), false), some("ou"));
        assert_eq!(after("Retain", "Retain", json!([other]), false), None);
    }

    #[test]
    fn a_claim_that_goes_with_an_earlier_pod_is_not_taken_for_the_next() {
        let earlier = claim_of(json!([by("Pod", "web-0", "old", true)]));
        let deletes = set(json!({"whenScaled": "Delete"}));
        assert!(is_of_earlier_pod(&deletes, &earlier, 0));
        assert!(!is_of_earlier_pod(&set(json!({"whenScaled": "Retain"})), &earlier, 0));
        assert!(!is_of_earlier_pod(&deletes, &claim_of(json!([by("StatefulSet", "web", "su", true)])), 0));
        assert!(is_managed_by_others(&deletes, &claim_of(json!([by("Other", "x", "ou", true)])), 0));
        assert!(!is_managed_by_others(&deletes, &earlier, 0));
    }
}
