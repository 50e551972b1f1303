//! Caches of the objects besides pods and nodes that plugins look up.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use kedge_base::TaskGroup;
use kedge_client::{Client, Informer, ListParams};
use kedge_meta::labels::Selector;
use kedge_meta::{ObjectKey, Resource, StringMap, resources};
use parking_lot::RwLock;

use crate::api::{
    Attachment, Budget, Capacity, Claim, CsiDriver, CsiNode, Namespace, Pod, Service, StorageClass, Volume, Workload,
};

/// Volumes that nobody has, by class, the smallest first, and those that are meant for a claim, by that.
pub struct VolumeIndex {
    volumes: Informer<Volume>,
    names: Arc<RwLock<VolumeNames>>,
}

#[derive(Default)]
struct VolumeNames {
    free: HashMap<String, BTreeSet<(i64, String)>>,
    meant: HashMap<ObjectKey, BTreeSet<String>>,
}

impl VolumeNames {
    fn remove(&mut self, volume: &Volume) {
        let name = &volume.metadata.name;
        if let Some(of) = &volume.claim {
            let key = ObjectKey::new(&of.namespace, &of.name);
            let names = self.meant.get_mut(&key);
            if names.is_some_and(|names| names.remove(name) && names.is_empty()) {
                self.meant.remove(&key);
            }
        } else if let Some(names) = self.free.get_mut(&volume.storage_class) {
            names.remove(&(volume.storage, name.clone()));
            if names.is_empty() {
                self.free.remove(&volume.storage_class);
            }
        }
    }

    fn add(&mut self, volume: &Volume) {
        let name = volume.metadata.name.clone();
        match &volume.claim {
            Some(of) => {
                self.meant.entry(ObjectKey::new(&of.namespace, &of.name)).or_default().insert(name);
            }
            None => {
                self.free.entry(volume.storage_class.clone()).or_default().insert((volume.storage, name));
            }
        }
    }
}

impl VolumeIndex {
    fn new(volumes: &Informer<Volume>) -> Self {
        let names: Arc<RwLock<VolumeNames>> = Arc::default();
        let index = names.clone();
        volumes.on_change(move |change| {
            let mut index = index.write();
            change.old.iter().for_each(|volume| index.remove(volume));
            change.new.iter().for_each(|volume| index.add(volume));
        });
        Self { volumes: volumes.clone(), names }
    }

    /// Volumes of a class that are large enough and that nobody has, the smallest first.
    pub fn free(&self, class: &str, storage: i64) -> Vec<Arc<Volume>> {
        let names = self.names.read();
        let large = names.free.get(class).into_iter().flat_map(|names| names.range((storage, String::new())..));
        large.filter_map(|(_, name)| self.volumes.get("", name)).collect()
    }

    /// Volumes that are meant for a claim of that name.
    pub fn meant(&self, claim: &ObjectKey) -> Vec<Arc<Volume>> {
        let names = self.names.read();
        names.meant.get(claim).into_iter().flatten().filter_map(|name| self.volumes.get("", name)).collect()
    }
}

/// Attachments by node.
pub struct AttachmentIndex {
    attachments: Informer<Attachment>,
    names: Arc<RwLock<HashMap<String, BTreeSet<String>>>>,
}

impl AttachmentIndex {
    fn new(attachments: &Informer<Attachment>) -> Self {
        let names: Arc<RwLock<HashMap<String, BTreeSet<String>>>> = Arc::default();
        let index = names.clone();
        attachments.on_change(move |change| {
            let mut index = index.write();
            if let Some(old) = &change.old {
                let names = index.get_mut(&old.node);
                if names.is_some_and(|names| names.remove(&old.metadata.name) && names.is_empty()) {
                    index.remove(&old.node);
                }
            }
            if let Some(new) = &change.new {
                index.entry(new.node.clone()).or_default().insert(new.metadata.name.clone());
            }
        });
        Self { attachments: attachments.clone(), names }
    }

    /// The attachments to a node.
    pub fn on(&self, node: &str) -> Vec<Arc<Attachment>> {
        let names = self.names.read();
        names.get(node).into_iter().flatten().filter_map(|name| self.attachments.get("", name)).collect()
    }
}

