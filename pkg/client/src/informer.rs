//! A shared slim informer: list, then watch, into a map of what its readers need.
//!
//! Invariants: handlers see the changes of one object in order and never two at a time; a change's `old` is what the
//! map held; after a lost watch the informer lists again and reports the difference, so nothing stays stale.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kedge_base::sizes::{self, Measured, Size};
use kedge_base::{Backoff, Shutdown, TaskGroup, system_clock};
use kedge_meta::{ObjectKey, ObjectMeta, Resource};
use parking_lot::{Mutex, RwLock};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, watch};
use tracing::{debug, warn};

use crate::client::{Client, ListParams};
use crate::error::Error;
use crate::objects::Objects;
use crate::watch::WatchEvent;

/// Objects in one page of the first list.
const PAGE: u64 = 500;
const HANDLER: &str = "informer handler";

/// An object with metadata.
pub trait Keyed {
    /// Its metadata.
    fn metadata(&self) -> &ObjectMeta;
}

/// What happened to one object: no `old` is a new object, no `new` a deleted one.
#[derive(Debug)]
pub struct Change<T> {
    pub old: Option<Arc<T>>,
    pub new: Option<Arc<T>>,
}

impl<T: Keyed> Change<T> {
    /// The object after the change, or as it last was.
    pub fn object(&self) -> Option<&Arc<T>> {
        self.new.as_ref().or(self.old.as_ref())
    }

    /// Which object it is.
    pub fn key(&self) -> ObjectKey {
        self.object().map(|o| o.metadata().key()).unwrap_or_default()
    }
}

impl<T> Clone for Change<T> {
    fn clone(&self) -> Self {
        Self { old: self.old.clone(), new: self.new.clone() }
    }
}

type Call<T> = Box<dyn Fn(&Change<T>) + Send + Sync>;

/// One who is told of changes.
struct Handler<T> {
    call: Call<T>,
    /// What it panicked on: it is told again.
    owed: BTreeMap<ObjectKey, Owed<T>>,
}

/// An object that a handler has not taken in as it is.
struct Owed<T> {
    /// As the handler last took it in.
    old: Option<Arc<T>>,
    /// As it was told.
    last: Arc<T>,
}

/// A cached view on one resource; clones share it.
pub struct Informer<T> {
    inner: Arc<Inner<T>>,
}

impl<T> Clone for Informer<T> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

struct Inner<T> {
    resource: Resource,
    objects: RwLock<Objects<T>>,
    /// Held while changes are made and reported, so that a new handler misses nothing and sees nothing twice.
    handlers: Mutex<Vec<Handler<T>>>,
    synced: watch::Sender<bool>,
    /// A handler is owed something.
    owing: Notify,
    tasks: TaskGroup,
}

