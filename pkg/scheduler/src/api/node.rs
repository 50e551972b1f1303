//! A node as the scheduler sees it.

use kedge_client::Keyed;
use kedge_meta::ObjectMeta;
use serde::Deserialize;

use super::amount::{ResourceList, Resources, pod_count};
use super::taints::Taint;

/// A node. Annotations are dropped; heartbeats therefore change nothing but the version.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(from = "RawNode")]
pub struct Node {
    pub metadata: ObjectMeta,
    pub unschedulable: bool,
    pub taints: Vec<Taint>,
    pub allocatable: Resources,
    pub max_pods: i64,
    /// Names and sizes in bytes.
    pub images: Vec<(String, i64)>,
}

impl Node {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.metadata.name
    }

    /// Its value of a label.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.metadata.labels.get(key)
    }

    /// Region and zone in one string; empty if it has neither.
    pub fn zone(&self) -> String {
        let label = |new: &str, old: &str| self.label(new).or(self.label(old)).unwrap_or_default();
        let region = label("topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region");
        let zone = label("topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone");
        if region.is_empty() && zone.is_empty() { String::new() } else { format!("{region}:\0:{zone}") }
    }
}

impl Keyed for Node {
    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawNode {
    metadata: ObjectMeta,
    spec: RawSpec,
    status: RawStatus,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawSpec {
    unschedulable: bool,
    taints: Vec<Taint>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawStatus {
    allocatable: ResourceList,
    images: Vec<RawImage>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawImage {
    names: Vec<String>,
    size_bytes: i64,
}

impl From<RawNode> for Node {
    fn from(raw: RawNode) -> Self {
        let RawNode { mut metadata, spec, status } = raw;
        metadata.annotations.clear();
        let sized = |image: RawImage| image.names.into_iter().map(move |name| (name, image.size_bytes));
        Self {
            metadata,
            unschedulable: spec.unschedulable,
            taints: spec.taints,
            allocatable: Resources::from_list(&status.allocatable),
            max_pods: pod_count(&status.allocatable),
            images: status.images.into_iter().flat_map(sized).collect(),
        }
    }
}
