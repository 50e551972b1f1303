//! What follows from what was measured: which conditions the node has, and what must be reclaimed now. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use super::signals::{Condition, Observation, Signal};
use super::thresholds::{Limit, Thresholds};
use crate::args::KubeletArgs;

/// Which resources are short.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pressure {
    pub(crate) memory: bool,
    pub(crate) disk: bool,
    pub(crate) pids: bool,
}

/// Less than this may not be left of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Threshold {
    pub(crate) signal: Signal,
    pub(crate) limit: Limit,
    /// How long it may be less before pods go; `None` for not at all.
    pub(crate) grace: Option<Duration>,
    /// So much more is reclaimed, once anything is.
    pub(crate) reclaim: Option<Limit>,
}

impl Threshold {
    pub(crate) fn is_hard(&self) -> bool {
        self.grace.is_none()
    }

    /// What must be left of so much.
    pub(crate) fn quantity(&self, capacity: i64) -> i64 {
        self.limit.of(capacity)
    }

    fn is_met(&self, seen: &BTreeMap<Signal, Observation>, with_reclaim: bool) -> bool {
        // Nothing can be said about a total of nothing.
        let Some(seen) = seen.get(&self.signal).filter(|seen| seen.capacity > 0) else { return false };
        let more = self.reclaim.filter(|_| with_reclaim).map_or(0, |reclaim| reclaim.of(seen.capacity));
        seen.available < self.quantity(seen.capacity).saturating_add(more)
    }
}

/// All thresholds of a node.
pub(crate) fn thresholds(args: &KubeletArgs) -> Vec<Threshold> {
    let reclaim = |signal: Signal| signal.limit(&args.eviction_minimum_reclaim);
    let of = |thresholds: &Thresholds, grace: &dyn Fn(Signal) -> Option<Duration>| {
        let one = |signal: Signal| {
            let limit = signal.limit(thresholds)?;
            Some(Threshold { signal, limit, grace: grace(signal), reclaim: reclaim(signal) })
        };
        Signal::ALL.into_iter().filter_map(one).collect::<Vec<_>>()
    };
    let mut all = of(&args.eviction_hard, &|_| None);
    let soft = of(&args.eviction_soft, &|signal| {
        args.eviction_soft_grace.get(signal.as_str()).copied().or(Some(Duration::ZERO))
    });
    // What pods may use together is limited hard, or not at all.
    all.extend(soft.into_iter().filter(|threshold| threshold.signal != Signal::AllocatableMemoryAvailable));
    all
}

/// What is remembered from one look to the next.
#[derive(Clone, Debug)]
pub(crate) struct Planner {
    thresholds: Vec<Threshold>,
    transition: Duration,
    /// Since when each of them has been less than it may be.
    since: Vec<Option<Duration>>,
    /// Those that were acted on and are not made up for yet.
    open: Vec<bool>,
    conditions: BTreeMap<Condition, Duration>,
}

/// What came of one look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) pressure: Pressure,
    /// What pods must go for, the most urgent first.
    pub(crate) reclaim: Vec<Threshold>,
}

impl Planner {
    pub(crate) fn new(thresholds: Vec<Threshold>, transition: Duration) -> Planner {
        let count = thresholds.len();
        Planner {
            thresholds,
            transition,
            since: vec![None; count],
            open: vec![false; count],
            conditions: BTreeMap::new(),
        }
    }

    /// Takes in what was measured at `now`, on the monotonic clock.
    pub(crate) fn look(&mut self, seen: &BTreeMap<Signal, Observation>, now: Duration) -> Plan {
        let mut reclaim = Vec::new();
        for (index, threshold) in self.thresholds.iter().enumerate() {
            let met = threshold.is_met(seen, false) || (self.open[index] && threshold.is_met(seen, true));
            if !met {
                (self.since[index], self.open[index]) = (None, false);
                continue;
            }
            let since = *self.since[index].get_or_insert(now);
            self.conditions.insert(threshold.signal.condition(), now);
            let due = threshold.grace.is_none_or(|grace| now.saturating_sub(since) >= grace);
            self.open[index] = due;
            if due {
                reclaim.push(*threshold);
            }
        }
        // Memory first; of the same resource what may not wait.
        reclaim.sort_by_key(|threshold| (threshold.signal.condition() != Condition::Memory, !threshold.is_hard()));
        Plan { pressure: self.pressure(now), reclaim }
    }

