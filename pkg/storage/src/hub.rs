//! The caches of all resources, fed by one observer of the store.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kedge_base::SharedClock;
use kedge_kv::{Event, KeyValue, Observer, Snapshot};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, watch};
use tracing::{error, warn};

use crate::cache::{Cache, Content, Contents, Unreadable};
use crate::codec::Codec;
use crate::error::Error;

/// How long a reader waits for the cache to take in what the store has acknowledged.
const CATCH_UP: Duration = Duration::from_secs(10);

/// Caches by their prefixes, none of which contains another.
pub(crate) type Caches = BTreeMap<Box<str>, Arc<Cache>>;

/// Sends each event to the cache of its resource.
///
/// Invariant: the map of caches is replaced, never changed, and its lock is only held to do that or to take the map: the
/// observer runs on the store's own thread. An event that went by a cache, because its map was older than the cache, was
/// readable in the store before the cache was put into the map.
pub(crate) struct Hub {
    caches: RwLock<Arc<Caches>>,
    pub(crate) codec: Codec,
    /// Every event up to this revision is in the caches.
    applied: watch::Sender<u64>,
    clock: SharedClock,
    keys: Mutex<Keys>,
    /// A value came that was sealed with a key that is not known here, or a write found that the encryption was changed.
    pub(crate) key_missing: Notify,
    /// Held by a write that amends what others change, too.
    pub(crate) amending: tokio::sync::Mutex<()>,
}

/// What waits for keys that another server has begun to use.
#[derive(Default)]
struct Keys {
    /// Whether keys may come from elsewhere.
    follow: bool,
    held: Option<Held>,
}

#[derive(Default)]
struct Held {
    events: Vec<Event>,
    bytes: usize,
    progress: u64,
}

fn size(event: &Event) -> usize {
    event.key.len() + event.current.as_ref().map_or(0, |kv| kv.value.len())
}

/// More events do not wait for a key: what cannot be read is told so then.
const HELD: usize = 10_000;
const HELD_BYTES: usize = 32 << 20;

impl Hub {
    pub(crate) fn new(caches: Caches, codec: Codec, clock: SharedClock) -> Self {
        Self {
            caches: RwLock::new(Arc::new(caches)),
            codec,
            applied: watch::Sender::new(0),
            clock,
            keys: Mutex::default(),
            key_missing: Notify::new(),
            amending: tokio::sync::Mutex::default(),
        }
    }

    /// The caches that there are now.
    pub(crate) fn caches(&self) -> Arc<Caches> {
        self.caches.read().clone()
    }

    /// Gives a cache its place: events come to it from now on.
    ///
    /// # Errors
    /// [`Error::Overlap`] when there is one of which it would get events, or that would get its own.
    pub(crate) fn insert(&self, cache: &Arc<Cache>) -> Result<(), Error> {
        let mut caches = self.caches.write();
        let overlaps = |taken: &&str| taken.starts_with(&*cache.prefix) || cache.prefix.starts_with(*taken);
        if let Some(taken) = caches.keys().map(|taken| &**taken).find(overlaps) {
            return Err(Error::Overlap { wanted: cache.prefix.to_string(), taken: taken.to_string() });
        }
        let mut more = Caches::clone(&caches);
        more.insert(cache.prefix.clone(), cache.clone());
        *caches = Arc::new(more);
        Ok(())
    }

    /// Takes a cache away and ends it. False when it is not there: another one under its prefix stays.
    pub(crate) fn take_out(&self, cache: &Arc<Cache>) -> bool {
        {
            let mut caches = self.caches.write();
            if !caches.get(&cache.prefix).is_some_and(|there| Arc::ptr_eq(there, cache)) {
                return false;
            }
            let mut fewer = Caches::clone(&caches);
            fewer.remove(&cache.prefix);
            *caches = Arc::new(fewer);
        }
        // Whoever still has the older map finds that it takes in nothing more.
        cache.close();
        true
    }

    /// From now on a value of an unknown key, and all that follows, waits for [`Hub::release`].
    pub(crate) fn follow_keys(&self) {
        self.keys.lock().follow = true;
    }

