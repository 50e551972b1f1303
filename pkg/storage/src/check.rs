//! Does the cache say what the store says?

use kedge_kv::Range;
use tracing::error;

use crate::cache::{Cache, Contents};
use crate::error::Error;
use crate::store::Storage;

/// A key on which cache and store do not agree; revisions are 0 where it is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    pub key: String,
    pub cached: u64,
    pub stored: u64,
}

/// Keys compared in one read of the store.
const PAGE: usize = 1_000;
/// How often a cache is filled anew when changes come in meanwhile.
const REFILLS: usize = 8;

impl Storage {
    /// Compares every cache with the store at the version of the cache. A difference is logged, and the cache that has it is
    /// filled anew; its watchers must list again.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn check(&self) -> Result<Vec<Difference>, Error> {
        let mut differences = Vec::new();
        for cache in self.hub.caches().values().filter(|cache| cache.is_open()) {
            let found = match self.compare(cache).await {
                // The version was compacted while it was compared: next time.
                Err(Error::TooOld { .. }) => continue,
                other => other?,
            };
            if found.is_empty() {
                continue;
            }
            for Difference { key, cached, stored } in &found {
                error!(%key, cached, stored, "the watch cache differs from the store; it is filled anew");
            }
            self.refill(cache).await?;
            differences.extend(found);
        }
        Ok(differences)
    }

    async fn compare(&self, cache: &Cache) -> Result<Vec<Difference>, Error> {
        // What is applied is read first, so that the cache's state is at least that.
        let applied = self.hub.applied();
        let (revision, cached) = {
            let state = cache.state.read();
            let objects = state.objects.iter().map(|(key, object)| (key.clone(), object.revision));
            let unreadable = state.unreadable.iter().map(|(key, value)| (key.clone(), value.revision));
            let mut all: Vec<_> = objects.chain(unreadable).collect();
            all.sort_unstable();
            (state.newest.max(applied), all)
        };
        let mut cached = cached.into_iter().peekable();
        let mut differences = Vec::new();
        let mut range =
            Range { revision: Some(revision), limit: PAGE, keys_only: true, ..Range::prefix(cache.prefix.as_bytes()) };
        loop {
            let page = self.kv.range(range.clone()).await?;
            let more = page.remaining() > 0;
            for kv in page.kvs {
                let key = cache.short(&kv.key);
                while let Some((missing, at)) = cached.next_if(|(have, _)| *have < key) {
                    differences.push(Difference { key: missing.to_string(), cached: at, stored: 0 });
                }
                let at = cached.next_if(|(have, _)| *have == key).map_or(0, |(_, at)| at);
                if at != kv.mod_revision {
                    differences.push(Difference { key: key.to_string(), cached: at, stored: kv.mod_revision });
                }
                range.keys.start = [&kv.key[..], b"\0"].concat().into();
            }
            if !more {
                break;
            }
        }
        differences.extend(cached.map(|(key, at)| Difference { key: key.to_string(), cached: at, stored: 0 }));
        Ok(differences)
    }

    pub(crate) async fn refill(&self, cache: &Cache) -> Result<(), Error> {
        for _ in 0..REFILLS {
            let page = self.kv.range(Range::prefix(cache.prefix.as_bytes())).await?;
            let mut contents = Contents::default();
            for kv in page.kvs {
                contents.push(cache.short(&kv.key), self.hub.read(cache, &kv.key, kv.value, kv.mod_revision));
            }
            if cache.refill(page.revision, contents) {
                return Ok(());
            }
        }
        // Written all the time: the next check tries again.
        Ok(())
    }
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
