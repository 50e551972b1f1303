//! What the binder knows: volumes and claims as they were last seen or written, and the ways to find them.
//!
//! Invariants: an object never gives way to an older version of itself, so what has just been written counts although the informer
//! has not told of it yet. Finding a volume for a claim looks at volumes of its class that are free and large enough, and at those that
//! are reserved for it; never at all volumes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use kedge_meta::quantity::Quantity;
use kedge_meta::{ObjectKey, ObjectMeta};

use crate::objects::volume::{Modes, VolumePhase};
use crate::objects::{Claim, Volume};

/// Free volumes of a class by their access modes, ordered by size and name.
type BySize = BTreeSet<(Quantity, String)>;

/// Volumes and claims.
#[derive(Debug, Default)]
pub(super) struct Index {
    volumes: HashMap<String, Arc<Volume>>,
    claims: HashMap<ObjectKey, Arc<Claim>>,
    /// By class.
    free: BTreeMap<String, BTreeMap<Modes, BySize>>,
    /// Volumes by the claim that they are for.
    reserved: HashMap<ObjectKey, BTreeSet<String>>,
    /// Claims without a volume, by class.
    waiting: BTreeMap<String, BTreeSet<ObjectKey>>,
    /// Claims by the volume that they name.
    naming: HashMap<String, BTreeSet<ObjectKey>>,
}

fn version(metadata: &ObjectMeta) -> u64 {
    metadata.resource_version.parse().unwrap_or_default()
}

/// Whether `new` may not take the place of `old`.
fn is_older(new: &ObjectMeta, old: &ObjectMeta) -> bool {
    version(new) < version(old)
}

fn drop_from<K: std::hash::Hash + Eq, V: Ord>(map: &mut HashMap<K, BTreeSet<V>>, key: &K, value: &V) {
    if let Some(set) = map.get_mut(key) {
        set.remove(value);
        if set.is_empty() {
            map.remove(key);
        }
    }
}

/// Whether nobody has the volume, and somebody may get it.
fn is_free(volume: &Volume) -> bool {
    volume.claim.is_none() && volume.phase == VolumePhase::Available && !volume.metadata.is_deleting()
}

fn slot(volume: &Volume) -> (Quantity, String) {
    (volume.storage.unwrap_or(Quantity::ZERO), volume.metadata.name.clone())
}

/// Whether a volume is large enough for a claim and of the kind that it asks for, apart from class, labels and access modes.
fn fits(volume: &Volume, claim: &Claim) -> bool {
    volume.storage.unwrap_or(Quantity::ZERO) >= claim.storage.unwrap_or(Quantity::ZERO)
        && volume.block == claim.block
        && class_of_attributes(&volume.attributes_class) == class_of_attributes(&claim.attributes_class)
        && !volume.metadata.is_deleting()
}

/// Nothing said is no class.
pub(super) fn class_of_attributes(class: &Option<String>) -> &str {
    class.as_deref().unwrap_or_default()
}

impl Index {
    pub(super) fn volume(&self, name: &str) -> Option<&Arc<Volume>> {
        self.volumes.get(name)
    }

    pub(super) fn claim(&self, key: &ObjectKey) -> Option<&Arc<Claim>> {
        self.claims.get(key)
    }

    /// Takes in a volume. Returns whether it became free by that.
    pub(super) fn set_volume(&mut self, volume: Arc<Volume>) -> bool {
        let name = &volume.metadata.name;
        if self.volumes.get(name).is_some_and(|old| is_older(&volume.metadata, &old.metadata)) {
            return false;
        }
        let was_free = self.forget_volume(name);
        if let Some(of) = &volume.claim {
            self.reserved.entry(of.key()).or_default().insert(name.clone());
        }
        let free = is_free(&volume);
        if free {
            let class = self.free.entry(volume.storage_class.clone()).or_default();
            class.entry(volume.modes()).or_default().insert(slot(&volume));
        }
        self.volumes.insert(name.clone(), volume);
        free && !was_free
    }

    /// Takes out a volume that is gone.
    pub(super) fn remove_volume(&mut self, volume: &Volume) {
        let name = &volume.metadata.name;
        // Another one of that name may be there by now.
        if self.volumes.get(name).is_some_and(|now| !is_older(&volume.metadata, &now.metadata)) {
            self.forget_volume(name);
        }
    }