impl<T: Keyed + DeserializeOwned + Send + Sync + 'static> Informer<T> {
    /// Starts to follow `resource`, in all namespaces, as far as `params` selects.
    pub fn start(client: &Client, tasks: &TaskGroup, resource: &Resource, params: ListParams) -> Self {
        Self::start_in(client, tasks, resource, "", params)
    }

    /// Starts to follow `resource` in one namespace.
    pub fn start_in(
        client: &Client,
        tasks: &TaskGroup,
        resource: &Resource,
        namespace: &str,
        params: ListParams,
    ) -> Self {
        let inner = Arc::new(Inner::new(resource, Objects::default(), false, tasks.clone()));
        let (client, following, namespace) = (client.clone(), inner.clone(), namespace.to_owned());
        // What a panic left half taken in is listed again.
        tasks.spawn_worker("informer", move || {
            let (client, inner) = (client.clone(), following.clone());
            let (namespace, params, shutdown) = (namespace.clone(), params.clone(), inner.tasks.shutdown().clone());
            async move {
                tokio::select! {
                    () = follow(client, inner.clone(), namespace, params, shutdown) => {}
                    () = settle(&inner) => {}
                }
            }
        });
        sizes::list(format!("informer of {}", resource.group_resource()), &inner);
        Self { inner }
    }

    /// An informer that follows nothing and holds what a test puts in.
    pub fn fixed(resource: &Resource, objects: Vec<T>) -> Self {
        let objects = objects.into_iter().collect();
        let tasks = TaskGroup::new("fixed", Shutdown::new());
        Self { inner: Arc::new(Inner::new(resource, objects, true, tasks)) }
    }

    /// The object of that name.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<T>> {
        self.inner.objects.read().get(namespace, name).cloned()
    }

    /// All objects, ordered by namespace and name.
    pub fn list(&self) -> Vec<Arc<T>> {
        self.inner.objects.read().iter().cloned().collect()
    }

    /// All objects of a namespace, ordered by name.
    pub fn list_namespace(&self, namespace: &str) -> Vec<Arc<T>> {
        self.inner.objects.read().of_namespace(namespace).cloned().collect()
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.inner.objects.read().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the first list has been taken in.
    pub fn has_synced(&self) -> bool {
        *self.inner.synced.borrow()
    }

    /// Completes when the first list has been taken in.
    pub async fn synced(&self) {
        let mut synced = self.inner.synced.subscribe();
        // The sender lives in `self`, so this only ends with the value.
        let _ = synced.wait_for(|done| *done).await;
    }

    /// Calls `handler` for every change from now on, and first for every object that is there. It must not block.
    ///
    /// One that panics is told again later, until it takes in what it was told; the other handlers are told at once.
    pub fn on_change(&self, handler: impl Fn(&Change<T>) + Send + Sync + 'static) {
        let mut handlers = self.inner.handlers.lock();
        let mut handler = Handler { call: Box::new(handler), owed: BTreeMap::new() };
        for object in self.list() {
            self.inner.tell(&mut handler, &Change { old: None, new: Some(object) });
        }
        handlers.push(handler);
    }
}

impl<T: Send + Sync> Measured for Inner<T> {
    fn sizes(&self) -> Vec<(&'static str, Size)> {
        vec![("objects", Size::entries(self.objects.read().len()))]
    }
}

#[derive(Deserialize)]
struct BookmarkObject {
    metadata: ObjectMeta,
}

async fn follow<T: Keyed + DeserializeOwned + Send + Sync>(
    client: Client,
    inner: Arc<Inner<T>>,
    namespace: String,
    params: ListParams,
    shutdown: Shutdown,
) {
    let clock = system_clock();
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30), 20);
    let mut version: Option<String> = None;
    while !shutdown.is_requested() {
        let from = match version.take() {
            Some(version) => Ok(version),
            None => list_all(&client, &inner, &namespace, &params).await,
        };
        let outcome = match from {
            Ok(from) => watch_from(&client, &inner, &namespace, &params, from, &mut backoff).await,
            Err(err) => Err(err),
        };
        match outcome {
            Ok(last) => version = Some(last),
            Err(err) => {
                let resource = inner.resource.plural.as_str();
                if err.is_gone() {
                    debug!(resource, "watch expired, listing again");
                } else {
                    warn!(resource, error = %err, cause = ?std::error::Error::source(&err), "list or watch failed, trying again");
                }
                clock.sleep(backoff.next()).await;
            }
        }
    }
}

/// Takes in a full list; returns its version.
async fn list_all<T: Keyed + DeserializeOwned>(
    client: &Client,
    inner: &Inner<T>,
    namespace: &str,
    params: &ListParams,
) -> Result<String, Error> {
    let mut params = ListParams { limit: PAGE, ..params.clone() };
    let mut objects = Vec::new();
    let version = loop {
        let page = client.list::<T>(&inner.resource, namespace, &params).await?;
        objects.extend(page.items);
        if page.continue_.is_empty() {
            break page.resource_version;
        }
        params.continue_ = page.continue_;
    };
    inner.replace(objects.into_iter().collect());
    inner.synced.send_replace(true);
    Ok(version)
}

