//! The annotations that Deployments and their ReplicaSets carry: revisions, sizes, and what is copied down.

use kedge_meta::StringMap;

use crate::objects::{Deployment, ReplicaSet};

pub const REVISION: &str = "deployment.kubernetes.io/revision";
const HISTORY: &str = "deployment.kubernetes.io/revision-history";
pub const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
pub const MAX: &str = "deployment.kubernetes.io/max-replicas";
/// These belong to the object they are on.
const NOT_COPIED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    HISTORY,
    DESIRED,
    MAX,
    "deprecated.deployment.rollback.to",
];
/// Largest size of the history of revisions, in bytes.
const MAX_HISTORY: usize = 2_000;

/// The revision of a ReplicaSet; zero without a readable one.
pub fn revision(set: &ReplicaSet) -> i64 {
    set.metadata.annotations.get(REVISION).and_then(|r| r.parse().ok()).unwrap_or_default()
}

/// A number in an annotation.
pub fn number(set: &ReplicaSet, annotation: &str) -> Option<i64> {
    set.metadata.annotations.get(annotation).and_then(|n| n.parse().ok())
}

/// The annotations of the ReplicaSet of the current template at revision `new`.
pub fn of_new_set(deployment: &Deployment, existing: &StringMap, new: i64) -> StringMap {
    let mut out = existing.clone();
    out.extend(deployment.metadata.annotations.iter().filter(|(key, _)| !NOT_COPIED.contains(key)));
    let old = existing.get(REVISION);
    let Ok(old_number) = old.map_or(Ok(0), |o| o.parse::<i64>()) else {
        return out;
    };
    if old_number < new {
        out.insert(REVISION, new.to_string());
        if let Some(old) = old {
            let history = appended(out.get(HISTORY).filter(|h| !h.is_empty()), old);
            out.insert(HISTORY, history);
        }
    }
    out
}

/// The history with one more revision, without its oldest ones where it would become too long.
fn appended(history: Option<&str>, revision: &str) -> String {
    let Some(history) = history else {
        return revision.to_owned();
    };
    let mut parts: Vec<&str> = history.split(',').chain([revision]).collect();
    while parts.len() > 1 && parts.iter().map(|p| p.len() + 1).sum::<usize>() > MAX_HISTORY {
        parts.remove(0);
    }
    parts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_that_comes_back_gets_a_new_revision_and_remembers_the_old() {
        let mut deployment = Deployment::default();
        deployment.metadata.annotations.insert("note", "x");
        deployment.metadata.annotations.insert(REVISION, "7");
        let first = of_new_set(&deployment, &StringMap::new(), 1);
        assert_eq!((first.get(REVISION), first.get("note")), (Some("1"), Some("x")));
        assert!(!first.contains_key(HISTORY));
        let third = of_new_set(&deployment, &first, 3);
        assert_eq!((&third[REVISION], &third[HISTORY]), ("3", "1"));
        let fifth = of_new_set(&deployment, &third, 5);
        assert_eq!(&fifth[HISTORY], "1,3");
        assert_eq!(of_new_set(&deployment, &fifth, 5), fifth);
    }

    #[test]
    fn the_history_is_bounded() {
        let long = "123456789,".repeat(300);
        assert!(appended(Some(&long), "42").len() <= MAX_HISTORY);
    }
}
