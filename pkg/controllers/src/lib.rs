//! Layer 5: the controllers, one folder or file each.
//!
//! Each has a planner without I/O (state in, actions out) and an edge that reads informers and calls the client.
//! Invariant: they reach the API only through `kedge-client`, so they also work against a stock API server.

mod authentication_trust;
mod bootstrap_tokens;
mod certificates;
mod clusterrole_aggregation;
mod context;
mod cronjob;
mod daemonset;
mod deployment;
mod disruption;
mod garbage_collector;
mod horizontalpodautoscaler;
mod job;
mod legacy_token_cleaner;
pub mod legacy_token_tracking;
mod namespace;
mod node;
mod objects;
mod policy_status;
pub mod priority_and_fairness;
mod replicaset;
mod resourcequota;
mod root_ca;
mod service;
mod service_cidrs;
mod serviceaccount;
mod serviceaccount_tokens;
mod statefulset;
mod storage_migration;
mod storage_protection;
mod system_namespaces;
#[cfg(test)]
mod testing;
mod workload;

use std::fmt;
use std::sync::Arc;

use kedge_base::{SharedClock, TaskGroup};
use kedge_client::Client;
use kedge_meta::resources;

pub use authentication_trust::Trust;
pub use certificates::Signing;
use context::Context;
pub use cronjob::schedule::{ParseError as ScheduleError, Schedule};
pub use horizontalpodautoscaler::Settings as AutoscalerSettings;
pub use serviceaccount_tokens::{SignError, TokenSigner};
use workload::index::OwnerIndex;

/// What controllers need to know of the cluster.
#[derive(Clone)]
pub struct Config {
    /// Where nodes get their pod ranges from.
    pub cluster_cidr: String,
    /// PEM; published in every namespace.
    pub root_ca: String,
    /// Published for extension API servers.
    pub trust: Trust,
    /// Signs what was approved.
    pub signing: Signing,
    /// Whether storage versions are migrated; else the server does not serve the kind that asks for it.
    pub storage_migration: bool,
    /// How workloads are scaled by what is measured of them.
    pub autoscalers: AutoscalerSettings,
    /// Signs the tokens that are kept in secrets.
    pub token_signer: Arc<dyn TokenSigner>,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("cluster_cidr", &self.cluster_cidr).finish_non_exhaustive()
    }
}

/// Starts all controllers in `tasks`.
pub fn start(client: &Client, clock: &SharedClock, tasks: &TaskGroup, config: Config) {
    let ctx = Context::new(client, clock, tasks);
    namespace::start(&ctx);
    system_namespaces::start(&ctx);
    serviceaccount::start(&ctx);
    let (accounts, secrets) = serviceaccount_tokens::start(&ctx, &config.root_ca, config.token_signer);
    legacy_token_cleaner::start(&ctx, accounts, secrets);
    bootstrap_tokens::start(&ctx);
    replicaset::start(&ctx);
    deployment::start(&ctx);
    let history = ctx.informer(&resources::CONTROLLER_REVISIONS);
    let revisions = OwnerIndex::new(&history);
    daemonset::start(&ctx, &history, &revisions);
    statefulset::start(&ctx, &history, &revisions);
    let jobs = ctx.informer(&resources::JOBS);
    job::start(&ctx, &jobs);
    cronjob::start(&ctx, &jobs);
    service::start(&ctx);
    service_cidrs::start(&ctx);
    disruption::start(&ctx);
    horizontalpodautoscaler::start(&ctx, config.autoscalers);
    clusterrole_aggregation::start(&ctx);
    let notice = resourcequota::start(&ctx);
    garbage_collector::start(&ctx, notice);
    storage_protection::start(&ctx);
    node::start(&ctx, &config.cluster_cidr);
    root_ca::start(&ctx, config.root_ca);
    authentication_trust::start(&ctx, config.trust);
    certificates::start(&ctx, config.signing);
    policy_status::start(&ctx);
    if config.storage_migration {
        storage_migration::start(&ctx);
    }
}
