//! Events from before the hub began, found again by comparing states of the store's history.

use std::collections::BTreeMap;

use bytes::Bytes;
use kedge_kv::{Error, Event, KeyRange, KeyValue, Kv, Range};

/// Revisions that are compared at once.
const STEP: u64 = 200;

type State = BTreeMap<Bytes, KeyValue>;

async fn state(kv: &dyn Kv, keys: &KeyRange, revision: u64) -> Result<State, Error> {
    let range = Range { keys: keys.clone(), revision: Some(revision), ..Range::default() };
    Ok(kv.range(range).await?.kvs.into_iter().map(|kv| (kv.key.clone(), kv)).collect())
}

/// What changed between two states that follow each other.
fn difference(before: &State, after: &State, revision: u64) -> Vec<Event> {
    let gone = before.iter().filter(|(key, _)| !after.contains_key(*key)).map(|(key, kv)| Event {
        revision,
        key: key.clone(),
        current: None,
        previous: Some(kv.clone()),
    });
    let written = after.iter().filter(|(_, kv)| kv.mod_revision == revision).map(|(key, kv)| Event {
        revision,
        key: key.clone(),
        current: Some(kv.clone()),
        previous: before.get(key).cloned(),
    });
    let mut events: Vec<Event> = gone.chain(written).collect();
    events.sort_by(|a, b| a.key.cmp(&b.key));
    events
}

/// Events of `keys` from `next` on, and the revision up to which these are all. [`Error::Compacted`] when they are gone.
pub(super) async fn replay(kv: &dyn Kv, keys: &KeyRange, next: u64, newest: u64) -> Result<(Vec<Event>, u64), Error> {
    let mut before = match state(kv, keys, next.saturating_sub(1).max(1)).await {
        Ok(before) => before,
        // The first revision is the oldest there is: what it replaced is unknown, what it deleted is forgotten.
        Err(Error::Compacted { .. }) => State::new(),
        Err(error) => return Err(error),
    };
    let until = newest.min(next.saturating_add(STEP - 1));
    let mut events = Vec::new();
    for revision in next..=until {
        let after = state(kv, keys, revision).await?;
        events.extend(difference(&before, &after, revision));
        before = after;
        tokio::task::yield_now().await;
    }
    Ok((events, until))
}
