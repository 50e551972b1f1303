//! Evaluating transactions on the index and what the group being committed has changed already.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::format::Change;
use super::index::Index;
use crate::api::{
    Compare, KeyRange, KeyValue, LeaseId, Op, OpResult, Order, Range, RangeResult, Target, Txn, TxnResult,
};
use crate::error::Error;

/// What transactions did that are decided and not yet in the index.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    changed: BTreeMap<Bytes, Option<KeyValue>>,
    revision: u64,
}

impl Overlay {
    /// On top of an index at `revision`.
    pub(super) fn on(revision: u64) -> Self {
        Self { changed: BTreeMap::new(), revision }
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    /// Keys that were changed, with what they hold.
    pub(super) fn changed(&self) -> impl Iterator<Item = (&Bytes, Option<&KeyValue>)> {
        self.changed.iter().map(|(key, kv)| (key, kv.as_ref()))
    }
}

/// The state that the next transaction finds.
pub(super) struct View<'a> {
    pub index: &'a Index,
    pub overlay: &'a Overlay,
}

impl<'a> View<'a> {
    pub(super) fn get(&self, key: &[u8]) -> Option<KeyValue> {
        match self.overlay.changed.get(key) {
            Some(changed) => changed.clone(),
            None => self.index.get(key),
        }
    }

    /// What the keys of a range hold, in order.
    fn live(&self, keys: &KeyRange) -> Box<dyn Iterator<Item = KeyValue> + 'a> {
        let index = self.index.live(keys);
        if self.overlay.changed.is_empty() || keys.is_empty() {
            return index;
        }
        let mut index = index.peekable();
        let mut overlay = self.overlay.changed.range(keys.bounds()).peekable();
        let next = move || {
            loop {
                let Some((key, _)) = overlay.peek() else { return index.next() };
                if index.peek().is_some_and(|kv| kv.key < **key) {
                    return index.next();
                }
                if index.peek().is_some_and(|kv| kv.key == **key) {
                    index.next();
                }
                if let Some((_, Some(kv))) = overlay.next() {
                    return Some(kv.clone());
                }
            }
        };
        Box::new(std::iter::from_fn(next))
    }

    fn range(&self, range: &Range, newest: u64) -> RangeResult {
        let (mut kvs, mut count) = (Vec::new(), 0);
        for mut kv in self.live(&range.keys) {
            count += 1;
            if !range.count_only && (range.limit == 0 || kvs.len() < range.limit) {
                if range.keys_only {
                    kv.value = Bytes::new();
                }
                kvs.push(kv);
            }
        }
        RangeResult { kvs, revision: newest, count }
    }

    /// Which way a transaction and those in it go: judged before anything is changed.
    pub(super) fn path(&self, txn: &Txn) -> Path {
        let holds = txn.compare.iter().all(|compare| self.holds(compare));
        let inner = branch(txn, holds).iter().filter_map(|op| match op {
            Op::Txn(inner) => Some(self.path(inner)),
            _ => None,
        });
        Path { holds, inner: inner.collect() }
    }

    fn holds(&self, compare: &Compare) -> bool {
        let mut any = false;
        for kv in self.live(&compare.keys) {
            any = true;
            if !compares(compare, &kv) {
                return false;
            }
        }
        // A missing value is not the empty value, so nothing can be said of it.
        any || (!matches!(compare.target, Target::Value(_)) && compares(compare, &ABSENT))
    }
}

const ABSENT: KeyValue =
    KeyValue { key: Bytes::new(), value: Bytes::new(), create_revision: 0, mod_revision: 0, version: 0, lease: 0 };

fn compares(compare: &Compare, kv: &KeyValue) -> bool {
    let ordering = match &compare.target {
        Target::Version(version) => kv.version.cmp(version),
        Target::CreateRevision(revision) => kv.create_revision.cmp(revision),
        Target::ModRevision(revision) => kv.mod_revision.cmp(revision),
        // What is packed and damaged is less than anything: it holds no value.
        Target::Value(value) => kedge_packed::plain(&kv.value).ok().as_ref().cmp(&Some(value)),
        Target::Lease(lease) => kv.lease.cmp(lease),
    };
    match compare.order {
        Order::Equal => ordering.is_eq(),
        Order::NotEqual => ordering.is_ne(),
        Order::Greater => ordering.is_gt(),
        Order::Less => ordering.is_lt(),
    }
}

fn branch(txn: &Txn, holds: bool) -> &[Op] {
    if holds { &txn.success } else { &txn.failure }
}

/// The way that a transaction goes.
#[derive(Debug)]
pub(super) struct Path {
    holds: bool,
    /// Of the transactions in the branch that is taken, in order.
    inner: Vec<Path>,
}

