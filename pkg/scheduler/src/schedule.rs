//! The decision: a pod and the state of the cluster in, a node or the reasons against all nodes out.
//!
//! Invariant: the cache is the same afterwards; it is only changed in between, to try what would be if pods that wait for
//! a node were already on it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::api::Pod;
use crate::cache::Cache;
use crate::fiterror::FitError;
use crate::framework::{Incoming, NodeFilter, PluginSet, PreFilter, Profile, Rejection, View};
use crate::listers::Listers;

/// Up to so many nodes all are tried.
const MIN_FEASIBLE: usize = 100;
/// The least share of the nodes, in percent, that must be found feasible in a large cluster.
const MIN_PERCENTAGE: usize = 5;

/// What one decision leaves to the next.
#[derive(Debug, Default)]
pub struct Cursor {
    /// Where in the order of nodes to begin, so that all nodes are tried equally often.
    next: usize,
    /// Decides between nodes of equal score.
    ties: u64,
}

impl Cursor {
    /// A cursor whose decisions between equals follow from `seed`.
    pub fn new(seed: u64) -> Self {
        Self { next: 0, ties: seed | 1 }
    }

    /// A number below `n`, which is not zero.
    pub fn pick(&mut self, n: usize) -> usize {
        // Xorshift: fairness between equal nodes needs no better randomness.
        self.ties = if self.ties == 0 { 1 } else { self.ties };
        self.ties ^= self.ties << 13;
        self.ties ^= self.ties >> 7;
        self.ties ^= self.ties << 17;
        usize::try_from(self.ties % (n.max(1) as u64)).unwrap_or_default()
    }
}

/// Why no node was chosen.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Failure {
    #[error("no nodes available to schedule pods")]
    NoNodes,
    #[error("{0}")]
    Fit(Box<FitError>),
    /// The pod has a node; it should not have come here.
    #[error("pod is already assigned to a node")]
    Assigned,
}

/// The checks of all plugins that have something to check for a pod.
pub struct Filters<'a> {
    checks: Vec<(usize, Box<dyn NodeFilter + 'a>)>,
    only: Option<BTreeSet<&'a str>>,
    only_by: PluginSet,
}

impl<'a> Filters<'a> {
    /// Asks all plugins.
    ///
    /// # Errors
    /// With the place of the plugin that refuses all nodes.
    pub fn prepare(profile: &Profile, incoming: Incoming<'a>, view: View<'a>) -> Result<Self, (usize, Rejection)> {
        let mut filters = Self { checks: Vec::new(), only: None, only_by: 0 };
        for (place, plugin, _) in profile.plugins() {
            match plugin.pre_filter(incoming, view) {
                PreFilter::Skip => {}
                PreFilter::Check(check) => filters.checks.push((place, check)),
                PreFilter::Only(names, check) => {
                    filters.checks.push((place, check));
                    filters.only_by |= 1 << place;
                    let both = |others: BTreeSet<&'a str>| others.intersection(&names).copied().collect();
                    filters.only = Some(filters.only.take().map_or(names.clone(), both));
                }
                PreFilter::Reject(rejection) => return Err((place, rejection)),
            }
        }
        Ok(filters)
    }

    /// Checks one node.
    ///
    /// # Errors
    /// With the place of the first plugin that refuses it.
    pub fn check(&self, view: View<'_>, node: usize) -> Result<(), (usize, Rejection)> {
        let info = view.cache.info(node);
        self.checks.iter().try_for_each(|(place, check)| check.filter(info).map_err(|r| (*place, r)))
    }
}

/// How many feasible nodes are enough.
pub fn feasible_enough(nodes: usize) -> usize {
    if nodes < MIN_FEASIBLE {
        return nodes;
    }
    let percentage = 50_usize.saturating_sub(nodes / 125).max(MIN_PERCENTAGE);
    (nodes * percentage / 100).max(MIN_FEASIBLE)
}

/// Chooses a node for a pod.
///
/// # Errors
/// [`Failure`], if none will do.
pub fn schedule(
    profile: &Profile,
    cache: &mut Cache,
    listers: &Listers,
    pod: &Arc<Pod>,
    cursor: &mut Cursor,
) -> Result<usize, Failure> {
    if cache.order().is_empty() {
        return Err(Failure::NoNodes);
    }
    let occupied = check_nominated(profile, cache, listers, pod);
    let incoming = Incoming::new(pod).ok_or(Failure::Assigned)?;
    let view = View { cache, listers };
    let feasible = feasible(profile, view, incoming, &occupied, cursor)?;
    if let [only] = feasible.as_slice() {
        return Ok(*only);
    }
    let scores = score(profile, view, incoming, &feasible);
    let best = scores.iter().copied().max().unwrap_or_default();
    let equals: Vec<usize> = feasible.iter().zip(&scores).filter(|(_, s)| **s == best).map(|(i, _)| *i).collect();
    Ok(equals[cursor.pick(equals.len())])
}

