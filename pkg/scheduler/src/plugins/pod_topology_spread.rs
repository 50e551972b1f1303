//! Spreads pods over the values of node labels: hard constraints refuse nodes, soft ones score them.

use crate::api::{Pending, SpreadConstraint, tolerated};
use crate::cache::{Class, Domains, LabelId, NodeInfo};
use crate::framework::{Event, Incoming, NodeFilter, NodeScorer, Plugin, PreFilter, Rejection, View};
use crate::plugins::{node_affinity, spread_score};

const SKEWED: &str = "node(s) didn't match pod topology spread constraints";
const NO_LABEL: &str = "node(s) didn't match pod topology spread constraints (missing required label)";

/// The plugin.
pub struct PodTopologySpread;

/// A hard constraint with the pods that match it counted.
struct Counted<'a> {
    constraint: &'a SpreadConstraint,
    key: Option<LabelId>,
    /// Matching pods.
    domains: Domains,
    min: i64,
    /// 1 if the incoming pod itself matches.
    own: i64,
}

struct Filter<'a>(Vec<Counted<'a>>);

impl Plugin for PodTopologySpread {
    fn name(&self) -> &'static str {
        "PodTopologySpread"
    }

    fn events(&self) -> &'static [Event] {
        &[Event::PodAdd, Event::PodDelete, Event::PodLabel, Event::NodeAdd, Event::NodeLabel, Event::NodeTaint]
    }

    fn pre_filter<'a>(&self, incoming: Incoming<'a>, view: View<'a>) -> PreFilter<'a> {
        let hard: Vec<&SpreadConstraint> = incoming.spec.spread.iter().filter(|c| c.hard).collect();
        if hard.is_empty() {
            return PreFilter::Skip;
        }
        let counted = hard.iter().map(|c| count(c, &hard, incoming, view)).collect();
        PreFilter::Check(Box::new(Filter(counted)))
    }

    fn pre_score<'a>(
        &self,
        incoming: Incoming<'a>,
        view: View<'a>,
        nodes: &[usize],
    ) -> Option<Box<dyn NodeScorer + 'a>> {
        spread_score::scorer(incoming, view, nodes)
    }
}

/// Whether pods on the node count for the constraint.
pub fn included(constraint: &SpreadConstraint, spec: &Pending, node: &NodeInfo) -> bool {
    let untolerated = || node.node.taints.iter().any(|t| t.effect.forbids() && !tolerated(&spec.tolerations, t));
    (!constraint.honor_affinity || node_affinity::admits(spec, node)) && !(constraint.honor_taints && untolerated())
}

/// The classes of pods that the constraint counts.
pub fn counted<'a: 'b, 'b>(
    constraint: &'b SpreadConstraint,
    incoming: Incoming<'_>,
    view: View<'a>,
) -> impl Iterator<Item = &'a Class> + use<'a, 'b> {
    let selector = &constraint.selector;
    let classes = view.cache.classes.in_namespace(&incoming.pod.metadata.namespace);
    classes.filter(move |c| !c.terminating && !selector.is_everything() && selector.matches(&c.labels))
}

fn count<'a>(
    constraint: &'a SpreadConstraint,
    hard: &[&SpreadConstraint],
    incoming: Incoming<'a>,
    view: View<'a>,
) -> Counted<'a> {
    let keys: Option<Vec<LabelId>> = hard.iter().map(|c| view.cache.label_key(&c.topology_key)).collect();
    let key = view.cache.label_key(&constraint.topology_key);
    let mut domains = view.cache.domains();
    let mut domain_of: Vec<Option<LabelId>> = vec![None; view.cache.index_bound()];
    // Without one of the keys on any node, no node counts.
    if let (Some(keys), Some(key)) = (keys, key) {
        for index in view.cache.order() {
            let node = view.cache.info(*index);
            let complete = keys.iter().all(|k| node.domain(*k).is_some());
            let Some(domain) = node.domain(key).filter(|_| complete) else { continue };
            if included(constraint, incoming.spec, node) {
                domains.add(domain, 0);
                domain_of[*index] = Some(domain);
            }
        }
    }
    for (index, pods) in counted(constraint, incoming, view).flat_map(|class| &class.nodes) {
        if let Some(domain) = domain_of[*index] {
            domains.add(domain, i64::from(*pods));
        }
    }
    let enough = domains.len() >= constraint.min_domains;
    let min = if enough { domains.min().unwrap_or(i64::from(i32::MAX)) } else { 0 };
    let own = i64::from(constraint.selector.matches(&incoming.pod.metadata.labels));
    Counted { constraint, key, domains, min, own }
}

impl NodeFilter for Filter<'_> {
    fn filter(&self, node: &NodeInfo) -> Result<(), Rejection> {
        for Counted { constraint, key, domains, min, own } in &self.0 {
            let Some(domain) = key.and_then(|k| node.domain(k)) else {
                return Err(Rejection::unresolvable(NO_LABEL));
            };
            let pods = domains.get(domain).unwrap_or_default();
            if pods + own - min > constraint.max_skew {
                return Err(Rejection::unschedulable(SKEWED));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugins::testing::filter;
    use crate::testing::{labelled, node, placed};
    use serde_json::{Value, json};

    fn constrained(extra: Value) -> std::sync::Arc<crate::api::Pod> {
        let mut constraint = json!({
            "maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchLabels": {"app": "x"}},
        });
        for (key, value) in extra.as_object().into_iter().flatten() {
            constraint[key] = value.clone();
        }
        labelled("p", json!({"app": "x"}), json!({"topologySpreadConstraints": [constraint]}))
    }

    fn zones() -> [std::sync::Arc<crate::api::Node>; 3] {
        [node("a", json!({"zone": "a"})), node("b", json!({"zone": "b"})), node("c", json!({}))]
    }

    #[test]
    fn the_fuller_zone_and_nodes_without_a_zone_are_refused() {
        let pods = [placed("1", "a", json!({"app": "x"})), placed("2", "b", json!({"app": "y"}))];
        let said = filter(&PodTopologySpread, &constrained(json!({})), zones(), pods);
        assert_eq!(said, [Err(SKEWED.to_owned()), Ok(()), Err(NO_LABEL.to_owned())]);
    }

    #[test]
    fn too_few_domains_count_as_an_empty_one() {
        let pods = ["a", "b"].map(|n| placed(n, n, json!({"app": "x"})));
        let said = filter(&PodTopologySpread, &constrained(json!({})), zones(), pods.clone());
        assert_eq!(said[..2], [Ok(()), Ok(())]);
        let said = filter(&PodTopologySpread, &constrained(json!({"minDomains": 3})), zones(), pods);
        assert_eq!(said[..2], [Err(SKEWED.to_owned()), Err(SKEWED.to_owned())]);
    }

    #[test]
    fn terminating_pods_do_not_count() {
        let mut pod = crate::api::Pod::clone(&placed("1", "a", json!({"app": "x"})));
        pod.metadata.deletion_timestamp = Some("2026-01-01T00:00:00Z".into());
        let said = filter(&PodTopologySpread, &constrained(json!({})), zones(), [std::sync::Arc::new(pod)]);
        assert_eq!(said[..2], [Ok(()), Ok(())]);
    }
}
