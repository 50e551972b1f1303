//! Watching: a cursor into the ring of a resource.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;

use crate::cache::{Cache, Matcher};
use crate::error::Error;
use crate::frames::{Encoded, Frames};
use crate::object::Object;

/// What a watcher is told of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    Added,
    Modified,
    Deleted,
}

impl EventKind {
    fn name(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

/// A change of one object.
#[derive(Debug)]
pub struct WatchEvent {
    pub key: Arc<str>,
    /// After the change; none for a deletion.
    pub object: Option<Arc<Object>>,
    /// Before the change.
    pub previous: Option<Arc<Object>>,
    pub revision: u64,
    /// Why what the key holds after the change cannot be read.
    unreadable: Option<Arc<str>>,
    pub(crate) encoded: Encoded,
    frames: Arc<Frames>,
}

impl WatchEvent {
    pub(crate) fn new(
        key: Arc<str>,
        object: Option<Arc<Object>>,
        previous: Option<Arc<Object>>,
        unreadable: Option<Arc<str>>,
        revision: u64,
        frames: Arc<Frames>,
    ) -> Self {
        Self { key, object, previous, revision, unreadable, encoded: Encoded::default(), frames }
    }

    /// What it keeps: the object, which it often shares with the cache.
    pub(crate) fn size(&self) -> usize {
        const AROUND: usize = 256;
        AROUND + self.object.as_ref().or(self.previous.as_ref()).map_or(0, |o| o.held())
    }

    /// The object that a watcher is shown: for a deletion the last state, at the revision of the deletion.
    pub fn shown(&self, kind: EventKind) -> Option<Object> {
        let object = match kind {
            EventKind::Deleted => self.previous.as_ref()?,
            _ => self.object.as_ref()?,
        };
        Some(object.at(self.revision))
    }

    /// The JSON line of this event as that kind, which watchers share.
    pub fn frame(self: &Arc<Self>, kind: EventKind) -> Bytes {
        self.frames.get(self, kind, || self.shown(kind).map(|object| frame(kind, &object)).unwrap_or_default())
    }
}

/// The JSON line of an event.
pub(crate) fn frame(kind: EventKind, object: &Object) -> Bytes {
    let mut out = Vec::with_capacity(object.size_hint() + 32);
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(kind.name().as_bytes());
    out.extend_from_slice(b"\",\"object\":");
    object.write_json(&mut out);
    out.extend_from_slice(b"}\n");
    out.into()
}

/// What a watcher gets next.
#[derive(Debug)]
pub enum Next {
    /// A change, as what it is to this watcher.
    Event(EventKind, Arc<WatchEvent>),
    /// The watcher fell behind the ring, or came to something that cannot be read: its client must list again.
    Failed(Error),
    /// The resource has been removed, and this watcher has had all that happened before.
    Closed,
}

/// A cursor; dropping it ends the watch.
pub struct Watcher {
    cache: Arc<Cache>,
    scope: Box<str>,
    matcher: Matcher,
    /// The number of the next event to look at.
    position: u64,
    /// Everything up to this revision has been looked at.
    seen: u64,
    /// What happens up to this revision, which may be still to come, is of no concern.
    after: u64,
    wake: watch::Receiver<u64>,
}

impl Watcher {
    pub(crate) fn new(cache: Arc<Cache>, scope: &str, matcher: Matcher, position: u64, seen: u64) -> Self {
        let wake = cache.next.subscribe();
        Self { cache, scope: scope.into(), matcher, position, seen, after: seen, wake }
    }

    /// The newest revision that this watcher has looked at.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// A version for a bookmark: everything up to it has been looked at. `applied` must have been read before this call,
    /// else an event that comes in between would be announced as seen.
    pub fn bookmark(&self, applied: u64) -> Option<u64> {
        let caught_up = *self.cache.next.borrow() <= self.position;
        caught_up.then(|| applied.max(self.seen))
    }

    /// Waits for the next event that concerns this watcher. Safe to drop and call again.
    pub async fn next(&mut self) -> Next {
        loop {
            self.wake.mark_unchanged();
            // Asked first: what it took in before it was closed is in the ring then.
            let closed = self.cache.is_closed();
            match self.try_next() {
                Ok(Some((kind, event))) => return Next::Event(kind, event),
                Ok(None) if closed => return Next::Closed,
                Ok(None) => {}
                Err(err) => return Next::Failed(err),
            }
            if self.wake.changed().await.is_err() {
                return Next::Closed;
            }
        }
    }

    /// The next event that is already there.
    ///
    /// # Errors
    /// [`Error::TooOld`] when the ring no longer has it, [`Error::Unreadable`] when its object cannot be read.
    pub fn try_next(&mut self) -> Result<Option<(EventKind, Arc<WatchEvent>)>, Error> {
        loop {
            let event = {
                let state = self.cache.state.read();
                let ring = &state.ring;
                if self.position < ring.first {
                    return Err(Error::TooOld { requested: self.seen, oldest: ring.oldest });
                }
                let at = (self.position - ring.first) as usize;
                let Some(event) = ring.events.get(at) else { return Ok(None) };
                event.clone()
            };
            self.position += 1;
            self.seen = self.seen.max(event.revision);
            if event.revision <= self.after {
                continue;
            }
            if let Some(what) = &event.unreadable
                && event.key.starts_with(&*self.scope)
                && self.matcher.may_match(&event.key)
            {
                return Err(self.cache.unreadable(&event.key, what));
            }
            if let Some(kind) = self.kind_of(&event) {
                return Ok(Some((kind, event)));
            }
        }
    }

    /// An object that starts to match is added for this watcher, one that stops matching is deleted.
    fn kind_of(&self, event: &WatchEvent) -> Option<EventKind> {
        if !event.key.starts_with(&*self.scope) {
            return None;
        }
        let matches = |object: &Option<Arc<Object>>| {
            object.as_ref().is_some_and(|object| self.matcher.matches(object, &self.cache.fields))
        };
        match (matches(&event.previous), matches(&event.object)) {
            (false, true) => Some(EventKind::Added),
            (true, true) => Some(EventKind::Modified),
            (true, false) => Some(EventKind::Deleted),
            (false, false) => None,
        }
    }
}
