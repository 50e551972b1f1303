//! Affinity and anti-affinity between pods: required terms refuse nodes, preferred ones score them.

use crate::api::{Pod, PodAffinity, PodAffinityTerm};
use crate::cache::{Class, Domains, LabelId, NodeInfo};
use crate::framework::{Event, Incoming, MAX_NODE_SCORE, NodeFilter, NodeScorer, Plugin, PreFilter, Rejection, View};
use kedge_meta::StringMap;

const AFFINITY: &str = "node(s) didn't match pod affinity rules";
const ANTI_AFFINITY: &str = "node(s) didn't match pod anti-affinity rules";
const EXISTING: &str = "node(s) didn't satisfy existing pods anti-affinity rules";
/// What a required affinity of an existing pod to the incoming one weighs in the score.
const HARD_WEIGHT: i64 = 1;

/// The plugin.
pub struct InterPodAffinity;

/// Numbers by topology: for each label key, by the label's value.
#[derive(Default)]
struct ByTopology(Vec<(LabelId, Domains)>);

struct Filter {
    /// The pod has required terms of its own.
    has_terms: bool,
    /// Label keys of the required terms, and of the anti-affinity terms; absent if no node has the label.
    keys: Vec<Option<LabelId>>,
    anti_keys: Vec<Option<LabelId>>,
    /// The pod matches its own required terms, so that it may be the first of its kind.
    matches_itself: bool,
    /// Pods that match all required terms, and each of the anti-affinity terms.
    affinity: ByTopology,
    anti_affinity: ByTopology,
    /// Existing pods with a required anti-affinity to the incoming one.
    existing: ByTopology,
}

struct Scorer(ByTopology);

impl ByTopology {
    /// Adds `weight` for each pod of the class where its node is in the topology.
    fn spread(&mut self, view: View<'_>, class: &Class, key: &str, weight: i64) {
        let Some(key) = view.cache.label_key(key) else { return };
        let place = self.0.iter().position(|(k, _)| *k == key).unwrap_or_else(|| {
            self.0.push((key, view.cache.domains()));
            self.0.len() - 1
        });
        let domains = &mut self.0[place].1;
        for (index, pods) in &class.nodes {
            if let Some(domain) = view.cache.info(*index).domain(key) {
                domains.add(domain, weight * i64::from(*pods));
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.0.iter().all(|(_, domains)| domains.len() == 0)
    }

    /// The number of one domain.
    fn at(&self, key: LabelId, domain: LabelId) -> i64 {
        let domains = self.0.iter().find(|(k, _)| *k == key);
        domains.and_then(|(_, domains)| domains.get(domain)).unwrap_or_default()
    }

    /// The numbers of all domains that a node is in.
    fn of<'a>(&'a self, node: &'a NodeInfo) -> impl Iterator<Item = i64> + 'a {
        self.0.iter().filter_map(|(key, domains)| domains.get(node.domain(*key)?))
    }
}

fn matches_class(term: &PodAffinityTerm, class: &Class, view: View<'_>) -> bool {
    term.matches(&class.namespace, &class.labels, || view.listers.namespace_labels(&class.namespace))
}

fn matches_pod(term: &PodAffinityTerm, pod: &Pod, namespace: &StringMap) -> bool {
    term.matches(&pod.metadata.namespace, &pod.metadata.labels, || namespace.clone())
}

impl Plugin for InterPodAffinity {
    fn name(&self) -> &'static str {
        "InterPodAffinity"
    }

    fn events(&self) -> &'static [Event] {
        &[Event::PodAdd, Event::PodDelete, Event::PodLabel, Event::NodeAdd, Event::NodeLabel, Event::Namespace]
    }

    fn pre_filter<'a>(&self, incoming: Incoming<'a>, view: View<'a>) -> PreFilter<'a> {
        let pod = incoming.pod;
        let terms = pod.affinity.as_deref().filter(|t| !t.required.is_empty() || !t.anti_required.is_empty());
        let mut filter = Filter {
            has_terms: terms.is_some(),
            keys: Vec::new(),
            anti_keys: Vec::new(),
            matches_itself: false,
            affinity: ByTopology::default(),
            anti_affinity: ByTopology::default(),
            existing: ByTopology::default(),
        };
        let mut classes = view.cache.classes.with_affinity().peekable();
        if terms.is_none() && classes.peek().is_none() {
            return PreFilter::Skip;
        }
        let namespace = view.listers.namespace_labels(&pod.metadata.namespace);
        for (class, affinity) in classes {
            for term in affinity.anti_required.iter().filter(|t| matches_pod(t, pod, &namespace)) {
                filter.existing.spread(view, class, &term.topology_key, 1);
            }
        }
        let Some(terms) = terms else {
            return if filter.existing.is_empty() { PreFilter::Skip } else { PreFilter::Check(Box::new(filter)) };
        };
        for class in view.cache.classes.all() {
            if !terms.required.is_empty() && terms.required.iter().all(|t| matches_class(t, class, view)) {
                for term in &terms.required {
                    filter.affinity.spread(view, class, &term.topology_key, 1);
                }
            }
            for term in terms.anti_required.iter().filter(|t| matches_class(t, class, view)) {
                filter.anti_affinity.spread(view, class, &term.topology_key, 1);
            }
        }
        let keys = |terms: &[PodAffinityTerm]| terms.iter().map(|t| view.cache.label_key(&t.topology_key)).collect();
        filter.keys = keys(&terms.required);
        filter.anti_keys = keys(&terms.anti_required);
        filter.matches_itself = terms.required.iter().all(|t| matches_pod(t, pod, &namespace));
        PreFilter::Check(Box::new(filter))
    }

