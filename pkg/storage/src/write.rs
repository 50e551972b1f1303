//! Writing objects: one transaction an object, with what must become true together with it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kedge_base::SharedClock;
use kedge_kv::{
    Compare, Durability, Error as KvError, KeyRange, KeyValue, Kv, LeaseId, LeaseReuse, MAX_OPS, Op, OpResult, Range,
    Txn, TxnResult,
};
use serde_json::Value;

use crate::codec::{Sealed, Source};
use crate::error::Error;
use crate::object::Object;
use crate::store::{ResourceStore, Storage};

/// How often a write is begun again because the encryption was changed meanwhile.
const CHANGES: usize = 5;
/// Keys listed at once while a resource is written anew.
const PAGE: usize = 1_000;
/// How often a value that others change is read again for one write: they are other programs, each of which changes it for one
/// write of its own.
const AMENDMENTS: usize = 64;

/// A value beside the objects that other programs change, too: what a write makes of it becomes true with the write, or the
/// write does not happen.
pub trait Amend: fmt::Debug + Send + Sync {
    /// The whole key.
    fn key(&self) -> &str;

    /// What it is to be, given what it is; none to leave it so. The write happens only while it still is what it was here.
    ///
    /// # Errors
    /// [`Taken`].
    fn amend(&self, current: Option<&[u8]>) -> Result<Option<Bytes>, Taken>;
}

/// The value says that somebody else has what the write needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken;

/// What goes with a write.
#[derive(Debug, Clone, Default)]
pub struct With {
    /// The object goes by itself after this time.
    pub ttl: Option<Duration>,
    /// Keys that must be free and are taken with the write, and what they hold from then on.
    pub claims: Vec<(String, Bytes)>,
    /// Keys that are given back with it: as many of them as go into the transaction. Whoever keeps the claims finds the rest
    /// to be of nobody.
    pub releases: Vec<String>,
    /// Keys whose last change must still be of these revisions.
    pub unchanged: Vec<(String, u64)>,
    /// A value that others change, too.
    pub amend: Option<Arc<dyn Amend>>,
    /// What the acknowledgement promises.
    pub durability: Durability,
}

impl With {
    /// An object that goes by itself after a time.
    pub fn ttl(ttl: Option<Duration>) -> Self {
        Self { ttl, ..Self::default() }
    }
}

/// Leases for objects that go by themselves, shared by many of them.
pub(crate) struct Leases(LeaseReuse);

impl Leases {
    pub(crate) fn new(kv: Arc<dyn Kv>, clock: SharedClock) -> Self {
        Self(LeaseReuse::new(kv, clock))
    }

    async fn take(&self, ttl: Option<Duration>) -> Result<LeaseId, Error> {
        match ttl {
            Some(ttl) => Ok(self.0.lease(ttl).await?),
            None => Ok(0),
        }
    }
}

impl ResourceStore {
    /// Stores a new object.
    ///
    /// # Errors
    /// [`Error::Exists`] when the key is taken, [`Error::Claimed`] when something that it needs is, or has changed.
    pub async fn create(&self, key: &str, value: &Value, with: With) -> Result<Arc<Object>, Error> {
        match self.put(key, value, None, with).await {
            Err(Error::Conflict(_)) => Err(Error::Exists),
            other => other,
        }
    }

    /// Replaces the object whose last change was `revision`.
    ///
    /// # Errors
    /// [`Error::Conflict`] when it was changed since, [`Error::NotFound`] when it is gone, [`Error::Claimed`] when
    /// something that it needs is taken.
    pub async fn update(&self, key: &str, value: &Value, revision: u64, with: With) -> Result<Arc<Object>, Error> {
        match self.put(key, value, Some(revision), with).await {
            Err(Error::Conflict(None)) => Err(Error::NotFound),
            other => other,
        }
    }

