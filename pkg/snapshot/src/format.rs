//! What etcd 3.5 keeps in its database.
//!
//! Bucket `key`: a revision (u64 main, `_`, u64 sub, big-endian; `t` after it marks a deletion) → a `mvccpb.KeyValue`.
//! Bucket `lease`: a lease's id, big-endian → a `leasepb.Lease`. Bucket `meta`: how far the store is compacted. The others
//! belong to the members of a cluster; etcd fills them when it restores.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Seek, Write};

use bytes::Bytes;
use kedge_kv::KeyValue;
use prost::Message;

use crate::State;
use crate::bolt::{Database, Writer};
use crate::error::Error;

const REVISION: usize = 17;
const TOMBSTONE: u8 = b't';
const COMPACTED: &[u8] = b"finishedCompactRev";
const SCHEDULED: &[u8] = b"scheduledCompactRev";

#[derive(Clone, PartialEq, Message)]
struct StoredKeyValue {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(int64, tag = "2")]
    create_revision: i64,
    #[prost(int64, tag = "3")]
    mod_revision: i64,
    #[prost(int64, tag = "4")]
    version: i64,
    #[prost(bytes = "bytes", tag = "5")]
    value: Bytes,
    #[prost(int64, tag = "6")]
    lease: i64,
}

#[derive(Clone, PartialEq, Message)]
struct StoredLease {
    #[prost(int64, tag = "1")]
    id: i64,
    #[prost(int64, tag = "2")]
    ttl: i64,
    #[prost(int64, tag = "3")]
    remaining: i64,
}

fn revision_key(main: u64, sub: u64) -> [u8; REVISION] {
    let mut out = [b'_'; REVISION];
    out[..8].copy_from_slice(&main.to_be_bytes());
    out[9..].copy_from_slice(&sub.to_be_bytes());
    out
}

/// Revisions are far below 2^63: they count single writes.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(crate) fn write<W: Write + Seek>(out: W, state: &State, progress: &mut dyn FnMut(usize)) -> io::Result<W> {
    let mut writer = Writer::new(out)?;
    for empty in ["alarm", "auth", "authRoles", "authUsers", "cluster"] {
        writer.end_bucket(empty.as_bytes())?;
    }
    let mut by_revision: Vec<&KeyValue> = state.kvs.iter().collect();
    by_revision.sort_by_key(|kv| kv.mod_revision);
    let (mut main, mut sub) = (0, 0);
    for (written, kv) in by_revision.into_iter().enumerate() {
        // Keys that were written by one transaction share its revision.
        sub = if kv.mod_revision == main { sub + 1 } else { 0 };
        main = kv.mod_revision;
        let value = StoredKeyValue {
            key: kv.key.clone(),
            create_revision: signed(kv.create_revision),
            mod_revision: signed(kv.mod_revision),
            version: signed(kv.version),
            // Others are to read it, who know nothing of packed values. One at a time, so that they take no memory.
            value: kedge_packed::plain(&kv.value).map_err(io::Error::other)?,
            lease: kv.lease,
        };
        writer.put(&revision_key(main, sub), &value.encode_to_vec())?;
        progress(written + 1);
    }
    writer.end_bucket(b"key")?;
    let mut leases = state.leases.clone();
    // By their big-endian bytes, as buckets are sorted.
    leases.sort_by_key(|(id, _)| id.to_be_bytes());
    for (id, seconds) in leases {
        let lease = StoredLease { id, ttl: signed(seconds), remaining: 0 };
        writer.put(&id.to_be_bytes(), &lease.encode_to_vec())?;
    }
    writer.end_bucket(b"lease")?;
    for empty in ["members", "members_removed"] {
        writer.end_bucket(empty.as_bytes())?;
    }
    // A store whose newest keys were all deleted is still at the revision of the last deletion.
    let revision = revision_key(state.revision, 0);
    writer.put(COMPACTED, &revision)?;
    writer.put(SCHEDULED, &revision)?;
    writer.end_bucket(b"meta")?;
    writer.finish()
}

pub(crate) fn read(file: &File, len: u64, progress: &mut dyn FnMut(usize)) -> Result<State, Error> {
    let database = Database::open(file, len)?;
    let mut state = State::default();
    database.bucket(b"meta", &mut |key, value, _| {
        if key == COMPACTED || key == SCHEDULED {
            state.revision = state.revision.max(main_of(value)?);
        }
        Ok(())
    })?;
    let mut newest: BTreeMap<Bytes, KeyValue> = BTreeMap::new();
    let mut records = 0;
    let found = database.bucket(b"key", &mut |key, value, _| {
        let main = main_of(key)?;
        state.revision = state.revision.max(main);
        let stored = StoredKeyValue::decode(value).map_err(|e| Error::Damaged(format!("a key cannot be read: {e}")))?;
        if key.get(REVISION) == Some(&TOMBSTONE) {
            newest.remove(&stored.key);
        } else if !stored.key.is_empty() {
            newest.insert(stored.key.clone(), key_value(stored, main)?);
        }
        // Without a key it only raises the revision: `etcdutl snapshot restore --bump-revision` writes one.
        records += 1;
        progress(records);
        Ok(())
    })?;
    if !found {
        return Err(Error::Damaged("it holds no keys of etcd".into()));
    }
    database.bucket(b"lease", &mut |_, value, _| {
        let lease = StoredLease::decode(value).map_err(|e| Error::Damaged(format!("a lease cannot be read: {e}")))?;
        state.leases.push((lease.id, u64::try_from(lease.ttl).unwrap_or_default()));
        Ok(())
    })?;
    state.leases.sort_unstable();
    state.kvs = newest.into_values().collect();
    Ok(state)
}

fn main_of(revision: &[u8]) -> Result<u64, Error> {
    let main = revision.first_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes));
    let main =
        main.filter(|_| revision.len() >= REVISION).ok_or_else(|| Error::Damaged("a revision is cut off".into()))?;
    // In etcd they are signed.
    if i64::try_from(main).is_err() {
        return Err(Error::Damaged(format!("the revision {main} is beyond the last one")));
    }
    Ok(main)
}

/// The version of a key that was written at a revision.
fn key_value(stored: StoredKeyValue, revision: u64) -> Result<KeyValue, Error> {
    let number = |n: i64| u64::try_from(n).map_err(|_| Error::Damaged("a revision is negative".into()));
    let (created, modified) = (number(stored.create_revision)?, number(stored.mod_revision)?);
    if modified != revision || created > modified {
        let key = String::from_utf8_lossy(&stored.key).into_owned();
        let what = format!("{key} is stored at revision {revision} as created at {created} and changed at {modified}");
        return Err(Error::Damaged(what));
    }
    Ok(KeyValue {
        create_revision: created,
        mod_revision: modified,
        version: number(stored.version)?,
        lease: stored.lease,
        key: stored.key,
        value: stored.value,
    })
}
