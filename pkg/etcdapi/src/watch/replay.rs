//! Events from before the hub began, or that it has dropped since, from the store's own history.

use std::sync::Arc;

use kedge_kv::{Embedded, Error, Event, KeyRange, Observer, Snapshot};
use parking_lot::Mutex;

/// Events that are handed out at once; those of one revision are not parted.
const BATCH: usize = 1_000;

/// Takes what the store tells at once.
#[derive(Default)]
struct Past(Mutex<Vec<Event>>);

impl Observer for Past {
    fn committed(&self, events: &[Event]) {
        self.0.lock().extend_from_slice(events);
    }

    /// The embedded store never loses what it tells.
    fn reset(&self, _: Snapshot) {}
}

/// Events of `keys` from `next` on, and the revision up to which these are all. [`Error::Compacted`] when they are gone.
pub(super) fn replay(kv: &Embedded, keys: &KeyRange, next: u64) -> Result<(Vec<Event>, u64), Error> {
    let past = Arc::new(Past::default());
    let (id, until) = kv.observe_from(keys.clone(), next, past.clone())?;
    kv.unobserve(id);
    let mut events = std::mem::take(&mut *past.0.lock());
    // Commits in between are told to observers, too; they are left to the next turn.
    events.retain(|event| event.revision <= until);
    let Some(last) = events.get(BATCH - 1).map(|event| event.revision) else { return Ok((events, until)) };
    if events.last().is_some_and(|event| event.revision > last) {
        events.retain(|event| event.revision <= last);
        return Ok((events, last));
    }
    Ok((events, until))
}