/// One shared informer a kind.
pub struct Listers {
    pub namespaces: Informer<Namespace>,
    pub services: Informer<Service>,
    pub replication_controllers: Informer<Workload>,
    pub replica_sets: Informer<Workload>,
    pub stateful_sets: Informer<Workload>,
    pub claims: Informer<Claim>,
    pub volumes: Informer<Volume>,
    pub storage_classes: Informer<StorageClass>,
    pub csi_nodes: Informer<CsiNode>,
    pub csi_drivers: Informer<CsiDriver>,
    pub capacities: Informer<Capacity>,
    pub attachments: Informer<Attachment>,
    pub volume_index: VolumeIndex,
    pub attachment_index: AttachmentIndex,
    pub budgets: Informer<Budget>,
}

impl Listers {
    /// Starts to follow the API.
    pub fn start(client: &Client, tasks: &TaskGroup) -> Self {
        fn follow<T>(client: &Client, tasks: &TaskGroup, resource: &Resource) -> Informer<T>
        where
            T: kedge_client::Keyed + serde::de::DeserializeOwned + Send + Sync + 'static,
        {
            Informer::start(client, tasks, resource, ListParams::default())
        }
        let volumes = follow(client, tasks, &resources::PERSISTENT_VOLUMES);
        let attachments = follow(client, tasks, &resources::VOLUME_ATTACHMENTS);
        Self {
            namespaces: follow(client, tasks, &resources::NAMESPACES),
            services: follow(client, tasks, &resources::SERVICES),
            replication_controllers: follow(client, tasks, &resources::REPLICATION_CONTROLLERS),
            replica_sets: follow(client, tasks, &resources::REPLICA_SETS),
            stateful_sets: follow(client, tasks, &resources::STATEFUL_SETS),
            claims: follow(client, tasks, &resources::PERSISTENT_VOLUME_CLAIMS),
            volume_index: VolumeIndex::new(&volumes),
            attachment_index: AttachmentIndex::new(&attachments),
            volumes,
            attachments,
            storage_classes: follow(client, tasks, &resources::STORAGE_CLASSES),
            csi_nodes: follow(client, tasks, &resources::CSI_NODES),
            csi_drivers: follow(client, tasks, &resources::CSI_DRIVERS),
            capacities: follow(client, tasks, &resources::CSI_STORAGE_CAPACITIES),
            budgets: follow(client, tasks, &resources::POD_DISRUPTION_BUDGETS),
        }
    }

    /// Completes when all of them have been listed.
    pub async fn synced(&self) {
        self.namespaces.synced().await;
        self.services.synced().await;
        self.replication_controllers.synced().await;
        self.replica_sets.synced().await;
        self.stateful_sets.synced().await;
        self.claims.synced().await;
        self.volumes.synced().await;
        self.storage_classes.synced().await;
        self.csi_nodes.synced().await;
        self.csi_drivers.synced().await;
        self.capacities.synced().await;
        self.attachments.synced().await;
        self.budgets.synced().await;
    }

    /// Labels of a namespace; none if it is not known.
    pub fn namespace_labels(&self, name: &str) -> StringMap {
        self.namespaces.get("", name).map(|n| n.metadata.labels.clone()).unwrap_or_default()
    }

    /// Selects the pods that belong together with this one: by its services and by the workload that owns it.
    pub fn default_selector(&self, pod: &Pod) -> Option<Selector> {
        let meta = &pod.metadata;
        let mut labels = StringMap::new();
        if !meta.labels.is_empty() {
            let selects = |s: &&Arc<Service>| !s.selector.is_empty() && meta.labels.contains_all(&s.selector);
            for service in self.services.list_namespace(&meta.namespace).iter().filter(selects) {
                labels.extend(&service.selector);
            }
        }
        let owner = meta.controller().and_then(|owner| {
            let workloads = match (owner.api_version.as_str(), owner.kind.as_str()) {
                ("v1", "ReplicationController") => &self.replication_controllers,
                ("apps/v1", "ReplicaSet") => &self.replica_sets,
                ("apps/v1", "StatefulSet") => &self.stateful_sets,
                _ => return None,
            };
            workloads.get(&meta.namespace, &owner.name)
        });
        let mut requirements = Selector::from_map(&labels).requirements().to_vec();
        requirements.extend(owner.iter().flat_map(|o| o.selector.requirements().iter().cloned()));
        (!requirements.is_empty()).then(|| Selector::from_requirements(requirements))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::{Value, json};

    fn one<T: kedge_client::Keyed + serde::de::DeserializeOwned + Send + Sync + 'static>(
        resource: &Resource,
        objects: Vec<Value>,
    ) -> Informer<T> {
        Informer::fixed(resource, objects.into_iter().map(|o| serde_json::from_value(o).unwrap()).collect())
    }

