//! All resources over one store, and the operations on one of them.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use kedge_kv::{Compare, Event, Kv, Observer, Range, TxnOutcome, Write};
use serde_json::Value;
use tracing::error;

use crate::cache::{Cache, Listing, Matcher};
use crate::error::Error;
use crate::object::Object;
use crate::watch::{EventKind, Watcher, frame};

/// Where all objects are.
const ROOT: &str = "/registry/";

/// How one resource is stored.
#[derive(Debug, Clone, Copy)]
pub struct ResourceConfig {
    /// Below `/registry/`, without slashes at the ends: `pods`, `services/specs`.
    pub prefix: &'static str,
    /// Fields that lists and watches can select by, as dotted paths.
    pub selectable: &'static [&'static str],
}

/// The caches of all resources, fed by one observer.
pub struct Storage {
    kv: Arc<dyn Kv>,
    hub: Arc<Hub>,
}

/// Sends each event to the cache of its resource.
struct Hub {
    caches: BTreeMap<Box<str>, Arc<Cache>>,
    /// Every event up to this revision is in the caches.
    applied: AtomicU64,
}

impl Hub {
    /// The cache whose prefix the key has.
    fn cache_of(&self, key: &[u8]) -> Option<Arc<Cache>> {
        let key = std::str::from_utf8(key).ok()?;
        let up_to_key = (Bound::Unbounded, Bound::Included(key));
        let (prefix, cache) = self.caches.range::<str, _>(up_to_key).next_back()?;
        key.starts_with(&**prefix).then(|| cache.clone())
    }
}

impl Observer for Hub {
    fn committed(&self, events: &[Event]) {
        for event in events {
            if let Some(cache) = self.cache_of(&event.key) {
                cache.apply(event);
            }
        }
        if let Some(last) = events.last() {
            self.applied.store(last.revision, Ordering::Release);
        }
    }
}

impl Storage {
    /// Reads everything that is stored into the caches of `resources`. Nobody may write before this returns.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn open(kv: Arc<dyn Kv>, resources: &[ResourceConfig]) -> Result<Self, Error> {
        let make = |config: &ResourceConfig| {
            let prefix = format!("{ROOT}{}/", config.prefix);
            (prefix.clone().into_boxed_str(), Arc::new(Cache::new(&prefix, config.selectable)))
        };
        let caches = resources.iter().map(make).collect();
        let hub = Arc::new(Hub { caches, applied: AtomicU64::new(0) });
        let snapshot = kv.observe(ROOT.as_bytes(), hub.clone()).await?;
        fill(&hub, &snapshot);
        hub.applied.fetch_max(snapshot.revision, Ordering::AcqRel);
        Ok(Self { kv, hub })
    }

    /// The store of one of the resources that were opened.
    pub fn resource(&self, prefix: &str) -> Option<ResourceStore> {
        let prefix = format!("{ROOT}{prefix}/");
        let cache = self.hub.caches.get(prefix.as_str()).cloned()?;
        Some(ResourceStore { kv: self.kv.clone(), hub: self.hub.clone(), cache })
    }

    /// The newest revision that reads see.
    pub fn revision(&self) -> u64 {
        self.kv.revision()
    }
}

/// An object and its key below the resource's prefix.
type Keyed = (Arc<str>, Arc<Object>);

fn fill(hub: &Hub, snapshot: &kedge_kv::Snapshot) {
    let mut sorted: BTreeMap<Box<str>, Vec<Keyed>> = BTreeMap::new();
    for kv in &snapshot.kvs {
        let Some(cache) = hub.cache_of(&kv.key) else { continue };
        let full = String::from_utf8_lossy(&kv.key);
        match Object::from_stored(&full, kv.value.clone(), kv.mod_revision) {
            Ok(object) => {
                let key: Arc<str> = Arc::from(&full[cache.prefix.len()..]);
                sorted.entry(cache.prefix.clone()).or_default().push((key, Arc::new(object)));
            }
            Err(err) => error!(error = %err, "left out of the cache"),
        }
    }
    for (prefix, cache) in &hub.caches {
        cache.fill(snapshot.revision, sorted.remove(prefix).unwrap_or_default().into_iter());
    }
}

/// The objects of one resource. Keys are `namespace/name` or `name`.
#[derive(Clone)]
pub struct ResourceStore {
    kv: Arc<dyn Kv>,
    hub: Arc<Hub>,
    cache: Arc<Cache>,
}

impl ResourceStore {
    /// The newest version of an object.
    pub fn get(&self, key: &str) -> Option<Arc<Object>> {
        self.cache.get(key)
    }

    /// A revision up to which everything is visible.
    pub fn revision(&self) -> u64 {
        self.hub.applied.load(Ordering::Acquire)
    }

    /// The revision of the last change of any of these objects.
    pub fn newest(&self) -> u64 {
        self.cache.state.read().newest
    }

    /// The newest state of all keys that begin with `scope`.
    pub fn list(&self, scope: &str, matcher: &Matcher, limit: usize) -> Listing {
        let applied = self.revision();
        self.cache.list(scope, matcher, limit, applied)
    }

