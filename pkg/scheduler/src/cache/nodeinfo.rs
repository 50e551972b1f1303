//! One node with the sums over its pods.

use std::sync::Arc;

use kedge_meta::ObjectMeta;

use super::labels::LabelId;
use crate::api::{HostPort, Node, Pod, Resources};

/// A node and what occupies it.
#[derive(Debug, Clone)]
pub struct NodeInfo {
    pub node: Arc<Node>,
    /// False for a name that only pods mention.
    pub exists: bool,
    pub pods: Vec<Arc<Pod>>,
    pub requested: Resources,
    /// CPU (milli) and memory as scoring sees them, with defaults for containers that ask for nothing.
    pub scored_milli_cpu: i64,
    pub scored_memory: i64,
    pub ports: Vec<HostPort>,
    /// Numbers of the images on it, sorted.
    images: Vec<usize>,
    /// Numbers of its label keys and values, sorted.
    labels: Vec<(LabelId, LabelId)>,
}

/// A node of which nothing is known but its name.
pub fn nameless(name: &str) -> Node {
    Node { metadata: ObjectMeta { name: name.to_owned(), ..ObjectMeta::default() }, ..Node::default() }
}

impl NodeInfo {
    /// For a node that has not been seen.
    pub fn missing(name: &str) -> Self {
        Self {
            node: Arc::new(nameless(name)),
            exists: false,
            pods: Vec::new(),
            requested: Resources::default(),
            scored_milli_cpu: 0,
            scored_memory: 0,
            ports: Vec::new(),
            images: Vec::new(),
            labels: Vec::new(),
        }
    }

    /// Whether the image of that number is on it.
    pub fn has_image(&self, image: usize) -> bool {
        self.images.binary_search(&image).is_ok()
    }

    /// The topology domain it is in: the number of its value of a label.
    pub fn domain(&self, key: LabelId) -> Option<LabelId> {
        self.labels.binary_search_by_key(&key, |(k, _)| *k).ok().map(|i| self.labels[i].1)
    }

    /// Replaces the node; returns images and labels that it had.
    pub fn replace(
        &mut self,
        node: Arc<Node>,
        exists: bool,
        mut images: Vec<usize>,
        mut labels: Vec<(LabelId, LabelId)>,
    ) -> (Vec<usize>, Vec<(LabelId, LabelId)>) {
        images.sort_unstable();
        labels.sort_unstable();
        self.node = node;
        self.exists = exists;
        (std::mem::replace(&mut self.images, images), std::mem::replace(&mut self.labels, labels))
    }

    /// Counts a pod.
    pub fn add(&mut self, pod: Arc<Pod>) {
        self.requested.add(&pod.requests);
        self.scored_milli_cpu += pod.scored_requests.milli_cpu;
        self.scored_memory += pod.scored_requests.memory;
        self.ports.extend(pod.host_ports.iter().cloned());
        self.pods.push(pod);
    }

    /// Uncounts a pod.
    pub fn remove(&mut self, uid: &str) -> Option<Arc<Pod>> {
        let place = self.pods.iter().position(|p| p.uid() == uid)?;
        let pod = self.pods.swap_remove(place);
        self.requested.sub(&pod.requests);
        self.scored_milli_cpu -= pod.scored_requests.milli_cpu;
        self.scored_memory -= pod.scored_requests.memory;
        for port in &pod.host_ports {
            if let Some(place) = self.ports.iter().position(|p| p == port) {
                self.ports.swap_remove(place);
            }
        }
        Some(pod)
    }
}
