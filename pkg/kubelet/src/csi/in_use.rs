//! `status.volumesInUse`: the attached volumes that pods of this node have or are about to have.
//!
//! Invariant: a volume is reported before a driver is asked to stage it, so that no controller takes it away meanwhile.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use kedge_base::time;
use parking_lot::Mutex;
use tokio::sync::watch;

/// How long a report is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// The volumes, and how far they are reported.
pub(crate) struct InUse {
    /// Whether there is somebody who reports.
    reports: bool,
    /// Whether what was there at start has been read.
    known: std::sync::atomic::AtomicBool,
    volumes: Mutex<BTreeMap<String, HashSet<String>>>,
    changed: watch::Sender<u64>,
    reported: watch::Sender<u64>,
}

impl InUse {
    pub(super) fn new(reports: bool) -> InUse {
        InUse {
            reports,
            known: false.into(),
            volumes: Mutex::default(),
            changed: watch::Sender::new(0),
            reported: watch::Sender::new(0),
        }
    }

    /// A pod has the volume.
    pub(super) fn add(&self, volume: &str, uid: &str) {
        let mut volumes = self.volumes.lock();
        let users = volumes.entry(volume.to_owned()).or_default();
        if users.insert(uid.to_owned()) && users.len() == 1 {
            self.changed.send_modify(|generation| *generation += 1);
        }
    }

    /// A pod does not have it any more.
    pub(super) fn remove(&self, volume: &str, uid: &str) {
        let mut volumes = self.volumes.lock();
        let Some(users) = volumes.get_mut(volume) else { return };
        users.remove(uid);
        if users.is_empty() {
            volumes.remove(volume);
            self.changed.send_modify(|generation| *generation += 1);
        }
    }

    /// A pod has none any more.
    pub(super) fn forget(&self, uid: &str) {
        let mut volumes = self.volumes.lock();
        let before = volumes.len();
        volumes.retain(|_, users| {
            users.remove(uid);
            !users.is_empty()
        });
        if volumes.len() != before {
            self.changed.send_modify(|generation| *generation += 1);
        }
    }

    /// Waits until everything that was added before is reported; whether it is.
    pub(super) async fn told(&self) -> bool {
        if !self.reports {
            return true;
        }
        let wanted = *self.changed.borrow();
        let mut reported = self.reported.subscribe();
        time::timeout(PATIENCE, reported.wait_for(|done| *done >= wanted)).await.is_ok_and(|seen| seen.is_ok())
    }

    /// Whether all that was there at start has been added.
    pub(super) fn is_whole(&self) -> bool {
        self.known.load(Ordering::Acquire)
    }

    /// All that was there at start has been added.
    pub(super) fn is_known(&self) {
        self.known.store(true, Ordering::Release);
    }

    /// The names to report, and the number to give to [`InUse::report`] when they are; `None` while they are not all known.
    pub(crate) fn list(&self) -> Option<(Vec<String>, u64)> {
        if !self.known.load(Ordering::Acquire) {
            return None;
        }
        let volumes = self.volumes.lock();
        Some((volumes.keys().cloned().collect(), *self.changed.borrow()))
    }

    /// They are reported.
    pub(crate) fn report(&self, generation: u64) {
        self.reported.send_modify(|done| *done = generation.max(*done));
    }

    /// Changes whenever there is something to report.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_volume_counts_while_a_pod_has_it_and_is_waited_for_until_it_is_told() {
        let in_use = InUse::new(true);
        assert!(in_use.told().await, "nothing is to be told");
        in_use.add("v", "a");
        in_use.add("v", "b");
        in_use.remove("v", "a");
        assert!(!in_use.told().await, "nobody reports");
        assert!(in_use.list().is_none(), "there may be more");
        in_use.is_known();
        let (names, generation) = in_use.list().unwrap_or_default();
        assert_eq!((names.as_slice(), generation), (["v".to_owned()].as_slice(), 1));
        in_use.report(generation);
        assert!(in_use.told().await);
        in_use.add("w", "b");
        in_use.forget("b");
        assert!(in_use.list().is_some_and(|(names, _)| names.is_empty()));
    }
}
