//! Which run of a CronJob is due, and which finished Jobs have been kept long enough.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::schedule::{ParseError, Schedule};
use crate::objects::{CronJob, Job, parse_time};

/// Missed runs above which something is said.
const TOO_MANY: u64 = 100;

/// How many runs were missed, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missed {
    None,
    Few,
    Many,
}

/// A schedule that can be read and has no times, such as one for the 31st of February.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("time difference between two schedules is less than 1 second")]
pub struct NeverDue;

/// Why there is no schedule to go by.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    #[error("provided bad location {0}: unknown time zone {0}")]
    Zone(String),
    #[error(transparent)]
    Schedule(#[from] ParseError),
}

/// Where a CronJob stands in its schedule.
#[derive(Debug, PartialEq, Eq)]
pub struct Position {
    /// From when on runs count.
    earliest: Timestamp,
    /// The latest run that should have been started by now.
    pub latest: Option<Timestamp>,
    pub missed: Missed,
}

/// The schedule and the zone in which it is read: the one that the schedule itself names, as those of old may, or `zone`.
pub fn schedule_of(text: &str, zone: TimeZone) -> Result<(Schedule, TimeZone), Unusable> {
    let named = ["TZ=", "CRON_TZ="].iter().find_map(|prefix| text.strip_prefix(prefix));
    let Some((name, rest)) = named.map(|rest| rest.split_once(' ').unwrap_or((rest, ""))) else {
        return Ok((Schedule::parse(text)?, zone));
    };
    let zone = kedge_base::time::zone(name).ok_or_else(|| Unusable::Zone(name.to_owned()))?;
    Ok((Schedule::parse(rest)?, zone))
}

/// Where a CronJob stands. With `deadline`, what may not be started any more is forgotten.
pub fn position(
    cron: &CronJob,
    schedule: &Schedule,
    zone: &TimeZone,
    now: Timestamp,
    deadline: bool,
) -> Result<Position, NeverDue> {
    let created = parse_time(cron.metadata.creation_timestamp.as_ref()).unwrap_or(now);
    let mut earliest = parse_time(cron.status.last_schedule_time.as_ref()).unwrap_or(created);
    if let Some(seconds) = cron.spec.starting_deadline_seconds.filter(|_| deadline) {
        let ago = Duration::from_secs(seconds.max(0).unsigned_abs());
        earliest = earliest.max(now.checked_sub(ago).unwrap_or(Timestamp::MIN));
    }
    let at = |latest, missed| Ok(Position { earliest, latest, missed });
    let first = schedule.next(earliest, zone).ok_or(NeverDue)?;
    if now < first {
        return at(None, Missed::None);
    }
    let second = schedule.next(first, zone).ok_or(NeverDue)?;
    if now < second {
        return at(Some(first), Missed::None);
    }
    // Most runs are skipped by the distance of the first two, so that an old CronJob is not counted through.
    let between = second.duration_since(first).as_secs().max(1).unsigned_abs();
    let elapsed = now.duration_since(first).as_secs().max(0).unsigned_abs();
    let count = elapsed / between + 1;
    let jump = Duration::from_secs(count.saturating_sub(2) * between);
    let mut latest = None;
    let mut next = first.checked_add(jump).ok().and_then(|t| schedule.next(t, zone));
    while let Some(t) = next.filter(|t| *t <= now) {
        latest = Some(t);
        next = schedule.next(t, zone);
    }
    // Of an irregular schedule all runs may be jumped over; then none is due, as upstream.
    at(latest, if count > TOO_MANY { Missed::Many } else { Missed::Few })
}

/// How long until the next run.
pub fn wait(cron: &CronJob, schedule: &Schedule, zone: &TimeZone, now: Timestamp) -> Option<Duration> {
    let from = match position(cron, schedule, zone, now, false) {
        Ok(Position { latest: Some(latest), .. }) => latest,
        Ok(Position { missed: Missed::None, earliest, .. }) => earliest,
        Ok(_) | Err(NeverDue) => now,
    };
    let next = schedule.next(from, zone)?;
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
        let position = position(cron, &schedule, &TimeZone::UTC, now.parse().unwrap(), true).unwrap();
        Some((position.latest?.to_string(), position.missed == Missed::Many))
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
        // The first two runs of this one are a minute apart, the next ones a year later.
        assert_eq!(due_at(&never_ran, "0,1 1 1 1 *", "2026-03-01T00:00:00Z"), None);
    }

    #[test]
    fn what_never_comes_is_an_error() {
        let position = |schedule: &str| {
            let schedule = Schedule::parse(schedule).unwrap();
            position(&cron(None, None), &schedule, &TimeZone::UTC, "2026-03-01T00:00:00Z".parse().unwrap(), true)
        };
        assert_eq!(
            position("59 23 31 2 *").unwrap_err().to_string(),
            "time difference between two schedules is less than 1 second"
        );
        assert_eq!(position("59 23 29 2 *").unwrap().latest, None, "in two years");
    }

    #[test]
    fn a_period_counts_from_the_creation() {
        let schedule = Schedule::parse("@every 5m").unwrap();
        let wait = |now: &str| wait(&cron(None, None), &schedule, &TimeZone::UTC, now.parse().unwrap());
        assert_eq!(wait("2026-01-01T00:02:00Z"), Some(Duration::from_millis(180_100)));
        assert_eq!(wait("2026-01-01T00:07:00Z"), Some(Duration::from_millis(180_100)));
    }

    #[test]
    fn a_schedule_may_name_its_zone() {
        let (schedule, zone) = schedule_of("CRON_TZ=UTC 0 * * * *", TimeZone::fixed(jiff::tz::offset(1))).unwrap();
        assert_eq!((schedule, zone), (Schedule::parse("0 * * * *").unwrap(), TimeZone::UTC));
        let bad = schedule_of("TZ=No/Where 0 * * * *", TimeZone::UTC).unwrap_err();
        assert_eq!(bad.to_string(), "provided bad location No/Where: unknown time zone No/Where");
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
