//! How large each ReplicaSet of a Deployment should be: rolling update, recreation, and scaling in proportion.

use std::cmp::Reverse;
use std::sync::Arc;

use super::annotations::{DESIRED, MAX, number};
use crate::objects::{Deployment, ReplicaSet};

type Set = Arc<ReplicaSet>;

/// A size for one ReplicaSet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resize {
    pub name: String,
    pub to: i64,
}

fn resize(set: &ReplicaSet, to: i64) -> Resize {
    Resize { name: set.metadata.name.clone(), to }
}

pub fn is_rolling(d: &Deployment) -> bool {
    d.spec.strategy.kind != "Recreate"
}

/// maxSurge and maxUnavailable as numbers; when both come out as zero, one may be unavailable.
fn fenceposts(d: &Deployment) -> (i64, i64) {
    let rolling = d.spec.strategy.rolling_update.as_ref();
    let surge = rolling.and_then(|r| r.max_surge.as_ref()).map_or(0, |s| s.scaled(d.spec.replicas, true));
    let unavailable = rolling.and_then(|r| r.max_unavailable.as_ref()).map_or(0, |u| u.scaled(d.spec.replicas, false));
    (surge, if surge == 0 && unavailable == 0 { 1 } else { unavailable })
}

/// Pods that may be there beyond the wanted number.
pub fn max_surge(d: &Deployment) -> i64 {
    if is_rolling(d) { fenceposts(d).0 } else { 0 }
}

/// Pods that may be missing.
pub fn max_unavailable(d: &Deployment) -> i64 {
    if is_rolling(d) && d.spec.replicas > 0 { fenceposts(d).1.min(d.spec.replicas) } else { 0 }
}

fn replicas<'a>(sets: impl IntoIterator<Item = &'a Set>) -> i64 {
    sets.into_iter().map(|s| s.spec.replicas).sum()
}

/// The size of the new ReplicaSet in this step.
pub fn new_size(d: &Deployment, all: &[Set], new: i64) -> i64 {
    if !is_rolling(d) {
        return d.spec.replicas;
    }
    let room = d.spec.replicas + max_surge(d) - replicas(all);
    if room <= 0 { new } else { new + room.min(d.spec.replicas - new) }
}

/// Whether sizes must follow the Deployment's before anything else: its number changed since they were set.
pub fn is_scaling(d: &Deployment, all: &[Set]) -> bool {
    let active = all.iter().filter(|s| s.spec.replicas > 0);
    active.filter_map(|s| number(s, DESIRED)).any(|desired| desired != d.spec.replicas)
}

/// One step of a rolling update: first the new ReplicaSet, and only when that is as it should be, the old ones.
pub fn rolling(d: &Deployment, new: &Set, old: &[Set]) -> Vec<Resize> {
    let mut all = old.to_vec();
    all.push(new.clone());
    let to = if new.spec.replicas > d.spec.replicas { d.spec.replicas } else { new_size(d, &all, new.spec.replicas) };
    if to != new.spec.replicas {
        return vec![resize(new, to)];
    }
    shrink_old(d, new, old)
}

fn shrink_old(d: &Deployment, new: &Set, old: &[Set]) -> Vec<Resize> {
    let min_available = d.spec.replicas - max_unavailable(d);
    let new_unavailable = new.spec.replicas - new.status.available_replicas;
    let budget = replicas(old) + new.spec.replicas - min_available - new_unavailable;
    if replicas(old) == 0 || budget <= 0 {
        return Vec::new();
    }
    let mut sets: Vec<(Set, i64)> = old.iter().map(|s| (s.clone(), s.spec.replicas)).collect();
    sets.sort_by_key(|(s, _)| (s.metadata.creation_timestamp.clone(), s.metadata.name.clone()));
    // Pods that are not available are no loss: they go first.
    let mut left = budget;
    for (set, size) in &mut sets {
        let unhealthy = (*size - set.status.available_replicas).max(0).min(left);
        *size -= unhealthy;
        left -= unhealthy;
    }
    let available: i64 = old.iter().chain([new]).map(|s| s.status.available_replicas).sum();
    let mut left = (available - min_available).max(0);
    for (_, size) in &mut sets {
        let step = (*size).min(left);
        *size -= step;
        left -= step;
    }
    sets.iter().filter(|(s, size)| *size != s.spec.replicas).map(|(s, size)| resize(s, *size)).collect()
}

/// All to nothing.
pub fn to_zero(sets: &[Set]) -> Vec<Resize> {
    sets.iter().filter(|s| s.spec.replicas > 0).map(|s| resize(s, 0)).collect()
}

/// The only ReplicaSet with pods; the newest when none has any.
fn active_or_latest(new: Option<&Set>, old: &[Set]) -> Option<Set> {
    let active: Vec<&Set> = old.iter().chain(new).filter(|s| s.spec.replicas > 0).collect();
    match active.as_slice() {
        [] => new.or_else(|| old.iter().max_by_key(|s| s.metadata.creation_timestamp.clone())).cloned(),
        [one] => Some((*one).clone()),
        _ => None,
    }
}

fn is_saturated(d: &Deployment, set: Option<&Set>) -> bool {
    set.is_some_and(|s| {
        s.spec.replicas == d.spec.replicas
            && number(s, DESIRED) == Some(d.spec.replicas)
            && s.status.available_replicas == d.spec.replicas
    })
}

