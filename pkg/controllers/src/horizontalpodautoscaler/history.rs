//! What was recommended and done of late, and how far a new recommendation may be followed because of it.
//!
//! Invariant: both are bounded by the longest time that rules look back, since what is older is replaced first.

use std::time::Duration;

use super::types::{Behavior, Policy, Rules};

/// Without rules a workload may double, or grow to this size.
const SMALL: i32 = 4;

/// Of one autoscaler. Times are monotonic.
#[derive(Debug, Default)]
pub struct History {
    recommended: Vec<(i32, Duration)>,
    grown: Vec<Change>,
    shrunk: Vec<Change>,
}

/// By how many pods a workload was changed.
#[derive(Debug, Clone, Copy)]
struct Change {
    pods: i32,
    at: Duration,
    outdated: bool,
}

/// What is to be brought within limits.
#[derive(Debug, Clone, Copy)]
pub struct Proposal<'a> {
    pub current: i32,
    pub desired: i32,
    pub least: i32,
    pub most: i32,
    pub behavior: Option<&'a Behavior>,
    /// How long high recommendations count, where the rules do not say.
    pub window: Duration,
}

/// A reason and a message.
pub type Why = (&'static str, &'static str);

/// What is left of a proposal.
#[derive(Debug, PartialEq, Eq)]
pub struct Normalized {
    pub replicas: i32,
    /// Why it is what was proposed, or what was recommended before.
    pub able: Why,
    /// Whether a limit made it another, and which.
    pub limited: (bool, Why),
}

const READY: Why = ("ReadyForNewScale", "recommended size matches current size");
const DOWN_STABILIZED: Why = (
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent recommendation",
);
const UP_STABILIZED: Why = (
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
);
const TOO_FAST_UP: Why = ("ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate");
const TOO_FAST_DOWN: Why =
    ("ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate");
const TOO_MANY: Why = ("TooManyReplicas", "the desired replica count is more than the maximum replica count");
const TOO_FEW: Why = ("TooFewReplicas", "the desired replica count is less than the minimum replica count");
const WITHIN: Why = ("DesiredWithinRange", "the desired count is within the acceptable range");

/// How long ago; nothing is in the future.
fn age(at: Duration, now: Duration) -> Duration {
    now.saturating_sub(at)
}

fn seconds(count: i32) -> Duration {
    Duration::from_secs(u64::try_from(count).unwrap_or_default())
}

impl History {
    /// The first thing that is known is the size at which an autoscaler is found.
    pub fn begin(&mut self, current: i32, now: Duration) {
        if self.recommended.is_empty() {
            self.recommended.push((current, now));
        }
    }

    /// Brings a proposal within limits, and remembers it.
    pub fn normalize(&mut self, proposal: &Proposal<'_>, now: Duration) -> Normalized {
        let (stabilized, why) = match proposal.behavior {
            None => (self.highest(proposal, now), DOWN_STABILIZED),
            Some(behavior) => self.stabilize(proposal, behavior, now),
        };
        let able = if stabilized == proposal.desired { READY } else { why };
        let proposal = Proposal { desired: stabilized, ..*proposal };
        let (replicas, why) = match proposal.behavior {
            None => within(&proposal),
            Some(behavior) => self.at_rate(&proposal, behavior, now),
        };
        Normalized { replicas, able, limited: (replicas != stabilized, why) }
    }

    /// The highest of what was recommended of late.
    fn highest(&mut self, proposal: &Proposal<'_>, now: Duration) -> i32 {
        let recent = self.recommended.iter().filter(|(_, at)| age(*at, now) <= proposal.window);
        let highest = recent.map(|(count, _)| *count).fold(proposal.desired, i32::max);
        let old = self.recommended.iter().rposition(|(_, at)| age(*at, now) > proposal.window);
        self.recommend(old, proposal.desired, now);
        highest
    }

    /// What is neither above all that was recommended within one time, nor below all within another.
    fn stabilize(&mut self, proposal: &Proposal<'_>, behavior: &Behavior, now: Duration) -> (i32, Why) {
        let window = |rules: &Option<Rules>, default: Duration| {
            rules.as_ref().and_then(|r| r.stabilization_window_seconds).map_or(default, seconds)
        };
        let up = window(&behavior.scale_up, Duration::ZERO);
        let down = window(&behavior.scale_down, Duration::from_secs(proposal.window.as_secs()));
        let (mut lowest, mut highest) = (proposal.desired, proposal.desired);
        let mut old = None;
        for (i, (count, at)) in self.recommended.iter().enumerate() {
            let age = age(*at, now);
            if age < up {
                lowest = lowest.min(*count);
            }
            if age < down {
                highest = highest.max(*count);
            }
            if age > up && age > down {
                old = Some(i);
            }
        }
        self.recommend(old, proposal.desired, now);
        let why = if proposal.desired >= proposal.current { UP_STABILIZED } else { DOWN_STABILIZED };
        (proposal.current.max(lowest).min(highest), why)
    }