    /// Deletes the object whose last change was `revision`; returns the revision of the deletion.
    ///
    /// # Errors
    /// [`Error::Conflict`] when it was changed since, [`Error::NotFound`] when it is gone.
    pub async fn delete(&self, key: &str, revision: u64, with: With) -> Result<u64, Error> {
        let _write = self.cache.writes.enter()?;
        let full = self.full(key);
        let deletion = Op::Delete(KeyRange::key(full.clone()));
        match self.transact(&full, Some(revision), deletion, with, None).await {
            Ok(result) => Ok(result.revision),
            Err(Error::Conflict(None)) => Err(Error::NotFound),
            Err(err) => Err(err),
        }
    }

    /// Writes an object again as it is, when the store holds it otherwise than it would be written now (plain, or
    /// sealed with an older key). Returns whether there was anything to do.
    ///
    /// # Errors
    /// [`Error::Conflict`] when it was changed meanwhile: then it has been written anew.
    pub async fn reseal(&self, key: &str) -> Result<bool, Error> {
        let _write = self.cache.writes.enter()?;
        let full = self.full(key);
        let Some(kv) = self.kv.get(full.as_bytes()).await? else { return Ok(false) };
        let (revision, lease) = (kv.mod_revision, kv.lease);
        let read = self.read(&full, kv).await?;
        if !read.stale {
            return Ok(false);
        }
        self.put_sealed(&full, &read.object.stored().into_owned().into(), Some(revision), lease, With::default())
            .await?;
        Ok(true)
    }

    /// Writes the object whose last change was `revision` again as it is, when the store holds it otherwise than it would be written now: in the
    /// form of another server, in the shape of an older schema, plain, or sealed with an older key. None when there is nothing to do, or it was
    /// changed meanwhile: then it has been written anew.
    ///
    /// # Errors
    /// [`Error::Conflict`] when it is changed at the same time.
    pub async fn renew(&self, key: &str, revision: u64) -> Result<Option<Arc<Object>>, Error> {
        let _write = self.cache.writes.enter()?;
        let full = self.full(key);
        let Some(kv) = self.kv.get(full.as_bytes()).await?.filter(|kv| kv.mod_revision == revision) else {
            return Ok(None);
        };
        let lease = kv.lease;
        let read = self.read(&full, kv).await?;
        if !read.stale && !read.foreign {
            return Ok(None);
        }
        let plain: Bytes = read.object.stored().into_owned().into();
        let result = self.put_sealed(&full, &plain, Some(revision), lease, With::default()).await?;
        Ok(Some(Arc::new(Object::from_stored(key, plain, result.revision)?)))
    }

    /// Changes a value that others change, too, by itself.
    ///
    /// # Errors
    /// [`Error::Claimed`] when the value says that what is needed is taken.
    pub async fn amend(&self, amend: Arc<dyn Amend>) -> Result<(), Error> {
        let _turn = self.hub.amending.lock().await;
        for _ in 0..AMENDMENTS {
            let key = Bytes::copy_from_slice(amend.key().as_bytes());
            let current = self.kv.get(&key).await?;
            let value = amend.amend(current.as_ref().map(|kv| &*kv.value));
            let value = value.map_err(|Taken| Error::Claimed(amend.key().to_owned()))?;
            let Some(value) = value else { return Ok(()) };
            let txn = Txn {
                compare: vec![Compare::mod_revision(key.clone(), current.map_or(0, |kv| kv.mod_revision))],
                success: vec![Op::Put { key, value, lease: 0 }],
                ..Txn::default()
            };
            if self.kv.txn(txn).await?.succeeded {
                return Ok(());
            }
        }
        Err(Error::Claimed(amend.key().to_owned()))
    }

    async fn put(&self, key: &str, value: &Value, revision: Option<u64>, with: With) -> Result<Arc<Object>, Error> {
        let _write = self.cache.writes.enter()?;
        let full = self.full(key);
        let form = self.cache.form();
        // It may have been made while the schema, or the version that is stored, was another.
        let shaped = form.as_ref().and_then(|form| form.in_shape(value));
        let ty = form.and_then(|form| form.schema);
        let plain = Object::encode(ty, shaped.as_ref().unwrap_or(value))?;
        let lease = self.leases.take(with.ttl).await?;
        let result = match self.put_sealed(&full, &plain, revision, lease, with.clone()).await {
            // The shared lease ended early: somebody revoked it.
            Err(Error::Kv(KvError::LeaseNotFound(_))) => {
                self.leases.0.forget(lease).await;
                let lease = self.leases.take(with.ttl).await?;
                self.put_sealed(&full, &plain, revision, lease, with).await?
            }
            other => other?,
        };
        Ok(Arc::new(Object::from_stored(key, plain, result.revision)?))
    }