/// The nodes that pass, at least one and as many as are enough.
fn feasible(
    profile: &Profile,
    view: View<'_>,
    incoming: Incoming<'_>,
    occupied: &HashMap<usize, (usize, Rejection)>,
    cursor: &mut Cursor,
) -> Result<Vec<usize>, Failure> {
    let all = view.cache.order();
    let mut error = FitError { total: all.len(), ..FitError::default() };
    let filters = match Filters::prepare(profile, incoming, view) {
        Ok(filters) => filters,
        Err((place, rejection)) => {
            error.pre_filter = rejection.reasons.join(", ");
            error.rejected_by = 1 << place;
            error.others = Some(rejection);
            return Err(Failure::Fit(Box::new(error)));
        }
    };
    let check = |node: usize| occupied.get(&node).cloned().map_or_else(|| filters.check(view, node), Err);
    let nominated = view.cache.find(&incoming.pod.nominated_node);
    if let Some(node) = nominated.filter(|n| check(*n).is_ok()) {
        return Ok(vec![node]);
    }
    let named: Vec<usize>;
    let mut nodes = all;
    if let Some(only) = &filters.only {
        named = only.iter().filter_map(|name| view.cache.find(name)).collect();
        nodes = &named;
        let plugins = profile.names(filters.only_by).join(" ");
        error.others = Some(Rejection::unresolvable(format!("node(s) didn't satisfy plugin(s) [{plugins}]")));
        error.rejected_by |= filters.only_by;
    }
    let enough = feasible_enough(nodes.len());
    let mut found = Vec::with_capacity(enough);
    for i in 0..nodes.len() {
        let node = nodes[(cursor.next + i) % nodes.len()];
        match check(node) {
            Ok(()) => found.push(node),
            Err((place, rejection)) => {
                error.rejected_by |= 1 << place;
                error.rejections.push((node, rejection));
            }
        }
        if found.len() == enough {
            break;
        }
    }
    cursor.next = (cursor.next + found.len() + error.rejections.len()) % all.len();
    if found.is_empty() { Err(Failure::Fit(Box::new(error))) } else { Ok(found) }
}

/// Checks the nodes that other pods of at least the same priority wait for as if those were on them already.
fn check_nominated(
    profile: &Profile,
    cache: &mut Cache,
    listers: &Listers,
    pod: &Arc<Pod>,
) -> HashMap<usize, (usize, Rejection)> {
    let mut refused = HashMap::new();
    if cache.none_nominated() {
        return refused;
    }
    for index in cache.nominated_nodes() {
        if let Err(why) = check_with_nominated(profile, cache, listers, pod, index) {
            refused.insert(index, why);
        }
    }
    refused
}

/// Checks one node with the pods on it that wait for it; passes at once if there are none.
///
/// # Errors
/// With the place of the plugin that refuses it.
pub fn check_with_nominated(
    profile: &Profile,
    cache: &mut Cache,
    listers: &Listers,
    pod: &Arc<Pod>,
    node: usize,
) -> Result<(), (usize, Rejection)> {
    let counts = |other: &&Arc<Pod>| other.priority >= pod.priority && other.uid() != pod.uid();
    let waiting: Vec<Arc<Pod>> = cache.nominated_to(cache.info(node).node.name()).filter(counts).cloned().collect();
    if waiting.is_empty() {
        return Ok(());
    }
    waiting.iter().for_each(|p| cache.occupy(p, node));
    let result = check_one(profile, cache, listers, pod, node);
    waiting.iter().for_each(|p| cache.vacate(p, node));
    result
}

/// Checks one node as it is.
///
/// # Errors
/// With the place of the plugin that refuses it.
pub fn check_one(
    profile: &Profile,
    cache: &Cache,
    listers: &Listers,
    pod: &Pod,
    node: usize,
) -> Result<(), (usize, Rejection)> {
    let view = View { cache, listers };
    let Some(incoming) = Incoming::new(pod) else { return Ok(()) };
    Filters::prepare(profile, incoming, view)?.check(view, node)
}

