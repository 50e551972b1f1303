//! How long a Job waits before it replaces failed pods: ten seconds, doubled with each failure since the last success.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::objects::{Pod, condition, parse_time};

const INITIAL: Duration = Duration::from_secs(10);
const MAX: Duration = Duration::from_secs(600);

/// Failures since the last success.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    failures: u32,
    last: Option<Timestamp>,
}

impl Record {
    /// With pods that have ended since.
    pub fn after(&self, succeeded: &[Arc<Pod>], failed: &[Arc<Pod>]) -> Self {
        let success = succeeded.iter().map(|p| finished_at(p)).max();
        let mut next = if success.is_some() { Self::default() } else { self.clone() };
        for at in failed.iter().map(|p| finished_at(p)).filter(|at| success.is_none_or(|s| *at > s)) {
            next.failures += 1;
            next.last = next.last.max(Some(at));
        }
        next
    }

    /// How long to wait still.
    pub fn remaining(&self, now: Timestamp) -> Duration {
        match (self.failures, self.last) {
            (0, _) | (_, None) => Duration::ZERO,
            (failures, Some(last)) => remaining(failures, last, now),
        }
    }
}

/// How long to wait after that many failures, the last of them at `last`.
pub fn remaining(failures: u32, last: Timestamp, now: Timestamp) -> Duration {
    let factor = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
    let backoff = INITIAL.saturating_mul(factor).min(MAX);
    let elapsed = Duration::try_from(now.duration_since(last)).unwrap_or_default();
    backoff.saturating_sub(elapsed)
}

/// When the pod ended, as well as one can tell.
pub fn finished_at(pod: &Pod) -> Timestamp {
    let status = &pod.status;
    let ends: Option<Vec<Timestamp>> = status
        .container_statuses
        .iter()
        .map(|c| c.state.pointer("/terminated/finishedAt").and_then(|t| t.as_str()).and_then(|t| t.parse().ok()))
        .collect();
    if let Some(last) = ends.and_then(|e| e.into_iter().max()) {
        return last;
    }
    let unready = condition(&status.conditions, "Ready").filter(|c| c.status == "False");
    let unready = unready.and_then(|c| parse_time(c.last_transition_time.as_ref()));
    let deleted = || parse_time(pod.metadata.deletion_timestamp.as_ref());
    let created = || parse_time(pod.metadata.creation_timestamp.as_ref());
    unready.or_else(deleted).or_else(created).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn ended(at: i64) -> Arc<Pod> {
        let at = Timestamp::from_second(at).unwrap().to_string();
        let state = json!({"terminated": {"finishedAt": at}});
        Arc::new(serde_json::from_value(json!({"status": {"containerStatuses": [{"state": state}]}})).unwrap())
    }

    fn at(s: i64) -> Timestamp {
        Timestamp::from_second(s).unwrap()
    }

    #[test]
    fn failures_double_the_wait_and_a_success_ends_it() {
        let one = Record::default().after(&[], &[ended(100)]);
        assert_eq!(one.remaining(at(104)), Duration::from_secs(6));
        let three = one.after(&[], &[ended(120), ended(130)]);
        assert_eq!(three.remaining(at(130)), Duration::from_secs(40));
        let success = three.after(&[ended(140)], &[ended(135), ended(150)]);
        assert_eq!(success.remaining(at(150)), Duration::from_secs(10));
        assert_eq!(success.after(&[ended(160)], &[]).remaining(at(160)), Duration::ZERO);
        let many = Record { failures: 40, last: Some(at(0)) };
        assert_eq!(many.remaining(at(0)), MAX);
    }
}
