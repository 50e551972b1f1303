//! How much CPU is used at present: what has been used since an earlier reading.
//!
//! Two readings are kept, so that somebody who asks every few seconds is told about the last ten seconds or more, and two who ask at
//! once are told the same. Whoever asks after a pause has to wait for a second reading.
//! Invariant: what is kept are two numbers for each container, pod and the node, twice; nothing runs between two questions.

use std::collections::HashMap;
use std::time::Duration;

use kedge_base::SharedClock;

use super::{Snapshot, StatsError, Usage};

/// A reading is compared with one that is so old, if there is one.
const WINDOW: Duration = Duration::from_secs(10);
/// What is older says nothing about the present.
const KEPT: Duration = Duration::from_secs(60);
/// How long the first who asks waits.
const PAUSE: Duration = Duration::from_secs(1);
/// A container must have run so long, in nanoseconds, to be told about without an earlier reading.
const FRESH: i64 = 1_000_000_000;
const NODE: &str = "";

/// CPU use at present, in billionths of a CPU.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct CpuRates {
    by_key: HashMap<String, u64>,
    /// The time that was looked at.
    pub(crate) window: Duration,
}

impl CpuRates {
    pub(crate) fn node(&self) -> Option<u64> {
        self.by_key.get(NODE).copied()
    }

    pub(crate) fn pod(&self, uid: &str) -> Option<u64> {
        self.by_key.get(&pod_key(uid)).copied()
    }

    pub(crate) fn container(&self, id: &str) -> Option<u64> {
        self.by_key.get(id).copied()
    }
}

fn pod_key(uid: &str) -> String {
    format!("pod/{uid}")
}

/// The readings of one kubelet.
pub(crate) struct Rates {
    clock: SharedClock,
    held: tokio::sync::Mutex<Held>,
}

impl Rates {
    pub(crate) fn new(clock: SharedClock) -> Self {
        Self { clock, held: tokio::sync::Mutex::default() }
    }

    /// A reading, with what it says of the time before it.
    ///
    /// # Errors
    /// What the reading says.
    pub(crate) async fn measure<F>(&self, read: impl Fn() -> F) -> Result<(Snapshot, CpuRates), StatsError>
    where
        F: Future<Output = Result<Snapshot, StatsError>>,
    {
        let mut held = self.held.lock().await;
        if held.is_stale(self.clock.monotonic()) {
            let first = read().await?;
            *held = Held { newest: Some(Mark::of(&first, self.clock.monotonic())), older: None };
            self.clock.sleep(PAUSE).await;
        }
        let snapshot = read().await?;
        let rates = held.take(Mark::of(&snapshot, self.clock.monotonic()), &snapshot);
        Ok((snapshot, rates))
    }
}

/// CPU time at a moment.
#[derive(Debug)]
struct Mark {
    /// On the monotonic clock.
    at: Duration,
    cpu: HashMap<String, Usage>,
}

impl Mark {
    fn of(snapshot: &Snapshot, at: Duration) -> Self {
        let node = snapshot.node.iter().map(|usage| (NODE.to_owned(), *usage));
        let pods = snapshot.pods.iter().filter_map(|pod| Some((pod_key(&pod.uid), pod.usage?)));
        let containers = snapshot.pods.iter().flat_map(|pod| &pod.containers);
        let containers = containers.map(|container| (container.id.clone(), container.usage));
        Self { at, cpu: node.chain(pods).chain(containers).collect() }
    }
}

#[derive(Debug, Default)]
struct Held {
    newest: Option<Mark>,
    older: Option<Mark>,
}

impl Held {
    fn is_stale(&self, now: Duration) -> bool {
        self.newest.as_ref().is_none_or(|mark| now.saturating_sub(mark.at) > KEPT)
    }

    /// Compares a reading with an earlier one, and keeps it if it is needed later.
    fn take(&mut self, mark: Mark, snapshot: &Snapshot) -> CpuRates {
        let is_old = self.newest.as_ref().is_none_or(|newest| mark.at.saturating_sub(newest.at) >= WINDOW);
        if is_old || self.older.is_none() {
            self.older = self.newest.take();
            let rates = rates(&mark, self.older.as_ref(), snapshot);
            self.newest = Some(mark);
            return rates;
        }
        rates(&mark, self.older.as_ref(), snapshot)
    }
}

