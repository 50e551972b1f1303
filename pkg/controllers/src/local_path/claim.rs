//! What is read of claims and classes, and which volume a claim gets.

use kedge_meta::{ObjectMeta, ObjectReference, StringMap};
use ring::digest::{SHA256, digest};
use serde::Deserialize;
use serde_json::{Value, json};

use super::PROVISIONER;
use super::settings::Settings;
use super::volume::{HOST, NODE};
use crate::objects::Node;
use crate::objects::volume::{BETA_PROVISIONER, PROVISIONED_BY, PROVISIONER as ASKED, SELECTED_NODE};

/// How a volume names its directory: as `local`, or as `hostPath`. Said by the claim, or else by the class.
const VOLUME_TYPE: &str = "volumeType";
const DEFAULT_VOLUME_TYPE: &str = "defaultVolumeType";
/// Which of a node's paths a class is about.
const NODE_PATH: &str = "nodePath";

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Claim {
    pub(super) metadata: ObjectMeta,
    pub(super) spec: Spec,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Spec {
    pub(super) storage_class_name: String,
    volume_name: String,
    access_modes: Vec<String>,
    volume_mode: String,
    selector: Option<serde::de::IgnoredAny>,
    resources: Resources,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Resources {
    requests: StringMap,
}

impl Claim {
    /// Whether it waits for a volume of ours.
    pub(super) fn is_ours(&self) -> bool {
        let annotation = |key: &str| self.metadata.annotations.get(key);
        let by = annotation(ASKED).or_else(|| annotation(BETA_PROVISIONER));
        by == Some(PROVISIONER) && self.spec.volume_name.is_empty() && !self.metadata.is_deleting()
    }

    /// Where the scheduler has put its pod.
    pub(super) fn selected_node(&self) -> Option<&str> {
        self.metadata.annotations.get(SELECTED_NODE).filter(|node| !node.is_empty())
    }

    /// The name of its volume.
    pub(super) fn volume_name(&self) -> String {
        format!("pvc-{}", self.metadata.uid)
    }

    pub(super) fn reference(&self) -> ObjectReference {
        super::reference("PersistentVolumeClaim", &self.metadata)
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Class {
    metadata: ObjectMeta,
    pub(super) provisioner: String,
    volume_binding_mode: String,
    reclaim_policy: String,
    parameters: StringMap,
}

impl Class {
    pub(super) fn waits_for_consumer(&self) -> bool {
        self.volume_binding_mode == "WaitForFirstConsumer"
    }
}

/// A directory that is to be made, and the volume that names it.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) node: String,
    pub(super) path: String,
    pub(super) volume: Value,
}

/// What a claim gets.
///
/// # Errors
/// Why it gets nothing, for its events.
pub(super) fn plan(claim: &Claim, class: &Class, node: Option<&Node>, settings: &Settings) -> Result<Planned, String> {
    let spec = &claim.spec;
    if spec.volume_mode == "Block" {
        return Err(format!("{PROVISIONER} does not support block volume provisioning"));
    }
    if spec.selector.is_some() {
        return Err("claim.Spec.Selector is not supported".into());
    }
    if spec.access_modes.iter().any(|mode| !matches!(mode.as_str(), "ReadWriteOnce" | "ReadWriteOncePod")) {
        return Err("NodePath only supports ReadWriteOnce and ReadWriteOncePod (1.22+) access modes".into());
    }
    let node = node.ok_or("configuration error, no node was specified")?;
    if let Some((name, _)) = class.parameters.iter().find(|(name, _)| *name != NODE_PATH) {
        return Err(format!("parameter {name} of the storage class is not supported; supported is {NODE_PATH}"));
    }
    let wanted = class.parameters.get(NODE_PATH).unwrap_or_default();
    let name = claim.volume_name();
    let base = settings.path(&node.metadata.name, number_of(&claim.metadata.uid), wanted)?;
    let meta = &claim.metadata;
    let path = format!("{}/{name}_{}_{}", base.trim_end_matches('/'), meta.namespace, meta.name);
    let size = spec.resources.requests.get("storage").unwrap_or_default();
    let kind = meta.annotations.get(VOLUME_TYPE).or_else(|| class.metadata.annotations.get(DEFAULT_VOLUME_TYPE));
    let (field, source) = match kind.unwrap_or_default().to_ascii_lowercase().as_str() {
        "" | "hostpath" => ("hostPath", json!({ "path": path, "type": "DirectoryOrCreate" })),
        "local" => ("local", json!({ "path": path })),
        other => return Err(format!("\"{other}\" is not a recognised volume type")),
    };
    let host = node.metadata.labels.get(HOST).unwrap_or(&node.metadata.name);
    let here = json!([{ "matchExpressions": [{ "key": HOST, "operator": "In", "values": [host] }] }]);
    let policy = if class.reclaim_policy.is_empty() { "Delete" } else { &class.reclaim_policy };
    let volume = json!({
        "apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": { "name": name, "annotations": { NODE: node.metadata.name, PROVISIONED_BY: PROVISIONER } },
        "spec": {
            field: source,
            "accessModes": spec.access_modes,
            "capacity": { "storage": size },
            "claimRef": {
                "apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": meta.namespace, "name": meta.name,
                "uid": meta.uid, "resourceVersion": meta.resource_version,
            },
            "nodeAffinity": { "required": { "nodeSelectorTerms": here } },
            "persistentVolumeReclaimPolicy": policy,
            "storageClassName": spec.storage_class_name,
            "volumeMode": "Filesystem",
        },
    });
    Ok(Planned { node: node.metadata.name.clone(), path, volume })
}

/// A number that stays the same, and is another for nearly every other text.
fn number_of(text: &str) -> u64 {
    digest(&SHA256, text.as_bytes()).as_ref().iter().take(8).fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn claim(spec: Value) -> Claim {
        let metadata = json!({"name": "data", "namespace": "n", "uid": "u1", "resourceVersion": "7"});
        serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
    }

    fn spec() -> Value {
        json!({"storageClassName": "local-path", "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}}})
    }

    fn class(value: Value) -> Class {
        serde_json::from_value(value).unwrap()
    }

    fn planned(claim: &Claim, class: &Class) -> Result<Planned, String> {
        let node = json!({"metadata": {"name": "node-1", "labels": {HOST: "host-1"}}});
        let node: Node = serde_json::from_value(node).unwrap();
        let paths =
            r#"{"nodePathMap":[{"node":"DEFAULT_PATH_FOR_NON_LISTED_NODES","paths":["/var/lib/kedge/storage/"]}]}"#;
        plan(claim, class, Some(&node), &Settings::parse(paths).unwrap())
    }

    #[test]
    fn a_claim_gets_a_directory_of_its_own_on_its_node() {
        let packaged = json!({"metadata": {"annotations": {DEFAULT_VOLUME_TYPE: "local"}}, "reclaimPolicy": "Delete"});
        let got = planned(&claim(spec()), &class(packaged)).unwrap();
        assert_eq!((got.node.as_str(), &got.volume["spec"]["capacity"]["storage"]), ("node-1", &json!("1Gi")));
        assert_eq!(got.path, "/var/lib/kedge/storage/pvc-u1_n_data");
        assert_eq!(got.volume["spec"]["local"]["path"], got.path);
        let terms = &got.volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"];
        assert_eq!(terms[0]["matchExpressions"][0]["values"], json!(["host-1"]));
        assert_eq!(got.volume["spec"]["claimRef"]["uid"], "u1");
        assert_eq!(got.volume["metadata"]["annotations"][PROVISIONED_BY], PROVISIONER);
        // A class that somebody wrote for k3s.
        let own = planned(&claim(spec()), &class(json!({"reclaimPolicy": "Retain"}))).unwrap();
        assert_eq!(own.volume["spec"]["hostPath"]["type"], "DirectoryOrCreate");
        assert_eq!(own.volume["spec"]["persistentVolumeReclaimPolicy"], "Retain");
    }

    #[test]
    fn what_a_directory_cannot_be_is_said() {
        let with = |field: &str, value: Value| {
            let mut spec = spec();
            spec[field] = value;
            planned(&claim(spec), &class(json!({}))).unwrap_err()
        };
        assert_eq!(with("selector", json!({})), "claim.Spec.Selector is not supported");
        assert_eq!(
            with("accessModes", json!(["ReadWriteMany"])),
            "NodePath only supports ReadWriteOnce and ReadWriteOncePod (1.22+) access modes"
        );
        assert!(with("volumeMode", json!("Block")).contains("does not support block volume provisioning"));
        let parameters = class(json!({"parameters": {"pathPattern": "x"}}));
        let refused = planned(&claim(spec()), &parameters).unwrap_err();
        assert!(refused.contains("pathPattern of the storage class is not supported"), "{refused}");
        let nobody = plan(&claim(spec()), &class(json!({})), None, &Settings::default()).unwrap_err();
        assert_eq!(nobody, "configuration error, no node was specified");
    }

    #[test]
    fn only_claims_that_the_binder_gave_us_are_ours() {
        let mut ours = claim(spec());
        assert!(!ours.is_ours());
        ours.metadata.annotations.insert(ASKED, PROVISIONER);
        assert!(ours.is_ours());
        ours.spec.volume_name = "v".into();
        assert!(!ours.is_ours(), "it has one");
    }
}
