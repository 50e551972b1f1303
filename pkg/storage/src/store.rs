//! All resources over one store, and reading one of them.

use std::sync::Arc;

use bytes::Bytes;
use kedge_base::{SharedClock, sizes};
use kedge_kv::{KeyRange, KeyValue, Kv, Range};
use kedge_meta::Text;
use tokio::sync::Semaphore;

use crate::attributes::Fields;
use crate::cache::{Cache, Listing, Matcher};
use crate::codec::{Codec, Read, Source};
use crate::encryption::Encryption;
use crate::error::Error;
use crate::form::StoredForm;
use crate::hub::Hub;
use crate::object::Object;
use crate::recent::Budget;
use crate::watch::{EventKind, Watcher, frame};
use crate::write::Leases;

/// Where all objects are.
pub(crate) const ROOT: &str = "/registry/";

/// Resources that are read at once for being added: each holds pages of the store, and decodes them.
const ADDING: usize = 4;

/// How one resource is stored.
#[derive(Debug, Clone)]
pub struct ResourceConfig {
    /// Below `/registry/`, without slashes at the ends: `pods`, `services/specs`.
    pub prefix: Text,
    /// As the encryption configuration names it: `secrets`, `deployments.apps`.
    pub resource: String,
    /// Fields that lists and watches can select by.
    pub fields: Arc<Fields>,
    /// One of them, by which lists are found without looking at every object.
    pub indexed: Option<Text>,
    /// What its objects are stored as. Where there is none, what the store holds is taken as the object that it says it is.
    pub form: Option<Arc<StoredForm>>,
    /// Whether they are kept in fewer bytes where the store takes that: they are many, and seldom read.
    pub packed: bool,
}

impl ResourceConfig {
    /// Of a resource whose objects are selected by their labels alone, and may be of any form.
    pub fn new(prefix: impl Into<Text>, resource: impl Into<String>) -> Self {
        let (prefix, resource) = (prefix.into(), resource.into());
        Self { prefix, resource, fields: Arc::default(), indexed: None, form: None, packed: false }
    }

    pub(crate) fn full_prefix(&self) -> String {
        format!("{ROOT}{}/", self.prefix)
    }
}

/// The caches of all resources, fed by one observer.
pub struct Storage {
    pub(crate) kv: Arc<dyn Kv>,
    pub(crate) hub: Arc<Hub>,
    leases: Arc<Leases>,
    pub(crate) budget: Arc<Budget>,
    /// How many resources may be read at once for being added.
    pub(crate) adding: Semaphore,
}

