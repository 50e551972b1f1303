//! Refuses nodes that lack a requested resource; prefers nodes with the most left (`LeastAllocated`).

use crate::api::{Pod, Resources};
use crate::cache::NodeInfo;
use crate::framework::{
    Code, Event, Incoming, MAX_NODE_SCORE, NodeFilter, NodeScorer, Plugin, PreFilter, Reason, Rejection, View,
};

/// The plugin.
pub struct NodeResourcesFit;

struct Filter<'a>(&'a Resources);

struct Scorer<'a>(&'a Pod);

impl Plugin for NodeResourcesFit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }

    fn events(&self) -> &'static [Event] {
        &[Event::PodDelete, Event::PodScaleDown, Event::NodeAdd, Event::NodeAllocatable]
    }

    fn pre_filter<'a>(&self, incoming: Incoming<'a>, _view: View<'a>) -> PreFilter<'a> {
        PreFilter::Check(Box::new(Filter(&incoming.pod.requests)))
    }

    fn pre_score<'a>(
        &self,
        incoming: Incoming<'a>,
        _view: View<'a>,
        _nodes: &[usize],
    ) -> Option<Box<dyn NodeScorer + 'a>> {
        Some(Box::new(Scorer(incoming.pod)))
    }
}

impl NodeFilter for Filter<'_> {
    fn filter(&self, node: &NodeInfo) -> Result<(), Rejection> {
        let (wanted, used, total) = (self.0, &node.requested, &node.node.allocatable);
        let mut lacking = Vec::new();
        let mut hopeless = false;
        if i64::try_from(node.pods.len()).unwrap_or(i64::MAX) >= node.node.max_pods {
            lacking.push(Reason::Borrowed("Too many pods"));
        }
        let mut check = |reason: &dyn Fn() -> Reason, wanted: i64, used: i64, total: i64| {
            if wanted > 0 && wanted > total - used {
                lacking.push(reason());
                hopeless |= wanted > total;
            }
        };
        check(&|| "Insufficient cpu".into(), wanted.milli_cpu, used.milli_cpu, total.milli_cpu);
        check(&|| "Insufficient memory".into(), wanted.memory, used.memory, total.memory);
        let storage = (wanted.ephemeral_storage, used.ephemeral_storage, total.ephemeral_storage);
        check(&|| "Insufficient ephemeral-storage".into(), storage.0, storage.1, storage.2);
        for (name, amount) in &wanted.scalar {
            let of = |r: &Resources| r.scalar(name).unwrap_or_default();
            check(&|| format!("Insufficient {name}").into(), *amount, of(used), of(total));
        }
        if lacking.is_empty() {
            return Ok(());
        }
        let code = if hopeless { Code::UnschedulableAndUnresolvable } else { Code::Unschedulable };
        Err(Rejection { code, reasons: lacking })
    }
}

/// The free share of a resource after the pod, 0..=100; `None` if the node has none of it.
fn free_share(requested: i64, total: i64) -> Option<i64> {
    match total {
        0 => None,
        _ if requested > total => Some(0),
        _ => Some(
            i64::try_from(i128::from(total - requested) * i128::from(MAX_NODE_SCORE) / i128::from(total)).unwrap_or(0),
        ),
    }
}

impl NodeScorer for Scorer<'_> {
    fn score(&self, _index: usize, node: &NodeInfo) -> i64 {
        let (pod, total) = (&self.0.scored_requests, &node.node.allocatable);
        let shares = [
            free_share(node.scored_milli_cpu + pod.milli_cpu, total.milli_cpu),
            free_share(node.scored_memory + pod.memory, total.memory),
        ];
        let (sum, count) = shares.iter().flatten().fold((0, 0), |(sum, n), share| (sum + share, n + 1));
        if count == 0 { 0 } else { sum / count }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugins::testing::{filter, score};
    use crate::testing::{bound, cache, node, sized, with_spec};
    use serde_json::json;

    fn wants(requests: serde_json::Value) -> std::sync::Arc<Pod> {
        with_spec("p", json!({"containers": [{"name": "c", "resources": {"requests": requests}}]}))
    }

    #[test]
    fn every_lacking_resource_is_named() {
        let nodes = || [node("n", json!({}))];
        let reasons = |requests| filter(&NodeResourcesFit, &wants(requests), nodes(), [bound("e", "n", "3")]);
        assert_eq!(reasons(json!({"cpu": "1", "memory": "8Gi"})), [Ok(())]);
        let lacking = "Insufficient cpu, Insufficient memory, Insufficient example.com/gpu".to_owned();
        assert_eq!(reasons(json!({"cpu": "1001m", "memory": "9Gi", "example.com/gpu": "1"})), [Err(lacking)]);
        assert_eq!(reasons(json!({"ephemeral-storage": "11Gi"})), [Err("Insufficient ephemeral-storage".into())]);
    }

    #[test]
    fn preemption_cannot_help_beyond_the_whole_node() {
        let cache = cache([node("n", json!({}))], [bound("e", "n", "3")]);
        let code = |cpu| Filter(&sized("p", cpu).requests).filter(cache.info(0)).map_err(|r| r.code);
        assert_eq!(code("2"), Err(Code::Unschedulable));
        assert_eq!(code("5"), Err(Code::UnschedulableAndUnresolvable));
    }

    #[test]
    fn a_full_node_takes_no_further_pod() {
        let pods = (0..110).map(|i| bound(&i.to_string(), "n", "0"));
        let refused = filter(&NodeResourcesFit, &sized("p", "0"), [node("n", json!({}))], pods);
        assert_eq!(refused, [Err("Too many pods".into())]);
    }

    #[test]
    fn the_emptier_node_scores_higher() {
        let nodes = [node("a", json!({})), node("b", json!({}))];
        // Of 4 CPU 1 and 3 are taken (75 and 25 free), of 8 GiB twice 200 MiB, once also for the pod on it.
        let scores = score(&NodeResourcesFit, &sized("p", "1"), nodes, [bound("e", "b", "2")]);
        assert_eq!(scores, [(75 + 97) / 2, (25 + 95) / 2]);
    }
}
