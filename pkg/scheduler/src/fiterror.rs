//! Why a pod fits nowhere, in upstream's words.

use std::collections::BTreeMap;
use std::fmt;

use crate::framework::{Code, PluginSet, Reason, Rejection};

/// What was found out about the nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FitError {
    pub total: usize,
    /// The refused nodes by index.
    pub rejections: Vec<(usize, Rejection)>,
    /// What holds for all other nodes.
    pub others: Option<Rejection>,
    /// The pod was refused before nodes were looked at.
    pub pre_filter: String,
    /// What came of the attempt to preempt.
    pub post_filter: String,
    pub rejected_by: PluginSet,
}

impl FitError {
    /// The nodes on which preemption may help.
    pub fn resolvable(&self) -> impl Iterator<Item = usize> {
        self.rejections.iter().filter(|(_, r)| r.code == Code::Unschedulable).map(|(i, _)| *i)
    }

    /// Whether preemption cannot help on that node.
    pub fn is_unresolvable(&self, node: usize) -> bool {
        let listed = self.rejections.iter().find(|(i, _)| *i == node).map(|(_, r)| r);
        listed.or(self.others.as_ref()).is_some_and(|r| r.code == Code::UnschedulableAndUnresolvable)
    }

    /// Each reason with the number of nodes it holds for, sorted as text.
    fn histogram(&self) -> Vec<String> {
        let mut counts: BTreeMap<&Reason, usize> = BTreeMap::new();
        for reason in self.rejections.iter().flat_map(|(_, r)| &r.reasons) {
            *counts.entry(reason).or_default() += 1;
        }
        let others = self.total.saturating_sub(self.rejections.len());
        if others > 0 {
            for reason in self.others.iter().flat_map(|r| &r.reasons) {
                *counts.entry(reason).or_default() += others;
            }
        }
        let mut lines: Vec<String> = counts.into_iter().map(|(reason, n)| format!("{n} {reason}")).collect();
        lines.sort();
        lines
    }
}

impl fmt::Display for FitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0/{} nodes are available:", self.total)?;
        if self.pre_filter.is_empty() {
            let lines = self.histogram();
            if !lines.is_empty() {
                write!(f, " {}.", lines.join(", "))?;
            }
        } else {
            write!(f, " {}.", self.pre_filter)?;
        }
        if !self.post_filter.is_empty() {
            write!(f, " {}", self.post_filter)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_counted_and_sorted_as_text() {
        let cpu = || Rejection::unschedulable("Insufficient cpu");
        let taint = || Rejection::unresolvable("node(s) had untolerated taint(s)");
        let mut error = FitError {
            total: 12,
            rejections: (0..10).map(|i| (i, cpu())).chain([(10, taint()), (11, taint())]).collect(),
            ..FitError::default()
        };
        let want = "0/12 nodes are available: 10 Insufficient cpu, 2 node(s) had untolerated taint(s).";
        assert_eq!(error.to_string(), want);
        error.post_filter = "preemption: nothing.".into();
        assert_eq!(error.to_string(), format!("{want} preemption: nothing."));
        assert_eq!(error.resolvable().count(), 10);
        assert!(error.is_unresolvable(11) && !error.is_unresolvable(3));
    }

    #[test]
    fn nodes_not_looked_at_share_a_reason_and_a_pre_filter_message_stands_alone() {
        let mut error = FitError {
            total: 3,
            rejections: vec![(0, Rejection::unschedulable("Too many pods"))],
            others: Some(Rejection::unresolvable("node(s) didn't satisfy plugin(s) [NodeAffinity]")),
            ..FitError::default()
        };
        let want = "0/3 nodes are available: 1 Too many pods, 2 node(s) didn't satisfy plugin(s) [NodeAffinity].";
        assert_eq!(error.to_string(), want);
        error.pre_filter = "persistentvolumeclaim \"c\" not found".into();
        assert_eq!(error.to_string(), "0/3 nodes are available: persistentvolumeclaim \"c\" not found.");
    }
}
