//! Layer 5: the controllers, one folder or file each.
//!
//! Each has a planner without I/O (state in, actions out) and an edge that reads informers and calls the client.
//! Invariant: they reach the API only through `kedge-client`, so they also work against a stock API server.

mod apiserver_leases;
mod attachdetach;
mod authentication_trust;
mod bootstrap_tokens;
mod certificates;
mod clusterrole_aggregation;
mod context;
mod cronjob;
mod daemonset;
mod deployment;
mod disruption;
mod ephemeral_volume;
mod garbage_collector;
mod horizontalpodautoscaler;
mod job;
mod legacy_token_cleaner;
pub mod legacy_token_tracking;
pub mod local_path;
mod namespace;
mod node;
mod objects;
mod persistentvolume;
mod policy_status;
pub mod priority_and_fairness;
mod replicaset;
mod resourceclaim;
mod resourcequota;
mod root_ca;
mod scales;
mod selection;
mod service;
mod service_cidrs;
mod serviceaccount;
mod serviceaccount_tokens;
mod settings;
mod statefulset;
mod storage_migration;
mod storage_protection;
mod system_namespaces;
#[cfg(test)]
mod testing;
mod ttl_after_finished;
mod volume_expand;
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
pub use serviceaccount_tokens::{SignError, TokenSigner};
pub use settings::{Settings, SettingsError};
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
    /// Whether directories of nodes are made into volumes.
    pub local_storage: bool,
    pub settings: Settings,
    /// Signs the tokens that are kept in secrets.
    pub token_signer: Arc<dyn TokenSigner>,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("cluster_cidr", &self.cluster_cidr).finish_non_exhaustive()
    }
}

/// Starts all controllers in `tasks` that are to run.
pub fn start(client: &Client, clock: &SharedClock, tasks: &TaskGroup, config: Config) {
    let ctx = Context::new(client, clock, tasks, &config.settings);
    if ctx.runs("namespace-controller") {
        namespace::start(&ctx);
    }
    system_namespaces::start(&ctx);
    start_accounts(&ctx, &config);
    bootstrap_tokens::start(&ctx);
    start_workloads(&ctx);
    service::start(&ctx);
    if ctx.runs("service-cidr-controller") {
        service_cidrs::start(&ctx);
    }
    if ctx.runs("disruption-controller") {
        disruption::start(&ctx);
    }
    if ctx.runs("horizontal-pod-autoscaler-controller") {
        horizontalpodautoscaler::start(&ctx);
    }
    if ctx.runs("clusterrole-aggregation-controller") {
        clusterrole_aggregation::start(&ctx);
    }
    if ctx.runs("resourceclaim-controller") {
        resourceclaim::start(&ctx);
    }
    let notice: resourcequota::Notice =
        if ctx.runs("resourcequota-controller") { resourcequota::start(&ctx) } else { Arc::new(|_, _| {}) };
    if ctx.runs("garbage-collector-controller") && ctx.settings.garbage_collector {
        garbage_collector::start(&ctx, notice);
    }
    start_volumes(&ctx);
    storage_protection::start(&ctx);
    node::start(&ctx, &config.cluster_cidr);
    if ctx.runs("root-ca-certificate-publisher-controller") {
        root_ca::start(&ctx, config.root_ca);
    }
    apiserver_leases::start(&ctx);
    authentication_trust::start(&ctx, config.trust);
    certificates::start(&ctx, config.signing);
    if ctx.runs("validatingadmissionpolicy-status-controller") {
        policy_status::start(&ctx);
    }
    if config.local_storage {
        local_path::start(&ctx);
    }
    if config.storage_migration && ctx.runs("storage-version-migrator-controller") {
        storage_migration::start(&ctx);
    }
}

fn start_accounts(ctx: &Context, config: &Config) {
    if ctx.runs("serviceaccount-controller") {
        serviceaccount::start(ctx);
    }
    let [tokens, cleaner] = ["serviceaccount-token-controller", "legacy-serviceaccount-token-cleaner-controller"]
        .map(|name| ctx.runs(name));
    if !tokens && !cleaner {
        return;
    }
    let (accounts, secrets) = serviceaccount_tokens::informers(ctx);
    if tokens {
        serviceaccount_tokens::start(ctx, &accounts, &secrets, &config.root_ca, config.token_signer.clone());
    }
    if cleaner {
        legacy_token_cleaner::start(ctx, accounts, secrets);
    }
}

fn start_workloads(ctx: &Context) {
    replicaset::start(ctx);
    if ctx.runs("deployment-controller") {
        deployment::start(ctx);
    }
    let [daemons, sets] = ["daemonset-controller", "statefulset-controller"].map(|name| ctx.runs(name));
    if daemons || sets {
        let history = ctx.informer(&resources::CONTROLLER_REVISIONS);
        let revisions = OwnerIndex::new(&history);
        if daemons {
            daemonset::start(ctx, &history, &revisions);
        }
        if sets {
            statefulset::start(ctx, &history, &revisions);
        }
    }
    let names = ["job-controller", "cronjob-controller", "ttl-after-finished-controller"];
    let [job, cron, ttl] = names.map(|name| ctx.runs(name));
    if job || cron || ttl {
        let jobs = ctx.informer(&resources::JOBS);
        if job {
            job::start(ctx, &jobs);
        }
        if cron {
            cronjob::start(ctx, &jobs);
        }
        if ttl {
            ttl_after_finished::start(ctx, &jobs);
        }
    }
}

fn start_volumes(ctx: &Context) {
    if ctx.runs("persistentvolume-binder-controller") {
        persistentvolume::start(ctx);
    }
    if ctx.runs("ephemeral-volume-controller") {
        ephemeral_volume::start(ctx);
    }
    if ctx.runs("persistentvolume-expander-controller") {
        volume_expand::start(ctx);
    }
    if ctx.runs("persistentvolume-attach-detach-controller") {
        attachdetach::start(ctx);
    }
}
