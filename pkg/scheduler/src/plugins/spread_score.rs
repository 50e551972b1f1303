//! Scores nodes by soft topology spread constraints: the pod's own, or the built-in ones of workloads that have none.

use crate::api::SpreadConstraint;
use crate::cache::{Domains, LabelId, NodeInfo};
use crate::framework::{Incoming, MAX_NODE_SCORE, NodeScorer, View};
use crate::plugins::pod_topology_spread::{counted, included};

const HOSTNAME: &str = "kubernetes.io/hostname";
/// Built-in constraints: the key and the skew beyond which the score falls.
const DEFAULTS: [(&str, i64); 2] = [(HOSTNAME, 3), ("topology.kubernetes.io/zone", 5)];

struct Scorer {
    constraints: Vec<Weighted>,
    /// By node index: lacks a label of one of the pod's own constraints.
    ignored: Vec<bool>,
}

struct Weighted {
    /// Absent if no node has the label.
    key: Option<LabelId>,
    max_skew: i64,
    weight: f64,
    pods: Pods,
}

enum Pods {
    /// By node index.
    OnNode(Vec<u32>),
    InDomain(Domains),
}

/// The soft constraints of a pod and whether they are its own.
fn constraints(incoming: Incoming<'_>, view: View<'_>) -> (Vec<SpreadConstraint>, bool) {
    let own = &incoming.spec.spread;
    if !own.is_empty() {
        return (own.iter().filter(|c| !c.hard).cloned().collect(), true);
    }
    let Some(selector) = view.listers.default_selector(incoming.pod) else { return (Vec::new(), false) };
    let constraint = |(key, max_skew): (&str, i64)| SpreadConstraint {
        max_skew,
        topology_key: key.to_owned(),
        hard: false,
        selector: selector.clone(),
        min_domains: 1,
        honor_affinity: true,
        honor_taints: false,
    };
    (DEFAULTS.map(constraint).into(), false)
}

/// Prepares the scores; `None` if there is nothing to spread.
pub fn scorer<'a>(incoming: Incoming<'a>, view: View<'a>, nodes: &[usize]) -> Option<Box<dyn NodeScorer + 'a>> {
    let (constraints, own) = constraints(incoming, view);
    if constraints.is_empty() {
        return None;
    }
    let mut ignored = vec![false; view.cache.index_bound()];
    let keys: Vec<Option<LabelId>> = constraints.iter().map(|c| view.cache.label_key(&c.topology_key)).collect();
    let lacks_label = |index: usize| {
        let node = view.cache.info(index);
        own && keys.iter().any(|key| key.and_then(|k| node.domain(k)).is_none())
    };
    let mut scored = Vec::with_capacity(nodes.len());
    for index in nodes {
        ignored[*index] = lacks_label(*index);
        if !ignored[*index] {
            scored.push(*index);
        }
    }
    let constraints = constraints.iter().map(|c| weigh(c, incoming, view, &scored, &lacks_label)).collect();
    Some(Box::new(Scorer { constraints, ignored }))
}

#[allow(clippy::cast_precision_loss)]
fn weigh(
    constraint: &SpreadConstraint,
    incoming: Incoming<'_>,
    view: View<'_>,
    scored: &[usize],
    lacks_label: &dyn Fn(usize) -> bool,
) -> Weighted {
    let key = view.cache.label_key(&constraint.topology_key);
    let (pods, size) = if constraint.topology_key == HOSTNAME {
        let mut on_node = vec![0; view.cache.index_bound()];
        for (index, pods) in counted(constraint, incoming, view).flat_map(|c| &c.nodes) {
            on_node[*index] += pods;
        }
        (Pods::OnNode(on_node), scored.len())
    } else {
        let domain = |index: usize| key.and_then(|k| view.cache.info(index).domain(k));
        let mut domains = view.cache.domains();
        scored.iter().filter_map(|i| domain(*i)).for_each(|d| domains.add(d, 0));
        for (index, pods) in counted(constraint, incoming, view).flat_map(|c| &c.nodes) {
            let Some(domain) = domain(*index).filter(|d| domains.get(*d).is_some()) else { continue };
            if !lacks_label(*index) && included(constraint, incoming.spec, view.cache.info(*index)) {
                domains.add(domain, i64::from(*pods));
            }
        }
        // Nodes without the label are one domain more, as upstream counts them.
        let without = scored.iter().any(|i| domain(*i).is_none());
        let size = domains.len() + usize::from(without);
        (Pods::InDomain(domains), size)
    };
    // Domains that are many shall not weigh less because each of them holds few pods.
    let weight = ((size + 2) as f64).ln();
    Weighted { key, max_skew: constraint.max_skew, weight, pods }
}

impl NodeScorer for Scorer {
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
    fn score(&self, index: usize, node: &NodeInfo) -> i64 {
        if self.ignored[index] {
            return 0;
        }
        let mut score = 0.0;
        for constraint in &self.constraints {
            let Some(domain) = constraint.key.and_then(|k| node.domain(k)) else { continue };
            let pods = match &constraint.pods {
                Pods::OnNode(pods) => i64::from(pods[index]),
                Pods::InDomain(domains) => domains.get(domain).unwrap_or_default(),
            };
            score += pods as f64 * constraint.weight + (constraint.max_skew - 1) as f64;
        }
        score.round() as i64
    }

    fn normalize(&self, nodes: &[usize], scores: &mut [i64]) {
        let counting = || nodes.iter().zip(scores.iter()).filter(|(i, _)| !self.ignored[**i]).map(|(_, s)| *s);
        let min = counting().min().unwrap_or(i64::MAX);
        let max = counting().max().unwrap_or_default();
        for (index, score) in nodes.iter().zip(scores) {
            *score = match max {
                _ if self.ignored[*index] => 0,
                0 => MAX_NODE_SCORE,
                _ => MAX_NODE_SCORE * (max + min - *score) / max,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listers::Listers;
    use crate::plugins::PodTopologySpread;
    use crate::plugins::testing::{score, score_with};
    use crate::testing::{labelled, node, placed};
    use serde_json::json;

    #[test]
    fn emptier_domains_score_higher_and_nodes_without_the_label_nothing() {
        let constraint = json!({
            "maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": {"app": "x"}},
        });
        let pod = labelled("p", json!({"app": "x"}), json!({"topologySpreadConstraints": [constraint]}));
        let nodes = [node("a", json!({"zone": "a"})), node("b", json!({"zone": "b"})), node("c", json!({}))];
        let pods = ["1", "2"].map(|name| placed(name, "a", json!({"app": "x"})));
        assert_eq!(score(&PodTopologySpread, &pod, nodes, pods), [0, 100, 0]);
    }

    #[test]
    fn pods_of_a_service_are_spread_over_hosts() {
        let nodes = ["a", "b"].map(|name| node(name, json!({HOSTNAME: name})));
        let pod = labelled("p", json!({"app": "x"}), json!({}));
        let pods = || [placed("1", "a", json!({"app": "x"}))];
        assert_eq!(score(&PodTopologySpread, &pod, nodes.clone(), pods()), [0, 0], "no service, no constraint");
        let service = json!({"metadata": {"name": "s", "namespace": "default"}, "spec": {"selector": {"app": "x"}}});
        let listers = Listers::default().with_service(service);
        // One pod weighs ln(2 + 2), rounded with maxSkew - 1 to 3; without it 2: 100 * (3 + 2 - 3) / 3.
        assert_eq!(score_with(&PodTopologySpread, &pod, nodes, pods(), &listers), [66, 100]);
    }
}