    impl Default for Listers {
        fn default() -> Self {
            let volumes = one(&resources::PERSISTENT_VOLUMES, vec![]);
            let attachments = one(&resources::VOLUME_ATTACHMENTS, vec![]);
            Self {
                namespaces: one(&resources::NAMESPACES, vec![]),
                services: one(&resources::SERVICES, vec![]),
                replication_controllers: one(&resources::REPLICATION_CONTROLLERS, vec![]),
                replica_sets: one(&resources::REPLICA_SETS, vec![]),
                stateful_sets: one(&resources::STATEFUL_SETS, vec![]),
                claims: one(&resources::PERSISTENT_VOLUME_CLAIMS, vec![]),
                volume_index: VolumeIndex::new(&volumes),
                attachment_index: AttachmentIndex::new(&attachments),
                volumes,
                attachments,
                storage_classes: one(&resources::STORAGE_CLASSES, vec![]),
                csi_nodes: one(&resources::CSI_NODES, vec![]),
                csi_drivers: one(&resources::CSI_DRIVERS, vec![]),
                capacities: one(&resources::CSI_STORAGE_CAPACITIES, vec![]),
                budgets: one(&resources::POD_DISRUPTION_BUDGETS, vec![]),
            }
        }
    }

    impl Listers {
        pub fn with_service(self, service: Value) -> Self {
            Self { services: one(&resources::SERVICES, vec![service]), ..self }
        }

        pub fn with_namespace(self, namespace: Value) -> Self {
            Self { namespaces: one(&resources::NAMESPACES, vec![namespace]), ..self }
        }

        pub fn with_storage(self, claims: Vec<Value>, volumes: Vec<Value>, classes: Vec<Value>) -> Self {
            let volumes = one(&resources::PERSISTENT_VOLUMES, volumes);
            Self {
                claims: one(&resources::PERSISTENT_VOLUME_CLAIMS, claims),
                volume_index: VolumeIndex::new(&volumes),
                volumes,
                storage_classes: one(&resources::STORAGE_CLASSES, classes),
                ..self
            }
        }

        pub fn with_drivers(self, drivers: Vec<Value>, nodes: Vec<Value>, attachments: Vec<Value>) -> Self {
            let attachments = one(&resources::VOLUME_ATTACHMENTS, attachments);
            Self {
                csi_drivers: one(&resources::CSI_DRIVERS, drivers),
                csi_nodes: one(&resources::CSI_NODES, nodes),
                attachment_index: AttachmentIndex::new(&attachments),
                attachments,
                ..self
            }
        }

        pub fn with_capacities(self, capacities: Vec<Value>) -> Self {
            Self { capacities: one(&resources::CSI_STORAGE_CAPACITIES, capacities), ..self }
        }

        pub fn with_budget(self, budget: Value) -> Self {
            Self { budgets: one(&resources::POD_DISRUPTION_BUDGETS, vec![budget]), ..self }
        }
    }

    #[test]
    fn services_and_the_owner_make_the_default_selector() {
        let mut listers = Listers::default()
            .with_service(json!({"metadata": {"name": "s", "namespace": "n"}, "spec": {"selector": {"app": "x"}}}));
        listers.replica_sets = one(
            &resources::REPLICA_SETS,
            vec![
                json!({"metadata": {"name": "r", "namespace": "n"}, "spec": {"selector": {"matchLabels": {"h": "1"}}}}),
            ],
        );
        let owner =
            json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "u", "controller": true}]);
        let meta = json!({"name": "p", "namespace": "n", "labels": {"app": "x", "h": "1"}, "ownerReferences": owner});
        let pod: Pod = serde_json::from_value(json!({"metadata": meta})).unwrap();
        assert_eq!(listers.default_selector(&pod).unwrap().to_string(), "app=x,h=1");
        let other: Pod = serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "m"}})).unwrap();
        assert_eq!(listers.default_selector(&other), None);
    }
}
