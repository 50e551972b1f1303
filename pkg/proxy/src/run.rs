//! The proxy as a running task: informers in, transactions out.
//!
//! Invariant: nothing is written before Services and EndpointSlices are completely known, so a
//! restart never takes a working service away.

use crate::conntrack;
use crate::endpoints::Place;
use crate::objects::{EndpointSlice, LABEL_HEADLESS, LABEL_PROXY_NAME, LABEL_ZONE, Node, Service};
use crate::plan::Context;
use crate::ruleset::{FAMILY, Shape, TABLE};
use crate::syncer::Syncer;
use crate::tracker::Tracker;
use kedge_base::{Backoff, SharedClock, TaskGroup};
use kedge_client::{Client, Informer, ListParams};
use kedge_meta::{ObjectKey, resources};
use kedge_nft::{Nft, NftError};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

/// How long changes are gathered before they are written. A rollout changes several objects at
/// once; the wait is far below what a client can notice.
const GATHER: Duration = Duration::from_millis(5);

/// How long after a sync its leftovers are removed, if nothing changes before: the kernel has noticed by then that nothing points to
/// them.
const TIDY: Duration = Duration::from_secs(1);

const SYNCER: &str = "proxy-syncer";

/// How the proxy is set up.
#[derive(Clone)]
pub struct Config {
    /// This node's name, as in `endpoints[].nodeName`.
    pub node_name: String,
    /// This node's addresses.
    pub node_ips: Vec<IpAddr>,
    /// The networks of all pods, such as `10.42.0.0/16`. Empty: nothing is masqueraded for coming
    /// from outside the cluster.
    pub cluster_cidrs: Vec<String>,
    /// The networks of services, such as `10.43.0.0/16`. Empty: unused addresses are not dropped.
    pub service_cidrs: Vec<String>,
    /// Whether node ports answer on 127.0.0.1, too (sets the sysctl `route_localnet`).
    pub localhost_node_ports: bool,
    /// Time.
    pub clock: SharedClock,
}

/// Why the proxy could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A network in the configuration is malformed.
    #[error("service proxy: {0}")]
    Config(String),
}

/// Runs the proxy until `tasks` shuts down. The table stays, so that traffic flows while the
/// process restarts.
///
/// # Errors
/// When the configuration is malformed. Everything later is retried.
pub async fn run(config: Config, client: Client, nft: Arc<dyn Nft>, tasks: TaskGroup) -> Result<(), Error> {
    let shape = Shape {
        cluster_cidrs: parse_all(&config.cluster_cidrs)?,
        service_cidrs: parse_all(&config.service_cidrs)?,
        localhost_node_ports: config.localhost_node_ports,
    };
    let inputs = Inputs::start(&config, &client, &tasks);
    let node_ips = config.node_ips.iter().filter_map(|ip| match ip {
        IpAddr::V4(ip) => Some(*ip),
        IpAddr::V6(_) => None,
    });
    let node_ips: Vec<Ipv4Addr> = node_ips.collect();
    let place = Place { node: config.node_name.clone(), zone: String::new() };
    let (inputs, shutdown) = (Arc::new(inputs), tasks.shutdown().clone());
    tasks.spawn_worker(SYNCER, move || {
        // After a panic all is planned anew, by a syncer that takes nothing for granted.
        let context = Context { place: place.clone(), node_ips: node_ips.clone() };
        follow(inputs.clone(), Syncer::new(nft.clone(), shape.clone(), context), config.clone())
    });
    shutdown.requested().await;
    Ok(())
}

/// Removes the table, for uninstalling.
///
/// # Errors
/// When nft is missing or refuses.
pub async fn cleanup(nft: &dyn Nft) -> Result<(), NftError> {
    nft.delete_table(FAMILY, TABLE).await
}

struct Inputs {
    services: Informer<Service>,
    slices: Informer<EndpointSlice>,
    nodes: Informer<Node>,
    tracker: Arc<Tracker>,
}