    /// The revision of the first change that waits, for its own key or for that of one behind it.
    pub(crate) fn waits_at(&self) -> Option<u64> {
        Some(self.keys.lock().held.as_ref()?.events.first()?.revision)
    }

    /// Takes in what was held back up to the first value that no key opens yet. Up to `given_up` that is not waited for.
    pub(crate) fn release(&self, given_up: u64) {
        let mut keys = self.keys.lock();
        let Some(mut held) = keys.held.take() else { return };
        let caches = self.caches();
        let waits = |event: &&Event| event.revision > given_up && self.lacks_key(&caches, event);
        let Some(revision) = held.events.iter().find(waits).map(|event| event.revision) else {
            self.take_in(&held.events);
            self.advance(held.progress);
            return;
        };
        // Those of one revision are not parted.
        let begin = held.events.partition_point(|event| event.revision < revision);
        let readable: Vec<Event> = held.events.drain(..begin).collect();
        held.bytes -= readable.iter().map(size).sum::<usize>();
        self.take_in(&readable);
        keys.held = Some(held);
        self.key_missing.notify_one();
    }

    /// Waits until the encryption is that which another server has made of it. False when that takes too long.
    pub(crate) async fn keys_reach(&self, revision: u64) -> bool {
        self.key_missing.notify_one();
        tokio::select! {
            () = self.codec.reaches(revision) => true,
            () = self.clock.sleep(CATCH_UP) => false,
        }
    }

    fn lacks_key(&self, caches: &Caches, event: &Event) -> bool {
        let (Some(kv), Some(cache)) = (&event.current, cache_of(caches, &event.key)) else { return false };
        self.codec.lacks_key(&cache.resource, &String::from_utf8_lossy(&event.key), &kv.value)
    }

    fn take_in(&self, events: &[Event]) {
        let caches = self.caches();
        for event in events {
            let Some(cache) = cache_of(&caches, &event.key) else { continue };
            let current = event.current.as_ref();
            let read = |kv: &KeyValue| self.read(cache, &event.key, kv.value.clone(), event.revision);
            cache.apply(cache.short(&event.key), current.map_or(Content::Nothing, read), event.revision);
        }
        if let Some(last) = events.last() {
            self.advance(last.revision);
        }
    }

    /// A revision up to which everything is in the caches.
    pub(crate) fn applied(&self) -> u64 {
        *self.applied.borrow()
    }

    /// Waits until everything up to `revision` is in the caches. False when that takes too long.
    pub(crate) async fn wait(&self, revision: u64) -> bool {
        if self.applied() >= revision {
            return true;
        }
        let mut applied = self.applied.subscribe();
        tokio::select! {
            reached = applied.wait_for(|at| *at >= revision) => reached.is_ok(),
            () = self.clock.sleep(CATCH_UP) => false,
        }
    }

    fn advance(&self, revision: u64) {
        self.applied.send_if_modified(|at| {
            let newer = revision > *at;
            *at = revision.max(*at);
            newer
        });
    }

    /// What cannot be read is kept as that, with the cause: whoever asks for it is told so.
    pub(crate) fn read(&self, cache: &Cache, key: &Bytes, value: Bytes, revision: u64) -> Content {
        let key = String::from_utf8_lossy(key);
        match self.codec.read(&cache.resource, cache.form().as_deref(), &key, value.clone(), revision) {
            Ok(read) => Content::Object(Arc::new(read.object)),
            Err(err) => {
                error!(revision, error = %err, "the store holds a value that cannot be read");
                let what = if let Error::Unreadable { what, .. } = err { what } else { err.to_string() };
                Content::Unreadable(Unreadable::new(value, revision, &what))
            }
        }
    }

    /// Whether something in the cache that could not be read can be now.
    pub(crate) fn has_become_readable(&self, cache: &Cache) -> bool {
        cache.state.read().unreadable.iter().any(|(key, unreadable)| {
            let (key, stored) = (format!("{}{key}", cache.prefix), unreadable.stored.clone());
            self.codec.read(&cache.resource, cache.form().as_deref(), &key, stored, unreadable.revision).is_ok()
        })
    }