    /// Stores an encoded object, sealed as all servers are to seal it at that very moment.
    async fn put_sealed(
        &self,
        full: &str,
        plain: &Bytes,
        revision: Option<u64>,
        lease: LeaseId,
        with: With,
    ) -> Result<TxnResult, Error> {
        let packed = self.cache.packed && self.kv.takes_packed();
        for attempt in 1.. {
            let Sealed { value, source } = self.hub.codec.write(&self.cache.resource, full, plain.clone(), packed)?;
            let put = Op::Put { key: full.to_owned().into(), value, lease };
            match self.transact(full, revision, put, with.clone(), source).await {
                // Another server changed the encryption: that is taken over first.
                Err(Error::Outdated(changed)) if attempt <= CHANGES && self.hub.keys_reach(changed).await => {}
                other => return other,
            }
        }
        Err(Error::Outdated(0))
    }

    /// One operation on `full`, whose last change must be `revision` (none: which must not exist).
    async fn transact(
        &self,
        full: &str,
        revision: Option<u64>,
        op: Op,
        with: With,
        source: Option<Source>,
    ) -> Result<TxnResult, Error> {
        let result = self.commit(full, revision, op, with, source).await?;
        // A cache that is behind only makes the next read wait; the write stands.
        self.hub.wait(result.revision).await;
        Ok(result)
    }

    async fn commit(
        &self,
        full: &str,
        revision: Option<u64>,
        op: Op,
        mut with: With,
        source: Option<Source>,
    ) -> Result<TxnResult, Error> {
        let Some(amend) = with.amend.take() else {
            return self.attempt(full, revision, op, &with, source.as_ref(), None).await;
        };
        // Writes of this server would only spoil each other's turn.
        let _turn = self.hub.amending.lock().await;
        for _ in 0..AMENDMENTS {
            let current = self.kv.get(amend.key().as_bytes()).await?;
            let value = amend.amend(current.as_ref().map(|kv| &*kv.value));
            let value = value.map_err(|Taken| Error::Claimed(amend.key().to_owned()))?;
            let revision_of_it = current.map_or(0, |kv| kv.mod_revision);
            let amended = Amended { key: amend.key(), revision: revision_of_it, value };
            match self.attempt(full, revision, op.clone(), &with, source.as_ref(), Some(&amended)).await {
                // Somebody else changed it meanwhile.
                Err(Error::Claimed(key)) if key == amended.key => {}
                other => return other,
            }
        }
        Err(Error::Claimed(amend.key().to_owned()))
    }

    async fn attempt(
        &self,
        full: &str,
        revision: Option<u64>,
        op: Op,
        with: &With,
        source: Option<&Source>,
        amended: Option<&Amended<'_>>,
    ) -> Result<TxnResult, Error> {
        let key = Bytes::copy_from_slice(full.as_bytes());
        let condition = match revision {
            Some(revision) => Compare::mod_revision(key.clone(), revision),
            None => Compare::absent(key.clone()),
        };
        let mut txn = Txn {
            compare: vec![condition],
            success: vec![op],
            failure: vec![Op::Range(Range::key(key))],
            durability: with.durability,
        };
        if let Some(source) = source {
            txn.compare.push(Compare::mod_revision(source.key, source.revision));
            txn.failure.push(Op::Range(Range { keys_only: true, ..Range::key(source.key) }));
        }
        for (beside, revision) in with.beside(amended) {
            let beside = Bytes::copy_from_slice(beside.as_bytes());
            txn.compare.push(Compare::mod_revision(beside.clone(), revision));
            txn.failure.push(Op::Range(Range { keys_only: true, ..Range::key(beside) }));
        }
        let put = |key: &str, value: &Bytes| Op::Put { key: key.to_owned().into(), value: value.clone(), lease: 0 };
        txn.success.extend(with.claims.iter().map(|(claim, value)| put(claim, value)));
        txn.success.extend(amended.and_then(|amended| Some(put(amended.key, amended.value.as_ref()?))));
        let kept = |release: &String| !with.claims.iter().any(|(claim, _)| claim == release);
        let releases = with.releases.iter().filter(|r| kept(r)).map(|r| Op::Delete(KeyRange::key(r.clone())));
        let room = MAX_OPS.saturating_sub(txn.success.len());
        txn.success.extend(releases.take(room));
        let result = self.kv.txn(txn).await?;
        if !result.succeeded {
            let beside = with.beside(amended);
            return Err(self.refused(full, revision, result.results, beside, source).await?);
        }
        Ok(result)
    }

