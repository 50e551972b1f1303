//! The watch cache of one resource: current objects, and the recent events.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::mem::take;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use kedge_base::sizes::{Measured, Size};
use kedge_meta::{Text, fields, labels};
use parking_lot::{RwLock, RwLockWriteGuard};
use tokio::sync::watch;

use crate::attributes::Fields;
use crate::error::Error;
use crate::form::StoredForm;
use crate::gate::Gate;
use crate::object::Object;
use crate::phase::{Filled, Phase, Waiting};
use crate::recent::{Budget, Counted, Ring};
use crate::store::ResourceConfig;
use crate::watch::WatchEvent;

/// An object and its key below the resource's prefix.
pub type Keyed = (Arc<str>, Arc<Object>);

/// Which objects a list or watch is about.
#[derive(Debug, Clone, Default)]
pub struct Matcher {
    pub labels: labels::Selector,
    pub fields: fields::Selector,
}

/// A consistent list of objects.
#[derive(Debug)]
pub struct Listing {
    pub objects: Vec<Keyed>,
    /// The version of the list.
    pub revision: u64,
    /// Objects beyond the limit; only counted without selectors.
    pub remaining: usize,
    /// Whether there may be more.
    pub more: bool,
}

/// A value that the store holds and that is no object which can be read here.
#[derive(Debug, Clone)]
pub(crate) struct Unreadable {
    pub(crate) stored: Bytes,
    pub(crate) revision: u64,
    /// Why it cannot be read.
    pub(crate) what: Arc<str>,
    /// What was last read under the key: what watchers have been shown.
    last: Option<Arc<Object>>,
}

impl Unreadable {
    pub(crate) fn new(stored: Bytes, revision: u64, what: &str) -> Self {
        Self { stored, revision, what: what.into(), last: None }
    }
}

/// What a key holds after a change.
pub(crate) enum Content {
    Object(Arc<Object>),
    Unreadable(Unreadable),
    Nothing,
}

impl Content {
    pub(crate) fn size(&self) -> usize {
        const AROUND: usize = 200;
        AROUND
            + match self {
                Self::Object(object) => object.held(),
                Self::Unreadable(unreadable) => unreadable.stored.len(),
                Self::Nothing => 0,
            }
    }
}

/// A state that a cache is filled with.
#[derive(Default)]
pub(crate) struct Contents {
    pub(crate) objects: Vec<Keyed>,
    pub(crate) unreadable: Vec<(Arc<str>, Unreadable)>,
}

impl Contents {
    pub(crate) fn push(&mut self, key: Arc<str>, content: Content) {
        match content {
            Content::Object(object) => self.objects.push((key, object)),
            Content::Unreadable(unreadable) => self.unreadable.push((key, unreadable)),
            Content::Nothing => {}
        }
    }
}

pub(crate) struct State {
    pub(crate) phase: Phase,
    pub(crate) objects: BTreeMap<Arc<str>, Arc<Object>>,
    /// Keys that are taken by what cannot be read. They are in no list: one that covers them fails.
    pub(crate) unreadable: BTreeMap<Arc<str>, Unreadable>,
    /// Keys by the value of the indexed field.
    index: HashMap<String, BTreeSet<Arc<str>>>,
    pub(crate) ring: Ring,
    /// Bytes of keys and objects.
    pub(crate) bytes: usize,
    /// The newest revision that this resource has an event of.
    pub(crate) newest: u64,
    /// The revision of the state that the cache was last filled with.
    filled: u64,
}

/// The cache of one resource.
pub(crate) struct Cache {
    /// Such as `/registry/pods/`; keys in the cache are what follows.
    pub(crate) prefix: Box<str>,
    /// As the encryption configuration names it: `secrets`, `deployments.apps`.
    pub(crate) resource: Box<str>,
    /// What its objects can be selected by.
    pub(crate) fields: Arc<Fields>,
    /// The field that lists are often selected by.
    indexed: Option<Text>,
    /// What its objects are stored as; any form will do where there is none.
    form: RwLock<Option<Arc<StoredForm>>>,
    /// Whether its objects are stored packed where the store takes that.
    pub(crate) packed: bool,
    pub(crate) state: RwLock<State>,
    /// The number of the next event.
    pub(crate) next: watch::Sender<u64>,
    budget: Arc<Budget>,
    /// Writes of its objects.
    pub(crate) writes: Gate,
    /// Nothing will come after what is in the ring.
    closed: AtomicBool,
}

