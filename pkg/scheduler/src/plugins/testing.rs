//! Runs one plugin on a small cluster.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use crate::api::{Node, Pod};
use crate::framework::{Incoming, Plugin, PreFilter, View};
use crate::listers::Listers;
use crate::testing::{cache, listers};

/// What the plugin says about each node, in the order given; reasons joined by commas.
pub fn filter(
    plugin: &dyn Plugin,
    pod: &Pod,
    nodes: impl IntoIterator<Item = Arc<Node>>,
    pods: impl IntoIterator<Item = Arc<Pod>>,
) -> Vec<Result<(), String>> {
    filter_with(plugin, pod, nodes, pods, &listers())
}

/// The same with other objects around.
pub fn filter_with(
    plugin: &dyn Plugin,
    pod: &Pod,
    nodes: impl IntoIterator<Item = Arc<Node>>,
    pods: impl IntoIterator<Item = Arc<Pod>>,
    listers: &Listers,
) -> Vec<Result<(), String>> {
    let nodes: Vec<_> = nodes.into_iter().collect();
    let cache = cache(nodes.clone(), pods);
    let view = View { cache: &cache, listers };
    let check = match plugin.pre_filter(Incoming::new(pod).unwrap(), view) {
        PreFilter::Skip => return nodes.iter().map(|_| Ok(())).collect(),
        PreFilter::Reject(rejection) => return nodes.iter().map(|_| Err(rejection.reasons.join(", "))).collect(),
        PreFilter::Check(check) | PreFilter::Only(_, check) => check,
    };
    let infos = nodes.iter().map(|n| cache.info(cache.find(n.name()).unwrap()));
    infos.map(|info| check.filter(info).map_err(|r| r.reasons.join(", "))).collect()
}

/// The normalized score of each node, in the order given.
pub fn score(
    plugin: &dyn Plugin,
    pod: &Pod,
    nodes: impl IntoIterator<Item = Arc<Node>>,
    pods: impl IntoIterator<Item = Arc<Pod>>,
) -> Vec<i64> {
    score_with(plugin, pod, nodes, pods, &listers())
}

/// The same with other objects around.
pub fn score_with(
    plugin: &dyn Plugin,
    pod: &Pod,
    nodes: impl IntoIterator<Item = Arc<Node>>,
    pods: impl IntoIterator<Item = Arc<Pod>>,
    listers: &Listers,
) -> Vec<i64> {
    let nodes: Vec<_> = nodes.into_iter().collect();
    let cache = cache(nodes.clone(), pods);
    let indices: Vec<usize> = nodes.iter().map(|n| cache.find(n.name()).unwrap()).collect();
    let view = View { cache: &cache, listers };
    let Some(scorer) = plugin.pre_score(Incoming::new(pod).unwrap(), view, &indices) else {
        return vec![0; nodes.len()];
    };
    let mut scores: Vec<i64> = indices.iter().map(|i| scorer.score(*i, cache.info(*i))).collect();
    scorer.normalize(&indices, &mut scores);
    scores
}
