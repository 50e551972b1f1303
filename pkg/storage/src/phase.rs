//! The life of a cache: it is filled, says what there is, and is closed.

use std::sync::Arc;

use crate::cache::Content;

/// Whether a cache says what there is.
pub(crate) enum Phase {
    /// Not yet: the state that events follow on is still being read, and they are kept until it has come.
    Filling(Waiting),
    Open,
    /// Not any more. Nothing is taken in, and nothing is answered but the events that are in the ring.
    Closed,
}

/// Events that wait for the state that they follow on.
#[derive(Default)]
pub(crate) struct Waiting {
    pub(crate) events: Vec<(Arc<str>, Content, u64)>,
    bytes: usize,
    /// The revision of the last one that there was no room for: a state of before that is of no use.
    pub(crate) lost: u64,
}

/// More events do not wait: the state is read anew then.
const WAITING: usize = 10_000;
const WAITING_BYTES: usize = 8 << 20;

impl Waiting {
    pub(crate) fn push(&mut self, key: Arc<str>, content: Content, revision: u64) {
        self.bytes += content.size();
        self.events.push((key, content, revision));
        if self.events.len() > WAITING || self.bytes > WAITING_BYTES {
            *self = Self { lost: revision, ..Self::default() };
        }
    }
}

/// What came of filling a cache that was added.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Filled {
    /// It says what there is from now on.
    Open,
    /// The state was read too long ago.
    Stale,
    /// The cache was removed.
    Closed,
}