    /// The state at an older revision, of keys from `start` on that begin with `scope`.
    ///
    /// # Errors
    /// [`Error::TooOld`] when the history no longer has it.
    pub async fn list_at(
        &self,
        scope: &str,
        start: &str,
        matcher: &Matcher,
        limit: usize,
        revision: u64,
    ) -> Result<Listing, Error> {
        let prefix = format!("{}{scope}", self.cache.prefix);
        let mut range = Range { revision: Some(revision), ..Range::prefix(prefix.as_bytes()) };
        range.start = format!("{}{start}", self.cache.prefix).into();
        if matcher.is_everything() {
            range.limit = limit;
        }
        let page = self.kv.range(range).await?;
        let mut listing =
            Listing { objects: Vec::new(), revision, remaining: page.remaining, more: page.remaining > 0 };
        for kv in page.kvs {
            let full = String::from_utf8_lossy(&kv.key);
            let object = Arc::new(Object::from_stored(&full, kv.value, kv.mod_revision)?);
            if !matcher.matches(&object, self.cache.selectable) {
                continue;
            }
            if limit > 0 && listing.objects.len() == limit {
                listing.more = true;
                break;
            }
            listing.objects.push((Arc::from(&full[self.cache.prefix.len()..]), object));
        }
        Ok(listing)
    }

    /// Whether lists can be selected by this field.
    pub fn is_selectable(&self, field: &str) -> bool {
        self.cache.selectable.contains(&field)
    }

    /// Stores a new object.
    ///
    /// # Errors
    /// [`Error::Exists`] when the key is taken.
    pub async fn create(&self, key: &str, value: &Value, expires: Option<u64>) -> Result<Arc<Object>, Error> {
        match self.write(key, value, Compare::Absent, expires).await {
            Err(Error::Conflict(_)) => Err(Error::Exists),
            other => other,
        }
    }

    /// Replaces the object whose last change was `revision`.
    ///
    /// # Errors
    /// [`Error::Conflict`] when it was changed since, [`Error::NotFound`] when it is gone.
    pub async fn update(
        &self,
        key: &str,
        value: &Value,
        revision: u64,
        expires: Option<u64>,
    ) -> Result<Arc<Object>, Error> {
        match self.write(key, value, Compare::ModRevision(revision), expires).await {
            Err(Error::Conflict(None)) => Err(Error::NotFound),
            other => other,
        }
    }

    async fn write(
        &self,
        key: &str,
        value: &Value,
        compare: Compare,
        expires: Option<u64>,
    ) -> Result<Arc<Object>, Error> {
        let stored = Object::encode(value)?;
        let write = Write::Put { value: stored.clone(), expires };
        match self.kv.txn(self.full(key), Some(compare), write).await? {
            TxnOutcome::Committed { revision } => Ok(Arc::new(Object::from_stored(key, stored, revision)?)),
            TxnOutcome::Mismatch { current, .. } => Err(conflict(key, current)?),
        }
    }

    /// Deletes the object whose last change was `revision`; returns the revision of the deletion.
    ///
    /// # Errors
    /// [`Error::Conflict`] when it was changed since, [`Error::NotFound`] when it is gone.
    pub async fn delete(&self, key: &str, revision: u64) -> Result<u64, Error> {
        match self.kv.txn(self.full(key), Some(Compare::ModRevision(revision)), Write::Delete).await? {
            TxnOutcome::Committed { revision } => Ok(revision),
            TxnOutcome::Mismatch { current: None, .. } => Err(Error::NotFound),
            TxnOutcome::Mismatch { current, .. } => Err(conflict(key, current)?),
        }
    }

    /// Watches keys that begin with `scope`, from after `revision`.
    ///
    /// # Errors
    /// [`Error::TooOld`] when the ring does not reach back that far, [`Error::Future`] when it has not happened yet.
    pub fn watch(&self, scope: &str, matcher: Matcher, revision: u64) -> Result<Watcher, Error> {
        let current = self.revision().max(self.kv.revision());
        if revision > current {
            return Err(Error::Future { requested: revision, current });
        }
        let position = self.cache.position_after(revision)?;
        Ok(Watcher::new(self.cache.clone(), scope, matcher, position, revision))
    }

    /// The current state as frames of additions, and a watch from there on.
    pub fn watch_with_state(&self, scope: &str, matcher: Matcher) -> (Vec<Arc<Object>>, Watcher) {
        let applied = self.revision();
        let state = self.cache.state.read();
        let objects = state.range(scope).map(|(_, object)| object);
        let objects = objects.filter(|object| matcher.matches(object, self.cache.selectable)).cloned().collect();
        let position = state.first + state.ring.len() as u64;
        let revision = state.newest.max(applied);
        drop(state);
        (objects, Watcher::new(self.cache.clone(), scope, matcher, position, revision))
    }

    /// The watch frame that adds an object.
    pub fn added_frame(object: &Object) -> Bytes {
        frame(EventKind::Added, object)
    }

