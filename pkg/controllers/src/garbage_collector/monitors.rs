//! Follows every resource that can be deleted, and finds new ones.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use kedge_base::{TaskGroup, time};
use kedge_client::{Informer, ListParams};
use kedge_meta::Resource;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tracing::{debug, warn};

use super::Controller;
use super::graph::Tracked;
use crate::discovery::{Discovered, discover};

/// Resources appear with a custom resource definition, which is watched, or with an aggregated API, which is asked for.
const REDISCOVER: Duration = Duration::from_secs(300);
/// A definition is served a moment after it was written.
const SETTLE: Duration = Duration::from_secs(2);
/// How long the first lists may take.
const SYNC: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_secs(5);
const DEFINITIONS: &str = "customresourcedefinitions";

/// The resources that are followed.
#[derive(Default)]
pub struct Monitors {
    running: Mutex<HashMap<Resource, TaskGroup>>,
    /// Everything that is served, by group and kind.
    served: Mutex<HashMap<(String, String), Resource>>,
    changed: Arc<Notify>,
}

impl Monitors {
    /// The resource of a kind.
    pub fn resource(&self, group: &str, kind: &str) -> Option<Resource> {
        self.served.lock().get(&(group.to_owned(), kind.to_owned())).copied()
    }
}

/// Whether the collector must know the objects of a resource. Events are many, own nothing and expire.
fn is_followed(d: &Discovered) -> bool {
    let events = d.resource.plural == "events" && matches!(d.resource.group, "" | "events.k8s.io");
    !events && ["delete", "list", "watch"].iter().all(|v| d.can(v))
}

/// Discovers until shutdown. `first` is told when everything that was found at first is in the graph.
pub(super) async fn run(c: Arc<Controller>, first: Arc<Mutex<Option<oneshot::Sender<()>>>>) {
    loop {
        let found = match discover(&c.ctx.client).await {
            Ok(found) => found,
            Err(err) => {
                warn!(error = %err, "resources cannot be discovered, trying again");
                c.ctx.clock.sleep(RETRY).await;
                continue;
            }
        };
        let complete = found.failures.is_empty();
        let informers = follow(&c, &found.resources, complete);
        let waiting = first.lock().take();
        if let Some(first) = waiting {
            let all = async {
                for informer in &informers {
                    informer.synced().await;
                }
            };
            if time::timeout(SYNC, all).await.is_err() {
                warn!("not all resources could be listed, garbage collection starts without them");
            }
            if first.send(()).is_err() {
                debug!("the collector ended before it began");
            }
        }
        let wait = if complete { REDISCOVER } else { RETRY };
        tokio::select! {
            () = c.ctx.clock.sleep(wait) => {}
            () = c.monitors.changed.notified() => c.ctx.clock.sleep(SETTLE).await,
        }
    }
}

fn follow(c: &Arc<Controller>, resources: &[Discovered], complete: bool) -> Vec<Informer<Tracked>> {
    let mut served = c.monitors.served.lock();
    if complete {
        served.clear();
    }
    for d in resources {
        served.insert((d.resource.group.to_owned(), d.resource.kind.to_owned()), d.resource);
    }
    drop(served);
    let mut running = c.monitors.running.lock();
    if complete {
        running.retain(|resource, tasks| {
            let keep = resources.iter().any(|d| d.resource == *resource);
            if !keep {
                tasks.shutdown().trigger();
                c.graph.lock().forget(resource);
            }
            keep
        });
    }
    let mut started = Vec::new();
    for d in resources.iter().filter(|d| is_followed(d)) {
        running.entry(d.resource).or_insert_with(|| {
            let tasks = c.ctx.tasks.child("garbage collector monitor");
            started.push(monitor(c, &tasks, d.resource));
            tasks
        });
    }
    started
}

fn monitor(c: &Arc<Controller>, tasks: &TaskGroup, resource: Resource) -> Informer<Tracked> {
    let informer: Informer<Tracked> = Informer::start(&c.ctx.client, tasks, &resource, ListParams::default());
    let controller = Arc::downgrade(c);
    informer.on_change(move |change| {
        let Some(c) = controller.upgrade() else { return };
        let work = c.graph.lock().apply(resource, change.old.as_deref(), change.new.clone());
        work.into_iter().for_each(|w| c.queue.add(w));
        if change.old.is_none() || change.new.is_none() {
            (c.notice)(&resource, &change.key().namespace);
        }
        if resource.plural == DEFINITIONS {
            c.monitors.changed.notify_one();
        }
    });
    informer
}

#[cfg(test)]
mod tests {
    use super::*;
    use kedge_meta::resources;

    #[test]
    fn events_and_what_cannot_be_watched_are_not_followed() {
        let d = |resource, verbs: &[&str]| Discovered { resource, verbs: verbs.iter().map(|v| (*v).into()).collect() };
        let all = ["delete", "list", "watch", "create"];
        assert!(is_followed(&d(resources::PODS, &all)));
        assert!(!is_followed(&d(resources::EVENTS, &all)));
        assert!(!is_followed(&d(resources::PODS, &["list", "watch"])));
    }
}
