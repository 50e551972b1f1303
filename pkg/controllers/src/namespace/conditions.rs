//! The conditions of a namespace that is being deleted, in upstream's words.

use std::collections::BTreeMap;

use jiff::Timestamp;
use kedge_meta::GroupResource;

use crate::objects::{Condition, condition};

/// What one round of deletion found out.
#[derive(Debug, Default)]
pub struct Findings {
    pub discovery_failures: Vec<String>,
    pub content_failures: Vec<String>,
    /// How many objects are left of each resource; never zero.
    pub remaining: Vec<(GroupResource, usize)>,
    /// How many objects wait for each finalizer.
    pub finalizers: BTreeMap<String, usize>,
}

impl Findings {
    /// The condition of each type that does not have its good value.
    fn failures(&self) -> Vec<(&'static str, &'static str, String)> {
        let mut out = Vec::new();
        if !self.discovery_failures.is_empty() {
            let n = self.discovery_failures.len();
            let which = self.discovery_failures.join(", ");
            let message = format!(
                "Discovery failed for some groups, {n} failing: unable to retrieve the complete list of server APIs: {which}"
            );
            out.push(("NamespaceDeletionDiscoveryFailure", "DiscoveryFailed", message));
        }
        if !self.content_failures.is_empty() {
            let mut which = self.content_failures.clone();
            which.sort();
            let message =
                format!("Failed to delete all resource types, {} remaining: {}", which.len(), which.join(", "));
            out.push(("NamespaceDeletionContentFailure", "ContentDeletionFailed", message));
        }
        if !self.remaining.is_empty() {
            let one =
                |(r, n): &(GroupResource, usize)| format!("{}.{} has {n} resource instances", r.resource, r.group);
            let mut which: Vec<String> = self.remaining.iter().map(one).collect();
            which.sort();
            let message = format!("Some resources are remaining: {}", which.join(", "));
            out.push(("NamespaceContentRemaining", "SomeResourcesRemain", message));
        }
        if !self.finalizers.is_empty() {
            let which: Vec<String> =
                self.finalizers.iter().map(|(f, n)| format!("{f} in {n} resource instances")).collect();
            let message = format!("Some content in the namespace has finalizers remaining: {}", which.join(", "));
            out.push(("NamespaceFinalizersRemaining", "SomeFinalizersRemain", message));
        }
        out
    }
}

/// Type, and reason and message while all is well; in the order in which they are written.
const GOOD: [(&str, &str, &str); 5] = [
    ("NamespaceDeletionDiscoveryFailure", "ResourcesDiscovered", "All resources successfully discovered"),
    ("NamespaceDeletionGroupVersionParsingFailure", "ParsedGroupVersions", "All legacy kube types successfully parsed"),
    (
        "NamespaceDeletionContentFailure",
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    ),
    ("NamespaceContentRemaining", "ContentRemoved", "All content successfully removed"),
    ("NamespaceFinalizersRemaining", "ContentHasNoFinalizers", "All content-preserving finalizers finished"),
];

/// The conditions after this round, or none when they stay as they are.
pub fn updated(old: &[Condition], findings: &Findings, now: Timestamp) -> Option<Vec<Condition>> {
    let failures = findings.failures();
    let mut conditions = old.to_vec();
    let mut changed = false;
    for (kind, reason, message) in GOOD {
        let new = match failures.iter().find(|(k, ..)| *k == kind) {
            Some((_, reason, message)) => Condition::new(kind, true, reason, message.clone(), now),
            None => Condition::new(kind, false, reason, message, now),
        };
        match conditions.iter_mut().find(|c| c.kind == kind) {
            None => conditions.push(new),
            Some(c) if (&c.status, &c.reason, &c.message) == (&new.status, &new.reason, &new.message) => continue,
            Some(c) => {
                if c.status != new.status {
                    c.last_transition_time = new.last_transition_time;
                }
                (c.status, c.reason, c.message) = (new.status, new.reason, new.message);
            }
        }
        changed = true;
    }
    debug_assert!(condition(&conditions, GOOD[0].0).is_some());
    changed.then_some(conditions)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use kedge_meta::resources;

    #[test]
    fn all_types_appear_and_do_not_change_twice() {
        let now = Timestamp::UNIX_EPOCH;
        let first = updated(&[], &Findings::default(), now).unwrap();
        assert_eq!(first.len(), 5);
        assert!(first.iter().all(|c| c.status == "False"));
        assert!(updated(&first, &Findings::default(), now).is_none());
    }

    #[test]
    fn what_remains_is_named_as_upstream_names_it() {
        let findings = Findings {
            remaining: vec![(resources::PODS.group_resource(), 2), (resources::DEPLOYMENTS.group_resource(), 1)],
            finalizers: BTreeMap::from([("example.com/f".to_owned(), 3)]),
            ..Findings::default()
        };
        let conditions = updated(&[], &findings, Timestamp::UNIX_EPOCH).unwrap();
        let message = |kind| condition(&conditions, kind).unwrap().message.clone();
        assert_eq!(
            message("NamespaceContentRemaining"),
            "Some resources are remaining: deployments.apps has 1 resource instances, pods. has 2 resource instances"
        );
        assert_eq!(
            message("NamespaceFinalizersRemaining"),
            "Some content in the namespace has finalizers remaining: example.com/f in 3 resource instances"
        );
    }
}
