//! Caches that come and go in any order with events, states read for them and lost history, against a plain log.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt as _;
use kedge_kv::{Event, KeyValue, Observer as _, Snapshot};
use serde_json::json;

use crate::cache::{Cache, Contents};
use crate::codec::Codec;
use crate::hub::Hub;
use crate::phase::Filled;
use crate::recent::Budget;
use crate::store::ResourceConfig;
use crate::watch::{EventKind, Next, Watcher};
use crate::{Error, Matcher, Object};

const RESOURCES: [&str; 3] = ["pods", "x.org/as", "x.org/ases"];
const KEYS: [&str; 4] = ["a", "b", "c/d", "c/e"];

/// Numbers that look random, and are the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % sides
    }
}

/// One change of the store; the first has the revision 1.
struct Change {
    resource: usize,
    key: &'static str,
    value: Option<Bytes>,
}

/// A resource that was added.
struct Added {
    cache: Arc<Cache>,
    /// The revision of the state that is being read for it, and how much of it has been.
    reading: Option<(u64, Contents)>,
    watching: Option<Watching>,
}

/// Somebody who listed and watches.
struct Watching {
    watcher: Watcher,
    seen: u64,
    view: BTreeMap<String, u64>,
}

struct Model {
    dice: Dice,
    hub: Hub,
    budget: Arc<Budget>,
    log: Vec<Change>,
    /// The revision up to which the hub has been told.
    told: u64,
    added: [Option<Added>; RESOURCES.len()],
    /// How often each thing that should happen did.
    counts: BTreeMap<&'static str, usize>,
}

fn prefix(resource: usize) -> String {
    format!("/registry/{}/", RESOURCES[resource])
}

impl Model {
    fn new(seed: u64) -> Self {
        let clock = kedge_base::system_clock();
        let budget = Arc::new(Budget::new(clock.clone()));
        let hub = Hub::new(BTreeMap::new(), Codec::default(), clock);
        let added = [const { None }; RESOURCES.len()];
        Self { dice: Dice(seed), hub, budget, log: Vec::new(), told: 0, added, counts: BTreeMap::new() }
    }