    fn pre_score<'a>(
        &self,
        incoming: Incoming<'a>,
        view: View<'a>,
        _nodes: &[usize],
    ) -> Option<Box<dyn NodeScorer + 'a>> {
        let mut scores = ByTopology::default();
        let preferred = incoming.pod.affinity.as_deref();
        let preferred = preferred.filter(|t| !t.preferred.is_empty() || !t.anti_preferred.is_empty());
        if let Some(own) = preferred {
            for class in view.cache.classes.all() {
                score_own(&mut scores, own, class, view);
            }
        }
        let mut classes = view.cache.classes.with_affinity().peekable();
        if classes.peek().is_some() {
            let namespace = view.listers.namespace_labels(&incoming.pod.metadata.namespace);
            for (class, theirs) in classes {
                score_theirs(&mut scores, theirs, class, incoming.pod, &namespace, view);
            }
        }
        if scores.is_empty() { None } else { Some(Box::new(Scorer(scores))) }
    }
}

fn score_own(scores: &mut ByTopology, own: &PodAffinity, class: &Class, view: View<'_>) {
    for (sign, terms) in [(1, &own.preferred), (-1, &own.anti_preferred)] {
        for (weight, term) in terms.iter().filter(|(_, t)| matches_class(t, class, view)) {
            scores.spread(view, class, &term.topology_key, sign * weight);
        }
    }
}

fn score_theirs(
    scores: &mut ByTopology,
    theirs: &PodAffinity,
    class: &Class,
    pod: &Pod,
    namespace: &StringMap,
    view: View<'_>,
) {
    for term in theirs.required.iter().filter(|t| matches_pod(t, pod, namespace)) {
        scores.spread(view, class, &term.topology_key, HARD_WEIGHT);
    }
    for (sign, terms) in [(1, &theirs.preferred), (-1, &theirs.anti_preferred)] {
        for (weight, term) in terms.iter().filter(|(_, t)| matches_pod(t, pod, namespace)) {
            scores.spread(view, class, &term.topology_key, sign * weight);
        }
    }
}

impl Filter {
    fn affinity_holds(&self, node: &NodeInfo) -> bool {
        let mut found = true;
        for key in &self.keys {
            let Some((key, domain)) = key.and_then(|k| Some((k, node.domain(k)?))) else { return false };
            found &= self.affinity.at(key, domain) > 0;
        }
        // The first of a group of pods with affinity to each other finds none of the others.
        found || (self.affinity.is_empty() && self.matches_itself)
    }
}

impl NodeFilter for Filter {
    fn filter(&self, node: &NodeInfo) -> Result<(), Rejection> {
        if self.has_terms {
            if !self.affinity_holds(node) {
                return Err(Rejection::unresolvable(AFFINITY));
            }
            let meets = |key: &LabelId| node.domain(*key).is_some_and(|d| self.anti_affinity.at(*key, d) > 0);
            if self.anti_keys.iter().flatten().any(meets) {
                return Err(Rejection::unschedulable(ANTI_AFFINITY));
            }
        }
        if self.existing.of(node).any(|pods| pods > 0) { Err(Rejection::unschedulable(EXISTING)) } else { Ok(()) }
    }
}

impl NodeScorer for Scorer {
    fn score(&self, _index: usize, node: &NodeInfo) -> i64 {
        self.0.of(node).sum()
    }

