//! Resources that come and go while the store is in use.
//!
//! Why no event is lost for a cache that is added: it is given its place first, and read from the store then. A change is
//! readable in the store before it is reported. So what was reported with an older map, and went by the cache, is in what is
//! read; what is reported with the new one waits in the cache until that is there, and whatever of it was in there already is
//! left out by its revision.
//!
//! Why nobody writes what nobody sees: writes are counted at a [`Gate`](crate::gate::Gate), which is closed before a cache
//! is. What they left is found by [`Storage::clear`]; its last transaction is judged by the store after all those that were
//! handed to it before, be it for callers that waited for no answer. (An etcd may still apply one later whose answer was lost.)

use std::sync::Arc;

use kedge_base::sizes;
use kedge_kv::{KeyRange, Op, Range, Txn};

use crate::cache::{Cache, Contents};
use crate::error::Error;
use crate::hub::Hub;
use crate::phase::Filled;
use crate::store::{ResourceConfig, ResourceStore, Storage};

/// Values read at once.
const PAGE: usize = 500;
/// How often the state is read again, because too much was written meanwhile or its history went.
const ATTEMPTS: usize = 8;

/// A cache that has its place and is not filled yet. Given up before that, it leaves the place again.
struct Adding<'a> {
    hub: &'a Hub,
    cache: Arc<Cache>,
    done: bool,
}

impl Drop for Adding<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.hub.take_out(&self.cache);
        }
    }
}

impl Storage {
    /// Begins to keep a resource, with what the store holds of it. Watches begin at the revision of that, or later: those of
    /// a resource that was removed, and had the same prefix, must list again.
    ///
    /// # Errors
    /// [`Error::Overlap`] when something is kept there already, [`Error::Behind`] when it is written faster than it is read;
    /// and when the store cannot be read.
    pub async fn add(&self, config: &ResourceConfig) -> Result<ResourceStore, Error> {
        // It is never closed; without a permit one more would be read at once.
        let _permit = self.adding.acquire().await.ok();
        let cache = Arc::new(Cache::new(&config.full_prefix(), config, self.budget.clone()));
        self.hub.insert(&cache)?;
        let mut adding = Adding { hub: &self.hub, cache, done: false };
        let cache = &adding.cache;
        for _ in 0..ATTEMPTS {
            let (revision, contents) = match self.read_all(cache).await {
                // Its history went between two pages.
                Err(Error::TooOld { .. }) => continue,
                other => other?,
            };
            match cache.fill_first(revision, contents) {
                Filled::Stale => {}
                Filled::Closed => return Err(Error::Removed),
                Filled::Open => {
                    // All of them under one name: there may be a thousand.
                    sizes::list("watch caches of added resources", cache);
                    let cache = cache.clone();
                    adding.done = true;
                    return Ok(self.over(cache));
                }
            }
        }
        Err(Error::Behind { requested: self.kv.revision(), current: self.hub.applied() })
    }

    /// What the store holds below a cache's prefix, at one revision.
    async fn read_all(&self, cache: &Cache) -> Result<(u64, Contents), Error> {
        let mut contents = Contents::default();
        let mut range = Range { limit: PAGE, ..Range::prefix(cache.prefix.as_bytes()) };
        loop {
            let page = self.kv.range(range.clone()).await?;
            let (revision, more) = (page.revision, page.remaining() > 0);
            for kv in page.kvs {
                range.keys.start = [&kv.key[..], b"\0"].concat().into();
                contents.push(cache.short(&kv.key), self.hub.read(cache, &kv.key, kv.value, kv.mod_revision));
            }
            // Those that follow are of the same state.
            let revision = *range.revision.get_or_insert(revision);
            if !more {
                return Ok((revision, contents));
            }
            tokio::task::yield_now().await;
        }
    }

    /// Ends a resource: that one, never another of its name. No more writes begin, those in flight are waited for, and what
    /// came of them is shown to watchers before they are told that it is the end. What the store holds stays there, and whoever
    /// still has the [`ResourceStore`] gets [`Error::Removed`]. False when it has been removed before.
    pub async fn remove(&self, store: &ResourceStore) -> bool {
        store.end_writes().await;
        self.hub.take_out(&store.cache)
    }

    /// Deletes what the store still holds of a resource whose writes have ended: what was written while all its objects were
    /// being deleted. Watchers are told.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub async fn clear(&self, store: &ResourceStore) -> Result<(), Error> {
        store.end_writes().await;
        let all = KeyRange::prefix(store.cache.prefix.as_bytes());
        let mut range = Range { keys: all.clone(), limit: PAGE, keys_only: true, ..Range::default() };
        loop {
            let page = self.kv.range(range.clone()).await?;
            let rest = page.remaining() > 0;
            let next = page.kvs.last().filter(|_| rest).map(|kv| [&kv.key[..], b"\0"].concat().into());
            // The last deletion reaches to the end, and happens though there is nothing: see above.
            let end = next.clone().or_else(|| all.end.clone());
            let deletion = Op::Delete(KeyRange { start: range.keys.start.clone(), end });
            let result = self.kv.txn(Txn { success: vec![deletion], ..Txn::default() }).await?;
            self.hub.wait(result.revision).await;
            match next {
                Some(next) => range.keys.start = next,
                None => return Ok(()),
            }
        }
    }
}

impl ResourceStore {
    /// Lets no more writes begin, for ever, and waits for those in flight. Reads and watches go on.
    pub async fn end_writes(&self) {
        self.cache.writes.close().await;
    }
}

#[cfg(test)]
#[path = "add_tests.rs"]
mod tests;