/// Takes in events until the server ends the watch; returns the version to go on from.
async fn watch_from<T: Keyed + DeserializeOwned>(
    client: &Client,
    inner: &Inner<T>,
    namespace: &str,
    params: &ListParams,
    mut version: String,
    backoff: &mut Backoff,
) -> Result<String, Error> {
    let mut stream = client.watch(&inner.resource, namespace, params, &version).await?;
    while let Some(event) = stream.next().await {
        let (bytes, gone) = match event? {
            WatchEvent::Added(o) | WatchEvent::Modified(o) => (o, false),
            WatchEvent::Deleted(o) => (o, true),
            WatchEvent::Bookmark(o) => {
                version = serde_json::from_slice::<BookmarkObject>(&o)?.metadata.resource_version;
                continue;
            }
        };
        let object: T = serde_json::from_slice(&bytes)?;
        version.clone_from(&object.metadata().resource_version);
        inner.set(object, gone);
        backoff.reset();
    }
    Ok(version)
}

/// Tells handlers again what they panicked on, until they have taken it in.
async fn settle<T: Keyed>(inner: &Inner<T>) {
    let clock = system_clock();
    loop {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(60), 20);
        // At first what is left of a task that panicked.
        while inner.owes() {
            clock.sleep(backoff.next()).await;
            inner.settle();
        }
        inner.owing.notified().await;
    }
}

impl<T: Keyed> Inner<T> {
    fn new(resource: &Resource, objects: Objects<T>, synced: bool, tasks: TaskGroup) -> Self {
        Self {
            resource: resource.clone(),
            objects: RwLock::new(objects),
            handlers: Mutex::default(),
            synced: watch::Sender::new(synced),
            owing: Notify::new(),
            tasks,
        }
    }

    fn set(&self, object: T, gone: bool) {
        let mut handlers = self.handlers.lock();
        let object = Arc::new(object);
        let change = {
            let mut objects = self.objects.write();
            if gone {
                let last = objects.remove(&object);
                Change { old: Some(last.map_or(object.clone(), |_| object)), new: None }
            } else {
                Change { old: objects.insert(object.clone()), new: Some(object) }
            }
        };
        handlers.iter_mut().for_each(|handler| self.tell(handler, &change));
    }

    fn replace(&self, listed: Objects<T>) {
        let mut handlers = self.handlers.lock();
        let mut changes = Vec::new();
        {
            let mut objects = self.objects.write();
            objects.retain(|old| {
                let keep = listed.get(&old.metadata().namespace, &old.metadata().name).is_some();
                if !keep {
                    changes.push(Change { old: Some(old.clone()), new: None });
                }
                keep
            });
            for new in listed.iter() {
                let metadata = new.metadata();
                let same = |old: &Arc<T>| old.metadata().resource_version == metadata.resource_version;
                if objects.get(&metadata.namespace, &metadata.name).is_some_and(same) {
                    continue;
                }
                let old = objects.insert(new.clone());
                changes.push(Change { old, new: Some(new.clone()) });
            }
        }
        for change in &changes {
            handlers.iter_mut().for_each(|handler| self.tell(handler, change));
        }
    }

    /// Tells one handler; what it panics on is owed to it. A change of what is owed already is told as one with it.
    fn tell(&self, handler: &mut Handler<T>, change: &Change<T>) {
        let Some(last) = change.object() else { return };
        let key = last.metadata().key();
        let change = match handler.owed.remove(&key) {
            None => change.clone(),
            // An object that it began to take in and that is gone now is told to be gone: half of it may be there.
            Some(Owed { old: None, .. }) if change.new.is_none() => change.clone(),
            Some(Owed { old, .. }) => Change { old, new: change.new.clone() },
        };
        if self.tasks.catch_now(HANDLER, || (handler.call)(&change)).is_err() {
            handler.owed.insert(key, Owed { old: change.old.clone(), last: last.clone() });
            self.owing.notify_one();
        }
    }

    /// Whether a handler is owed something.
    fn owes(&self) -> bool {
        self.handlers.lock().iter().any(|handler| !handler.owed.is_empty())
    }

    /// Tells again what is owed.
    fn settle(&self) {
        let mut handlers = self.handlers.lock();
        for handler in handlers.iter_mut() {
            let owed: Vec<_> = handler.owed.iter().map(|(key, owed)| (key.clone(), owed.last.clone())).collect();
            for (key, last) in owed {
                let new = self.objects.read().get(&key.namespace, &key.name).cloned();
                self.tell(handler, &Change { old: Some(last), new });
            }
        }
    }
}

#[cfg(test)]
#[path = "informer_tests.rs"]
mod tests;