impl Storage {
    /// Reads everything that is stored into the caches of `resources`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn open(
        kv: Arc<dyn Kv>,
        resources: &[ResourceConfig],
        encryption: Arc<Encryption>,
        clock: SharedClock,
    ) -> Result<Self, Error> {
        let budget = Arc::new(Budget::new(clock.clone()));
        let make = |config: &ResourceConfig| {
            let cache = Arc::new(Cache::new(&config.full_prefix(), config, budget.clone()));
            sizes::list(format!("watch cache of {}", config.resource), &cache);
            (cache.prefix.clone(), cache)
        };
        let caches = resources.iter().map(make).collect();
        let hub = Arc::new(Hub::new(caches, Codec::new(encryption), clock.clone()));
        let starting = Arc::new(crate::hub::Starting::new(hub.clone()));
        let snapshot = kv.observe(ROOT.as_bytes(), starting.clone()).await?;
        starting.begin(&snapshot);
        let leases = Arc::new(Leases::new(kv.clone(), clock));
        Ok(Self { kv, hub, leases, budget, adding: Semaphore::new(ADDING) })
    }

    /// The store of a resource.
    pub fn resource(&self, prefix: &str) -> Option<ResourceStore> {
        let full = format!("{ROOT}{prefix}/");
        let cache = self.hub.caches().get(full.as_str()).filter(|cache| cache.is_open()).cloned()?;
        Some(self.over(cache))
    }

    pub(crate) fn over(&self, cache: Arc<Cache>) -> ResourceStore {
        ResourceStore { kv: self.kv.clone(), hub: self.hub.clone(), leases: self.leases.clone(), cache }
    }

    /// Waits until the caches hold everything that was acknowledged to anybody before the call.
    ///
    /// # Errors
    /// When the store cannot say what that is, or the caches do not get there in time.
    pub async fn fresh(&self) -> Result<(), Error> {
        fresh(&*self.kv, &self.hub).await
    }

    /// The store of a resource by the name that the encryption configuration has for it.
    pub(crate) fn named(&self, resource: &str) -> Option<ResourceStore> {
        let named = |cache: &&Arc<Cache>| *cache.resource == *resource && cache.is_open();
        let cache = self.hub.caches().values().find(named).cloned()?;
        Some(self.over(cache))
    }

    /// Lets go of what the watch caches keep of the past when it has come of age; for ever.
    pub async fn tend(&self) {
        self.budget.tend().await;
    }

    /// Replaces the encryption: from now on values are written with it, and read with what it names. With a `source`, what
    /// it covers is only written while that is what the encryption is made of; see [`Source`].
    pub fn set_encryption(&self, encryption: Arc<Encryption>, source: Option<Source>) {
        self.hub.codec.replace(encryption, source);
        self.hub.release(0);
    }

    /// Says that keys may come from elsewhere: from now on a value that no key opens is not one that cannot be read, but one
    /// that waits, with all that follows, for [`Storage::set_encryption`] or [`Storage::go_on`].
    pub fn follow_keys(&self) {
        self.hub.follow_keys();
    }

    /// Completes when a value waits for its key, or a write for the encryption that others have changed.
    pub async fn key_missing(&self) {
        self.hub.key_missing.notified().await;
    }

    /// The revision of the first change that waits for a key.
    pub fn waits_at(&self) -> Option<u64> {
        self.hub.waits_at()
    }

    /// Gives up waiting for keys of values up to a revision. A cache with something that could not be read, and now can, is
    /// filled anew.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn go_on(&self, given_up: u64) -> Result<(), Error> {
        self.hub.release(given_up);
        for cache in self.hub.caches().values() {
            if self.hub.has_become_readable(cache) {
                self.refill(cache).await?;
            }
        }
        Ok(())
    }

    /// The newest revision that reads see.
    pub fn revision(&self) -> u64 {
        self.hub.applied()
    }

    /// Whether the store takes writes.
    ///
    /// # Errors
    /// Why not.
    pub async fn health(&self) -> Result<(), Error> {
        Ok(self.kv.health().await?)
    }
}

async fn fresh(kv: &dyn Kv, hub: &Hub) -> Result<(), Error> {
    let revision = kv.barrier().await?;
    if hub.wait(revision).await {
        return Ok(());
    }
    Err(Error::Behind { requested: revision, current: hub.applied() })
}

/// The objects of one resource. Keys are `namespace/name` or `name`.
#[derive(Clone)]
pub struct ResourceStore {
    pub(crate) kv: Arc<dyn Kv>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) leases: Arc<Leases>,
    pub(crate) cache: Arc<Cache>,
}

impl ResourceStore {
    /// An object as the cache has it.
    ///
    /// # Errors
    /// [`Error::Unreadable`] when the store holds something under the key that cannot be read.
    pub fn get(&self, key: &str) -> Result<Option<Arc<Object>>, Error> {
        self.cache.get(key)
    }

