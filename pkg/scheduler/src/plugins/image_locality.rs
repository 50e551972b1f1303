//! Prefers nodes that have the pod's images, the more the larger and the more common they are.

use crate::cache::NodeInfo;
use crate::framework::{Incoming, MAX_NODE_SCORE, NodeScorer, Plugin, View};

const MIB: i64 = 1024 * 1024;
/// Sizes below score 0.
const MIN: i64 = 23 * MIB;
/// Sizes above, for each container, score 100.
const MAX_PER_CONTAINER: i64 = 1000 * MIB;

/// The plugin.
pub struct ImageLocality;

struct Scorer {
    /// Number of the image in the cache, and its size by the share of nodes that have it.
    images: Vec<(usize, i64)>,
    max: i64,
}

impl Plugin for ImageLocality {
    fn name(&self) -> &'static str {
        "ImageLocality"
    }

    fn pre_score<'a>(
        &self,
        incoming: Incoming<'a>,
        view: View<'a>,
        _nodes: &[usize],
    ) -> Option<Box<dyn NodeScorer + 'a>> {
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let total = count(view.cache.order().len()).max(1);
        let wanted = &incoming.spec.images;
        let scaled = |(id, image): (usize, &crate::cache::Image)| {
            let size = i128::from(image.size) * i128::from(count(image.nodes)) / i128::from(total);
            (id, i64::try_from(size).unwrap_or(i64::MAX))
        };
        let images: Vec<_> = wanted.iter().filter_map(|n| view.cache.images.get(n)).map(scaled).collect();
        if images.is_empty() {
            return None;
        }
        Some(Box::new(Scorer { images, max: MAX_PER_CONTAINER * count(wanted.len()) }))
    }
}

impl NodeScorer for Scorer {
    fn score(&self, _index: usize, node: &NodeInfo) -> i64 {
        let present = self.images.iter().filter(|(id, _)| node.has_image(*id));
        let sum = present.fold(0_i64, |sum, (_, size)| sum.saturating_add(*size));
        MAX_NODE_SCORE * (sum.clamp(MIN, self.max) - MIN) / (self.max - MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Node;
    use crate::plugins::testing::score;
    use crate::testing::{node, with_spec};
    use serde_json::json;

    #[test]
    fn larger_and_more_common_images_weigh_more() {
        let with_image = |name: &str, image: &str, mib: i64| {
            let mut node = Node::clone(&node(name, json!({})));
            node.images = vec![(image.into(), mib * MIB)];
            std::sync::Arc::new(node)
        };
        let nodes = [with_image("a", "app:latest", 1046), with_image("b", "other:1", 1046)];
        let pod = with_spec("p", json!({"containers": [{"name": "c", "image": "app"}]}));
        // 1046 MiB on one node of two count as 523 MiB: (523 - 23) / (1000 - 23).
        assert_eq!(score(&ImageLocality, &pod, nodes, []), [51, 0]);
    }
}
