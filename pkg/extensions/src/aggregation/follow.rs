//! Following API services, the services that they name and the endpoints of those.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kedge_base::Backoff;
use kedge_meta::Status;
use kedge_registry::Known;
use kedge_registry::verbs::store_failure;
use kedge_storage::{EventKind, Matcher, Next, Object, WatchEvent, Watcher};
use serde::Deserialize;
use tokio::sync::Notify;
use tracing::{debug, warn};

use super::open_api::Found;
use super::service::ApiService;
use super::{Aggregation, Other};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(30);
/// Between looks at a server of which nothing is heard.
const RECHECK: Duration = Duration::from_secs(30);
/// Between questions about what it serves.
const REFRESH: Duration = Duration::from_secs(60);

impl Aggregation {
    /// Knows what API services say, before anybody can ask.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn begin(&self) -> Result<(), Status> {
        for (_, object) in self.services()?.store.readable("", &Matcher::default()).objects {
            if let Some(service) = ApiService::read(&object) {
                self.learn(service);
            }
        }
        self.publish().await;
        Ok(())
    }

    /// Makes the API services of this server, which somebody may ask for from the first moment on.
    pub async fn register(&self) {
        self.settle_all().await;
    }

    /// Follows them until the server stops.
    pub fn follow(self: &Arc<Self>) {
        let names: Vec<String> = self.state.lock().others.keys().cloned().collect();
        names.into_iter().for_each(|name| self.tend(name));
        let (services, endpoints) = (self.clone(), self.clone());
        self.tasks.spawn_worker("API services", move || {
            let services = services.clone();
            async move { services.run().await }
        });
        self.tasks.spawn_worker("endpoints of API services", move || {
            let endpoints = endpoints.clone();
            async move { endpoints.run_endpoints().await }
        });
    }

    async fn run(self: Arc<Self>) {
        let mut pause = Backoff::new(FIRST_PAUSE, LAST_PAUSE, 20);
        loop {
            match self.round().await {
                Ok(()) => return,
                Err(status) => warn!(error = %status.message, "API services are listed again"),
            }
            self.registry.clock.sleep(pause.next()).await;
        }
    }

    /// From a list on, until the watch fails.
    async fn round(self: &Arc<Self>) -> Result<(), Status> {
        let mut kinds = self.registry.changes();
        let (state, mut watcher) =
            self.services()?.store.watch_with_state("", Matcher::default()).map_err(store_failure)?;
        let listed: Vec<ApiService> = state.iter().filter_map(|object| ApiService::read(object)).collect();
        let names: BTreeSet<&str> = listed.iter().map(|service| &*service.metadata.name).collect();
        let gone: Vec<String> = {
            let state = self.state.lock();
            let known = state.others.keys().chain(state.priorities.keys());
            known.filter(|name| !names.contains(&***name)).cloned().collect()
        };
        gone.iter().for_each(|name| self.forget(name));
        for service in listed {
            self.note(service);
        }
        self.publish().await;
        let mut failed = self.settle_all().await;
        let mut pause = Backoff::new(FIRST_PAUSE, LAST_PAUSE, 20);
        loop {
            tokio::select! {
                next = watcher.next() => match next {
                    Next::Event(kind, event) => {
                        if let Some(name) = self.take_in(kind, &event) {
                            self.publish().await;
                            failed.extend(self.settle([name].into()).await);
                        }
                    }
                    Next::Failed(err) => return Err(store_failure(err)),
                    Next::Closed => return Ok(()),
                },
                changed = kinds.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    let names = self.want();
                    if !names.is_empty() {
                        failed.extend(self.settle(names).await);
                    }
                }
                () = self.registry.clock.sleep(pause.next()), if !failed.is_empty() => {
                    failed = self.settle(std::mem::take(&mut failed)).await;
                    continue;
                }
            }
            pause.reset();
        }
    }

    /// What has happened to an API service. Its name, if it is known.
    fn take_in(self: &Arc<Self>, kind: EventKind, event: &Arc<WatchEvent>) -> Option<String> {
        let service = event.shown(kind).as_ref().and_then(ApiService::read)?;
        let name = service.metadata.name.clone();
        match kind {
            EventKind::Deleted => self.forget(&name),
            _ => self.note(service),
        }
        Some(name)
    }

    /// Notes what an API service says; a task looks after it, if it has a service.
    fn note(self: &Arc<Self>, service: ApiService) {
        let name = service.metadata.name.clone();
        if self.learn(service) {
            self.tend(name);
        }
    }

    /// Notes what an API service says. Whether it is one with a service that was not known.
    fn learn(&self, service: ApiService) -> bool {
        let name = service.metadata.name.clone();
        let mut state = self.state.lock();
        if service.service().is_none() {
            state.others.remove(&name).inspect(|other| other.changed.notify_one());
            let (group, version) = (service.spec.group.clone(), service.spec.version.clone());
            // There may be thousands that say what is usual.
            if service.priority() == self.registry.usual_priority(&group, &version) {
                state.priorities.remove(&name);
            } else {
                state.priorities.insert(name, (group, version, service.priority()));
            }
            return false;
        }
        state.priorities.remove(&name);
        let service = Arc::new(service);
        match state.others.get_mut(&name) {
            // It is the same one, or what the same task finds out about another one.
            Some(other) => {
                let (old, new) = (&other.service, &service);
                let same_server = old.spec.service == new.spec.service && old.metadata.uid == new.metadata.uid;
                let changed = !same_server || old.spec != new.spec;
                other.service = service;
                if !same_server {
                    other.known = unknown();
                }
                if changed {
                    other.changed.notify_one();
                }
                false
            }
            None => {
                let other = Other { service, known: unknown(), changed: Arc::new(Notify::new()) };
                state.others.insert(name, other);
                true
            }
        }
    }

    fn forget(&self, name: &str) {
        let mut state = self.state.lock();
        state.priorities.remove(name);
        if let Some(other) = state.others.remove(name) {
            other.changed.notify_one();
        }
        self.registry.unavailable.forget(name);
    }

    /// Looks after an API service until it has gone, or has no service any more.
    fn tend(self: &Arc<Self>, name: String) {
        let aggregation = self.clone();
        self.tasks.spawn_worker("API service", move || {
            let (aggregation, name) = (aggregation.clone(), name.clone());
            async move { aggregation.look_after(&name).await }
        });
    }

    async fn look_after(self: Arc<Self>, name: &str) {
        let Some(changed) = self.state.lock().others.get(name).map(|other| other.changed.clone()) else { return };
        let mut pause = Backoff::new(FIRST_PAUSE, LAST_PAUSE, 20);
        let mut asked: Option<Asked> = None;
        loop {
            let current =
                self.state.lock().others.get(name).filter(|other| Arc::ptr_eq(&other.changed, &changed)).cloned();
            // Another one of its name has a task of its own.
            let Some(other) = current else { return };
            let verdict = {
                let Ok(_one_of_few) = self.looks.acquire().await else { return };
                self.look(&other.service).await
            };
            if let Err(status) = self.say(&other.service, &verdict).await {
                warn!(service = name, error = %status.message, "the availability of an API service cannot be written");
            }
            let available = verdict.status == "True";
            let now = self.registry.clock.now();
            let due = asked.as_ref().is_none_or(|asked| {
                asked.spec != other.service.spec
                    || asked.available != available
                    || (available && (asked.failed || now >= asked.again))
            });
            if due {
                let mut tag = asked.take().filter(|asked| asked.spec == other.service.spec).and_then(|asked| asked.tag);
                let failed = self.find_out(name, &other, available, &mut tag).await;
                let now = self.registry.clock.now();
                let again = now.saturating_add(REFRESH).unwrap_or(now);
                let spec = other.service.spec.clone();
                asked = Some(Asked { spec, available, failed, again, tag });
            }
            let failed = verdict.may_pass() || asked.as_ref().is_some_and(|asked| asked.failed);
            let wait = if failed { pause.next() } else { RECHECK };
            if !failed {
                pause.reset();
            }
            tokio::select! {
                () = changed.notified() => {}
                () = self.registry.clock.sleep(wait) => {}
            }
        }
    }

    /// Asks a server what it serves, and keeps that. Whether it should be asked again soon.
    async fn find_out(&self, name: &str, other: &Other, available: bool, tag: &mut Option<String>) -> bool {
        let before = &other.known;
        let kept = |resources, stale| Known {
            resources,
            open_api_v2: before.open_api_v2.clone(),
            open_api_v3: before.open_api_v3.clone(),
            stale,
        };
        if !available {
            self.keep(name, other, kept(None, true)).await;
            return false;
        }
        let service = &other.service;
        let mut known = match self.discover(service).await {
            Ok(resources) => kept(Some(resources), false),
            Err(why) => {
                debug!(service = name, why, "a server does not say what it serves");
                self.keep(name, other, kept(None, true)).await;
                return true;
            }
        };
        // What is served is what clients need first; documents may take long, and others may be before this one.
        self.keep(name, other, known.clone()).await;
        match self.open_api_v3(service).await {
            Ok(place) => known.open_api_v3 = place,
            Err(why) => debug!(service = name, why, "a server has no index of OpenAPI documents"),
        }
        let Ok(_one_of_few) = self.documents.acquire().await else { return true };
        match self.open_api_v2(service, tag.as_deref().filter(|_| known.open_api_v2.is_some())).await {
            Ok(Found::Document(document, new)) => {
                known.open_api_v2 = Some(document);
                *tag = new;
            }
            Ok(Found::Same) => {}
            Ok(Found::None) => known.open_api_v2 = None,
            Err(why) => debug!(service = name, why, "a server has no OpenAPI v2 document"),
        }
        self.keep(name, other, known).await;
        false
    }

    /// Shows what was found out about an API service, if it still says what it said.
    async fn keep(&self, name: &str, about: &Other, known: Known) {
        {
            let mut state = self.state.lock();
            let Some(other) = state.others.get_mut(name) else { return };
            let is_it = Arc::ptr_eq(&other.changed, &about.changed) && other.service.spec == about.service.spec;
            if !is_it || *other.known == known {
                return;
            }
            other.known = Arc::new(known);
        }
        self.publish().await;
    }

    async fn run_endpoints(self: Arc<Self>) {
        let mut pause = Backoff::new(FIRST_PAUSE, LAST_PAUSE, 20);
        loop {
            match self.round_endpoints().await {
                Ok(()) => return,
                Err(status) => debug!(error = %status.message, "endpoints of API services are watched again"),
            }
            self.registry.clock.sleep(pause.next()).await;
            // What has happened meanwhile is not known.
            let state = self.state.lock();
            state.others.values().for_each(|other| other.changed.notify_one());
        }
    }

    async fn round_endpoints(&self) -> Result<(), Status> {
        let watch = |group, resource| -> Result<Watcher, Status> {
            let served = self.registry.builtin(group, "v1", resource).ok_or_else(Status::unknown_path)?;
            let (_, watcher) = served.store.watch_with_state("", Matcher::default()).map_err(store_failure)?;
            Ok(watcher)
        };
        let mut services = watch("", "services")?;
        let mut slices = watch("discovery.k8s.io", "endpointslices")?;
        loop {
            let (next, of_slice) = tokio::select! {
                next = services.next() => (next, false),
                next = slices.next() => (next, true),
            };
            match next {
                Next::Event(kind, event) => {
                    if !self.state.lock().others.is_empty()
                        && let Some(object) = event.shown(kind)
                    {
                        self.wake(&object, of_slice);
                    }
                }
                Next::Failed(err) => return Err(store_failure(err)),
                Next::Closed => return Ok(()),
            }
        }
    }

    /// Something has happened to a service, or to the slice of one.
    fn wake(&self, object: &Object, of_slice: bool) {
        let Ok(named) = serde_json::from_slice::<Named>(&object.stored()) else { return };
        let Metadata { namespace, name, labels } = named.metadata;
        let name = if of_slice { labels.unwrap_or_default().service } else { name };
        for other in self.state.lock().others.values() {
            let is_it = other.service.service().is_some_and(|at| at.namespace == namespace && at.name == name);
            if is_it {
                other.changed.notify_one();
            }
        }
    }
}

/// What a server has been asked.
struct Asked {
    spec: super::service::Spec,
    available: bool,
    failed: bool,
    again: jiff::Timestamp,
    /// The tag of its OpenAPI v2 document.
    tag: Option<String>,
}

fn unknown() -> Arc<Known> {
    Arc::new(Known { stale: true, ..Known::default() })
}

/// What is read of a service or of a slice.
#[derive(Deserialize)]
struct Named {
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(default)]
    namespace: String,
    name: String,
    #[serde(default)]
    labels: Option<Labels>,
}

#[derive(Default, Deserialize)]
struct Labels {
    #[serde(rename = "kubernetes.io/service-name", default)]
    service: String,
}