/// The weighted sum of all plugins' scores of each node.
fn score(profile: &Profile, view: View<'_>, incoming: Incoming<'_>, nodes: &[usize]) -> Vec<i64> {
    let mut totals = vec![0; nodes.len()];
    for (_, plugin, weight) in profile.plugins().filter(|(_, _, weight)| *weight > 0) {
        let Some(scorer) = plugin.pre_score(incoming, view, nodes) else { continue };
        let mut scores: Vec<i64> = nodes.iter().map(|i| scorer.score(*i, view.cache.info(*i))).collect();
        scorer.normalize(nodes, &mut scores);
        totals.iter_mut().zip(scores).for_each(|(total, score)| *total += weight * score);
    }
    totals
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing::{bound, cache, node, node_with, sized, with_spec};
    use serde_json::json;

    fn choose(cache: &mut Cache, pod: &Arc<Pod>) -> Result<String, String> {
        let chosen = schedule(&Profile::default(), cache, &Listers::default(), pod, &mut Cursor::new(7));
        chosen.map(|i| cache.info(i).node.name().to_owned()).map_err(|e| e.to_string())
    }

    #[test]
    fn the_emptier_node_is_chosen() {
        let mut cache = cache([node("a", json!({})), node("b", json!({}))], [bound("e", "a", "3")]);
        assert_eq!(choose(&mut cache, &sized("p", "500m")).unwrap(), "b");
        assert_eq!(choose(&mut cache, &sized("p", "4")).unwrap(), "b");
    }

    #[test]
    fn the_message_counts_what_each_node_lacks() {
        let taint = json!({"taints": [{"key": "k", "effect": "NoSchedule"}]});
        let mut cache = cache(
            [node("a", json!({})), node("b", json!({})), node_with("c", json!({}), taint)],
            [bound("e", "a", "4"), bound("f", "b", "4")],
        );
        let want = "0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 Insufficient cpu.";
        assert_eq!(choose(&mut cache, &sized("p", "1")).unwrap_err(), want);
    }

    #[test]
    fn without_nodes_there_is_a_message_of_its_own() {
        let said = choose(&mut Cache::default(), &sized("p", "1")).unwrap_err();
        assert_eq!(said, "no nodes available to schedule pods");
    }

    #[test]
    fn a_pod_bound_by_name_to_one_node_looks_at_no_other() {
        let field = json!({"key": "metadata.name", "operator": "In", "values": ["b"]});
        let required = json!({"nodeSelectorTerms": [{"matchFields": [field]}]});
        let affinity = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}});
        let containers = json!([{"name": "c", "resources": {"requests": {"cpu": "1"}}}]);
        let pod = with_spec("p", json!({"affinity": affinity, "containers": containers}));
        let mut cache = cache(["a", "b", "c"].map(|n| node(n, json!({}))), []);
        assert_eq!(choose(&mut cache, &pod).unwrap(), "b");
        cache.set_pod(bound("e", "b", "4"));
        let want = "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) didn't satisfy plugin(s) [NodeAffinity].";
        assert_eq!(choose(&mut cache, &pod).unwrap_err(), want);
    }

    #[test]
    fn a_node_that_a_more_important_pod_waits_for_is_as_good_as_full() {
        let mut cache = cache([node("a", json!({}))], []);
        let mut waiting = Pod::clone(&sized("w", "4"));
        waiting.priority = 10;
        cache.nominate(Arc::new(waiting), "a");
        assert!(choose(&mut cache, &sized("p", "1")).is_err());
        assert_eq!(cache.info(0).requested.milli_cpu, 0, "the trial left nothing behind");
        cache.nominate(sized("w", "4"), "");
        assert!(choose(&mut cache, &sized("p", "1")).is_ok());
    }

    #[test]
    fn large_clusters_are_sampled_in_turn() {
        assert_eq!([50, 100, 1000, 5000, 15000].map(feasible_enough), [50, 100, 420, 500, 750]);
        let names: Vec<String> = (0..1000).map(|i| format!("n{i:04}")).collect();
        let cache = cache(names.iter().map(|n| node(n, json!({}))), []);
        let mut cursor = Cursor::new(1);
        let pod = sized("p", "1");
        let view = View { cache: &cache, listers: &Listers::default() };
        let profile = Profile::default();
        let mut starts = Vec::new();
        for _ in 0..3 {
            let found = feasible(&profile, view, Incoming::new(&pod).unwrap(), &HashMap::new(), &mut cursor).unwrap();
            assert_eq!(found.len(), 420);
            starts.push(found[0]);
        }
        assert_eq!(starts, [0, 420, 840]);
    }
}