    /// An object as the store has it now, whoever wrote it.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn current(&self, key: &str) -> Result<Option<Arc<Object>>, Error> {
        self.cache.state.read().answers()?;
        let full = self.full(key);
        let Some(kv) = self.kv.get(full.as_bytes()).await? else { return Ok(None) };
        if let Ok(Some(cached)) = self.cache.get(key)
            && cached.revision == kv.mod_revision
        {
            return Ok(Some(cached));
        }
        Ok(Some(Arc::new(self.read(&full, kv).await?.object)))
    }

    /// The value under a whole key that is no object's, and the revision of its last change, as the store has it now.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn value_of(&self, key: &str) -> Result<Option<(Bytes, u64)>, Error> {
        Ok(self.kv.get(key.as_bytes()).await?.map(|kv| (kv.value, kv.mod_revision)))
    }

    /// Reads what the store holds under the whole key. When that is sealed with a key that another server has begun to use,
    /// the cache waits for the key, and so does the caller.
    pub(crate) async fn read(&self, full: &str, kv: KeyValue) -> Result<Read, Error> {
        let (codec, cache) = (&self.hub.codec, &self.cache);
        if codec.lacks_key(&cache.resource, full, &kv.value) {
            self.hub.wait(kv.mod_revision).await;
        }
        codec.read(&cache.resource, cache.form().as_deref(), full, kv.value, kv.mod_revision)
    }

    /// Waits until the cache holds everything that was acknowledged to anybody before the call.
    ///
    /// # Errors
    /// When the store cannot say what that is, or the cache does not get there in time.
    pub async fn fresh(&self) -> Result<(), Error> {
        fresh(&*self.kv, &self.hub).await
    }

    /// The key under which an object is in the store.
    pub fn full_key(&self, key: &str) -> String {
        format!("{}{key}", self.cache.prefix)
    }

    /// A revision up to which everything is visible.
    pub fn revision(&self) -> u64 {
        self.hub.applied()
    }

    /// The revision of the last change of any of these objects.
    pub fn newest(&self) -> u64 {
        self.cache.state.read().newest
    }

    /// How many objects there are.
    pub fn count(&self) -> usize {
        self.cache.state.read().objects.len()
    }

    /// How many objects there are, and the bytes that they take.
    pub fn held(&self) -> (usize, usize) {
        let state = self.cache.state.read();
        (state.objects.len(), state.bytes)
    }

    /// The cached state of all keys that begin with `scope`.
    ///
    /// # Errors
    /// [`Error::Unreadable`] when one of those that it covers holds something that cannot be read: a list that lacked it
    /// would be taken to say that it is gone.
    pub fn list(&self, scope: &str, matcher: &Matcher, limit: usize) -> Result<Listing, Error> {
        let (listing, unreadable) = self.cache.list(scope, matcher, limit, self.revision());
        unreadable.map_or(Ok(listing), Err)
    }

    /// What of a list can be read, for those to whom what cannot be is as good as nothing.
    pub fn readable(&self, scope: &str, matcher: &Matcher) -> Listing {
        self.cache.list(scope, matcher, 0, self.revision()).0
    }

    /// The state at an older revision, of keys from `start` on that begin with `scope`.
    ///
    /// # Errors
    /// [`Error::TooOld`] when the history no longer has it, or no longer can be read; [`Error::Unreadable`] when it holds
    /// something that still is there and cannot be read.
    pub async fn list_at(
        &self,
        scope: &str,
        start: &str,
        matcher: &Matcher,
        limit: usize,
        revision: u64,
    ) -> Result<Listing, Error> {
        self.cache.state.read().answers()?;
        let mut keys = KeyRange::prefix(self.full(scope).as_bytes());
        keys.start = self.full(start).into();
        let limit_read = if matcher.is_everything() { limit } else { 0 };
        let mut listing = Listing { objects: Vec::new(), revision, remaining: 0, more: true };
        // A page of which nothing matches has no last object to go on from: the next one is read at once.
        while listing.more && listing.objects.is_empty() {
            let range = Range { keys: keys.clone(), limit: limit_read, revision: Some(revision), ..Range::default() };
            let page = self.kv.range(range).await?;
            listing.remaining = page.remaining();
            listing.more = listing.remaining > 0;
            for kv in page.kvs {
                keys.start = [&kv.key[..], b"\0"].concat().into();
                let key = self.cache.short(&kv.key);
                if !matcher.may_match(&key) {
                    continue;
                }
                if limit > 0 && listing.objects.len() == limit {
                    listing.more = true;
                    break;
                }
                let object = self.read_at(&key, kv, revision).await?;
                if matcher.matches(&object, &self.cache.fields) {
                    listing.objects.push((key, object));
                }
            }
        }
        Ok(listing)
    }

    /// An object of an older state. One that cannot be read and has been replaced since, be it because its key is gone, is
    /// history that has passed.
    async fn read_at(&self, key: &str, kv: KeyValue, revision: u64) -> Result<Arc<Object>, Error> {
        let at = kv.mod_revision;
        match self.read(&self.full(key), kv).await {
            Ok(read) => Ok(Arc::new(read.object)),
            Err(err) => {
                let state = self.cache.state.read();
                let is_there = state.unreadable.get(key).is_some_and(|unreadable| unreadable.revision == at);
                Err(if is_there { err } else { Error::TooOld { requested: revision, oldest: state.newest } })
            }
        }
    }

    /// Whether it may hold objects of several versions, as they were written.
    pub fn is_mixed(&self) -> bool {
        self.cache.form().is_some_and(|form| form.others.iter().any(|other| other.same))
    }

    /// Whether an object of it is of the version that is stored now.
    pub fn is_current(&self, object: &Object) -> bool {
        !self.is_mixed() || self.cache.form().is_none_or(|form| form.begins(&object.stored()))
    }

    /// From now on its objects are stored in this form, and those that there are shown in it.
    pub fn reform(&self, form: StoredForm) {
        self.cache.reform(Arc::new(form));
    }

    /// Whether it has been removed: whatever it is asked ends in [`Error::Removed`].
    pub fn is_removed(&self) -> bool {
        self.cache.state.read().answers().is_err()
    }

    /// Whether it was made for the same place and fields.
    pub fn is_for(&self, config: &ResourceConfig) -> bool {
        self.cache.prefix == config.full_prefix().into_boxed_str() && self.cache.fields == config.fields
    }

    /// The version that its objects are stored in.
    pub fn stored_version(&self) -> Option<Text> {
        self.cache.form().map(|form| form.api_version.clone())
    }

    /// Whether lists can be selected by this field.
    pub fn is_selectable(&self, field: &str) -> bool {
        self.cache.fields.contains(field)
    }

    /// Watches keys that begin with `scope`, from after `revision`, which may be still to come.
    ///
    /// # Errors
    /// [`Error::TooOld`] when the ring does not reach back that far.
    pub async fn watch(&self, scope: &str, matcher: Matcher, revision: u64) -> Result<Watcher, Error> {
        // Another server may have told the client of a revision that has not come here yet.
        if revision > self.revision() {
            self.fresh().await?;
        }
        let position = self.cache.position_after(revision)?;
        Ok(Watcher::new(self.cache.clone(), scope, matcher, position, revision))
    }

    /// The cached state, and a watch from there on.
    ///
    /// # Errors
    /// As [`ResourceStore::list`].
    pub fn watch_with_state(&self, scope: &str, matcher: Matcher) -> Result<(Vec<Arc<Object>>, Watcher), Error> {
        let applied = self.revision();
        let state = self.cache.state.read();
        state.answers()?;
        if let Some(unreadable) = self.cache.covers_unreadable(&state, scope, &matcher, None) {
            return Err(unreadable);
        }
        let objects = state.range(scope).map(|(_, object)| object);
        let objects = objects.filter(|object| matcher.matches(object, &self.cache.fields)).cloned().collect();
        let position = state.ring.next();
        let revision = state.newest.max(applied);
        drop(state);
        Ok((objects, Watcher::new(self.cache.clone(), scope, matcher, position, revision)))
    }

    /// The watch frame that adds an object.
    pub fn added_frame(object: &Object) -> Bytes {
        frame(EventKind::Added, object)
    }

    pub(crate) fn full(&self, key: &str) -> String {
        format!("{}{key}", self.cache.prefix)
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
pub(crate) mod tests;
