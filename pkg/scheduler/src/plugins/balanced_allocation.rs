//! Prefers nodes on which the pod evens out the shares of CPU and memory in use.

use crate::api::Resources;
use crate::cache::NodeInfo;
use crate::framework::{Incoming, MAX_NODE_SCORE, NodeScorer, Plugin, View};

/// The plugin.
pub struct NodeResourcesBalancedAllocation;

struct Scorer<'a>(&'a Resources);

impl Plugin for NodeResourcesBalancedAllocation {
    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }

    fn pre_score<'a>(
        &self,
        incoming: Incoming<'a>,
        _view: View<'a>,
        _nodes: &[usize],
    ) -> Option<Box<dyn NodeScorer + 'a>> {
        let requests = &incoming.pod.requests;
        if requests.milli_cpu == 0 && requests.memory == 0 { None } else { Some(Box::new(Scorer(requests))) }
    }
}

/// 100 if both shares are equal, 50 if they are as far apart as can be.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
fn balance(cpu: i64, memory: i64, total: &Resources) -> i64 {
    let share = |used: i64, total: i64| (used as f64 / total as f64).min(1.0);
    let deviation = if total.milli_cpu == 0 || total.memory == 0 {
        0.0
    } else {
        ((share(cpu, total.milli_cpu) - share(memory, total.memory)) / 2.0).abs()
    };
    ((1.0 - deviation) * MAX_NODE_SCORE as f64) as i64
}

impl NodeScorer for Scorer<'_> {
    fn score(&self, _index: usize, node: &NodeInfo) -> i64 {
        let (pod, used, total) = (self.0, &node.requested, &node.node.allocatable);
        let without = balance(used.milli_cpu, used.memory, total);
        let with = balance(used.milli_cpu + pod.milli_cpu, used.memory + pod.memory, total);
        MAX_NODE_SCORE / 2 + (MAX_NODE_SCORE / 2 + with - without) / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugins::testing::score;
    use crate::testing::{bound, node, sized};
    use serde_json::json;

    #[test]
    fn evening_out_scores_above_skewing() {
        let plugin = NodeResourcesBalancedAllocation;
        let nodes = || [node("n", json!({}))];
        // Alone on the node, 2 of 4 CPU and no memory: shares 0.5 and 0, deviation 0.25.
        assert_eq!(score(&plugin, &sized("p", "2"), nodes(), []), [50 + (50 + 75 - 100) / 2]);
        assert_eq!(
            score(&plugin, &sized("p", "2"), nodes(), [bound("e", "n", "4")]),
            [75],
            "already skewed to the end"
        );
        assert_eq!(score(&plugin, &sized("p", "0"), nodes(), []), [0], "nothing asked for, nothing scored");
    }
}
