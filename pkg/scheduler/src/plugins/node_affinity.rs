//! Node selector and required node affinity refuse nodes; preferred node affinity scores them.

use crate::api::{Pending, PreferredTerm};
use crate::cache::NodeInfo;
use crate::framework::{Event, Incoming, NodeFilter, NodeScorer, Plugin, PreFilter, Rejection, View, normalize};

const REASON: &str = "node(s) didn't match Pod's node affinity/selector";
const CONFLICT: &str = "pod affinity terms conflict";

/// The plugin.
pub struct NodeAffinity;

struct Filter<'a>(&'a Pending);

struct Scorer<'a>(&'a [PreferredTerm]);

/// Whether node selector and required node affinity admit a node.
pub fn admits(spec: &Pending, node: &NodeInfo) -> bool {
    let node = &node.node;
    spec.node_selector.iter().all(|(k, v)| node.label(k) == Some(v))
        && spec.required_nodes.as_ref().is_none_or(|s| s.matches(node.name(), &node.metadata.labels))
}

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }

    fn events(&self) -> &'static [Event] {
        &[Event::NodeAdd, Event::NodeLabel]
    }

    fn pre_filter<'a>(&self, incoming: Incoming<'a>, _view: View<'a>) -> PreFilter<'a> {
        let spec = incoming.spec;
        if spec.node_selector.is_empty() && spec.required_nodes.is_none() {
            return PreFilter::Skip;
        }
        match spec.required_nodes.as_ref().and_then(|s| s.names()) {
            Some(names) if names.is_empty() => PreFilter::Reject(Rejection::unresolvable(CONFLICT)),
            Some(names) => PreFilter::Only(names, Box::new(Filter(spec))),
            None => PreFilter::Check(Box::new(Filter(spec))),
        }
    }

    fn pre_score<'a>(
        &self,
        incoming: Incoming<'a>,
        _view: View<'a>,
        _nodes: &[usize],
    ) -> Option<Box<dyn NodeScorer + 'a>> {
        let preferred = incoming.spec.preferred_nodes.as_slice();
        if preferred.is_empty() { None } else { Some(Box::new(Scorer(preferred))) }
    }
}

impl NodeFilter for Filter<'_> {
    fn filter(&self, node: &NodeInfo) -> Result<(), Rejection> {
        if admits(self.0, node) { Ok(()) } else { Err(Rejection::unresolvable(REASON)) }
    }
}

impl NodeScorer for Scorer<'_> {
    fn score(&self, _index: usize, node: &NodeInfo) -> i64 {
        let matching = |t: &&PreferredTerm| t.preference.matches(node.node.name(), &node.node.metadata.labels);
        self.0.iter().filter(matching).map(|t| t.weight).sum()
    }

    fn normalize(&self, _nodes: &[usize], scores: &mut [i64]) {
        normalize(scores, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugins::testing::{filter, score};
    use crate::testing::{node, with_spec};
    use serde_json::json;

    #[test]
    fn selector_and_affinity_must_both_match() {
        let nodes = [node("a", json!({"disk": "ssd", "zone": "1"})), node("b", json!({"disk": "ssd"}))];
        let refused = || Err(REASON.to_owned());
        let pod = with_spec("p", json!({"nodeSelector": {"disk": "ssd"}}));
        assert_eq!(filter(&NodeAffinity, &pod, nodes.clone(), []), [Ok(()), Ok(())]);
        let required = json!({"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["1"]}]}]}});
        let pod = with_spec("p", json!({"nodeSelector": {"disk": "ssd"}, "affinity": {"nodeAffinity": required}}));
        assert_eq!(filter(&NodeAffinity, &pod, nodes.clone(), []), [Ok(()), refused()]);
        let pod = with_spec("p", json!({"nodeSelector": {"disk": "hdd"}}));
        assert_eq!(filter(&NodeAffinity, &pod, nodes, []), [refused(), refused()]);
    }

    #[test]
    fn preferred_terms_add_their_weights() {
        let nodes = [node("a", json!({"x": "1", "y": "1"})), node("b", json!({"x": "1"})), node("c", json!({}))];
        let term = |key: &str, weight: i64| json!({"weight": weight, "preference": {"matchExpressions": [{"key": key, "operator": "Exists"}]}});
        let preferred = json!({"preferredDuringSchedulingIgnoredDuringExecution": [term("x", 20), term("y", 60)]});
        let pod = with_spec("p", json!({"affinity": {"nodeAffinity": preferred}}));
        assert_eq!(score(&NodeAffinity, &pod, nodes, []), [100, 25, 0]);
    }
}