    /// Returns whether it was free.
    fn forget_volume(&mut self, name: &str) -> bool {
        let Some(old) = self.volumes.remove(name) else { return false };
        if let Some(of) = &old.claim {
            drop_from(&mut self.reserved, &of.key(), &old.metadata.name);
        }
        if !is_free(&old) {
            return false;
        }
        if let Some(class) = self.free.get_mut(&old.storage_class) {
            if let Some(sizes) = class.get_mut(&old.modes()) {
                sizes.remove(&slot(&old));
            }
            class.retain(|_, sizes| !sizes.is_empty());
            if class.is_empty() {
                self.free.remove(&old.storage_class);
            }
        }
        true
    }

    /// Takes in a claim.
    pub(super) fn set_claim(&mut self, claim: Arc<Claim>) {
        let key = claim.metadata.key();
        if self.claims.get(&key).is_some_and(|old| is_older(&claim.metadata, &old.metadata)) {
            return;
        }
        self.forget_claim(&key);
        if !claim.volume_name.is_empty() {
            self.naming.entry(claim.volume_name.clone()).or_default().insert(key.clone());
        } else if !claim.is_bound() {
            self.waiting.entry(claim.class().to_owned()).or_default().insert(key.clone());
        }
        self.claims.insert(key, claim);
    }

    /// Takes out a claim that is gone.
    pub(super) fn remove_claim(&mut self, claim: &Claim) {
        let key = claim.metadata.key();
        if self.claims.get(&key).is_some_and(|now| !is_older(&claim.metadata, &now.metadata)) {
            self.forget_claim(&key);
        }
    }

    fn forget_claim(&mut self, key: &ObjectKey) {
        let Some(old) = self.claims.remove(key) else { return };
        drop_from(&mut self.naming, &old.volume_name, key);
        if let Some(waiting) = self.waiting.get_mut(old.class()) {
            waiting.remove(key);
            if waiting.is_empty() {
                self.waiting.remove(old.class());
            }
        }
    }

    /// The volumes that are bound to the claim of that name, or reserved for it.
    pub(super) fn reserved_for(&self, claim: &ObjectKey) -> Vec<String> {
        self.reserved.get(claim).into_iter().flatten().cloned().collect()
    }

    /// The claims that name a volume.
    pub(super) fn claims_naming(&self, volume: &str) -> Vec<&Arc<Claim>> {
        self.naming.get(volume).into_iter().flatten().filter_map(|key| self.claims.get(key)).collect()
    }

    /// The claims of a class that have no volume.
    pub(super) fn waiting(&self, class: &str) -> Vec<&Arc<Claim>> {
        self.waiting.get(class).into_iter().flatten().filter_map(|key| self.claims.get(key)).collect()
    }

    /// The best volume for a claim: of those with the fewest access modes beyond what is asked for, one that is reserved for it, else the
    /// smallest free one. `waits`: only a reserved one, since the scheduler chooses among the others.
    pub(super) fn best(&self, claim: &Claim, waits: bool) -> Option<Arc<Volume>> {
        let wanted: Modes = claim.access_modes.iter().copied().collect();
        let reserved = self.reserved.get(&claim.metadata.key()).into_iter().flatten();
        let reserved: Vec<_> = reserved.filter_map(|name| self.volumes.get(name)).filter(|v| v.is_for(claim)).collect();
        let free = self.free.get(claim.class()).filter(|_| !waits);
        let all = free.into_iter().flat_map(BTreeMap::keys).copied().chain(reserved.iter().map(|v| v.modes()));
        let mut sets: Vec<Modes> = all.filter(|set| set.contains(wanted)).collect();
        sets.sort_by_key(|set| (set.len(), *set));
        sets.dedup();
        sets.into_iter().find_map(|set| {
            let mine = reserved.iter().find(|v| v.modes() == set && fits(v, claim));
            mine.copied().or_else(|| self.smallest(free?.get(&set)?, claim)).cloned()
        })
    }