    /// Remembers a recommendation, in place of one that counts no more.
    fn recommend(&mut self, old: Option<usize>, count: i32, now: Duration) {
        match old.and_then(|i| self.recommended.get_mut(i)) {
            Some(slot) => *slot = (count, now),
            None => self.recommended.push((count, now)),
        }
    }

    /// As fast as the rules allow.
    fn at_rate(&self, proposal: &Proposal<'_>, behavior: &Behavior, now: Duration) -> (i32, Why) {
        let Proposal { current, desired, .. } = *proposal;
        let default = Behavior::defaults();
        if desired > current {
            let rules = behavior.scale_up.as_ref().or(default.scale_up.as_ref());
            let limit = rules.map_or(current, |rules| self.limit(rules, current, true, now)).max(current);
            let (most, why) = if proposal.most > limit { (limit, TOO_FAST_UP) } else { (proposal.most, TOO_MANY) };
            if desired > most {
                return (most, why);
            }
        } else if desired < current {
            let rules = behavior.scale_down.as_ref().or(default.scale_down.as_ref());
            let limit = rules.map_or(current, |rules| self.limit(rules, current, false, now)).min(current);
            let (least, why) = if proposal.least < limit { (limit, TOO_FAST_DOWN) } else { (proposal.least, TOO_FEW) };
            if desired < least {
                return (least, why);
            }
        }
        (desired, WITHIN)
    }

    /// How large or how small the rules let a workload become now.
    fn limit(&self, rules: &Rules, current: i32, up: bool, now: Duration) -> i32 {
        let least_change = match rules.select_policy.as_deref() {
            Some("Disabled") => return current,
            Some("Min") => true,
            _ => false,
        };
        let limit = |policy: &Policy| {
            let period = seconds(policy.period_seconds);
            let sum = |changes: &[Change]| {
                let recent = changes.iter().filter(|change| age(change.at, now) < period);
                recent.map(|change| change.pods).fold(0, i32::saturating_add)
            };
            let start = current.saturating_sub(sum(&self.grown)).saturating_add(sum(&self.shrunk));
            let share = f64::from(policy.value) / 100.0;
            match (policy.kind.as_str(), up) {
                ("Percent", true) => (f64::from(start) * (1.0 + share)).ceil() as i32,
                ("Percent", false) => (f64::from(start) * (1.0 - share)) as i32,
                (_, true) => start.saturating_add(policy.value),
                (_, false) => start.saturating_sub(policy.value),
            }
        };
        let limits = rules.policies.iter().map(limit);
        // The least change is the lowest limit for growing, and the highest for shrinking.
        if least_change == up { limits.min() } else { limits.max() }.unwrap_or(current)
    }

    /// Remembers that the workload was changed, if rules will ask.
    pub fn scaled(&mut self, behavior: Option<&Behavior>, before: i32, after: i32, now: Duration) {
        let Some(behavior) = behavior else { return };
        let default = Behavior::defaults();
        let (changes, rules) = if after > before {
            (&mut self.grown, behavior.scale_up.as_ref().or(default.scale_up.as_ref()))
        } else {
            (&mut self.shrunk, behavior.scale_down.as_ref().or(default.scale_down.as_ref()))
        };
        let longest = rules.into_iter().flat_map(|r| &r.policies).map(|p| p.period_seconds).max().unwrap_or_default();
        let mut old = None;
        for (i, change) in changes.iter_mut().enumerate() {
            change.outdated |= age(change.at, now) > seconds(longest);
            if change.outdated {
                old = Some(i);
            }
        }
        let new = Change { pods: after.abs_diff(before).try_into().unwrap_or(i32::MAX), at: now, outdated: false };
        match old.and_then(|i| changes.get_mut(i)) {
            Some(slot) => *slot = new,
            None => changes.push(new),
        }
    }
}

/// Within the limits of an autoscaler without rules.
fn within(proposal: &Proposal<'_>) -> (i32, Why) {
    let doubled = proposal.current.saturating_mul(2).max(SMALL);
    let (most, why) = if proposal.most > doubled { (doubled, TOO_FAST_UP) } else { (proposal.most, TOO_MANY) };
    match proposal.desired {
        desired if desired < proposal.least => (proposal.least, TOO_FEW),
        desired if desired > most => (most, why),
        desired => (desired, WITHIN),
    }
}

impl Behavior {
    /// The rules of a direction of which nothing is said.
    fn defaults() -> Self {
        let policy = |kind: &str, value| Policy { kind: kind.to_owned(), value, period_seconds: 15 };
        let rules = |policies| Rules { policies, ..Rules::default() };
        Self {
            scale_up: Some(rules(vec![policy("Pods", 4), policy("Percent", 100)])),
            scale_down: Some(rules(vec![policy("Percent", 100)])),
        }
    }
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
