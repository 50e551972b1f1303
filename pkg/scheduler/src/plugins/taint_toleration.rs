//! Refuses nodes with taints the pod does not tolerate; prefers nodes without such soft taints.

use crate::api::{Effect, Toleration, tolerated};
use crate::cache::NodeInfo;
use crate::framework::{Event, Incoming, NodeFilter, NodeScorer, Plugin, PreFilter, Rejection, View, normalize};

const REASON: &str = "node(s) had untolerated taint(s)";

/// The plugin.
pub struct TaintToleration;

struct Filter<'a>(&'a [Toleration]);

struct Scorer(Vec<Toleration>);

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }

    fn events(&self) -> &'static [Event] {
        &[Event::NodeAdd, Event::NodeTaint]
    }

    fn pre_filter<'a>(&self, incoming: Incoming<'a>, _view: View<'a>) -> PreFilter<'a> {
        PreFilter::Check(Box::new(Filter(&incoming.spec.tolerations)))
    }

    fn pre_score<'a>(
        &self,
        incoming: Incoming<'a>,
        _view: View<'a>,
        _nodes: &[usize],
    ) -> Option<Box<dyn NodeScorer + 'a>> {
        let soft = |t: &&Toleration| t.effect.is_empty() || t.effect == "PreferNoSchedule";
        Some(Box::new(Scorer(incoming.spec.tolerations.iter().filter(soft).cloned().collect())))
    }
}

impl NodeFilter for Filter<'_> {
    fn filter(&self, node: &NodeInfo) -> Result<(), Rejection> {
        let refuses = node.node.taints.iter().any(|t| t.effect.forbids() && !tolerated(self.0, t));
        if refuses { Err(Rejection::unresolvable(REASON)) } else { Ok(()) }
    }
}

impl NodeScorer for Scorer {
    fn score(&self, _index: usize, node: &NodeInfo) -> i64 {
        let soft = node.node.taints.iter().filter(|t| t.effect == Effect::PreferNoSchedule);
        i64::try_from(soft.filter(|t| !tolerated(&self.0, t)).count()).unwrap_or(i64::MAX)
    }

    fn normalize(&self, _nodes: &[usize], scores: &mut [i64]) {
        normalize(scores, true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugins::testing::{filter, score};
    use crate::testing::{node_with, with_spec};
    use serde_json::json;

    #[test]
    fn untolerated_taints_refuse_or_score() {
        let tainted = |name: &str, effect: &str| {
            node_with(name, json!({}), json!({"taints": [{"key": "k", "value": "v", "effect": effect}]}))
        };
        let nodes = ["NoSchedule", "NoExecute", "PreferNoSchedule"].map(|e| tainted(e, e));
        let plain = with_spec("p", json!({}));
        let refused = || Err(REASON.to_owned());
        assert_eq!(filter(&TaintToleration, &plain, nodes.clone(), []), [refused(), refused(), Ok(())]);
        let tolerant = json!({"tolerations": [{"key": "k", "operator": "Equal", "value": "v"}]});
        assert_eq!(
            filter(&TaintToleration, &with_spec("p", tolerant.clone()), nodes.clone(), []),
            [Ok(()), Ok(()), Ok(())]
        );
        assert_eq!(score(&TaintToleration, &plain, nodes.clone(), []), [100, 100, 0]);
        assert_eq!(score(&TaintToleration, &with_spec("p", tolerant), nodes, []), [100, 100, 100]);
    }
}
