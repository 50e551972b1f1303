//! Moving everything from one store to another.
//!
//! Into the embedded store a migration is a restore: there as a whole, with all revisions, or not at all. Into an etcd it
//! is a comparison and as many writes as that needs, so it can be cut off and run again; while it has not been verified, a
//! marker in the target keeps servers away from it. Revisions start anew there: clients list again.
//!
//! What the servers of a cluster share beside its objects, authorities and encryption keys, is in an etcd under a key of its
//! own and in files elsewhere; it moves in the form that the target has it in. What it is, only the caller knows.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use kedge_kv::{KeyRange, KeyValue, Kv, Op, Range, Txn};
use kedge_snapshot::State;

use crate::Progress;
use crate::capture::capture;
use crate::error::Error;
use crate::layout::Layout;
use crate::place::Place;
use crate::restore::contents;

/// Where a migration says that it has not ended.
const MARKER: &[u8] = b"/kedge/migration";
/// What servers on an etcd share: authorities and encryption keys. A server on an embedded store has these in files, so
/// what lies there under this key is of another time, and must not come to replace them.
const IDENTITY: &[u8] = b"/kedge/identity";
/// Writes in one transaction; etcd allows 128.
const BATCH: usize = 64;
/// Bytes of values in one transaction; etcd allows 1.5 MiB.
const BATCH_BYTES: usize = 512 << 10;

/// Where each living server on an etcd has a key, which goes with its lease.
const SERVERS: &[u8] = b"/registry/masterleases/";
/// Leases of those who lead among servers on an etcd; also servers that only listen locally, which have no key, hold them.
const LEADERS: [&str; 2] =
    ["/registry/leases/kube-system/kube-controller-manager", "/registry/leases/kube-system/kube-scheduler"];
/// Seconds for which a lease holds that says nothing else, as upstream.
const LEASE: i64 = 15;

/// What a migration did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migrated {
    pub keys: usize,
    /// Keys that were not in the target yet.
    pub written: usize,
}

/// The direction of a migration.
pub enum Direction<'a> {
    ToEtcd {
        etcd: &'a dyn Kv,
        /// What servers on the etcd will share, sealed.
        identity: Option<Bytes>,
    },
    FromEtcd {
        etcd: &'a dyn Kv,
        /// Makes what servers on the etcd share files of the data directory; called when nothing else can be refused any
        /// more, right before the store is there.
        identity: &'a mut (dyn FnMut() -> Result<(), Box<dyn std::error::Error + Send + Sync>> + Send),
    },
}

/// Moves everything between the embedded store of a data directory and an etcd, and compares what came of it. No server
/// may run on either.
///
/// # Errors
/// [`Error`]; the same call again goes on from there.
pub async fn migrate(
    layout: &Layout,
    direction: Direction<'_>,
    etcd_name: &str,
    now: Timestamp,
    progress: &mut Progress<'_>,
) -> Result<Migrated, Error> {
    match direction {
        Direction::ToEtcd { etcd, identity } => {
            let place = Place::of_store(layout)?;
            let mut state = place.read()?.unwrap_or_default();
            state.kvs.retain(|kv| kv.key != IDENTITY);
            let migrated = to_etcd(&state, identity, etcd, etcd_name, progress).await;
            drop(place);
            migrated
        }
        Direction::FromEtcd { etcd, identity } => {
            refuse_unfinished(etcd, etcd_name).await?;
            refuse_used(etcd, etcd_name, now).await?;
            from_etcd(layout, etcd, identity, now, progress).await
        }
    }
}

/// Refuses a store that a migration has not completed.
pub(crate) async fn refuse_unfinished(kv: &dyn Kv, name: &str) -> Result<(), Error> {
    match kv.get(MARKER).await? {
        Some(_) => Err(Error::Unfinished { target: name.to_owned() }),
        None => Ok(()),
    }
}