/// Sizes after the Deployment's number changed, or while it is paused. During a rollout all ReplicaSets change in
/// proportion, so that neither the new nor the old template gains by it. A size that stays is named too where the
/// annotations with the total must follow.
pub fn scale(d: &Deployment, new: Option<&Set>, old: &[Set]) -> Vec<Resize> {
    if let Some(only) = active_or_latest(new, old) {
        let same = only.spec.replicas == d.spec.replicas;
        return if same { Vec::new() } else { vec![resize(&only, d.spec.replicas)] };
    }
    if is_saturated(d, new) {
        return to_zero(old);
    }
    if !is_rolling(d) {
        return Vec::new();
    }
    let mut sets: Vec<Set> = old.iter().chain(new).filter(|s| s.spec.replicas > 0).cloned().collect();
    let allowed = if d.spec.replicas > 0 { d.spec.replicas + max_surge(d) } else { 0 };
    let to_add = allowed - replicas(&sets);
    // Larger ones first; among equals the newer gains and the older loses.
    sets.sort_by_key(|s| s.metadata.creation_timestamp.clone());
    if to_add > 0 {
        sets.reverse();
    }
    sets.sort_by_key(|s| Reverse(s.spec.replicas));
    let mut added = 0;
    let mut sizes = Vec::new();
    for set in &sets {
        let share = proportion(d, set, to_add, added);
        added += share;
        sizes.push(set.spec.replicas + share);
    }
    if let Some(first) = sizes.first_mut().filter(|_| to_add != 0) {
        *first = (*first + to_add - added).max(0);
    }
    sets.iter().zip(sizes).map(|(s, to)| resize(s, to)).collect()
}

fn proportion(d: &Deployment, set: &ReplicaSet, to_add: i64, added: i64) -> i64 {
    if set.spec.replicas == 0 || to_add == added {
        return 0;
    }
    let (share, allowed) = (fraction(d, set), to_add - added);
    if to_add > 0 { share.min(allowed) } else { share.max(allowed) }
}

fn fraction(d: &Deployment, set: &ReplicaSet) -> i64 {
    if d.spec.replicas == 0 {
        return -set.spec.replicas;
    }
    let max = d.spec.replicas + max_surge(d);
    let before = number(set, MAX).filter(|m| *m != 0).unwrap_or(d.status.replicas);
    if before == 0 {
        return 0;
    }
    // Rounded to the nearest, halves away from zero.
    let doubled = 2 * set.spec.replicas * max;
    (doubled + before).div_euclid(2 * before) - set.spec.replicas
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn deployment(replicas: i64, surge: &str, unavailable: &str) -> Deployment {
        serde_json::from_value(json!({"spec": {
            "replicas": replicas,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}},
        }}))
        .unwrap()
    }

    fn set(name: &str, replicas: i64, available: i64, max: i64) -> Set {
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": name, "creationTimestamp": format!("2026-01-01T00:00:0{}Z", name.len()),
                    "annotations": {MAX: max.to_string(), DESIRED: "10"}},
                "spec": {"replicas": replicas}, "status": {"availableReplicas": available},
            }))
            .unwrap(),
        )
    }

    fn sizes(list: &[Resize]) -> Vec<(&str, i64)> {
        list.iter().map(|r| (r.name.as_str(), r.to)).collect()
    }

    #[test]
    fn surge_rounds_up_and_unavailability_down() {
        let d = deployment(3, "25%", "25%");
        assert_eq!((max_surge(&d), max_unavailable(&d)), (1, 0));
        assert_eq!(max_unavailable(&deployment(3, "0%", "10%")), 1, "something must be allowed");
        assert_eq!(max_unavailable(&deployment(0, "0%", "0%")), 0);
    }

    #[test]
    fn a_rolling_update_grows_the_new_and_then_shrinks_the_old() {
        let d = deployment(10, "30%", "20%");
        assert_eq!(sizes(&rolling(&d, &set("new", 0, 0, 13), &[set("o", 10, 10, 13)])), [("new", 3)]);
        // 13 pods, 10 available, 8 must stay: two of the old may go.
        assert_eq!(sizes(&rolling(&d, &set("new", 3, 0, 13), &[set("o", 10, 10, 13)])), [("o", 8)]);
        assert!(rolling(&d, &set("new", 5, 0, 13), &[set("o", 8, 8, 13)]).is_empty(), "waits for the new pods");
        assert_eq!(sizes(&rolling(&d, &set("new", 10, 10, 13), &[set("o", 3, 3, 13)])), [("o", 0)]);
    }

    #[test]
    fn unhealthy_old_pods_go_first() {
        let d = deployment(10, "0%", "20%");
        let resized = rolling(&d, &set("new", 2, 2, 10), &[set("o", 4, 0, 10), set("oo", 4, 4, 10)]);
        assert_eq!(sizes(&resized), [("o", 2)]);
        let resized = rolling(&d, &set("new", 2, 2, 10), &[set("o", 4, 0, 10), set("oo", 8, 8, 10)]);
        assert_eq!(sizes(&resized), [("o", 0), ("oo", 6)]);
    }

    #[test]
    fn scaling_during_a_rollout_is_proportional() {
        let d = deployment(20, "0%", "20%");
        let resized = scale(&d, Some(&set("new", 5, 5, 10)), &[set("o", 5, 5, 10)]);
        assert_eq!(sizes(&resized), [("new", 10), ("o", 10)]);
        let d = deployment(5, "0%", "20%");
        let resized = scale(&d, Some(&set("new", 2, 2, 10)), &[set("o", 8, 8, 10)]);
        assert_eq!(sizes(&resized), [("o", 4), ("new", 1)]);
    }

    #[test]
    fn a_single_set_takes_the_whole_number() {
        let d = deployment(7, "25%", "25%");
        assert_eq!(sizes(&scale(&d, Some(&set("new", 3, 3, 4)), &[set("o", 0, 0, 4)])), [("new", 7)]);
        assert!(is_scaling(&d, &[set("new", 3, 3, 4)]));
    }
}