impl Cache {
    pub(crate) fn new(prefix: &str, config: &ResourceConfig, budget: Arc<Budget>) -> Self {
        let state = State {
            phase: Phase::Filling(Waiting::default()),
            objects: BTreeMap::new(),
            unreadable: BTreeMap::new(),
            index: HashMap::new(),
            ring: Ring::default(),
            bytes: 0,
            newest: 0,
            filled: 0,
        };
        Self {
            prefix: prefix.into(),
            resource: config.resource.clone().into(),
            fields: config.fields.clone(),
            indexed: config.indexed.clone(),
            form: RwLock::new(config.form.clone()),
            packed: config.packed,
            state: RwLock::new(state),
            next: watch::Sender::new(0),
            budget,
            writes: Gate::default(),
            closed: AtomicBool::new(false),
        }
    }

    /// What its objects are stored as.
    pub(crate) fn form(&self) -> Option<Arc<StoredForm>> {
        self.form.read().clone()
    }

    /// Its objects are stored in another form from now on, and those that there are shown in it. Watchers are told nothing: nobody wrote.
    pub(crate) fn reform(&self, form: Arc<StoredForm>) {
        *self.form.write() = Some(form.clone());
        // Not while others wait for the cache: there may be many.
        let held_now: Vec<Keyed> = self.state.read().objects.iter().map(|(k, o)| (k.clone(), o.clone())).collect();
        for (key, object) in held_now {
            let Some(json) = form.reshape(&object.stored().into_owned().into(), object.revision) else { continue };
            let Ok(shaped) = Object::from_stored(&key, json, object.revision) else { continue };
            let (mut state, shaped) = (self.state.write(), Arc::new(shaped));
            if !state.objects.get(&key).is_some_and(|there| Arc::ptr_eq(there, &object)) {
                continue;
            }
            self.unindex(&mut state, &key, &object);
            self.index(&mut state, &key, &shaped);
            state.bytes = state.bytes + held(&key, &shaped) - held(&key, &object);
            state.objects.insert(key, shaped);
        }
    }

    /// The key below the prefix.
    pub(crate) fn short(&self, key: &[u8]) -> Arc<str> {
        let full = String::from_utf8_lossy(key);
        Arc::from(full.get(self.prefix.len()..).unwrap_or_default())
    }

    /// Takes in the state that the events to come start from. Watchers of what was there before must list again.
    pub(crate) fn fill(self: &Arc<Self>, revision: u64, contents: Contents) {
        let mut state = self.state.write();
        match &state.phase {
            Phase::Closed => {}
            Phase::Open => self.budget.give_back(self.replace(&mut state, revision, contents, false)),
            // Whatever waits is older than a state that replaces all that was reported, and is left out for that.
            Phase::Filling(_) => self.open(state, revision, contents),
        }
    }

    /// Fills a cache for the first time, with a state that was read beside the events; those that the state does not have yet
    /// follow at once. One that has been filled meanwhile, because events were lost to compaction, is newer than that.
    pub(crate) fn fill_first(self: &Arc<Self>, revision: u64, contents: Contents) -> Filled {
        let state = self.state.write();
        match &state.phase {
            Phase::Closed => return Filled::Closed,
            Phase::Open => return Filled::Open,
            Phase::Filling(waiting) if revision < waiting.lost => return Filled::Stale,
            Phase::Filling(_) => self.open(state, revision, contents),
        }
        Filled::Open
    }

    fn open(self: &Arc<Self>, mut state: RwLockWriteGuard<'_, State>, revision: u64, contents: Contents) {
        let phase = std::mem::replace(&mut state.phase, Phase::Open);
        self.budget.give_back(self.replace(&mut state, revision, contents, true));
        let Phase::Filling(waiting) = phase else { return };
        let mut counted = Vec::new();
        for (key, content, revision) in waiting.events {
            counted.extend(self.take_in(&mut state, key, content, revision));
        }
        drop(state);
        counted.into_iter().for_each(|counted| self.budget.count(self, counted));
    }

    /// As [`Cache::fill`], unless the cache has taken in something newer than `revision`: then false.
    pub(crate) fn refill(&self, revision: u64, contents: Contents) -> bool {
        let mut state = self.state.write();
        if !matches!(state.phase, Phase::Open) {
            // It is filled by whoever opens it, or never again.
            return true;
        }
        let current = state.newest <= revision;
        if current {
            let counted = self.replace(&mut state, revision, contents, false);
            self.budget.give_back(counted);
        }
        current
    }

    fn replace(&self, state: &mut State, revision: u64, contents: Contents, first_time: bool) -> usize {
        state.index.clear();
        for (key, object) in &contents.objects {
            self.index(state, key, object);
        }
        state.objects = contents.objects.into_iter().collect();
        state.unreadable = contents.unreadable.into_iter().collect();
        state.bytes = state.objects.iter().map(|(key, object)| held(key, object)).sum();
        let counted = state.ring.restart(revision, first_time);
        state.newest = revision;
        state.filled = revision;
        self.next.send_replace(state.ring.first);
        counted
    }