    /// Which of the conditions failed.
    async fn refused<'a>(
        &self,
        full: &str,
        revision: Option<u64>,
        results: Vec<OpResult>,
        mut beside: impl Iterator<Item = (&'a str, u64)>,
        source: Option<&Source>,
    ) -> Result<Error, Error> {
        let mut found = results.into_iter().map(|result| match result {
            OpResult::Range(mut range) => range.kvs.pop(),
            _ => None,
        });
        let current: Option<KeyValue> = found.next().flatten();
        if let Some(source) = source {
            let changed = found.next().flatten().map_or(0, |kv| kv.mod_revision);
            if changed != source.revision {
                return Ok(Error::Outdated(changed));
            }
        }
        if current.as_ref().map(|kv| kv.mod_revision) == revision {
            let differs = |kv: Option<KeyValue>, wanted: u64| kv.map_or(0, |kv| kv.mod_revision) != wanted;
            let taken = found.find_map(|kv| beside.next().filter(|(_, wanted)| differs(kv, *wanted)));
            return Ok(taken.map_or(Error::Conflict(None), |(key, _)| Error::Claimed(key.to_owned())));
        }
        let object = match current {
            // What there is does not matter to who wants to create, and perhaps cannot be read.
            Some(kv) if revision.is_some() => Some(Arc::new(self.read(full, kv).await?.object)),
            _ => None,
        };
        Ok(Error::Conflict(object))
    }
}

/// What a write makes of the value that others change.
struct Amended<'a> {
    key: &'a str,
    /// Of its last change; 0 when there is none.
    revision: u64,
    value: Option<Bytes>,
}

impl With {
    /// Keys that are not the object's own, and the revision that each must have; 0 for those that must be free.
    fn beside<'a>(&'a self, amended: Option<&'a Amended<'_>>) -> impl Iterator<Item = (&'a str, u64)> {
        let claims = self.claims.iter().map(|(key, _)| (key.as_str(), 0));
        let unchanged = self.unchanged.iter().map(|(key, revision)| (key.as_str(), *revision));
        claims.chain(unchanged).chain(amended.map(|amended| (amended.key, amended.revision)))
    }
}

impl Storage {
    /// Writes every object of a resource again that is not stored as it would be now; returns how many were.
    ///
    /// # Errors
    /// When the store cannot be read or written; what was written stays so.
    pub async fn reseal(&self, resource: &str) -> Result<usize, Error> {
        let Some(store) = self.named(resource) else { return Ok(0) };
        let mut written = 0;
        // The store itself is asked: what a cache could not read must be written anew all the same, or be an error.
        let prefix = store.full("");
        let mut range = Range { keys_only: true, limit: PAGE, ..Range::prefix(prefix.as_bytes()) };
        loop {
            let page = self.kv.range(range.clone()).await?;
            let more = page.remaining() > 0;
            for kv in page.kvs {
                match store.reseal(&store.cache.short(&kv.key)).await {
                    Ok(changed) => written += usize::from(changed),
                    // Whoever changed it has written it as it is to be.
                    Err(Error::Conflict(_)) => {}
                    Err(Error::Removed) => return Ok(written),
                    Err(err) => return Err(err),
                }
                range.keys.start = [&kv.key[..], b"\0"].concat().into();
            }
            if !more {
                break;
            }
        }
        Ok(written)
    }
}
