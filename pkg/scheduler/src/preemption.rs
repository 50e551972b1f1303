//! Finds pods of lower priority whose end would make room for a pod that fits nowhere.
//!
//! Invariant: the cache is the same afterwards; victims are taken out and put back for trials only.

use std::cmp::Reverse;
use std::sync::Arc;

use crate::api::{Budget, Pod};
use crate::cache::Cache;
use crate::fiterror::FitError;
use crate::framework::{Code, Profile, Rejection};
use crate::listers::Listers;
use crate::schedule::{Cursor, check_one, check_with_nominated};

/// At least so many nodes are examined, if there are as many, and otherwise a tenth of them.
const MIN_CANDIDATES: usize = 100;

/// A node and the pods to be ended there, the most important first.
#[derive(Debug, Clone)]
pub struct Candidate {
    pub node: usize,
    pub victims: Vec<Arc<Pod>>,
    /// Victims that a disruption budget protects.
    violations: usize,
}

/// Why nothing is preempted, in upstream's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("not eligible due to preemptionPolicy=Never.")]
    Never,
    #[error("not eligible due to a terminating pod on the nominated node.")]
    Underway,
    #[error("{0}")]
    NotHelpful(Box<FitError>),
}

/// Everything a trial needs.
struct Trial<'a> {
    profile: &'a Profile,
    listers: &'a Listers,
    pod: &'a Arc<Pod>,
    budgets: &'a [Arc<Budget>],
}

/// Chooses the node where the least is lost.
///
/// # Errors
/// [`Refusal`], if the pod may not preempt or it would not help anywhere.
pub fn preempt(
    profile: &Profile,
    cache: &mut Cache,
    listers: &Listers,
    pod: &Arc<Pod>,
    error: &FitError,
    cursor: &mut Cursor,
) -> Result<Candidate, Refusal> {
    eligible(cache, pod, error)?;
    let nodes: Vec<usize> = error.resolvable().collect();
    let budgets = listers.budgets.list();
    let trial = Trial { profile, listers, pod, budgets: &budgets };
    let wanted = (nodes.len() / 10).max(MIN_CANDIDATES).min(nodes.len());
    let offset = cursor.pick(nodes.len());
    let mut candidates: Vec<Candidate> = Vec::new();
    let mut refusals = FitError { total: cache.order().len(), ..FitError::default() };
    for i in 0..nodes.len() {
        let node = nodes[(offset + i) % nodes.len()];
        match trial.victims(cache, node) {
            Ok(candidate) => candidates.push(candidate),
            Err(rejection) => refusals.rejections.push((node, rejection)),
        }
        if candidates.len() >= wanted && candidates.iter().any(|c| c.violations == 0) {
            break;
        }
    }
    candidates.into_iter().min_by_key(cost).ok_or_else(|| {
        refusals.others = Some(Rejection::unresolvable("Preemption is not helpful for scheduling"));
        Refusal::NotHelpful(Box::new(refusals))
    })
}

fn eligible(cache: &Cache, pod: &Pod, error: &FitError) -> Result<(), Refusal> {
    if pod.pending.as_ref().is_some_and(|p| p.never_preempts) {
        return Err(Refusal::Never);
    }
    let Some(nominated) = cache.find(&pod.nominated_node).filter(|n| !error.is_unresolvable(*n)) else {
        return Ok(());
    };
    let underway = cache.info(nominated).pods.iter().any(|p| p.priority < pod.priority && p.preempted);
    if underway { Err(Refusal::Underway) } else { Ok(()) }
}

/// Start of a pod; those that have not started count as started now.
fn started(pod: &Pod) -> &str {
    pod.start_time.as_deref().unwrap_or("~")
}

/// Sorts the most important pod first.
fn importance(pod: &Arc<Pod>) -> (Reverse<i32>, String) {
    (Reverse(pod.priority), started(pod).to_owned())
}