    fn newest(&self) -> u64 {
        self.log.len() as u64
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// What a resource holds at a revision: its keys and the revisions of their last changes.
    fn state(&self, resource: usize, revision: u64) -> BTreeMap<String, u64> {
        let mut state = BTreeMap::new();
        for (change, at) in self.log.iter().zip(1..=revision).filter(|(change, _)| change.resource == resource) {
            match change.value {
                Some(_) => state.insert(change.key.to_owned(), at),
                None => state.remove(change.key),
            };
        }
        state
    }

    fn key_value(&self, change: &Change, at: u64) -> Option<KeyValue> {
        let key = format!("{}{}", prefix(change.resource), change.key).into();
        let value = change.value.clone()?;
        Some(KeyValue { key, value, create_revision: at, mod_revision: at, version: 1, lease: 0 })
    }

    fn stored(&self, resource: usize, revision: u64) -> Vec<KeyValue> {
        let state = self.state(resource, revision).into_values();
        state.filter_map(|at| self.key_value(&self.log[at as usize - 1], at)).collect()
    }

    fn write(&mut self) {
        let (resource, key) = (self.dice.roll(RESOURCES.len()), KEYS[self.dice.roll(KEYS.len())]);
        let value = json!({"apiVersion": "v1", "kind": "A", "metadata": {"name": key}, "n": self.log.len()});
        let value = (self.dice.roll(3) > 0).then(|| Object::encode(None, &value).unwrap());
        self.log.push(Change { resource, key, value });
    }

    fn tell(&mut self) {
        let until = self.newest().min(self.told + 1 + self.dice.roll(3) as u64);
        let event = |at: u64| {
            let change = &self.log[at as usize - 1];
            let key = format!("{}{}", prefix(change.resource), change.key).into();
            Event { revision: at, key, current: self.key_value(change, at), previous: None }
        };
        let events: Vec<Event> = (self.told + 1..=until).map(event).collect();
        if !events.is_empty() {
            self.hub.committed(&events);
            self.told = until;
        }
    }

    /// The changes that the hub has not been told of are lost to it.
    fn reset(&mut self) {
        let revision = self.newest();
        let kvs = (0..RESOURCES.len()).flat_map(|resource| self.stored(resource, revision)).collect();
        self.hub.reset(Snapshot { revision, kvs });
        self.told = revision;
        for added in self.added.iter_mut().flatten().filter(|added| added.cache.is_open()) {
            if let Some(Watching { mut watcher, .. }) = added.watching.take() {
                // What it had not been told of is missing, so it must not go on.
                assert!(matches!(watcher.try_next(), Err(Error::TooOld { .. })));
            }
        }
        self.count("reset");
    }

    /// Adds a resource, reads a page for it, fills it, has somebody watch it, or removes it: whatever comes next.
    fn go_on(&mut self) {
        let resource = self.dice.roll(RESOURCES.len());
        let newest = self.newest();
        let Some(mut added) = self.added[resource].take() else {
            let config = ResourceConfig::new(RESOURCES[resource], RESOURCES[resource]);
            let cache = Arc::new(Cache::new(&prefix(resource), &config, self.budget.clone()));
            self.hub.insert(&cache).unwrap();
            assert!(matches!(self.hub.insert(&cache), Err(Error::Overlap { .. })));
            self.added[resource] = Some(Added { cache, reading: None, watching: None });
            return self.count("added");
        };
        if self.dice.roll(8) == 0 {
            self.remove(added);
            return self.count("removed");
        }
        match added.reading.take() {
            None if !added.cache.is_open() => added.reading = Some((newest, Contents::default())),
            None => {}
            Some((revision, mut contents)) => {
                let stored = self.stored(resource, revision);
                let read = contents.objects.len();
                match stored.get(read) {
                    Some(kv) => {
                        let content = self.hub.read(&added.cache, &kv.key, kv.value.clone(), kv.mod_revision);
                        contents.push(added.cache.short(&kv.key), content);
                        added.reading = Some((revision, contents));
                    }
                    None => {
                        assert_eq!(added.cache.fill_first(revision, contents), Filled::Open);
                        self.count("filled");
                    }
                }
            }
        }
        if added.watching.is_none() && added.cache.is_open() {
            added.watching = Some(self.watch(&added.cache));
        }
        self.added[resource] = Some(added);
    }

    fn watch(&self, cache: &Arc<Cache>) -> Watching {
        let (listing, unreadable) = cache.list("", &Matcher::default(), 0, self.hub.applied());
        assert!(unreadable.is_none());
        let view = listing.objects.iter().map(|(key, object)| (key.to_string(), object.revision)).collect();
        let position = cache.position_after(listing.revision).unwrap();
        let watcher = Watcher::new(cache.clone(), "", Matcher::default(), position, listing.revision);
        Watching { watcher, seen: listing.revision, view }
    }

    fn remove(&mut self, added: Added) {
        assert!(self.hub.take_out(&added.cache) && !self.hub.take_out(&added.cache));
        if let Some(mut watching) = added.watching {
            assert!(matches!(watching.watcher.next().now_or_never(), Some(Next::Closed)), "all else was taken before");
        }
        // Somebody who began earlier has it still.
        assert_eq!(added.cache.fill_first(self.newest(), Contents::default()), Filled::Closed);
        assert!(matches!(added.cache.get("a"), Err(Error::Removed)));
    }

    /// Every watcher takes what there is: each change that its resource was told of, once and in order.
    fn look(&mut self) {
        for resource in 0..RESOURCES.len() {
            let Some(mut added) = self.added[resource].take() else { continue };
            if let Some(watching) = &mut added.watching {
                let told = self.told.max(watching.seen);
                for at in watching.seen + 1..=told {
                    let change = &self.log[at as usize - 1];
                    let key = change.key.to_owned();
                    let expected = match (&change.value, watching.view.contains_key(&key)) {
                        _ if change.resource != resource => continue,
                        (None, false) => continue,
                        (None, true) => EventKind::Deleted,
                        (Some(_), false) => EventKind::Added,
                        (Some(_), true) => EventKind::Modified,
                    };
                    let (kind, event) = watching.watcher.try_next().unwrap().unwrap();
                    assert_eq!((kind, &*event.key, event.revision), (expected, &*key, at));
                    match kind {
                        EventKind::Deleted => watching.view.remove(&key),
                        _ => watching.view.insert(key, at),
                    };
                    *self.counts.entry("watched").or_default() += 1;
                }
                assert!(watching.watcher.try_next().unwrap().is_none(), "nothing comes twice");
                watching.seen = told;
                let (listing, _) = added.cache.list("", &Matcher::default(), 0, self.hub.applied());
                let cached: BTreeMap<String, u64> =
                    listing.objects.iter().map(|(key, object)| (key.to_string(), object.revision)).collect();
                assert_eq!(cached, watching.view);
                assert_eq!(cached, self.state(resource, told));
            }
            self.added[resource] = Some(added);
        }
    }
}

#[test]
fn in_whatever_order_things_come_nothing_is_lost_or_doubled() {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for seed in 0..150 {
        let mut model = Model::new(seed);
        for _ in 0..250 {
            match model.dice.roll(100) {
                0..30 => model.write(),
                30..60 => model.tell(),
                60..98 => model.go_on(),
                _ => model.reset(),
            }
            model.look();
        }
        for added in std::mem::take(&mut model.added).into_iter().flatten() {
            model.remove(added);
        }
        assert_eq!(model.budget.bytes(), 0);
        assert!(model.hub.caches().is_empty());
        for (what, n) in model.counts {
            *counts.entry(what).or_default() += n;
        }
    }
    for what in ["added", "filled", "removed", "reset", "watched"] {
        assert!(counts.get(what).is_some_and(|n| *n > 500), "{counts:?}");
    }
}

fn cache(hub: &Hub) -> Arc<Cache> {
    let config = ResourceConfig::new("secrets", "secrets");
    let budget = Arc::new(Budget::new(kedge_base::system_clock()));
    let cache = Arc::new(Cache::new("/registry/secrets/", &config, budget));
    hub.insert(&cache).unwrap();
    cache
}

fn event(value: Bytes, revision: u64) -> Event {
    let key = Bytes::from("/registry/secrets/a");
    let current =
        Some(KeyValue { key: key.clone(), value, create_revision: 1, mod_revision: revision, version: 1, lease: 0 });
    Event { key, current, previous: None, revision }
}

fn secret(n: u64) -> Bytes {
    Object::encode(None, &json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, "n": n})).unwrap()
}

