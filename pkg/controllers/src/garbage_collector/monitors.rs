//! Follows every resource that can be deleted, as they come and go.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use kedge_base::{TaskGroup, time};
use kedge_client::{Discovered, Found, Informer, ListParams};
use kedge_meta::{Resource, Text};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tracing::{debug, warn};

use super::Controller;
use super::graph::Tracked;

/// A definition is served a moment after it was written.
const SETTLE: Duration = Duration::from_secs(2);
/// How long the first lists may take.
const SYNC: Duration = Duration::from_secs(30);
/// What resources come from that a server does not tell of by itself.
const SOURCES: [(&str, &str); 2] =
    [("apiextensions.k8s.io", "customresourcedefinitions"), ("apiregistration.k8s.io", "apiservices")];

/// The resources that are followed.
#[derive(Default)]
pub struct Monitors {
    running: Mutex<HashMap<Arc<Resource>, TaskGroup>>,
    /// Everything that is served, by group and kind.
    served: Mutex<HashMap<(Text, Text), Arc<Resource>>>,
}

impl Monitors {
    /// The resource of a kind.
    pub fn resource(&self, group: &str, kind: &str) -> Option<Arc<Resource>> {
        self.served.lock().get(&(group.into(), kind.into())).cloned()
    }
}

/// Whether the collector must know the objects of a resource. Events are many, own nothing and expire.
fn is_followed(d: &Discovered) -> bool {
    let events = d.resource.plural == "events" && matches!(&*d.resource.group, "" | "events.k8s.io");
    !events && ["delete", "list", "watch"].iter().all(|v| d.can(v))
}

/// Follows what there is until shutdown. `first` is told when everything that was found at first is in the graph.
pub(super) async fn run(c: Arc<Controller>, first: Arc<Mutex<Option<oneshot::Sender<()>>>>) {
    let mut changes = c.ctx.discovery.changes();
    loop {
        let found = changes.borrow_and_update().clone();
        if let Some(found) = found {
            let (informers, former) = follow(&c, &found);
            if !former.is_empty() {
                let (c, informers) = (c.clone(), informers.clone());
                c.ctx.tasks.clone().spawn_until_shutdown("garbage collector versions", sweep(c, informers, former));
            }
            let waiting = first.lock().take();
            if let Some(first) = waiting {
                begin(&informers, first).await;
            }
        }
        // The sender is kept as long as the controller.
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Forgets what is still of a version that is not followed any more, once the others have been listed: it went meanwhile.
async fn sweep(c: Arc<Controller>, informers: Vec<Informer<Tracked>>, former: Vec<Arc<Resource>>) {
    for informer in &informers {
        informer.synced().await;
    }
    former.iter().for_each(|resource| c.forget(resource));
}

async fn begin(informers: &[Informer<Tracked>], first: oneshot::Sender<()>) {
    let all = async {
        for informer in informers {
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

/// Returns the informers that were started, and the former versions of kinds that go on in another one.
fn follow(c: &Arc<Controller>, found: &Found) -> (Vec<Informer<Tracked>>, Vec<Arc<Resource>>) {
    let resources = &found.resources;
    // What could not be asked is as it was.
    let complete = found.failures.is_empty();
    let mut served = c.monitors.served.lock();
    if complete {
        served.clear();
    }
    for d in resources {
        served.insert((d.resource.group.clone(), d.resource.kind.clone()), d.resource.clone());
    }
    drop(served);
    let mut former = Vec::new();
    let mut running = c.monitors.running.lock();
    if complete {
        running.retain(|resource, tasks| {
            let keep = resources.iter().any(|d| d.resource == *resource);
            if !keep {
                debug!(resource = resource.plural.as_str(), "no longer served");
                tasks.shutdown().trigger();
                // Of a kind that goes on in another version everything is still there; it must not look as if an owner that is to
                // leave its dependents alone had none.
                let goes_on =
                    |d: &Discovered| d.resource.group == resource.group && d.resource.plural == resource.plural;
                match resources.iter().any(goes_on) {
                    true => former.push(resource.clone()),
                    false => c.forget(resource),
                }
            }
            keep
        });
    }
    let mut started = Vec::new();
    for d in resources.iter().filter(|d| is_followed(d)) {
        running.entry(d.resource.clone()).or_insert_with(|| {
            let tasks = c.ctx.tasks.child("garbage collector monitor");
            started.push(monitor(c, &tasks, &d.resource));
            tasks
        });
    }
    (started, former)
}

impl Controller {
    fn forget(&self, resource: &Resource) {
        self.graph.lock().forget(resource);
        // Also where nothing of it was ever seen: it may have come and gone in between.
        (self.notice)(resource, None);
    }
}

fn monitor(c: &Arc<Controller>, tasks: &TaskGroup, resource: &Arc<Resource>) -> Informer<Tracked> {
    let informer: Informer<Tracked> = Informer::start(&c.ctx.client, tasks, resource, ListParams::default());
    let (controller, resource, ended) = (Arc::downgrade(c), resource.clone(), tasks.shutdown().clone());
    let is_source = SOURCES.contains(&(&*resource.group, &*resource.plural));
    informer.on_change(move |change| {
        let Some(c) = controller.upgrade() else { return };
        {
            let mut graph = c.graph.lock();
            // What a monitor says that has been ended would stay in the graph for good.
            if ended.is_requested() {
                return;
            }
            let work = graph.apply(&resource, change.old.as_deref(), change.new.clone());
            work.into_iter().for_each(|w| c.queue.add(w));
        }
        if change.new.is_none() {
            (c.notice)(&resource, Some(&change.key().namespace));
        }
        if is_source {
            let (discovery, clock) = (c.ctx.discovery.clone(), c.ctx.clock.clone());
            c.ctx.tasks.spawn_until_shutdown("discovery after a definition", async move {
                clock.sleep(SETTLE).await;
                discovery.ask_again();
            });
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
        let d = |resource: &Resource, verbs: &[&str]| Discovered {
            resource: Arc::new(resource.clone()),
            verbs: verbs.iter().map(|v| (*v).into()).collect(),
        };
        let all = ["delete", "list", "watch", "create"];
        assert!(is_followed(&d(&resources::PODS, &all)));
        assert!(!is_followed(&d(&resources::EVENTS, &all)));
        assert!(!is_followed(&d(&resources::PODS, &["list", "watch"])));
    }
}