    fn smallest(&self, sizes: &BySize, claim: &Claim) -> Option<&Arc<Volume>> {
        let first = (claim.storage.unwrap_or(Quantity::ZERO), String::new());
        let large = sizes.range((Bound::Included(first), Bound::Unbounded));
        large.filter_map(|(_, name)| self.volumes.get(name)).find(|volume| {
            fits(volume, claim) && claim.selector.as_ref().is_none_or(|s| s.matches(&volume.metadata.labels))
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::{Value, json};

    fn volume(name: &str, version: u32, spec: Value, phase: &str) -> Arc<Volume> {
        let metadata = json!({"name": name, "resourceVersion": version.to_string(), "labels": {"of": name}});
        let object = json!({"metadata": metadata, "spec": spec, "status": {"phase": phase}});
        Arc::new(serde_json::from_value(object).unwrap())
    }

    fn claim(spec: Value) -> Claim {
        serde_json::from_value(json!({"metadata": {"name": "c", "namespace": "n", "uid": "u"}, "spec": spec})).unwrap()
    }

    fn of(storage: &str, modes: &[&str]) -> Value {
        json!({"capacity": {"storage": storage}, "accessModes": modes, "storageClassName": "s"})
    }

    #[test]
    fn few_access_modes_come_before_a_small_size() {
        let mut index = Index::default();
        let (once, many) = ("ReadWriteOnce", "ReadWriteMany");
        for (name, storage, modes) in
            [("a", "1Gi", &[once, many][..]), ("b", "5Gi", &[once]), ("c", "2Gi", &[once]), ("d", "3Gi", &[many])]
        {
            assert!(index.set_volume(volume(name, 1, of(storage, modes), "Available")));
        }
        let best = |index: &Index, modes: &[&str], storage: &str| {
            let spec = json!({"accessModes": modes, "storageClassName": "s",
                "resources": {"requests": {"storage": storage}}});
            index.best(&claim(spec), false).map(|v| v.metadata.name.clone()).unwrap_or_default()
        };
        assert_eq!(best(&index, &[once], "1Gi"), "c");
        assert_eq!(best(&index, &[once], "2049Mi"), "b");
        assert_eq!(best(&index, &[many], "1Gi"), "d");
        assert_eq!(best(&index, &[many], "4Gi"), "");
        assert_eq!(best(&index, &[once, many], "1Gi"), "a");
        index.set_volume(volume("c", 2, of("2Gi", &[once]), "Released"));
        assert_eq!(best(&index, &[once], "1Gi"), "b", "one that is not available is not taken");
        index.set_volume(volume("c", 1, of("2Gi", &[once]), "Available"));
        assert_eq!(best(&index, &[once], "1Gi"), "b", "what is older does not count");
        index.remove_volume(&volume("b", 3, json!({}), ""));
        assert_eq!(best(&index, &[once], "1Gi"), "a");
    }

    #[test]
    fn nothing_is_left_of_what_is_gone() {
        let mut index = Index::default();
        let spec = json!({"claimRef": {"namespace": "n", "name": "c"}});
        index.set_volume(volume("a", 1, spec, "Bound"));
        index.set_volume(volume("b", 1, of("1Gi", &["ReadWriteOnce"]), "Available"));
        index.set_claim(Arc::new(claim(json!({"volumeName": "a"}))));
        index.set_claim(Arc::new(claim(json!({"storageClassName": "s"}))));
        let key = ObjectKey::new("n", "c");
        assert_eq!((index.waiting("s").len(), index.claims_naming("a").len()), (1, 0));
        assert_eq!(index.reserved_for(&key), ["a"]);
        ["a", "b"].into_iter().for_each(|name| index.remove_volume(&volume(name, 2, json!({}), "")));
        index.remove_claim(&claim(json!({})));
        let Index { volumes, claims, free, reserved, waiting, naming } = index;
        assert!(volumes.is_empty() && claims.is_empty() && free.is_empty());
        assert!(reserved.is_empty() && waiting.is_empty() && naming.is_empty());
    }

    #[test]
    fn thousands_of_claims_are_found_volumes_without_looking_at_all() {
        // Each claim takes the volume of its size; a search through all volumes for each would look at 2·10⁸.
        const MANY: u32 = 20_000;
        let mut index = Index::default();
        for size in 1..=MANY {
            index.set_volume(volume(&size.to_string(), 1, of(&size.to_string(), &["ReadWriteOnce"]), "Available"));
        }
        for size in (1..=MANY).rev() {
            let spec = json!({"accessModes": ["ReadWriteOnce"], "storageClassName": "s",
                "resources": {"requests": {"storage": size.to_string()}}});
            let best = index.best(&claim(spec), false).unwrap();
            assert_eq!(best.metadata.name, size.to_string());
            index.remove_volume(&best);
        }
    }
}