/// What waits for a key was reported before the cache was added, and reaches it later.
#[test]
fn a_cache_that_is_added_while_events_wait_for_a_key_gets_them_once() {
    let hub = Hub::new(BTreeMap::new(), Codec::default(), kedge_base::system_clock());
    let encryption = crate::encryption::Encryption::from_value(json!({
        "apiVersion": "apiserver.config.k8s.io/v1", "kind": "EncryptionConfiguration",
        "resources": [{"resources": ["secrets"], "providers": [{"aesgcm": {"keys": [
            {"name": "k", "secret": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}]}}, {"identity": {}}]}],
    }))
    .unwrap();
    let sealed = |n| encryption.seal("secrets", "/registry/secrets/a", secret(n)).unwrap();
    hub.follow_keys();
    let first = cache(&hub);
    first.fill_first(4, Contents::default());
    hub.committed(&[event(sealed(5), 5)]);
    assert!(hub.take_out(&first));
    let cache = cache(&hub);
    hub.committed(&[event(secret(6), 6), event(secret(7), 7)]);
    let read = event(secret(6), 6).current.unwrap();
    let mut contents = Contents::default();
    contents.push("a".into(), hub.read(&cache, &read.key, read.value, 6));
    assert_eq!(cache.fill_first(6, contents), Filled::Open);
    hub.codec.replace(Arc::new(encryption.clone()), None);
    hub.release(0);
    let mut watcher = Watcher::new(cache.clone(), "", Matcher::default(), cache.position_after(6).unwrap(), 6);
    let (kind, event) = watcher.try_next().unwrap().unwrap();
    assert_eq!((kind, event.revision), (EventKind::Modified, 7));
    assert!(watcher.try_next().unwrap().is_none());
}

#[test]
fn more_events_than_wait_have_the_state_read_anew() {
    let hub = Hub::new(BTreeMap::new(), Codec::default(), kedge_base::system_clock());
    let cache = cache(&hub);
    let value = secret(1);
    let events: Vec<Event> = (1..=10_050).map(|at| event(value.clone(), at)).collect();
    hub.committed(&events);
    assert_eq!(cache.fill_first(10_000, Contents::default()), Filled::Stale);
    let read = |at| {
        let mut contents = Contents::default();
        contents.push("a".into(), hub.read(&cache, &Bytes::from("/registry/secrets/a"), value.clone(), at));
        contents
    };
    assert_eq!(cache.fill_first(10_020, read(10_020)), Filled::Open);
    let state = cache.state.read();
    assert_eq!((state.newest, state.ring.events.len()), (10_050, 30));
}
