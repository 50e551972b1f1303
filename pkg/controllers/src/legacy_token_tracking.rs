//! Since when uses of tokens in secrets are noted, as ConfigMap `kube-apiserver-legacy-service-account-token-tracking`.
//!
//! A part of the API server, which notes the uses, rather than of the controller manager.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use kedge_base::{SharedClock, TaskGroup};
use kedge_client::{Client, Error, Informer, ListParams, Patch, WorkQueue, run_workers};
use kedge_meta::{ObjectKey, ObjectMeta, resources};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::json;

use crate::objects::{Meta, keyed};

pub(crate) const NAMESPACE: &str = "kube-system";
pub(crate) const MAP: &str = "kube-apiserver-legacy-service-account-token-tracking";
pub(crate) const SINCE: &str = "since";
/// Between two that are made: where other servers delete it, since they note nothing, there is no race.
const PAUSE: Duration = Duration::from_secs(30 * 60);

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct ConfigMap {
    metadata: ObjectMeta,
    data: BTreeMap<String, String>,
}
keyed!(ConfigMap);

struct Controller {
    client: Client,
    clock: SharedClock,
    maps: Informer<ConfigMap>,
    queue: WorkQueue<ObjectKey>,
    /// When one was last made, on the monotonic clock.
    made: Mutex<Option<Duration>>,
}

/// Keeps the map.
pub fn start(client: &Client, clock: &SharedClock, tasks: &TaskGroup) {
    let only_ours = ListParams::fields(format!("metadata.name={MAP}"));
    let maps: Informer<ConfigMap> = Informer::start_in(client, tasks, &resources::CONFIG_MAPS, NAMESPACE, only_ours);
    let queue: WorkQueue<ObjectKey> = WorkQueue::new(clock.clone(), tasks);
    queue.add(ObjectKey::new(NAMESPACE, MAP));
    let q = queue.clone();
    maps.on_change(move |change| q.add(change.key()));
    let (client, clock, made) = (client.clone(), clock.clone(), Mutex::default());
    let controller = Arc::new(Controller { client, clock, maps, queue: queue.clone(), made });
    let group = tasks.clone();
    tasks.spawn_until_shutdown("legacy-token-tracking", async move {
        controller.maps.synced().await;
        run_workers("legacy-token-tracking", &queue, &group, 1, move |key: ObjectKey| {
            let controller = controller.clone();
            async move { controller.reconcile(key).await }
        });
    });
}

/// The day of a time, in UTC.
pub(crate) fn day(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d").to_string()
}

fn is_dated(map: &ConfigMap) -> bool {
    map.data.get(SINCE).is_some_and(|since| since.len() == 10 && since.parse::<Date>().is_ok())
}

impl Controller {
    async fn reconcile(&self, key: ObjectKey) -> Result<(), Error> {
        let data = json!({ SINCE: day(self.clock.now()) });
        match self.maps.get(NAMESPACE, MAP) {
            None => {
                let due = self.made.lock().map(|made| made + PAUSE).filter(|due| *due > self.clock.monotonic());
                if let Some(due) = due {
                    self.queue.add_after(key, due.saturating_sub(self.clock.monotonic()));
                    return Ok(());
                }
                let metadata = json!({ "name": MAP, "namespace": NAMESPACE });
                let map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data });
                match self.client.create::<Meta>(&resources::CONFIG_MAPS, NAMESPACE, &map).await {
                    Err(err) if err.is_already_exists() => Ok(()),
                    Err(err) => Err(err),
                    Ok(_) => {
                        *self.made.lock() = Some(self.clock.monotonic());
                        Ok(())
                    }
                }
            }
            Some(map) if !is_dated(&map) => {
                let metadata = json!({ "resourceVersion": map.metadata.resource_version });
                let patch = Patch::Merge(json!({ "metadata": metadata, "data": data }));
                match self.client.patch::<Meta>(&resources::CONFIG_MAPS, NAMESPACE, MAP, patch, None).await {
                    Err(err) if err.is_not_found() || err.is_conflict() => Ok(()),
                    other => other.map(drop),
                }
            }
            Some(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_without_a_day_gets_one() {
        let with = |since: &str| ConfigMap {
            data: BTreeMap::from([(SINCE.to_owned(), since.to_owned())]),
            ..ConfigMap::default()
        };
        assert!(is_dated(&with("2026-01-31")));
        assert!(!is_dated(&with("2026-02-31")) && !is_dated(&with("today")) && !is_dated(&ConfigMap::default()));
        assert_eq!(day(Timestamp::UNIX_EPOCH), "1970-01-01");
    }
}
