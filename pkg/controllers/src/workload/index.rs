//! Objects by who manages them, so that a controller need not look through all of a namespace.
//!
//! Invariant: the index changes before any other handler of the same informer runs, if it is made first.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use kedge_client::{Informer, Keyed};
use kedge_meta::{ObjectKey, ObjectMeta};
use parking_lot::RwLock;
use serde::de::DeserializeOwned;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Slot {
    /// By the manager's uid.
    Managed(String),
    /// By namespace.
    Orphans(String),
}

/// An index over an informer; clones share it.
pub struct OwnerIndex<T> {
    informer: Informer<T>,
    slots: Arc<RwLock<HashMap<Slot, BTreeSet<ObjectKey>>>>,
}

impl<T> Clone for OwnerIndex<T> {
    fn clone(&self) -> Self {
        Self { informer: self.informer.clone(), slots: self.slots.clone() }
    }
}

fn slot(meta: &ObjectMeta) -> Slot {
    match meta.controller() {
        Some(owner) => Slot::Managed(owner.uid.clone()),
        None => Slot::Orphans(meta.namespace.clone()),
    }
}

impl<T: Keyed + DeserializeOwned + Send + Sync + 'static> OwnerIndex<T> {
    /// Follows `informer`.
    pub fn new(informer: &Informer<T>) -> Self {
        let slots: Arc<RwLock<HashMap<Slot, BTreeSet<ObjectKey>>>> = Arc::default();
        let s = slots.clone();
        informer.on_change(move |change| {
            let (old, new) =
                (change.old.as_ref().map(|o| slot(o.metadata())), change.new.as_ref().map(|o| slot(o.metadata())));
            if old == new {
                return;
            }
            let (key, mut slots) = (change.key(), s.write());
            if let Some(old) = old
                && let Some(keys) = slots.get_mut(&old)
            {
                keys.remove(&key);
                if keys.is_empty() {
                    slots.remove(&old);
                }
            }
            if let Some(new) = new {
                slots.entry(new).or_default().insert(key);
            }
        });
        Self { informer: informer.clone(), slots }
    }

    /// What the object with this uid manages.
    pub fn managed(&self, uid: &str) -> Vec<Arc<T>> {
        self.of(&Slot::Managed(uid.to_owned()))
    }

    /// What nobody manages, in a namespace.
    pub fn orphans(&self, namespace: &str) -> Vec<Arc<T>> {
        self.of(&Slot::Orphans(namespace.to_owned()))
    }

    /// What `owner` manages or may adopt.
    pub fn candidates(&self, owner: &ObjectMeta) -> Vec<Arc<T>> {
        let mut all = self.managed(&owner.uid);
        all.extend(self.orphans(&owner.namespace));
        all
    }

    fn of(&self, slot: &Slot) -> Vec<Arc<T>> {
        let slots = self.slots.read();
        let keys = slots.get(slot).into_iter().flatten();
        // Between the change of the cache and that of the index an object may be in the wrong slot.
        keys.filter_map(|k| self.informer.get(&k.namespace, &k.name))
            .filter(|o| self::slot(o.metadata()) == *slot)
            .collect()
    }
}