/// Refuses an etcd that servers use: what they write would be left behind.
async fn refuse_used(etcd: &dyn Kv, name: &str, now: Timestamp) -> Result<(), Error> {
    let in_use = |by: String| Err(Error::InUse { store: name.to_owned(), by });
    let servers = etcd.range(Range { keys_only: true, ..Range::prefix(SERVERS) }).await?;
    // Without a lease it says nothing about anybody's life.
    if let Some(server) = servers.kvs.iter().find(|kv| kv.lease != 0) {
        let address = server.key.strip_prefix(SERVERS).unwrap_or(&server.key);
        return in_use(format!("the server {}", String::from_utf8_lossy(address)));
    }
    for key in LEADERS {
        let Some(lease) = etcd.get(key.as_bytes()).await? else { continue };
        if let Some(holder) = holder(&lease.value, now) {
            return in_use(holder);
        }
    }
    Ok(())
}

/// Who holds a lease now. Clocks of hosts may differ: what is a little in the future is now, too.
fn holder(lease: &[u8], now: Timestamp) -> Option<String> {
    let lease: serde_json::Value = serde_json::from_slice(lease).ok()?;
    let spec = &lease["spec"];
    let holder = spec["holderIdentity"].as_str().filter(|holder| !holder.is_empty())?;
    let renewed: Timestamp = spec["renewTime"].as_str()?.parse().ok()?;
    let held = spec["leaseDurationSeconds"].as_i64().unwrap_or(LEASE);
    let ago = now.as_second() - renewed.as_second();
    (ago.abs() <= held).then(|| holder.to_owned())
}

async fn from_etcd(
    layout: &Layout,
    etcd: &dyn Kv,
    identity: &mut (dyn FnMut() -> Result<(), Box<dyn std::error::Error + Send + Sync>> + Send),
    now: Timestamp,
    progress: &mut Progress<'_>,
) -> Result<Migrated, Error> {
    let place = Place::take(layout)?;
    let there = place.read()?.unwrap_or_default();
    let state = capture(etcd, progress).await?;
    let keys = state.kvs.len();
    if let Some(first) = there.kvs.first() {
        // What an earlier migration wrote may be replaced until a server has used it.
        let migrated = place.is_migrated();
        let same = match migrated {
            true => there == state,
            false => difference(&state.kvs, &there.kvs).is_none(),
        };
        if same {
            identity().map_err(Error::Identity)?;
            progress("keys verified", keys, Some(keys));
            return Ok(Migrated { keys, written: 0 });
        }
        if !migrated {
            let example = String::from_utf8_lossy(&first.key).into_owned();
            return Err(Error::NotEmpty { target: "the embedded store".into(), keys: there.kvs.len(), example });
        }
    }
    // A source that somebody still writes to would be left behind at once.
    let again = capture(etcd, &mut |_, _, _| {}).await?;
    if difference(&state.kvs, &again.kvs).is_some() || again.revision != state.revision {
        return Err(Error::Changing);
    }
    identity().map_err(Error::Identity)?;
    progress("keys written", 0, Some(keys));
    place.replace(&contents(state.clone()), 0, true, now)?;
    progress("keys written", keys, Some(keys));
    let written = place.read()?.unwrap_or_default();
    if let Some(differs) = difference(&state.kvs, &written.kvs) {
        return Err(Error::Differs { target: "the embedded store".into(), key: differs });
    }
    progress("keys verified", keys, Some(keys));
    Ok(Migrated { keys, written: keys })
}

