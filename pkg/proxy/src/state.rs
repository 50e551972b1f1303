//! The desired table: the union of all services' fragments, and what changed since it was applied.
//!
//! Invariant: `held` says for every item what the kernel shall hold. `before` remembers, for every
//! item touched since [`Desired::applied`], what the kernel holds now. Their difference is the
//! script; untouched services cost nothing.

use crate::item::{Item, Value};
use crate::plan::Fragment;
use kedge_meta::ObjectKey;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Who asks for an item.
pub type Owner = Arc<ObjectKey>;

/// One difference between the kernel and the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What differs.
    pub item: Item,
    /// What the kernel holds.
    pub before: Option<Value>,
    /// What it shall hold.
    pub after: Option<Value>,
}

/// The desired table.
#[derive(Debug, Default)]
pub struct Desired {
    held: HashMap<Item, (Owner, Value)>,
    /// Later claims on the same item, for instance two services with one external address.
    waiting: HashMap<Item, Vec<(Owner, Value)>>,
    fragments: HashMap<ObjectKey, (Owner, Vec<Item>)>,
    before: BTreeMap<Item, Option<Value>>,
}

impl Desired {
    /// Replaces what one service asks for; an empty fragment forgets the service.
    pub fn replace(&mut self, key: &ObjectKey, fragment: Fragment) {
        let (owner, old) = match self.fragments.remove(key) {
            Some((owner, items)) => (owner, items),
            None => (Arc::new(key.clone()), Vec::new()),
        };
        for item in old.iter().filter(|item| !fragment.contains_key(item)) {
            self.withdraw(item, &owner);
        }
        let items: Vec<Item> = fragment.keys().cloned().collect();
        for (item, value) in fragment {
            self.claim(item, &owner, value);
        }
        if !items.is_empty() {
            self.fragments.insert(key.clone(), (owner, items));
        }
    }

    /// The differences to the kernel, in the order of their items.
    pub fn changes(&self) -> Vec<Change> {
        let changes = self.before.iter().map(|(item, before)| Change {
            item: item.clone(),
            before: before.clone(),
            after: self.held.get(item).map(|(_, value)| value.clone()),
        });
        changes.filter(|change| change.before != change.after).collect()
    }

    /// Everything, as differences to an empty table.
    pub fn everything(&self) -> Vec<Change> {
        let mut all: Vec<Change> = self
            .held
            .iter()
            .map(|(item, (_, value))| Change { item: item.clone(), before: None, after: Some(value.clone()) })
            .collect();
        all.sort_unstable_by(|a, b| a.item.cmp(&b.item));
        all
    }

    /// Says that the kernel now holds what is desired.
    pub fn applied(&mut self) {
        self.before.clear();
    }

    /// The services that are in the plan.
    pub fn owners(&self) -> impl Iterator<Item = &ObjectKey> {
        self.fragments.keys()
    }

    fn remember(&mut self, item: &Item) {
        if !self.before.contains_key(item) {
            let now = self.held.get(item).map(|(_, value)| value.clone());
            self.before.insert(item.clone(), now);
        }
    }

    fn claim(&mut self, item: Item, owner: &Owner, value: Value) {
        match self.held.get(&item) {
            Some((holder, held)) if holder == owner => {
                if *held != value {
                    self.remember(&item);
                    self.held.insert(item, (owner.clone(), value));
                }
            }
            Some((holder, held)) => {
                if *held != value {
                    tracing::warn!(%holder, service = %owner, ?item, "two services claim the same address and port; the first keeps it");
                }
                let waiting = self.waiting.entry(item).or_default();
                match waiting.iter_mut().find(|(waiter, _)| waiter == owner) {
                    Some(entry) => entry.1 = value,
                    None => waiting.push((owner.clone(), value)),
                }
            }
            None => {
                self.remember(&item);
                self.held.insert(item, (owner.clone(), value));
            }
        }
    }

    fn withdraw(&mut self, item: &Item, owner: &Owner) {
        let waiting = self.waiting.get_mut(item);
        if self.held.get(item).is_some_and(|(holder, _)| holder == owner) {
            let next = waiting.filter(|list| !list.is_empty()).map(|list| list.remove(0));
            self.remember(item);
            match next {
                Some(next) => self.held.insert(item.clone(), next),
                None => self.held.remove(item),
            };
        } else if let Some(list) = waiting {
            list.retain(|(waiter, _)| waiter != owner);
        }
        if self.waiting.get(item).is_some_and(Vec::is_empty) {
            self.waiting.remove(item);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::item::{Container, Key};
    use std::net::Ipv4Addr;

    fn item(last: u8) -> Item {
        Item::Element(Container::ClusterIps, Key::Address(Ipv4Addr::new(10, 43, 0, last)))
    }

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new("default", name)
    }

    fn fragment(entries: &[(u8, u32)]) -> Fragment {
        entries.iter().map(|(i, seconds)| (item(*i), Value::Seconds(*seconds))).collect()
    }

    #[test]
    fn only_differences_come_out() {
        let mut desired = Desired::default();
        desired.replace(&key("a"), fragment(&[(1, 1), (2, 1)]));
        assert_eq!(desired.changes().len(), 2);
        desired.applied();
        desired.replace(&key("a"), fragment(&[(1, 1), (2, 5), (3, 1)]));
        let changes = desired.changes();
        assert_eq!(changes.iter().map(|c| c.item.clone()).collect::<Vec<_>>(), [item(2), item(3)]);
        assert_eq!(changes[0].before, Some(Value::Seconds(1)));
    }

    #[test]
    fn there_and_back_is_no_change() {
        let mut desired = Desired::default();
        desired.replace(&key("a"), fragment(&[(1, 1)]));
        desired.applied();
        desired.replace(&key("a"), Fragment::new());
        desired.replace(&key("a"), fragment(&[(1, 1)]));
        assert!(desired.changes().is_empty());
    }

    #[test]
    fn the_second_claimant_takes_over_when_the_first_goes() {
        let mut desired = Desired::default();
        desired.replace(&key("a"), fragment(&[(1, 1)]));
        desired.replace(&key("b"), fragment(&[(1, 2)]));
        desired.applied();
        desired.replace(&key("a"), Fragment::new());
        assert_eq!(desired.changes()[0].after, Some(Value::Seconds(2)));
        desired.applied();
        desired.replace(&key("b"), Fragment::new());
        assert_eq!(desired.changes()[0].after, None);
        assert_eq!(desired.owners().count(), 0);
    }

    #[test]
    fn a_waiting_claim_that_is_withdrawn_never_comes_up() {
        let mut desired = Desired::default();
        desired.replace(&key("a"), fragment(&[(1, 1)]));
        desired.replace(&key("b"), fragment(&[(1, 2)]));
        desired.replace(&key("b"), Fragment::new());
        desired.replace(&key("a"), Fragment::new());
        assert!(desired.everything().is_empty());
    }
}
