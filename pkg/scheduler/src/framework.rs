//! What a scheduling plugin is, and the profile that lists them.
//!
//! A plugin looks at a pod once (`pre_filter`, `pre_score`) and answers with a check or a score for nodes, which holds
//! whatever was computed for that pod. Invariant: plugins decide from the [`View`] alone and change nothing.

use std::borrow::Cow;
use std::collections::BTreeSet;

use crate::api::{Pending, Pod};
use crate::cache::{Cache, NodeInfo};
use crate::listers::Listers;
use crate::plugins;

/// The best score of a node, before weights.
pub const MAX_NODE_SCORE: i64 = 100;

/// Why a node is refused, in upstream's words.
pub type Reason = Cow<'static, str>;

/// Whether preempting other pods could help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    Unschedulable,
    UnschedulableAndUnresolvable,
}

/// A plugin's refusal of a node, or of all nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    pub code: Code,
    pub reasons: Vec<Reason>,
}

impl Rejection {
    /// Removing pods from the node may help.
    pub fn unschedulable(reason: impl Into<Reason>) -> Self {
        Self { code: Code::Unschedulable, reasons: vec![reason.into()] }
    }

    /// Removing pods from the node does not help.
    pub fn unresolvable(reason: impl Into<Reason>) -> Self {
        Self { code: Code::UnschedulableAndUnresolvable, reasons: vec![reason.into()] }
    }
}

/// The state of the cluster that a decision is made upon.
#[derive(Clone, Copy)]
pub struct View<'a> {
    pub cache: &'a Cache,
    pub listers: &'a Listers,
}

/// The pod that is being scheduled.
#[derive(Clone, Copy)]
pub struct Incoming<'a> {
    pub pod: &'a Pod,
    pub spec: &'a Pending,
}

impl<'a> Incoming<'a> {
    /// `None` for a pod that has a node.
    pub fn new(pod: &'a Pod) -> Option<Self> {
        Some(Self { pod, spec: pod.pending.as_deref()? })
    }
}

/// Checks nodes for one pod.
pub trait NodeFilter {
    /// # Errors
    /// The refusal, if the pod cannot run there.
    fn filter(&self, node: &NodeInfo) -> Result<(), Rejection>;
}

/// Scores nodes for one pod.
pub trait NodeScorer {
    /// The raw score of the node with that index.
    fn score(&self, index: usize, node: &NodeInfo) -> i64;

    /// Brings the raw scores of the nodes with those indices to 0..=100.
    fn normalize(&self, _nodes: &[usize], _scores: &mut [i64]) {}
}

/// What a plugin makes of a pod before nodes are looked at.
pub enum PreFilter<'a> {
    /// No node will be refused.
    Skip,
    /// Each node is to be checked.
    Check(Box<dyn NodeFilter + 'a>),
    /// Only these nodes come into question, and are to be checked.
    Only(BTreeSet<&'a str>, Box<dyn NodeFilter + 'a>),
    /// No node will do.
    Reject(Rejection),
}

/// A change that may make a pod schedulable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Event {
    NodeAdd,
    NodeAllocatable,
    NodeLabel,
    NodeTaint,
    PodAdd,
    PodLabel,
    PodScaleDown,
    PodDelete,
    Claim,
    Volume,
    StorageClass,
    CsiNode,
    Capacity,
    AttachmentDelete,
    Namespace,
}

impl Event {
    /// How many kinds there are.
    pub const COUNT: usize = Self::Namespace as usize + 1;
}

/// A scheduling plugin. The extension points it does not serve keep their defaults.
pub trait Plugin: Send + Sync {
    /// Upstream's name of it.
    fn name(&self) -> &'static str;

    /// What may make pods schedulable that it refused.
    fn events(&self) -> &'static [Event] {
        &[]
    }

    /// Prepares checking nodes for a pod.
    fn pre_filter<'a>(&self, _incoming: Incoming<'a>, _view: View<'a>) -> PreFilter<'a> {
        PreFilter::Skip
    }

    /// Prepares scoring the nodes (by index) that passed; `None` if all are equally good.
    fn pre_score<'a>(
        &self,
        _incoming: Incoming<'a>,
        _view: View<'a>,
        _nodes: &[usize],
    ) -> Option<Box<dyn NodeScorer + 'a>> {
        None
    }
}

/// Plugins by their place in the profile, as a bit set.
pub type PluginSet = u32;

/// The plugins in the order they are asked, with the weights of their scores.
pub struct Profile {
    plugins: Vec<(Box<dyn Plugin>, i64)>,
}

#[cfg(test)]
impl Profile {
    /// The default profile, and another plugin behind it.
    pub fn with(plugin: Box<dyn Plugin>) -> Self {
        let mut profile = Self::default();
        profile.plugins.push((plugin, 0));
        profile
    }
}

impl Default for Profile {
    /// Upstream's default profile.
    fn default() -> Self {
        Self {
            plugins: vec![
                (Box::new(plugins::NodeUnschedulable), 0),
                (Box::new(plugins::NodeName), 0),
                (Box::new(plugins::TaintToleration), 3),
                (Box::new(plugins::NodeAffinity), 2),
                (Box::new(plugins::NodePorts), 0),
                (Box::new(plugins::NodeResourcesFit), 1),
                (Box::new(plugins::VolumeRestrictions), 0),
                (Box::new(plugins::NodeVolumeLimits), 0),
                (Box::new(plugins::VolumeBinding), 0),
                (Box::new(plugins::VolumeZone), 0),
                (Box::new(plugins::PodTopologySpread), 2),
                (Box::new(plugins::InterPodAffinity), 2),
                (Box::new(plugins::NodeResourcesBalancedAllocation), 1),
                (Box::new(plugins::ImageLocality), 1),
            ],
        }
    }
}

impl Profile {
    /// The plugins with their places and weights.
    pub fn plugins(&self) -> impl Iterator<Item = (usize, &dyn Plugin, i64)> {
        self.plugins.iter().enumerate().map(|(i, (p, w))| (i, p.as_ref(), *w))
    }

    /// Names of a set of plugins, sorted.
    pub fn names(&self, set: PluginSet) -> Vec<&'static str> {
        let mut names: Vec<_> =
            self.plugins().filter(|(i, ..)| set & (1 << i) != 0).map(|(_, p, _)| p.name()).collect();
        names.sort_unstable();
        names
    }

    /// For each kind of event, the plugins whose refusals it may end.
    pub fn interests(&self) -> [PluginSet; Event::COUNT] {
        let mut interests = [0; Event::COUNT];
        for (i, plugin, _) in self.plugins() {
            for event in plugin.events() {
                interests[*event as usize] |= 1 << i;
            }
        }
        interests
    }
}

/// Scales scores so that the largest is 100, or turned round, so that it is 0.
pub fn normalize(scores: &mut [i64], reverse: bool) {
    let max = scores.iter().copied().max().unwrap_or_default();
    for score in scores {
        let scaled = if max == 0 { 0 } else { MAX_NODE_SCORE * *score / max };
        *score = if reverse { MAX_NODE_SCORE - scaled } else { scaled };
    }
}
