//! Caches of the objects besides pods and nodes that plugins look up.

use std::sync::Arc;

use kedge_base::TaskGroup;
use kedge_client::{Client, Informer, ListParams};
use kedge_meta::labels::Selector;
use kedge_meta::{Resource, StringMap, resources};

use crate::api::{Budget, Claim, Namespace, Pod, Service, StorageClass, Volume, Workload};

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
        Self {
            namespaces: follow(client, tasks, &resources::NAMESPACES),
            services: follow(client, tasks, &resources::SERVICES),
            replication_controllers: follow(client, tasks, &resources::REPLICATION_CONTROLLERS),
            replica_sets: follow(client, tasks, &resources::REPLICA_SETS),
            stateful_sets: follow(client, tasks, &resources::STATEFUL_SETS),
            claims: follow(client, tasks, &resources::PERSISTENT_VOLUME_CLAIMS),
            volumes: follow(client, tasks, &resources::PERSISTENT_VOLUMES),
            storage_classes: follow(client, tasks, &resources::STORAGE_CLASSES),
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
            Self {
                namespaces: one(&resources::NAMESPACES, vec![]),
                services: one(&resources::SERVICES, vec![]),
                replication_controllers: one(&resources::REPLICATION_CONTROLLERS, vec![]),
                replica_sets: one(&resources::REPLICA_SETS, vec![]),
                stateful_sets: one(&resources::STATEFUL_SETS, vec![]),
                claims: one(&resources::PERSISTENT_VOLUME_CLAIMS, vec![]),
                volumes: one(&resources::PERSISTENT_VOLUMES, vec![]),
                storage_classes: one(&resources::STORAGE_CLASSES, vec![]),
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
            Self {
                claims: one(&resources::PERSISTENT_VOLUME_CLAIMS, claims),
                volumes: one(&resources::PERSISTENT_VOLUMES, volumes),
                storage_classes: one(&resources::STORAGE_CLASSES, classes),
                ..self
            }
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