impl Inputs {
    fn start(config: &Config, client: &Client, tasks: &TaskGroup) -> Self {
        let ours = ListParams::labels(format!("!{LABEL_HEADLESS},!{LABEL_PROXY_NAME}"));
        let not_headless = ListParams::labels(format!("!{LABEL_HEADLESS}"));
        let this_node = ListParams::fields(format!("metadata.name={}", config.node_name));
        let inputs = Self {
            services: Informer::start(client, tasks, &resources::SERVICES, ours),
            slices: Informer::start(client, tasks, &resources::ENDPOINT_SLICES, not_headless),
            nodes: Informer::start(client, tasks, &resources::NODES, this_node),
            tracker: Arc::default(),
        };
        let tracker = inputs.tracker.clone();
        inputs.services.on_change(move |change| tracker.service(change));
        let tracker = inputs.tracker.clone();
        inputs.slices.on_change(move |change| tracker.slice(change));
        let tracker = inputs.tracker.clone();
        inputs.nodes.on_change(move |change| {
            let zone = |node: &Option<Arc<Node>>| node.as_ref().map(|node| zone_of(node));
            if zone(&change.old).unwrap_or_default() != zone(&change.new).unwrap_or_default() {
                tracker.everything();
            }
        });
        inputs
    }

    /// Plans again what changed.
    fn plan(&self, syncer: &mut Syncer, mut keys: BTreeSet<ObjectKey>) {
        let nodes = self.nodes.list();
        let zone = nodes.first().map(|node| zone_of(node)).unwrap_or_default();
        let moved = zone != syncer.zone();
        syncer.set_zone(zone);
        if moved {
            keys.extend(self.services.list().iter().map(|service| service.metadata.key()));
            keys.extend(syncer.services());
        }
        for key in &keys {
            self.plan_one(syncer, key);
        }
    }

    fn plan_one(&self, syncer: &mut Syncer, key: &ObjectKey) {
        let service = self.services.get(&key.namespace, &key.name);
        let slices: Vec<_> = self
            .tracker
            .slices_of(key)
            .iter()
            .filter_map(|slice| self.slices.get(&slice.namespace, &slice.name))
            .collect();
        syncer.update(key, service.as_deref(), &slices);
    }
}

fn zone_of(node: &Node) -> String {
    node.metadata.labels.get(LABEL_ZONE).unwrap_or_default().to_owned()
}

async fn follow(inputs: Arc<Inputs>, mut syncer: Syncer, config: Config) {
    inputs.services.synced().await;
    inputs.slices.synced().await;
    // The own Node may appear only later; it decides about topology hints, nothing else.
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30), 20);
    let mut conntrack_missing = false;
    // What changed was told to a syncer before this one, if there was one.
    let mut first: BTreeSet<ObjectKey> = inputs.services.list().iter().map(|service| service.metadata.key()).collect();
    loop {
        let mut keys = inputs.tracker.take();
        keys.append(&mut first);
        inputs.plan(&mut syncer, keys);
        let begun = config.clock.monotonic();
        match syncer.sync().await {
            Ok(outcome) => {
                backoff.reset();
                // Not before the table is there, which keeps everybody else from what that opens.
                if outcome.full && config.localhost_node_ports {
                    allow_localhost_routing().await;
                }
                let took = config.clock.monotonic().saturating_sub(begun);
                tracing::debug!(changes = outcome.changes, full = outcome.full, ?took, "service proxy synced");
                if !outcome.stale.is_empty()
                    && !conntrack::forget(&outcome.stale, &[]).await
                    && !std::mem::replace(&mut conntrack_missing, true)
                {
                    tracing::warn!(
                        "conntrack was not found: UDP flows keep going to endpoints that are gone until they pause; install the package `conntrack`"
                    );
                }
                tokio::select! {
                    () = inputs.tracker.changed() => config.clock.sleep(GATHER).await,
                    () = config.clock.sleep(TIDY), if syncer.has_leftovers() => {}
                }
            }
            Err(error) => {
                let wait = backoff.next();
                tracing::warn!(%error, retry_in = ?wait, "service proxy cannot change the packet filter");
                config.clock.sleep(wait).await;
            }
        }
    }
}

fn parse_all<T: std::str::FromStr<Err = String>>(texts: &[String]) -> Result<Vec<T>, Error> {
    texts.iter().map(|text| text.parse().map_err(Error::Config)).collect()
}

async fn allow_localhost_routing() {
    let path = "/proc/sys/net/ipv4/conf/all/route_localnet";
    if let Err(error) = tokio::fs::write(path, "1").await {
        tracing::warn!(path, %error, "node ports will not answer on 127.0.0.1");
    }
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