fn rates(mark: &Mark, earlier: Option<&Mark>, snapshot: &Snapshot) -> CpuRates {
    let started = snapshot.pods.iter().flat_map(|pod| &pod.containers).map(|c| (c.id.as_str(), c.started));
    let started: HashMap<&str, i64> = started.collect();
    let rate = |(key, now): (&String, &Usage)| {
        let was = earlier.and_then(|earlier| earlier.cpu.get(key)).filter(|was| was.cpu <= now.cpu);
        let (cpu, time) = match (was, started.get(key.as_str())) {
            (Some(was), _) => (now.cpu - was.cpu, now.time - was.time),
            // It has begun since.
            (None, Some(started)) if *started > 0 && now.time - started >= FRESH => (now.cpu, now.time - started),
            _ => return None,
        };
        per_second(cpu, time).map(|rate| (key.clone(), rate))
    };
    let by_key = mark.cpu.iter().filter_map(rate).collect();
    CpuRates { by_key, window: earlier.map_or(Duration::ZERO, |earlier| mark.at.saturating_sub(earlier.at)) }
}

/// Nanoseconds of CPU time in so many nanoseconds.
fn per_second(cpu: u64, time: i64) -> Option<u64> {
    let time = u128::try_from(time).ok().filter(|time| *time > 0)?;
    u64::try_from(u128::from(cpu) * 1_000_000_000 / time).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::tests::snapshot;
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn take(held: &mut Held, seconds: i64, cpu: u64, containers: &[(&str, i64, u64)]) -> CpuRates {
        let snapshot = snapshot(1_000 * SECOND + seconds * SECOND, cpu, containers);
        held.take(Mark::of(&snapshot, Duration::from_secs(seconds.unsigned_abs())), &snapshot)
    }

    #[test]
    fn use_is_what_came_since_an_earlier_reading() {
        let mut held = Held::default();
        assert!(held.is_stale(Duration::ZERO));
        assert_eq!(take(&mut held, 0, 0, &[]).node(), None, "one reading says nothing");
        let rates = take(&mut held, 1, 500_000_000, &[]);
        assert_eq!((rates.node(), rates.window), (Some(500_000_000), Duration::from_secs(1)));
        // Who asks again soon is told about the time since the first.
        let rates = take(&mut held, 5, 2_500_000_000, &[]);
        assert_eq!((rates.node(), rates.window), (Some(500_000_000), Duration::from_secs(5)));
        // And who asks now and then about the time since the last, if that is not too short.
        take(&mut held, 11, 2_500_000_000, &[]);
        let rates = take(&mut held, 26, 17_500_000_000, &[]);
        assert_eq!((rates.node(), rates.window), (Some(1_000_000_000), Duration::from_secs(15)));
        assert!(!held.is_stale(Duration::from_secs(80)) && held.is_stale(Duration::from_secs(90)));
    }

    #[test]
    fn a_container_that_has_begun_since_is_told_from_its_beginning() {
        let mut held = Held::default();
        take(&mut held, 0, 0, &[("a", 990 * SECOND, 0)]);
        let began = |seconds: i64| 1_000 * SECOND + seconds * SECOND;
        let containers =
            [("a", began(-10), 3_000_000_000), ("b", began(5), 1_250_000_000), ("c", began(10), 1), ("d", 0, 1)];
        let rates = take(&mut held, 10, 0, &containers);
        let told = ["a", "b", "c", "d"].map(|id| rates.container(id));
        assert_eq!(told, [Some(300_000_000), Some(250_000_000), None, None]);
        // A sum that has become smaller is another's.
        assert_eq!(take(&mut held, 30, 0, &[("a", 0, 1)]).container("a"), None);
    }

    #[tokio::test]
    async fn who_asks_after_a_pause_waits_for_two_readings() {
        let clock = kedge_base::VirtualClock::new("2026-01-01T00:00:00Z".parse().unwrap());
        let rates = Rates::new(std::sync::Arc::new(clock.clone()));
        let readings = std::sync::atomic::AtomicU64::new(0);
        let read = || {
            let at = readings.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            async move { Ok(snapshot(i64::try_from(at).unwrap() * SECOND, at * 250_000_000, &[])) }
        };
        let passing = async {
            while clock.sleepers() == 0 {
                tokio::task::yield_now().await;
            }
            clock.advance(PAUSE);
        };
        let (told, ()) = tokio::join!(rates.measure(read), passing);
        assert_eq!(told.unwrap().1.node(), Some(250_000_000));
        // The next one need not.
        assert_eq!(rates.measure(read).await.unwrap().1.node(), Some(250_000_000));
        assert_eq!(readings.load(std::sync::atomic::Ordering::Relaxed), 3);
    }
}