    fn normalize(&self, _nodes: &[usize], scores: &mut [i64]) {
        let min = scores.iter().copied().min().unwrap_or_default();
        let range = scores.iter().copied().max().unwrap_or_default() - min;
        for score in scores {
            *score = if range == 0 { 0 } else { MAX_NODE_SCORE * (*score - min) / range };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Node;
    use crate::listers::Listers;
    use crate::plugins::testing::{filter, filter_with, score};
    use crate::testing::{labelled, node, placed};
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn nodes() -> [Arc<Node>; 3] {
        [("a", "1"), ("b", "1"), ("c", "2")].map(|(n, zone)| node(n, json!({"zone": zone, "host": n})))
    }

    fn term(key: &str, app: &str) -> Value {
        json!({"topologyKey": key, "labelSelector": {"matchLabels": {"app": app}}})
    }

    fn required(terms: &[Value]) -> Value {
        json!({"requiredDuringSchedulingIgnoredDuringExecution": terms})
    }

    fn preferred(weight: i64, term: &Value) -> Value {
        json!({"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": weight, "podAffinityTerm": term}]})
    }

    fn with_affinity(app: &str, affinity: Value) -> Arc<Pod> {
        labelled("p", json!({"app": app}), json!({"affinity": affinity}))
    }

    fn refused(reason: &str) -> Result<(), String> {
        Err(reason.to_owned())
    }

    #[test]
    fn required_affinity_needs_a_match_in_the_topology() {
        let pod = with_affinity("x", json!({"podAffinity": required(&[term("zone", "db")])}));
        let db = || [placed("db", "a", json!({"app": "db"}))];
        assert_eq!(filter(&InterPodAffinity, &pod, nodes(), db()), [Ok(()), Ok(()), refused(AFFINITY)]);
        assert_eq!(filter(&InterPodAffinity, &pod, nodes(), []), [AFFINITY; 3].map(refused));
    }

    #[test]
    fn the_first_pod_of_a_group_with_affinity_to_itself_fits_anywhere() {
        let pod = with_affinity("x", json!({"podAffinity": required(&[term("zone", "x")])}));
        assert_eq!(filter(&InterPodAffinity, &pod, nodes(), []), [Ok(()), Ok(()), Ok(())]);
        let other = [placed("o", "c", json!({"app": "x"}))];
        assert_eq!(filter(&InterPodAffinity, &pod, nodes(), other), [refused(AFFINITY), refused(AFFINITY), Ok(())]);
    }

    #[test]
    fn anti_affinity_holds_in_both_directions() {
        let anti = json!({"podAntiAffinity": required(&[term("host", "x")])});
        let pod = with_affinity("x", anti.clone());
        let plain = [placed("o", "b", json!({"app": "x"}))];
        assert_eq!(filter(&InterPodAffinity, &pod, nodes(), plain), [Ok(()), refused(ANTI_AFFINITY), Ok(())]);
        let existing = labelled("o", json!({"app": "y"}), json!({"nodeName": "b", "affinity": anti}));
        let plain = labelled("p", json!({"app": "x"}), json!({}));
        assert_eq!(filter(&InterPodAffinity, &plain, nodes(), [existing]), [Ok(()), refused(EXISTING), Ok(())]);
    }

    #[test]
    fn namespaces_are_selected_by_name_or_label() {
        let other = || {
            let meta = json!({"name": "o", "namespace": "other", "uid": "o", "labels": {"app": "x"}});
            [crate::testing::pod(json!({"metadata": meta, "spec": {"nodeName": "a"}}))]
        };
        let passes = |extra: &str, value: Value| {
            let mut term = term("host", "x");
            term[extra] = value;
            let pod = with_affinity("y", json!({"podAntiAffinity": required(&[term])}));
            let namespace = json!({"metadata": {"name": "other", "labels": {"team": "red"}}});
            let listers = Listers::default().with_namespace(namespace);
            filter_with(&InterPodAffinity, &pod, nodes(), other(), &listers)[0].is_ok()
        };
        assert!(passes("unset", json!(0)), "only the own namespace");
        assert!(!passes("namespaces", json!(["other"])));
        assert!(!passes("namespaceSelector", json!({})));
        assert!(!passes("namespaceSelector", json!({"matchLabels": {"team": "red"}})));
        assert!(passes("namespaceSelector", json!({"matchLabels": {"team": "blue"}})));
    }

    #[test]
    fn preferred_terms_score_both_ways() {
        let db = || [placed("db", "a", json!({"app": "db"}))];
        let near = with_affinity("x", json!({"podAffinity": preferred(10, &term("zone", "db"))}));
        assert_eq!(score(&InterPodAffinity, &near, nodes(), db()), [100, 100, 0]);
        let far = with_affinity("x", json!({"podAntiAffinity": preferred(10, &term("host", "db"))}));
        assert_eq!(score(&InterPodAffinity, &far, nodes(), db()), [0, 100, 100]);
        let affinity = json!({"podAffinity": required(&[term("host", "x")])});
        let existing = labelled("o", json!({"app": "y"}), json!({"nodeName": "c", "affinity": affinity}));
        let plain = labelled("p", json!({"app": "x"}), json!({}));
        assert_eq!(score(&InterPodAffinity, &plain, nodes(), [existing]), [0, 0, 100]);
    }
}