/// What is lost: budgets violated, then the highest priority, then their sum, then how many, then the youngest work.
fn cost(candidate: &Candidate) -> (usize, i32, i64, usize, Reverse<String>) {
    let victims = &candidate.victims;
    let highest = victims.iter().map(|p| p.priority).max().unwrap_or(i32::MIN);
    // Shifted so that many victims never cost less than few, also with negative priorities.
    let sum = victims.iter().map(|p| i64::from(p.priority) + i64::from(i32::MAX) + 1).sum();
    let important = victims.iter().filter(|p| p.priority == highest);
    let earliest = important.map(|p| started(p)).min().unwrap_or_default().to_owned();
    (candidate.violations, highest, sum, victims.len(), Reverse(earliest))
}

impl Trial<'_> {
    fn fits(&self, cache: &mut Cache, node: usize) -> Result<(), Rejection> {
        check_with_nominated(self.profile, cache, self.listers, self.pod, node)
            .and_then(|()| check_one(self.profile, cache, self.listers, self.pod, node))
            .map_err(|(_, rejection)| rejection)
    }

    /// The fewest and least important pods that must go from one node.
    fn victims(&self, cache: &mut Cache, node: usize) -> Result<Candidate, Rejection> {
        let mut weaker: Vec<Arc<Pod>> =
            cache.info(node).pods.iter().filter(|p| p.priority < self.pod.priority).cloned().collect();
        if weaker.is_empty() {
            return Err(Rejection {
                code: Code::UnschedulableAndUnresolvable,
                reasons: vec!["No preemption victims found for incoming pod".into()],
            });
        }
        weaker.iter().for_each(|p| cache.vacate(p, node));
        if let Err(rejection) = self.fits(cache, node) {
            weaker.iter().for_each(|p| cache.occupy(p, node));
            return Err(rejection);
        }
        weaker.sort_by_cached_key(importance);
        let (protected, free) = self.by_budget(weaker);
        let mut victims = Vec::new();
        let mut violations = 0;
        let all = protected.into_iter().map(|p| (p, 1)).chain(free.into_iter().map(|p| (p, 0)));
        for (pod, violation) in all {
            cache.occupy(&pod, node);
            if self.fits(cache, node).is_err() {
                cache.vacate(&pod, node);
                violations += violation;
                victims.push(pod);
            }
        }
        victims.iter().for_each(|p| cache.occupy(p, node));
        victims.sort_by_cached_key(importance);
        Ok(Candidate { node, victims, violations })
    }

    /// Parts the pods that a disruption budget protects from those that may go.
    fn by_budget(&self, pods: Vec<Arc<Pod>>) -> (Vec<Arc<Pod>>, Vec<Arc<Pod>>) {
        let mut allowed: Vec<i32> = self.budgets.iter().map(|b| b.allowed).collect();
        pods.into_iter().partition(|pod| {
            let meta = &pod.metadata;
            let mut violates = false;
            for (budget, allowed) in self.budgets.iter().zip(&mut allowed) {
                let concerned = budget.metadata.namespace == meta.namespace
                    && !meta.labels.is_empty()
                    && !budget.selector.is_everything()
                    && budget.selector.matches(&meta.labels)
                    && !budget.disrupted.contains(&meta.name);
                if concerned {
                    *allowed -= 1;
                    violates |= *allowed < 0;
                }
            }
            violates
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::schedule::{Failure, schedule};
    use crate::testing::{bound, cache, node, sized};
    use serde_json::json;

    fn with_priority(pod: &Arc<Pod>, priority: i32) -> Arc<Pod> {
        let mut pod = Pod::clone(pod);
        pod.priority = priority;
        pod.metadata.labels.insert("app", &pod.metadata.name);
        Arc::new(pod)
    }

    fn attempt(cache: &mut Cache, listers: &Listers, pod: &Arc<Pod>) -> Result<(String, Vec<String>), String> {
        let (profile, mut cursor) = (Profile::default(), Cursor::new(3));
        let Err(Failure::Fit(error)) = schedule(&profile, cache, listers, pod, &mut cursor) else { panic!("it fits") };
        let found = preempt(&profile, cache, listers, pod, &error, &mut cursor).map_err(|e| e.to_string())?;
        let names = found.victims.iter().map(|v| v.metadata.name.clone()).collect();
        Ok((cache.info(found.node).node.name().to_owned(), names))
    }

    #[test]
    fn the_least_important_pods_go_and_only_as_many_as_needed() {
        let pods = [("a1", "a", "2", 5), ("a2", "a", "2", 9), ("b1", "b", "3", 1), ("b2", "b", "1", 0)];
        let pods = pods.map(|(name, node, cpu, priority)| with_priority(&bound(name, node, cpu), priority));
        let mut cache = cache([node("a", json!({})), node("b", json!({}))], pods);
        let found = attempt(&mut cache, &Listers::default(), &with_priority(&sized("p", "1"), 10));
        assert_eq!(found, Ok(("b".into(), vec!["b2".into()])));
        let found = attempt(&mut cache, &Listers::default(), &with_priority(&sized("p", "2"), 10));
        assert_eq!(found, Ok(("b".into(), vec!["b1".into()])), "b2 may stay");
        assert_eq!(cache.info(1).requested.milli_cpu, 4000, "the trials left nothing behind");
        assert_eq!(cache.info(1).pods.len(), 2);
    }

    #[test]
    fn pods_of_the_same_priority_are_left_alone() {
        let mut cache = cache([node("a", json!({}))], [bound("e", "a", "4")]);
        let said = attempt(&mut cache, &Listers::default(), &sized("p", "1")).unwrap_err();
        assert_eq!(said, "0/1 nodes are available: 1 No preemption victims found for incoming pod.");
    }

    #[test]
    fn what_preemption_cannot_change_is_said() {
        let mut cache = cache([node("a", json!({}))], [bound("e", "a", "4")]);
        let pod = with_priority(&sized("p", "5"), 10);
        let said = attempt(&mut cache, &Listers::default(), &pod).unwrap_err();
        assert_eq!(said, "0/1 nodes are available: 1 Preemption is not helpful for scheduling.");
        let mut never = Pod::clone(&with_priority(&sized("p", "1"), 10));
        Arc::make_mut(never.pending.as_mut().unwrap()).never_preempts = true;
        let said = attempt(&mut cache, &Listers::default(), &Arc::new(never)).unwrap_err();
        assert_eq!(said, "not eligible due to preemptionPolicy=Never.");
    }

    #[test]
    fn a_disruption_budget_turns_the_choice() {
        let pods = [("a1", "a", 1), ("b1", "b", 5)];
        let pods = pods.map(|(name, node, priority)| with_priority(&bound(name, node, "4"), priority));
        let mut cache = cache([node("a", json!({})), node("b", json!({}))], pods);
        let budget = json!({
            "metadata": {"name": "b", "namespace": "default"},
            "spec": {"selector": {"matchLabels": {"app": "a1"}}},
            "status": {"disruptionsAllowed": 0},
        });
        let pod = with_priority(&sized("p", "1"), 10);
        assert_eq!(attempt(&mut cache, &Listers::default(), &pod).unwrap().0, "a");
        assert_eq!(attempt(&mut cache, &Listers::default().with_budget(budget), &pod).unwrap().0, "b");
    }

    #[test]
    fn while_victims_are_ending_no_others_are_chosen() {
        let mut victim = Pod::clone(&bound("e", "a", "4"));
        victim.preempted = true;
        let mut cache = cache([node("a", json!({}))], [Arc::new(victim)]);
        let mut pod = Pod::clone(&with_priority(&sized("p", "1"), 10));
        pod.nominated_node = "a".into();
        let said = attempt(&mut cache, &Listers::default(), &Arc::new(pod)).unwrap_err();
        assert_eq!(said, "not eligible due to a terminating pod on the nominated node.");
    }
}