    /// Takes in a committed change. Watchers of what can no longer be read are told that it cannot, never that it is gone.
    pub(crate) fn apply(self: &Arc<Self>, key: Arc<str>, content: Content, revision: u64) {
        let mut state = self.state.write();
        match &mut state.phase {
            Phase::Open => {}
            Phase::Filling(waiting) => return waiting.push(key, content, revision),
            Phase::Closed => return,
        }
        let counted = self.take_in(&mut state, key, content, revision);
        // The budget is never asked for room while the cache is held: whoever has it asks for caches.
        drop(state);
        if let Some(counted) = counted {
            self.budget.count(self, counted);
        }
    }

    fn take_in(&self, state: &mut State, key: Arc<str>, content: Content, revision: u64) -> Option<Counted> {
        // The cache was filled with a state that has this change already.
        if revision <= state.filled {
            return None;
        }
        let readable = state.objects.remove(&key);
        if let Some(readable) = &readable {
            state.bytes -= held(&key, readable);
            self.unindex(state, &key, readable);
        }
        let previous = readable.or_else(|| state.unreadable.remove(&key).and_then(|unreadable| unreadable.last));
        let (object, unreadable) = match content {
            Content::Object(object) => (Some(object), None),
            Content::Unreadable(unreadable) => (None, Some(unreadable)),
            Content::Nothing => (None, None),
        };
        if let Some(object) = &object {
            self.index(state, &key, object);
            state.bytes += held(&key, object);
            state.objects.insert(key.clone(), object.clone());
        }
        let what = unreadable.as_ref().map(|unreadable| unreadable.what.clone());
        if let Some(unreadable) = unreadable {
            state.unreadable.insert(key.clone(), Unreadable { last: previous.clone(), ..unreadable });
        }
        if object.is_none() && previous.is_none() && what.is_none() {
            return None;
        }
        state.newest = revision;
        let event = WatchEvent::new(key, object, previous, what, revision, self.budget.frames.clone());
        let counted = state.ring.push(event);
        self.next.send_replace(state.ring.next());
        Some(counted)
    }

    /// Ends it for ever: what it holds goes at once, the events with the last of their watchers.
    pub(crate) fn close(&self) {
        let gone = {
            let mut state = self.state.write();
            let phase = std::mem::replace(&mut state.phase, Phase::Closed);
            // After everything that it took in: whoever sees this finds all of that in the ring.
            self.closed.store(true, Ordering::Release);
            state.bytes = 0;
            (phase, take(&mut state.objects), take(&mut state.unreadable), take(&mut state.index))
        };
        self.next.send_modify(|_| {});
        // Not while the lock is held.
        drop(gone);
    }

    /// Whether nothing will come after what is in the ring.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Whether it has been filled, and not been closed.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.state.read().phase, Phase::Open)
    }

    fn index(&self, state: &mut State, key: &Arc<str>, object: &Object) {
        if let Some(field) = &self.indexed {
            let value = object.attributes(&self.fields).field(field, &self.fields).to_owned();
            state.index.entry(value).or_default().insert(key.clone());
        }
    }

    fn unindex(&self, state: &mut State, key: &Arc<str>, object: &Object) {
        let Some(field) = &self.indexed else { return };
        let value = object.attributes(&self.fields).field(field, &self.fields);
        if let Some(keys) = state.index.get_mut(value) {
            keys.remove(key);
            if keys.is_empty() {
                state.index.remove(value);
            }
        }
    }

    pub(crate) fn get(&self, key: &str) -> Result<Option<Arc<Object>>, Error> {
        let state = self.state.read();
        state.answers()?;
        match state.objects.get(key) {
            Some(object) => Ok(Some(object.clone())),
            None => {
                state.unreadable.get(key).map_or(Ok(None), |unreadable| Err(self.unreadable(key, &unreadable.what)))
            }
        }
    }

    /// The error that a value cannot be read.
    pub(crate) fn unreadable(&self, key: &str, what: &str) -> Error {
        Error::Unreadable { key: format!("{}{key}", self.prefix), what: what.to_owned() }
    }

    /// The first value up to `last` that cannot be read, and may be one that is asked for.
    pub(crate) fn covers_unreadable(
        &self,
        state: &State,
        scope: &str,
        matcher: &Matcher,
        last: Option<&str>,
    ) -> Option<Error> {
        let from: (Bound<&str>, Bound<&str>) = (Bound::Included(scope), Bound::Unbounded);
        let mut within = state.unreadable.range::<str, _>(from).take_while(|(key, _)| key.starts_with(scope));
        within
            .find(|(key, _)| last.is_none_or(|last| ***key <= *last) && matcher.may_match(key))
            .map(|(key, unreadable)| self.unreadable(key, &unreadable.what))
    }

    /// Lists keys that begin with `scope`. `applied` is a revision that the caller knows to be taken in. With the list comes
    /// the first of the keys that it covers whose value cannot be read.
    pub(crate) fn list(&self, scope: &str, matcher: &Matcher, limit: usize, applied: u64) -> (Listing, Option<Error>) {
        let state = self.state.read();
        let revision = state.newest.max(applied);
        let (objects, beyond) = match self.indexed.as_ref().and_then(|field| matcher.fields.exact(field)) {
            Some(value) => self.page(state.indexed(value, scope), matcher, limit),
            None => self.page(state.range(scope), matcher, limit),
        };
        let remaining = if matcher.is_everything() { beyond } else { 0 };
        let last = objects.last().filter(|_| beyond > 0).map(|(key, _)| &**key);
        let unreadable = self.covers_unreadable(&state, scope, matcher, last).or(state.answers().err());
        (Listing { objects, revision, remaining, more: beyond > 0 }, unreadable)
    }

    /// What matches up to the limit, and how many follow; with selectors only whether any do.
    fn page<'a>(
        &self,
        all: impl Iterator<Item = (&'a Arc<str>, &'a Arc<Object>)>,
        matcher: &Matcher,
        limit: usize,
    ) -> (Vec<Keyed>, usize) {
        let mut objects = Vec::new();
        let mut beyond = 0;
        for (key, object) in all {
            if limit > 0 && objects.len() == limit {
                beyond += 1;
                if !matcher.is_everything() {
                    break;
                }
                continue;
            }
            if matcher.matches(object, &self.fields) {
                objects.push((key.clone(), object.clone()));
            }
        }
        (objects, beyond)
    }

    /// The number of the first event after `revision`.
    pub(crate) fn position_after(&self, revision: u64) -> Result<u64, Error> {
        let state = self.state.read();
        state.answers()?;
        if revision < state.ring.oldest {
            return Err(Error::TooOld { requested: revision, oldest: state.ring.oldest });
        }
        let behind = state.ring.events.partition_point(|event| event.revision <= revision);
        Ok(state.ring.first + behind as u64)
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        self.budget.give_back(self.state.get_mut().ring.counted);
    }
}

