//! Does the cache say what the store says?

use bytes::Bytes;
use kedge_kv::{KeyValue, Range};
use tracing::error;

use crate::cache::Cache;
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
        for cache in self.hub.caches.values() {
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
            let all: Vec<_> = state.objects.iter().map(|(key, object)| (key.clone(), object.revision)).collect();
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
                // What cannot be read is left out of the cache on purpose.
                if at != kv.mod_revision && (at != 0 || self.is_readable(cache, &kv.key, revision).await?) {
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

    async fn is_readable(&self, cache: &Cache, key: &Bytes, revision: u64) -> Result<bool, Error> {
        let page = self.kv.range(Range { revision: Some(revision), ..Range::key(key.clone()) }).await?;
        let read = |kv: KeyValue| self.hub.read(cache, key, kv.value, kv.mod_revision);
        Ok(page.kvs.into_iter().next().and_then(read).is_some())
    }

    pub(crate) async fn refill(&self, cache: &Cache) -> Result<(), Error> {
        for _ in 0..REFILLS {
            let page = self.kv.range(Range::prefix(cache.prefix.as_bytes())).await?;
            let objects = page.kvs.into_iter().filter_map(|kv| {
                let object = self.hub.read(cache, &kv.key, kv.value, kv.mod_revision)?;
                Some((cache.short(&kv.key), object))
            });
            if cache.refill(page.revision, objects.collect()) {
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