async fn to_etcd(
    state: &State,
    identity: Option<Bytes>,
    etcd: &dyn Kv,
    name: &str,
    progress: &mut Progress<'_>,
) -> Result<Migrated, Error> {
    let mut before = capture(etcd, &mut |_, _, _| {}).await?;
    let marked = before.kvs.iter().any(|kv| kv.key == MARKER);
    // In the end; the same one is sealed differently every time.
    let identity = identity.map(|sealed| Op::Put { key: IDENTITY.into(), value: sealed, lease: 0 });
    if let (false, Some(first)) = (marked, before.kvs.first().cloned()) {
        let shared = before.kvs.iter().any(|kv| kv.key == IDENTITY);
        before.kvs.retain(|kv| kv.key != IDENTITY);
        if difference(&state.kvs, &before.kvs).is_none() {
            // An earlier attempt was cut off after its last write.
            put(etcd, identity.into_iter().filter(|_| !shared).collect()).await?;
            return Ok(Migrated { keys: state.kvs.len(), written: 0 });
        }
        let example = String::from_utf8_lossy(&first.key).into_owned();
        return Err(Error::NotEmpty { target: name.to_owned(), keys: before.kvs.len(), example });
    }
    put(etcd, vec![Op::Put { key: MARKER.into(), value: "running".into(), lease: 0 }]).await?;
    grant(state, &before, etcd).await?;
    let have: BTreeMap<&Bytes, &KeyValue> = before.kvs.iter().map(|kv| (&kv.key, kv)).collect();
    let wanted: BTreeSet<&Bytes> = state.kvs.iter().map(|kv| &kv.key).collect();
    let mut ops = Vec::new();
    // What an earlier attempt wrote and the source no longer has.
    let stray = before.kvs.iter().filter(|kv| kv.key != MARKER && !wanted.contains(&kv.key));
    ops.extend(stray.map(|kv| Op::Delete(KeyRange::key(kv.key.clone()))));
    let (mut written, mut bytes, total) = (0, 0, state.kvs.len());
    for (at, kv) in state.kvs.iter().enumerate() {
        if have.get(&kv.key).is_some_and(|there| there.value == kv.value && there.lease == kv.lease) {
            continue;
        }
        if ops.len() >= BATCH || bytes + kv.value.len() > BATCH_BYTES && !ops.is_empty() {
            put(etcd, std::mem::take(&mut ops)).await?;
            bytes = 0;
        }
        written += 1;
        bytes += kv.value.len();
        ops.push(Op::Put { key: kv.key.clone(), value: kv.value.clone(), lease: kv.lease });
        progress("keys written", at + 1, Some(total));
    }
    put(etcd, ops).await?;
    let mut after = capture(etcd, &mut |_, _, _| {}).await?;
    after.kvs.retain(|kv| kv.key != MARKER);
    if let Some(key) = difference(&state.kvs, &after.kvs) {
        return Err(Error::Differs { target: name.to_owned(), key });
    }
    progress("keys verified", total, Some(total));
    let mut end = vec![Op::Delete(KeyRange::key(MARKER))];
    end.extend(identity);
    etcd.txn(Txn { success: end, ..Txn::default() }).await?;
    Ok(Migrated { keys: total, written })
}

async fn put(kv: &dyn Kv, mut ops: Vec<Op>) -> Result<(), Error> {
    while !ops.is_empty() {
        let rest = ops.split_off(ops.len().min(BATCH));
        kv.txn(Txn { success: std::mem::replace(&mut ops, rest), ..Txn::default() }).await?;
    }
    Ok(())
}

/// Grants in the target the leases of the source, under the same ids, unless an earlier attempt did.
async fn grant(state: &State, before: &State, etcd: &dyn Kv) -> Result<(), Error> {
    for (id, seconds) in &state.leases {
        if !before.leases.iter().any(|(have, _)| have == id) {
            etcd.grant(Some(*id), Duration::from_secs(*seconds)).await?;
        }
    }
    Ok(())
}

/// The first key that is not the same on both sides; both are sorted by key.
fn difference(a: &[KeyValue], b: &[KeyValue]) -> Option<String> {
    let shown = |kv: &KeyValue| String::from_utf8_lossy(&kv.key).into_owned();
    for (x, y) in a.iter().zip(b) {
        if (&x.key, &x.value, x.lease) != (&y.key, &y.value, y.lease) {
            return Some(shown(if x.key <= y.key { x } else { y }));
        }
    }
    let longer = if a.len() > b.len() { a } else { b };
    longer.get(a.len().min(b.len())).map(shown)
}

#[cfg(test)]
#[path = "migrate_tests.rs"]
mod tests;