impl Path {
    /// Calls `f` for every operation on the way, but for inner transactions themselves.
    pub(super) fn try_each<E>(&self, txn: &Txn, f: &mut impl FnMut(&Op) -> Result<(), E>) -> Result<(), E> {
        let mut inner = self.inner.iter();
        for op in branch(txn, self.holds) {
            match op {
                Op::Txn(txn) => inner.next().map_or(Ok(()), |path| path.try_each(txn, f))?,
                op => f(op)?,
            }
        }
        Ok(())
    }
}

impl Path {
    /// Refuses reads of states that the index does not have.
    pub(super) fn check_reads(&self, txn: &Txn, index: &Index) -> Result<(), Error> {
        self.try_each(txn, &mut |op| match op {
            Op::Range(Range { revision: Some(revision), .. }) => index.readable(*revision),
            _ => Ok(()),
        })
    }
}

/// Carries out one transaction whose way is known to be possible.
pub(super) struct Execution<'a> {
    index: &'a Index,
    overlay: &'a mut Overlay,
    before: u64,
    pub changes: Vec<Change>,
}

impl<'a> Execution<'a> {
    pub(super) fn new(index: &'a Index, overlay: &'a mut Overlay) -> Self {
        let before = overlay.revision;
        Self { index, overlay, before, changes: Vec::new() }
    }

    fn view(&self) -> View<'_> {
        View { index: self.index, overlay: self.overlay }
    }

    /// The revision of the state that the next operation sees.
    fn newest(&self) -> u64 {
        self.before + u64::from(!self.changes.is_empty())
    }

    /// Carries out the operations of the branch that is taken.
    ///
    /// # Errors
    /// When a past revision that was readable when the way was judged is no longer; which cannot be.
    pub(super) fn run(&mut self, txn: &Txn, path: &Path) -> Result<TxnResult, Error> {
        let mut inner = path.inner.iter();
        let mut results = Vec::new();
        for op in branch(txn, path.holds) {
            let result = match op {
                Op::Range(range) => OpResult::Range(self.read(range)?),
                Op::Put { key, value, lease } => OpResult::Put { previous: self.put(key, value, *lease) },
                Op::Delete(keys) => OpResult::Delete { previous: self.delete(keys) },
                Op::Txn(txn) => match inner.next() {
                    Some(path) => OpResult::Txn(self.run(txn, path)?),
                    None => continue,
                },
            };
            results.push(result);
        }
        Ok(TxnResult { succeeded: path.holds, revision: self.newest(), results })
    }

    fn read(&self, range: &Range) -> Result<RangeResult, Error> {
        match range.revision {
            Some(revision) if revision < self.newest() => self.index.range(range),
            _ => Ok(self.view().range(range, self.newest())),
        }
    }

    fn put(&mut self, key: &Bytes, value: &Bytes, lease: LeaseId) -> Option<KeyValue> {
        let previous = self.view().get(key);
        let revision = self.before + 1;
        let create_revision = previous.as_ref().map_or(revision, |kv| kv.create_revision);
        let version = previous.as_ref().map_or(1, |kv| kv.version + 1);
        let (key, value) = (key.clone(), value.clone());
        let kv = KeyValue { key, value, create_revision, mod_revision: revision, version, lease };
        self.change(kv.key.clone(), Some(kv));
        previous
    }

    fn delete(&mut self, keys: &KeyRange) -> Vec<KeyValue> {
        let previous: Vec<KeyValue> = self.view().live(keys).collect();
        for kv in &previous {
            self.change(kv.key.clone(), None);
        }
        previous
    }

    fn change(&mut self, key: Bytes, kv: Option<KeyValue>) {
        let revision = self.before + 1;
        self.overlay.revision = revision;
        // A transaction has a bounded size, and so has the number of keys that it changes.
        let sub = self.changes.len() as u32;
        let change = match &kv {
            Some(KeyValue { value, create_revision, version, lease, .. }) => Change {
                key: key.clone(),
                value: Some(value.clone()),
                revision,
                sub,
                create_revision: *create_revision,
                version: *version,
                lease: *lease,
            },
            None => Change { key: key.clone(), value: None, revision, sub, create_revision: 0, version: 0, lease: 0 },
        };
        self.changes.push(change);
        self.overlay.changed.insert(key, kv);
    }

    /// Deletes single keys, those of a lease.
    pub(super) fn delete_keys(&mut self, keys: &[Bytes]) {
        for key in keys {
            if self.view().get(key).is_some() {
                self.change(key.clone(), None);
            }
        }
    }
}
