//! Which run of a CronJob is due, and which finished Jobs have been kept long enough.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::schedule::Schedule;
use crate::objects::{CronJob, Job, parse_time};

/// Missed runs above which something is said.
const TOO_MANY: u64 = 100;

/// The run that is due.
#[derive(Debug, PartialEq, Eq)]
pub struct Due {
    pub at: Timestamp,
    pub missed_too_many: bool,
}

/// The latest run that should have been started by now, if one since the last was.
pub fn due(cron: &CronJob, schedule: &Schedule, zone: &TimeZone, now: Timestamp) -> Option<Due> {
    let created = parse_time(cron.metadata.creation_timestamp.as_ref()).unwrap_or(now);
    let mut earliest = parse_time(cron.status.last_schedule_time.as_ref()).unwrap_or(created);
    if let Some(seconds) = cron.spec.starting_deadline_seconds {
        let deadline = now.checked_sub(Duration::from_secs(seconds.max(0).unsigned_abs())).ok()?;
        earliest = earliest.max(deadline);
    }
    let first = schedule.next(earliest, zone).filter(|t| *t <= now)?;
    let Some(second) = schedule.next(first, zone).filter(|t| *t <= now) else {
        return Some(Due { at: first, missed_too_many: false });
    };
    // Most runs are skipped by the distance of the first two, so that an old CronJob is not counted through.
    let between = second.duration_since(first).as_secs().max(1).unsigned_abs();
    let elapsed = now.duration_since(first).as_secs().max(0).unsigned_abs();
    let missed = elapsed / between + 1;
    let jump = Duration::from_secs(missed.saturating_sub(2) * between);
    let mut at = first;
    let mut next = first.checked_add(jump).ok().and_then(|t| schedule.next(t, zone));
    while let Some(t) = next.filter(|t| *t <= now) {
        at = t;
        next = schedule.next(t, zone);
    }
    // Irregular schedules may be jumped over.
    if at == first {
        at = second;
    }
    let missed_too_many = missed > TOO_MANY && cron.spec.starting_deadline_seconds.is_none_or(|s| s >= 0);
    Some(Due { at, missed_too_many })
}

/// How long until the next run.
pub fn wait(cron: &CronJob, schedule: &Schedule, zone: &TimeZone, now: Timestamp) -> Option<Duration> {
    let last = parse_time(cron.status.last_schedule_time.as_ref());
    let next = schedule.next(last.map_or(now, |l| l.max(now)), zone)?;
    let left = Duration::try_from(next.duration_since(now)).unwrap_or_default();
    // A little later, so that it is not a moment too early.
    Some(left + Duration::from_millis(100))
}

/// Whether it is too late to start a run.
pub fn is_too_late(cron: &CronJob, at: Timestamp, now: Timestamp) -> bool {
    cron.spec.starting_deadline_seconds.is_some_and(|s| now.duration_since(at).as_secs() > s)
}

/// Finished Jobs beyond the numbers that are kept, oldest first.
pub fn surplus(cron: &CronJob, jobs: &[Arc<Job>]) -> Vec<Arc<Job>> {
    let mut out = Vec::new();
    for (kind, limit) in
        [("Complete", cron.spec.successful_jobs_history_limit), ("Failed", cron.spec.failed_jobs_history_limit)]
    {
        let Some(limit) = limit else { continue };
        let mut ended: Vec<_> = jobs.iter().filter(|j| j.finished().is_some_and(|c| c.kind == kind)).cloned().collect();
        ended.sort_by_cached_key(|j| (j.status.start_time.clone(), j.metadata.name.clone()));
        ended.truncate(ended.len().saturating_sub(usize::try_from(limit).unwrap_or_default()));
        out.extend(ended);
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn cron(last: Option<&str>, deadline: Option<i64>) -> CronJob {
        serde_json::from_value(json!({
            "metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"startingDeadlineSeconds": deadline, "successfulJobsHistoryLimit": 1},
            "status": {"lastScheduleTime": last},
        }))
        .unwrap()
    }

    fn due_at(cron: &CronJob, schedule: &str, now: &str) -> Option<(String, bool)> {
        let schedule = Schedule::parse(schedule).unwrap();
        let due = due(cron, &schedule, &TimeZone::UTC, now.parse().unwrap())?;
        Some((due.at.to_string(), due.missed_too_many))
    }

    #[test]
    fn only_the_latest_missed_run_is_due() {
        let never_ran = cron(None, None);
        assert_eq!(due_at(&never_ran, "0 * * * *", "2026-01-01T00:59:00Z"), None);
        let at = |now| due_at(&never_ran, "0 * * * *", now).unwrap();
        assert_eq!(at("2026-01-01T01:00:01Z"), ("2026-01-01T01:00:00Z".into(), false));
        assert_eq!(at("2026-01-01T05:30:00Z"), ("2026-01-01T05:00:00Z".into(), false));
        assert_eq!(at("2026-02-01T05:30:00Z"), ("2026-02-01T05:00:00Z".into(), true));
        let ran = cron(Some("2026-01-01T05:00:00Z"), None);
        assert_eq!(due_at(&ran, "0 * * * *", "2026-01-01T05:30:00Z"), None);
    }

    #[test]
    fn a_deadline_forgets_old_runs() {
        let strict = cron(None, Some(60));
        assert_eq!(due_at(&strict, "0 * * * *", "2026-01-01T05:30:00Z"), None);
        assert!(is_too_late(&strict, "2026-01-01T05:00:00Z".parse().unwrap(), "2026-01-01T05:02:00Z".parse().unwrap()));
        let schedule = Schedule::parse("0 * * * *").unwrap();
        let wait = wait(&strict, &schedule, &TimeZone::UTC, "2026-01-01T05:59:00Z".parse().unwrap());
        assert_eq!(wait, Some(Duration::from_millis(60_100)));
    }

    #[test]
    fn the_oldest_finished_jobs_go() {
        let job = |name: &str, kind: &str, at: &str| -> Arc<Job> {
            let conditions = json!([{"type": kind, "status": "True"}]);
            let status = json!({"conditions": conditions, "startTime": at});
            Arc::new(serde_json::from_value(json!({"metadata": {"name": name}, "status": status})).unwrap())
        };
        let jobs = [job("b", "Complete", "2"), job("a", "Complete", "1"), job("f", "Failed", "0")];
        let gone: Vec<_> = surplus(&cron(None, None), &jobs).iter().map(|j| j.metadata.name.clone()).collect();
        assert_eq!(gone, ["a"], "without a limit failed ones stay");
    }
}
