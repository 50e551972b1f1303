//! The content of any store at one revision.

use bytes::Bytes;
use kedge_kv::{Error as KvError, KeyRange, Kv, Range};
use kedge_snapshot::State;

use crate::Progress;
use crate::error::Error;

/// Keys read at once.
const PAGE: usize = 1_000;
/// How often a capture whose revision was compacted under it starts again.
const ATTEMPTS: usize = 5;

/// Reads everything, as it was at one revision, while writes go on.
///
/// # Errors
/// When the store cannot be read.
pub async fn capture(kv: &dyn Kv, progress: &mut Progress<'_>) -> Result<State, Error> {
    let mut attempt = 1;
    loop {
        match read(kv, progress).await {
            Err(KvError::Compacted { .. }) if attempt < ATTEMPTS => attempt += 1,
            other => return Ok(other?),
        }
    }
}

async fn read(kv: &dyn Kv, progress: &mut Progress<'_>) -> Result<State, KvError> {
    let mut range = Range { keys: KeyRange { start: Bytes::new(), end: None }, limit: PAGE, ..Range::default() };
    let mut state = State::default();
    let kv_takes_packed = kv.takes_packed();
    loop {
        let page = kv.range(range.clone()).await?;
        // The first page decides which revision it is that is read.
        state.revision = range.revision.unwrap_or(page.revision);
        range.revision = Some(state.revision);
        let more = page.remaining() > 0;
        let total = state.kvs.len() + page.count;
        for kv in page.kvs {
            // Whatever an etcd holds is what somebody put there.
            state.kvs.push(if kv_takes_packed { kv.plain()? } else { kv });
        }
        progress("keys read", state.kvs.len(), Some(total));
        match state.kvs.last() {
            Some(last) if more => range.keys.start = [&last.key[..], b"\0"].concat().into(),
            _ => break,
        }
    }
    for id in kv.leases().await? {
        match kv.lease(id).await {
            Ok(lease) => state.leases.push((id, lease.ttl.as_secs())),
            // It ended meanwhile.
            Err(KvError::LeaseNotFound(_)) => {}
            Err(err) => return Err(err),
        }
    }
    state.leases.sort_unstable();
    // Keys of leases that have ended since are about to be deleted; a store that takes them in must not wait for that.
    let ends = |lease: i64| lease != 0 && state.leases.binary_search_by_key(&lease, |(id, _)| *id).is_err();
    state.kvs.retain(|kv| !ends(kv.lease));
    Ok(state)
}
