//! From informers to "these services changed".
//!
//! Invariant: the set of changed services is bounded by the number of services, because a service
//! that changes twice before it is looked at is in it once.

use crate::objects::{EndpointSlice, LABEL_SERVICE_NAME, Service};
use kedge_client::{Change, Keyed};
use kedge_meta::ObjectKey;
use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap};
use tokio::sync::Notify;

/// Which slices belong to which service, and which services changed.
#[derive(Debug, Default)]
pub struct Tracker {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    dirty: BTreeSet<ObjectKey>,
    owner: HashMap<ObjectKey, ObjectKey>,
    slices: HashMap<ObjectKey, BTreeSet<ObjectKey>>,
}

impl Tracker {
    /// Takes in a change of a Service.
    pub fn service(&self, change: &Change<Service>) {
        self.state.lock().dirty.insert(change.key());
        self.changed.notify_one();
    }

    /// Takes in a change of an EndpointSlice.
    pub fn slice(&self, change: &Change<EndpointSlice>) {
        let key = change.key();
        let mut state = self.state.lock();
        // A slice can be given to another service, then both changed.
        if let Some(before) = state.owner.remove(&key) {
            if let Some(slices) = state.slices.get_mut(&before) {
                slices.remove(&key);
                if slices.is_empty() {
                    state.slices.remove(&before);
                }
            }
            state.dirty.insert(before);
        }
        let now = change.new.as_ref().and_then(|slice| {
            let meta = slice.metadata();
            meta.labels.get(LABEL_SERVICE_NAME).map(|name| ObjectKey::new(meta.namespace.clone(), name))
        });
        if let Some(service) = now {
            state.owner.insert(key.clone(), service.clone());
            state.slices.entry(service.clone()).or_default().insert(key);
            state.dirty.insert(service);
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Says that something changed that concerns every service.
    pub fn everything(&self) {
        self.changed.notify_one();
    }

    /// Completes when something changed since the last [`Tracker::take`].
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Takes the services that changed.
    pub fn take(&self) -> BTreeSet<ObjectKey> {
        std::mem::take(&mut self.state.lock().dirty)
    }

    /// The slices of a service.
    pub fn slices_of(&self, service: &ObjectKey) -> Vec<ObjectKey> {
        self.state.lock().slices.get(service).into_iter().flatten().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;
    use std::sync::Arc;

    fn slice(service: &str) -> Arc<EndpointSlice> {
        let labels = json!({LABEL_SERVICE_NAME: service});
        let meta = json!({"name": "s1", "namespace": "ns", "labels": labels});
        Arc::new(serde_json::from_value(json!({"metadata": meta, "endpoints": null})).unwrap())
    }

    #[test]
    fn a_slice_that_changes_hands_touches_both_services() {
        let tracker = Tracker::default();
        tracker.slice(&Change { old: None, new: Some(slice("a")) });
        tracker.take();
        tracker.slice(&Change { old: Some(slice("a")), new: Some(slice("b")) });
        let (a, b) = (ObjectKey::new("ns", "a"), ObjectKey::new("ns", "b"));
        assert_eq!(tracker.take(), BTreeSet::from([a.clone(), b.clone()]));
        assert!(tracker.slices_of(&a).is_empty());
        assert_eq!(tracker.slices_of(&b).len(), 1);
        tracker.slice(&Change { old: Some(slice("b")), new: None });
        assert!(tracker.slices_of(&b).is_empty());
        assert_eq!(tracker.take(), BTreeSet::from([b]));
    }
}
