//! What is read of volumes, and which of them are to be removed.

use kedge_meta::{ObjectMeta, ObjectReference};
use serde::Deserialize;

use super::PROVISIONER;
use crate::objects::volume::PROVISIONED_BY;

/// By this label of nodes volumes name theirs.
pub(super) const HOST: &str = "kubernetes.io/hostname";
/// Where volumes of another implementation say their node.
pub(super) const NODE: &str = "local.path.provisioner/selected-node";

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Volume {
    pub(super) metadata: ObjectMeta,
    spec: Spec,
    status: Status,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    persistent_volume_reclaim_policy: String,
    local: Option<Path>,
    host_path: Option<Path>,
    node_affinity: Option<Affinity>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Path {
    path: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Affinity {
    required: Option<Selector>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Selector {
    node_selector_terms: Vec<Term>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Term {
    match_expressions: Vec<Expression>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Expression {
    key: String,
    operator: String,
    values: Vec<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Status {
    phase: String,
}

/// How a volume names its node.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum OnNode {
    /// By the value of the label [`HOST`].
    Host(String),
    Name(String),
}

/// Whether that node is the one that is meant.
pub(super) fn is_on(node: &ObjectMeta, meant: &OnNode) -> bool {
    match meant {
        OnNode::Host(host) => node.labels.get(HOST) == Some(host.as_str()),
        OnNode::Name(name) => node.name == *name,
    }
}

impl Volume {
    /// Whether it is ours, was released, and is not to be kept.
    pub(super) fn is_to_be_removed(&self) -> bool {
        self.metadata.annotations.get(PROVISIONED_BY) == Some(PROVISIONER)
            && self.spec.persistent_volume_reclaim_policy == "Delete"
            && self.status.phase == "Released"
    }

    /// The node and the directory.
    ///
    /// # Errors
    /// When the volume does not say.
    pub(super) fn place(&self) -> Result<(OnNode, String), String> {
        let path = self.spec.local.as_ref().or(self.spec.host_path.as_ref()).map(|source| source.path.clone());
        let path = path.filter(|path| !path.is_empty()).ok_or("no path set")?;
        let terms = self.spec.node_affinity.iter().flat_map(|affinity| &affinity.required);
        let host = terms.flat_map(|selector| &selector.node_selector_terms).flat_map(|term| &term.match_expressions);
        let mut host = host.filter(|e| e.key == HOST && e.operator == "In").flat_map(|e| &e.values);
        let name = self.metadata.annotations.get(NODE);
        match (host.next(), name) {
            (Some(host), _) => Ok((OnNode::Host(host.clone()), path)),
            (None, Some(name)) => Ok((OnNode::Name(name.to_owned()), path)),
            (None, None) => Err("cannot find affinited node".into()),
        }
    }

    pub(super) fn reference(&self) -> ObjectReference {
        super::reference("PersistentVolume", &self.metadata)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::{Value, json};

    fn volume(phase: &str, policy: &str, by: &str) -> Value {
        json!({
            "metadata": {"name": "pvc-1", "annotations": {PROVISIONED_BY: by}},
            "spec": {"persistentVolumeReclaimPolicy": policy, "local": {"path": "/opt/x"}, "nodeAffinity": {"required": {
                "nodeSelectorTerms": [{"matchExpressions": [{"key": HOST, "operator": "In", "values": ["h1"]}]}]}}},
            "status": {"phase": phase},
        })
    }

    #[test]
    fn only_what_is_ours_and_released_and_not_kept_is_removed() {
        let read = |value| serde_json::from_value::<Volume>(value).unwrap();
        let gone = read(volume("Released", "Delete", PROVISIONER));
        assert!(gone.is_to_be_removed());
        assert_eq!(gone.place(), Ok((OnNode::Host("h1".into()), "/opt/x".into())));
        for other in [
            volume("Bound", "Delete", PROVISIONER),
            volume("Released", "Retain", PROVISIONER),
            volume("Released", "Delete", "other"),
        ] {
            assert!(!read(other).is_to_be_removed());
        }
        let mut nowhere = volume("Released", "Delete", PROVISIONER);
        nowhere["spec"]["nodeAffinity"] = Value::Null;
        assert_eq!(read(nowhere).place().unwrap_err(), "cannot find affinited node");
    }
}
