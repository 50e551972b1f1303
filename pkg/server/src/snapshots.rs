//! Snapshots of a running server: on demand and on schedule.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use kedge_base::{SharedClock, Shutdown, blocking};
use kedge_controllers::Schedule;
use kedge_datastore::{Endpoint, Error, ON_DEMAND, Progress, SCHEDULED, Saved, Snapshots, Store};
use std::path::PathBuf;
use tokio::sync::Mutex;
use tracing::{error, info, warn};

use crate::config::ServerConfig;
use crate::error::Error as ServerError;

/// Takes snapshots of the store, one at a time.
pub(crate) struct SnapshotService {
    store: Store,
    snapshots: Snapshots,
    clock: SharedClock,
    /// Held while one is taken: two at once would only take each other's time and memory.
    busy: Mutex<()>,
}

/// The schedule of a server, if it has one: an etcd of its own is backed up where it runs, and memory is not.
pub(crate) fn schedule(config: &ServerConfig, now: Timestamp) -> Result<Option<Schedule>, ServerError> {
    let Some(text) = config.snapshots.schedule.as_ref().filter(|_| config.datastore == Endpoint::Embedded) else {
        return Ok(None);
    };
    let schedule = Schedule::parse(text).map_err(|err| ServerError::Schedule(text.clone(), err))?;
    match schedule.next(now, &TimeZone::UTC) {
        Some(_) => Ok(Some(schedule)),
        None => Err(ServerError::NoTime(text.clone())),
    }
}

impl SnapshotService {
    pub(crate) fn new(store: Store, snapshots: Snapshots, clock: SharedClock) -> Self {
        Self { store, snapshots, clock, busy: Mutex::new(()) }
    }

    /// The snapshots in another directory, or of another name, than the server's own.
    pub(crate) fn in_place(&self, dir: Option<PathBuf>, node: Option<String>) -> Snapshots {
        self.snapshots.in_place(dir, node)
    }

    /// Saves one under a name of the caller's, or that of snapshots on demand.
    pub(crate) async fn save_to(
        &self,
        snapshots: &Snapshots,
        name: Option<&str>,
        progress: &mut Progress<'_>,
    ) -> Result<Saved, Error> {
        let _one_at_a_time = self.busy.lock().await;
        let saved = snapshots.save(&self.store, name.unwrap_or(ON_DEMAND), self.clock.now(), progress).await?;
        info!(path = %saved.path.display(), size = saved.size, "snapshot saved");
        Ok(saved)
    }

    /// Saves on schedule, and keeps the newest `retention`; until the shutdown.
    pub(crate) async fn run(&self, schedule: Schedule, retention: usize, shutdown: Shutdown) {
        loop {
            let now = self.clock.now();
            let Some(next) = schedule.next(now, &TimeZone::UTC) else {
                warn!("the schedule of snapshots names no time that will come");
                return;
            };
            let wait = next.duration_since(now).try_into().unwrap_or_default();
            tokio::select! {
                () = self.clock.sleep(wait) => {}
                () = shutdown.requested() => return,
            }
            match self.save_to(&self.snapshots, Some(SCHEDULED), &mut |_, _, _| {}).await {
                Ok(_) => self.prune(retention).await,
                Err(err) => error!(error = %err, "snapshot on schedule not saved"),
            }
        }
    }

    async fn prune(&self, retention: usize) {
        let snapshots = self.snapshots.clone();
        match blocking::unbounded("prune snapshots", move || snapshots.prune(SCHEDULED, retention)).await {
            Ok(Ok(gone)) => gone.iter().for_each(|old| info!(name = old.name, "old snapshot removed")),
            Ok(Err(err)) => error!(error = %err, "old snapshots not removed"),
            Err(err) => error!(error = %err, "old snapshots not removed"),
        }
    }
}