    /// The state that events follow on.
    pub(crate) fn fill(&self, snapshot: &Snapshot) {
        let caches = self.caches();
        let mut sorted = self.sort(&caches, &snapshot.kvs);
        for (prefix, cache) in &*caches {
            cache.fill(snapshot.revision, sorted.remove(prefix).unwrap_or_default());
        }
        self.advance(snapshot.revision);
    }

    fn sort(&self, caches: &Caches, kvs: &[KeyValue]) -> BTreeMap<Box<str>, Contents> {
        let mut sorted: BTreeMap<Box<str>, Contents> = BTreeMap::new();
        for kv in kvs {
            let Some(cache) = cache_of(caches, &kv.key) else { continue };
            let content = self.read(cache, &kv.key, kv.value.clone(), kv.mod_revision);
            sorted.entry(cache.prefix.clone()).or_default().push(cache.short(&kv.key), content);
        }
        sorted
    }
}

/// The cache whose prefix the key has.
fn cache_of<'a>(caches: &'a Caches, key: &[u8]) -> Option<&'a Arc<Cache>> {
    let key = std::str::from_utf8(key).ok()?;
    let up_to_key = (Bound::Unbounded, Bound::Included(key));
    let (prefix, cache) = caches.range::<str, _>(up_to_key).next_back()?;
    key.starts_with(&**prefix).then_some(cache)
}

impl Observer for Hub {
    fn committed(&self, events: &[Event]) {
        // Held to the end, so that nothing overtakes what is being released.
        let mut keys = self.keys.lock();
        let lacks_key = |caches: &Caches| events.iter().any(|event| self.lacks_key(caches, event));
        if keys.held.is_none() && keys.follow && lacks_key(&self.caches()) {
            keys.held = Some(Held::default());
            self.key_missing.notify_one();
        }
        let Some(held) = &mut keys.held else { return self.take_in(events) };
        held.events.extend_from_slice(events);
        held.bytes += events.iter().map(size).sum::<usize>();
        if (held.events.len() > HELD || held.bytes > HELD_BYTES)
            && let Some(Held { events, progress, .. }) = keys.held.take()
        {
            self.take_in(&events);
            self.advance(progress);
        }
    }

    fn progress(&self, revision: u64) {
        match &mut self.keys.lock().held {
            Some(held) => held.progress = held.progress.max(revision),
            None => self.advance(revision),
        }
    }

    fn reset(&self, state: Snapshot) {
        warn!(
            revision = state.revision,
            "changes were lost to compaction; caches are filled anew, watchers must list again"
        );
        let mut keys = self.keys.lock();
        keys.held = None;
        self.fill(&state);
    }
}

/// Holds back what happens between the registration of the observer and the filling of the caches.
pub(crate) struct Starting {
    hub: Arc<Hub>,
    early: Mutex<Option<Held>>,
}

impl Starting {
    pub(crate) fn new(hub: Arc<Hub>) -> Self {
        Self { hub, early: Mutex::new(Some(Held::default())) }
    }

    /// Fills the caches and lets events through.
    pub(crate) fn begin(&self, snapshot: &Snapshot) {
        let mut early = self.early.lock();
        // Without it, a newer state has come meanwhile, which must not be replaced by this one.
        if let Some(Held { events, progress, .. }) = early.take() {
            self.hub.fill(snapshot);
            self.hub.committed(&events);
            self.hub.progress(progress);
        }
    }
}

impl Observer for Starting {
    fn committed(&self, events: &[Event]) {
        let mut early = self.early.lock();
        match &mut *early {
            Some(waiting) => waiting.events.extend_from_slice(events),
            None => self.hub.committed(events),
        }
    }

    fn progress(&self, revision: u64) {
        match &mut *self.early.lock() {
            Some(waiting) => waiting.progress = waiting.progress.max(revision),
            None => self.hub.progress(revision),
        }
    }

    fn reset(&self, state: Snapshot) {
        let mut early = self.early.lock();
        *early = None;
        self.hub.reset(state);
    }
}

#[cfg(test)]
#[path = "hub_tests.rs"]
mod tests;