    fn full(&self, key: &str) -> Bytes {
        format!("{}{key}", self.cache.prefix).into()
    }
}

fn conflict(key: &str, current: Option<kedge_kv::KeyValue>) -> Result<Error, Error> {
    let object = current.map(|kv| Object::from_stored(key, kv.value, kv.mod_revision)).transpose()?;
    Ok(Error::Conflict(object.map(Arc::new)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::watch::Next;
    use kedge_kv::{Embedded, Options};
    use serde_json::json;

    const PODS: ResourceConfig = ResourceConfig { prefix: "pods", selectable: &["metadata.name", "spec.nodeName"] };

    async fn storage(dir: &std::path::Path) -> Storage {
        let kv = Embedded::open(Options::new(dir.to_owned(), kedge_base::system_clock())).unwrap();
        Storage::open(Arc::new(kv), &[PODS]).await.unwrap()
    }

    fn pod(name: &str, node: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "a", "labels": {"app": name}},
            "spec": {"nodeName": node}})
    }

    #[tokio::test]
    async fn a_write_is_visible_and_conflicts_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let pods = storage(dir.path()).await.resource("pods").unwrap();
        let made = pods.create("a/x", &pod("x", ""), None).await.unwrap();
        assert_eq!(pods.get("a/x").unwrap().revision, made.revision);
        assert!(matches!(pods.create("a/x", &pod("x", ""), None).await, Err(Error::Exists)));
        let next = pods.update("a/x", &pod("x", "n"), made.revision, None).await.unwrap();
        assert!(matches!(pods.update("a/x", &pod("x", ""), made.revision, None).await, Err(Error::Conflict(Some(_)))));
        pods.delete("a/x", next.revision).await.unwrap();
        assert!(matches!(pods.delete("a/x", next.revision).await, Err(Error::NotFound)));
        assert!(pods.get("a/x").is_none());
    }

    #[tokio::test]
    async fn a_selecting_watch_turns_changes_into_additions_and_deletions() {
        let dir = tempfile::tempdir().unwrap();
        let pods = storage(dir.path()).await.resource("pods").unwrap();
        let fields = kedge_meta::fields::Selector::parse("spec.nodeName=n").unwrap();
        let mut watcher = pods.watch("a/", Matcher { fields, ..Matcher::default() }, pods.revision()).unwrap();
        let v1 = pods.create("a/x", &pod("x", ""), None).await.unwrap();
        let v2 = pods.update("a/x", &pod("x", "n"), v1.revision, None).await.unwrap();
        pods.update("a/x", &pod("x", "m"), v2.revision, None).await.unwrap();
        let Next::Event(kind, event) = watcher.next().await else { panic!() };
        assert_eq!((kind, event.revision), (EventKind::Added, v2.revision));
        let Next::Event(kind, event) = watcher.next().await else { panic!() };
        assert_eq!(kind, EventKind::Deleted);
        assert!(event.frame(kind).starts_with(b"{\"type\":\"DELETED\",\"object\":{\"apiVersion\""));
    }

    #[tokio::test]
    async fn a_watcher_behind_the_ring_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let pods = storage(dir.path()).await.resource("pods").unwrap();
        let start = pods.revision();
        let mut last = pods.create("a/x", &pod("x", ""), None).await.unwrap();
        let mut watcher = pods.watch("", Matcher::default(), start).unwrap();
        let mut big = pod("x", "");
        big["status"] = json!("y".repeat(1 << 20));
        for _ in 0..20 {
            last = pods.update("a/x", &big, last.revision, None).await.unwrap();
        }
        assert!(matches!(watcher.next().await, Next::TooOld(_)));
        assert!(matches!(pods.watch("", Matcher::default(), start), Err(Error::TooOld { .. })));
    }

    #[tokio::test]
    async fn state_survives_opening_again_and_pages_are_consistent() {
        let dir = tempfile::tempdir().unwrap();
        let kv = Arc::new(Embedded::open(Options::new(dir.path().to_owned(), kedge_base::system_clock())).unwrap());
        let storage = Storage::open(kv.clone(), &[PODS]).await.unwrap();
        let pods = storage.resource("pods").unwrap();
        for name in ["x", "y", "z"] {
            pods.create(&format!("a/{name}"), &pod(name, ""), None).await.unwrap();
        }
        let first = pods.list("a/", &Matcher::default(), 2);
        assert_eq!((first.objects.len(), first.remaining, first.more), (2, 1, true));
        let z = pods.get("a/z").unwrap();
        pods.delete("a/z", z.revision).await.unwrap();
        let rest = pods.list_at("a/", "a/y\0", &Matcher::default(), 2, first.revision).await.unwrap();
        assert_eq!(&*rest.objects[0].0, "a/z", "the page shows the state of the first page");
        kv.close().await;
        drop((storage, pods, kv));
        let again = self::storage(dir.path()).await.resource("pods").unwrap();
        assert_eq!(again.list("", &Matcher::default(), 0).objects.len(), 2);
    }
}
