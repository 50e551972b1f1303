//! The objects behind the names, indexed the ways queries come.
//!
//! Invariant: every index entry belongs to an object that is held; removing the object removes the
//! entry, so the memory used follows the cluster.

use crate::objects::{EndpointSlice, Namespace, Service};
use kedge_meta::ObjectKey;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

type ByAddress = HashMap<IpAddr, BTreeSet<ObjectKey>>;

/// Services, their endpoints, and namespaces.
#[derive(Debug, Default)]
pub struct Records {
    services: HashMap<ObjectKey, Arc<Service>>,
    service_addresses: ByAddress,
    slices: HashMap<ObjectKey, Arc<EndpointSlice>>,
    slices_of: HashMap<ObjectKey, BTreeSet<ObjectKey>>,
    endpoint_addresses: ByAddress,
    namespaces: HashSet<String>,
}

impl Records {
    /// Puts a Service in the place of the one of that name, or takes it away.
    pub fn set_service(&mut self, key: &ObjectKey, service: Option<Arc<Service>>) {
        if let Some(old) = self.services.remove(key) {
            old.addresses().for_each(|ip| unlink(&mut self.service_addresses, &ip, key));
        }
        if let Some(service) = service {
            service.addresses().for_each(|ip| link(&mut self.service_addresses, ip, key));
            self.services.insert(key.clone(), service);
        }
    }

    /// Puts an EndpointSlice in the place of the one of that name, or takes it away.
    pub fn set_slice(&mut self, key: &ObjectKey, slice: Option<Arc<EndpointSlice>>) {
        if let Some(old) = self.slices.remove(key) {
            old.ready().for_each(|(ip, _)| unlink(&mut self.endpoint_addresses, &ip, key));
            if let Some(service) = owner(key, &old) {
                unlink(&mut self.slices_of, &service, key);
            }
        }
        if let Some((slice, service)) = slice.and_then(|s| owner(key, &s).map(|o| (s, o))) {
            slice.ready().for_each(|(ip, _)| link(&mut self.endpoint_addresses, ip, key));
            link(&mut self.slices_of, service, key);
            self.slices.insert(key.clone(), slice);
        }
    }

    /// Notes or forgets a Namespace.
    pub fn set_namespace(&mut self, name: &str, namespace: Option<&Namespace>) {
        if namespace.is_some() {
            self.namespaces.insert(name.to_owned());
        } else {
            self.namespaces.remove(name);
        }
    }

    /// Whether there is a Namespace of that name.
    pub fn has_namespace(&self, name: &str) -> bool {
        self.namespaces.contains(name)
    }

    /// The Service of that name.
    pub fn service(&self, namespace: &str, name: &str) -> Option<&Arc<Service>> {
        self.services.get(&ObjectKey::new(namespace, name))
    }

    /// The slices of a Service.
    pub fn slices(&self, namespace: &str, service: &str) -> impl Iterator<Item = &Arc<EndpointSlice>> {
        let keys = self.slices_of.get(&ObjectKey::new(namespace, service));
        keys.into_iter().flatten().filter_map(|key| self.slices.get(key))
    }

    /// The Services that have that cluster address.
    pub fn services_at(&self, ip: IpAddr) -> impl Iterator<Item = &ObjectKey> {
        self.service_addresses.get(&ip).into_iter().flatten()
    }

    /// The slices with a backend at that address, in the order of their names.
    pub fn slices_at(&self, ip: IpAddr) -> impl Iterator<Item = &Arc<EndpointSlice>> {
        let keys = self.endpoint_addresses.get(&ip).into_iter().flatten();
        keys.filter_map(|key| self.slices.get(key))
    }

    /// How many addresses and owners are indexed; for tests.
    #[cfg(test)]
    fn indexed(&self) -> [usize; 3] {
        [self.service_addresses.len(), self.slices_of.len(), self.endpoint_addresses.len()]
    }
}

fn owner(key: &ObjectKey, slice: &EndpointSlice) -> Option<ObjectKey> {
    slice.service().map(|service| ObjectKey::new(key.namespace.clone(), service))
}

fn link<K: std::hash::Hash + Eq>(index: &mut HashMap<K, BTreeSet<ObjectKey>>, at: K, key: &ObjectKey) {
    index.entry(at).or_default().insert(key.clone());
}

fn unlink<K: std::hash::Hash + Eq>(index: &mut HashMap<K, BTreeSet<ObjectKey>>, at: &K, key: &ObjectKey) {
    if let Some(keys) = index.get_mut(at) {
        keys.remove(key);
        if keys.is_empty() {
            index.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn nothing_stays_indexed() {
        let mut records = Records::default();
        let key = ObjectKey::new("d", "web");
        let service = json!({"metadata": {"name": "web"}, "spec": {"clusterIP": "10.43.0.5"}});
        let slice = json!({
            "metadata": {"name": "web", "labels": {"kubernetes.io/service-name": "web"}},
            "endpoints": [{"addresses": ["10.42.0.5"]}, {"addresses": ["10.42.0.6"], "conditions": {"ready": false}}],
        });
        records.set_service(&key, Some(Arc::new(serde_json::from_value(service).unwrap())));
        records.set_slice(&key, Some(Arc::new(serde_json::from_value(slice).unwrap())));
        assert_eq!(records.indexed(), [1, 1, 1]);
        assert_eq!(records.slices("d", "web").count(), 1);
        records.set_service(&key, None);
        records.set_slice(&key, None);
        assert_eq!(records.indexed(), [0, 0, 0]);
    }
}