    /// Whether all is made up for, with what is to be reclaimed beyond it.
    pub(crate) fn is_resolved(&self, seen: &BTreeMap<Signal, Observation>) -> bool {
        !self.thresholds.iter().any(|threshold| threshold.is_met(seen, true))
    }

    /// A shortage counts for a while after it is over, so that a node does not flap.
    fn pressure(&self, now: Duration) -> Pressure {
        let short = |condition: Condition| {
            let last = self.conditions.get(&condition);
            last.is_some_and(|at| *at == now || now.saturating_sub(*at) < self.transition)
        };
        Pressure { memory: short(Condition::Memory), disk: short(Condition::Disk), pids: short(Condition::Pids) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn planner(arguments: &[&str]) -> Planner {
        let arguments: Vec<String> = arguments.iter().map(|a| (*a).to_owned()).collect();
        Planner::new(thresholds(&KubeletArgs::parse(&arguments).unwrap()), Duration::from_secs(300))
    }

    fn seen(signal: Signal, available: i64) -> BTreeMap<Signal, Observation> {
        BTreeMap::from([(signal, Observation { capacity: 1000, available })])
    }

    fn signals(plan: &Plan) -> Vec<Signal> {
        plan.reclaim.iter().map(|t| t.signal).collect()
    }

    const AT: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn a_hard_threshold_acts_at_once_and_the_condition_lasts() {
        let mut planner = planner(&["eviction-hard=memory.available<100"]);
        let memory = Signal::MemoryAvailable;
        assert_eq!(planner.look(&seen(memory, 100), AT(1)), Plan::default());
        let plan = planner.look(&seen(memory, 99), AT(10));
        assert!(plan.pressure.memory && !plan.pressure.disk);
        assert_eq!(signals(&plan), [memory]);
        let over = planner.look(&seen(memory, 500), AT(309));
        assert!(over.pressure.memory && over.reclaim.is_empty());
        assert_eq!(planner.look(&seen(memory, 500), AT(310)), Plan::default());
        assert_eq!(planner.look(&BTreeMap::new(), AT(311)), Plan::default(), "what cannot be measured is not short");
    }

    #[test]
    fn a_soft_threshold_waits_for_its_grace() {
        let soft = [
            "eviction-hard=pid.available<1",
            "eviction-soft=nodefs.available<50%",
            "eviction-soft-grace-period=nodefs.available=30s",
        ];
        let (mut planner, disk) = (planner(&soft), Signal::NodefsAvailable);
        let first = planner.look(&seen(disk, 499), AT(10));
        assert!(first.pressure.disk && first.reclaim.is_empty());
        assert!(planner.look(&seen(disk, 499), AT(39)).reclaim.is_empty());
        assert_eq!(signals(&planner.look(&seen(disk, 499), AT(40))), [disk]);
        planner.look(&seen(disk, 500), AT(50));
        assert!(planner.look(&seen(disk, 499), AT(60)).reclaim.is_empty(), "it begins anew");
    }

    #[test]
    fn what_is_reclaimed_is_at_least_so_much() {
        let arguments = ["eviction-hard=nodefs.available<100", "eviction-minimum-reclaim=nodefs.available=50"];
        let (mut planner, disk) = (planner(&arguments), Signal::NodefsAvailable);
        assert!(planner.look(&seen(disk, 120), AT(1)).reclaim.is_empty());
        assert_eq!(signals(&planner.look(&seen(disk, 99), AT(2))), [disk]);
        assert_eq!(signals(&planner.look(&seen(disk, 149), AT(3))), [disk], "not enough yet");
        assert!(!planner.is_resolved(&seen(disk, 149)) && planner.is_resolved(&seen(disk, 150)));
        assert!(planner.look(&seen(disk, 150), AT(4)).reclaim.is_empty());
        assert!(planner.look(&seen(disk, 120), AT(5)).reclaim.is_empty());
    }

    #[test]
    fn memory_goes_before_disk() {
        let mut planner = planner(&["eviction-hard=nodefs.available<100,memory.available<100"]);
        let both = BTreeMap::from(
            [Signal::NodefsAvailable, Signal::MemoryAvailable]
                .map(|signal| (signal, Observation { capacity: 1000, available: 1 })),
        );
        assert_eq!(signals(&planner.look(&both, AT(1))), [Signal::MemoryAvailable, Signal::NodefsAvailable]);
    }
}