/// What an entry takes: its bytes, the structures around them, and its place in the map.
fn held(key: &str, object: &Object) -> usize {
    const AROUND: usize = 200;
    AROUND + key.len() + object.held()
}

impl Measured for Cache {
    fn sizes(&self) -> Vec<(&'static str, Size)> {
        let state = self.state.read();
        vec![("objects", Size::new(state.objects.len(), state.bytes)), ("events", state.ring.size())]
    }
}

impl State {
    /// # Errors
    /// [`Error::Removed`]: what it had is gone from here, and an empty answer would be taken for one that says what there is.
    pub(crate) fn answers(&self) -> Result<(), Error> {
        if matches!(self.phase, Phase::Closed) { Err(Error::Removed) } else { Ok(()) }
    }

    pub(crate) fn range(&self, scope: &str) -> impl Iterator<Item = (&Arc<str>, &Arc<Object>)> {
        let from: (Bound<&str>, Bound<&str>) = (Bound::Included(scope), Bound::Unbounded);
        let scope = scope.to_owned();
        self.objects.range::<str, _>(from).take_while(move |(key, _)| key.starts_with(&scope))
    }

    /// Objects whose indexed field has that value.
    fn indexed<'a>(&'a self, value: &str, scope: &str) -> impl Iterator<Item = (&'a Arc<str>, &'a Arc<Object>)> {
        let from: (Bound<&str>, Bound<&str>) = (Bound::Included(scope), Bound::Unbounded);
        let scope = scope.to_owned();
        let keys = self.index.get(value).into_iter().flat_map(move |keys| keys.range::<str, _>(from));
        keys.take_while(move |key| key.starts_with(&scope)).filter_map(|key| self.objects.get_key_value(key))
    }
}

impl Matcher {
    /// Whether every object matches.
    pub fn is_everything(&self) -> bool {
        self.labels.is_everything() && self.fields.is_everything()
    }

    /// Whether an object with this key can match, whatever it is.
    pub(crate) fn may_match(&self, key: &str) -> bool {
        let (namespace, name) = key.rsplit_once('/').unwrap_or(("", key));
        let is = |field: &str, value: &str| self.fields.exact(field).is_none_or(|wanted| wanted == value);
        is("metadata.name", name) && is("metadata.namespace", namespace)
    }

    /// Whether an object matches; `fields` are those of its cache.
    pub(crate) fn matches(&self, object: &Object, fields: &Fields) -> bool {
        if self.is_everything() {
            return true;
        }
        let attributes = object.attributes(fields);
        let field = |name: &str| attributes.field(name, fields).to_owned();
        self.labels.matches_with(|key| attributes.label(key)) && self.fields.matches(field)
    }
}
