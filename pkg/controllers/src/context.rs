//! What all controllers share: the client, the clock, the tasks, and one informer for each kind that several of them read.
//!
//! Invariant: no controller starts its workers before the informers it decides by have taken in their first list.

use std::fmt::Display;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;

use kedge_base::{SharedClock, TaskGroup};
use kedge_client::{Client, Discovery, Error, EventRecorder, Informer, Keyed, ListParams, WorkQueue, run_workers};
use kedge_meta::{ObjectKey, Resource, resources};
use serde::de::DeserializeOwned;

use crate::Settings;
use crate::objects::{Claim, Namespace, Node, Pod, ReplicaSet, Service, Volume};
use crate::workload::by_claim::PodsByClaim;
use crate::workload::index::OwnerIndex;

/// Shared by all controllers; cheap to clone.
#[derive(Clone)]
pub struct Context {
    pub client: Client,
    pub clock: SharedClock,
    pub tasks: TaskGroup,
    pub settings: Arc<Settings>,
    /// What there is, now that kinds come and go.
    pub discovery: Arc<Discovery>,
    pub pods: Informer<Pod>,
    pub nodes: Informer<Node>,
    pub namespaces: Informer<Namespace>,
    pub services: Informer<Service>,
    pub replica_sets: Informer<ReplicaSet>,
    pub claims: Informer<Claim>,
    pub volumes: Informer<Volume>,
    pub pods_by_claim: PodsByClaim,
    pub pods_by_owner: OwnerIndex<Pod>,
    pub sets_by_owner: OwnerIndex<ReplicaSet>,
}

impl Context {
    /// Starts the shared informers.
    pub fn new(client: &Client, clock: &SharedClock, tasks: &TaskGroup, settings: &Settings) -> Self {
        fn informer<T: Keyed + DeserializeOwned + Send + Sync + 'static>(
            client: &Client,
            tasks: &TaskGroup,
            resource: &Resource,
        ) -> Informer<T> {
            Informer::start(client, tasks, resource, ListParams::default())
        }
        let pods = informer(client, tasks, &resources::PODS);
        let replica_sets = informer(client, tasks, &resources::REPLICA_SETS);
        Self {
            client: client.clone(),
            clock: clock.clone(),
            tasks: tasks.clone(),
            settings: Arc::new(settings.clone()),
            discovery: Discovery::start(client, tasks),
            pods_by_claim: PodsByClaim::new(&pods),
            claims: informer(client, tasks, &resources::PERSISTENT_VOLUME_CLAIMS),
            volumes: informer(client, tasks, &resources::PERSISTENT_VOLUMES),
            pods_by_owner: OwnerIndex::new(&pods),
            sets_by_owner: OwnerIndex::new(&replica_sets),
            pods,
            nodes: informer(client, tasks, &resources::NODES),
            namespaces: informer(client, tasks, &resources::NAMESPACES),
            services: informer(client, tasks, &resources::SERVICES),
            replica_sets,
        }
    }

    /// An informer of one controller's own.
    pub fn informer<T: Keyed + DeserializeOwned + Send + Sync + 'static>(&self, resource: &Resource) -> Informer<T> {
        Informer::start(&self.client, &self.tasks, resource, ListParams::default())
    }

    /// Whether the controller of that name runs.
    pub fn runs(&self, controller: &str) -> bool {
        self.settings.runs(controller)
    }

    /// An empty queue.
    pub fn queue<K: Hash + Eq + Clone + Send + Sync + 'static>(&self) -> WorkQueue<K> {
        WorkQueue::new(self.clock.clone(), &self.tasks)
    }

    /// Records events as `component`.
    pub fn recorder(&self, component: &str) -> EventRecorder {
        EventRecorder::new(&self.client, self.clock.clone(), &self.tasks, component, "")
    }

    /// Runs `workers` workers on `queue`, or as many as are set for it, once `synced` is done.
    pub fn work<K, C, S, F, Fut>(
        &self,
        name: &'static str,
        queue: &WorkQueue<K>,
        workers: usize,
        synced: S,
        controller: Arc<C>,
        reconcile: F,
    ) where
        K: Hash + Eq + Clone + Display + Send + Sync + 'static,
        C: Send + Sync + 'static,
        S: Future<Output = ()> + Send + 'static,
        F: Fn(Arc<C>, K) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Error>> + Send + 'static,
    {
        let (queue, tasks) = (queue.clone(), self.tasks.clone());
        let workers = self.settings.workers(name, workers);
        queue.measure(measured(name));
        self.tasks.spawn_until_shutdown(name, async move {
            synced.await;
            run_workers(name, &queue, &tasks, workers, move |key| reconcile(controller.clone(), key));
        });
    }
}

/// What upstream's metrics call the queue that is called so here.
fn measured(name: &'static str) -> &'static str {
    match name {
        "bootstrap-signer" => "bootstrap_signer_queue",
        "clusterrole-aggregation" => "ClusterRoleAggregator",
        "endpoints" => "endpoint",
        "endpointslice" => "endpoint_slice",
        "endpointslice-mirroring" => "endpoint_slice_mirroring",
        "garbage-collector" => "garbage_collector_attempt_to_delete",
        "job-orphans" => "job_orphan_pod",
        "node-lifecycle" => "node_lifecycle_controller",
        "resourceclaim" => "resource_claim",
        "resourcequota" => "resourcequota_primary",
        "replicationcontroller" => "replicationmanager",
        "root-ca" => "root_ca_cert_publisher",
        "stale-pod-disruption" => "stale_pod_disruption",
        "taint-eviction" => "noexec_taint_pod",
        "token-cleaner" => "token_cleaner",
        "ttl" => "ttlcontroller",
        "ttl-after-finished" => "ttl_jobs_to_delete",
        other => other,
    }
}

/// Queues every object of `informer` whenever it changes.
pub fn enqueue_changes<T: Keyed + DeserializeOwned + Send + Sync + 'static>(
    informer: &Informer<T>,
    queue: &WorkQueue<ObjectKey>,
) {
    let queue = queue.clone();
    informer.on_change(move |change| queue.add(change.key()));
}

/// A missing object is not an error where it was to go away anyway.
pub fn ignore_not_found(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(err) if err.is_not_found() => Ok(()),
        other => other,
    }
}
