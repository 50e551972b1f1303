//! DNS as a running part of the agent: informers in, sockets open.
//!
//! Invariant: it is healthy when all its sockets are open and all its records are there, not before.

use crate::forward::Forwarder;
use crate::objects::{EndpointSlice, Namespace, Service};
use crate::records::Records;
use crate::resolv::Upstreams;
use crate::server::Server;
use crate::zone::Zone;
use kedge_base::{Backoff, SharedClock, TaskGroup};
use kedge_client::{Client, Informer, ListParams};
use kedge_meta::resources;
use parking_lot::RwLock;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, UdpSocket};

/// How DNS is set up.
#[derive(Clone)]
pub struct Config {
    /// The cluster's domain, such as `cluster.local`.
    pub domain: String,
    /// Where to listen, over UDP and TCP. Addresses that are not there yet are waited for.
    pub listen: Vec<SocketAddr>,
    /// Addresses under which clients know this server, such as the cluster address of the Service
    /// `kube-dns`. They are the zone's name servers and never upstream.
    pub advertised: Vec<IpAddr>,
    /// The file that names the upstream servers; `None` to answer for the cluster only.
    pub resolv_conf: Option<PathBuf>,
    /// How long clients may remember answers about the cluster, in seconds (5 to 30).
    pub ttl: u32,
    /// Time.
    pub clock: SharedClock,
    /// Where to say that all is well.
    pub health: Health,
}

/// Whether DNS answers completely. Clones share one state.
#[derive(Debug, Clone, Default)]
pub struct Health {
    ready: Arc<AtomicBool>,
}

impl Health {
    /// Whether all sockets are open and all records are there.
    pub fn healthy(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }
}

/// Why DNS could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The domain is none.
    #[error("cluster domain {0:?} is not a domain name")]
    Domain(String),
}

/// Serves DNS until `tasks` shuts down.
///
/// # Errors
/// When the domain is malformed. Everything later is retried.
pub async fn run(config: Config, client: Client, tasks: TaskGroup) -> Result<(), Error> {
    let ttl = config.ttl.clamp(5, 30);
    let zone = Zone::new(&config.domain, ttl, config.advertised.clone())
        .ok_or_else(|| Error::Domain(config.domain.clone()))?;
    let own = config.listen.iter().map(SocketAddr::ip).chain(config.advertised.iter().copied());
    let upstreams = Upstreams::new(config.resolv_conf.clone(), own.collect());
    let forwarder = Forwarder::new(config.clock.clone(), upstreams);
    let records = Arc::new(RwLock::new(Records::default()));
    let complete = Arc::new(AtomicBool::new(false));
    let server = Arc::new(Server::new(zone, records.clone(), complete.clone(), forwarder));
    let inputs = Inputs::start(&client, &tasks, &records);

    let shutdown = tasks.shutdown().clone();
    let start = async {
        for address in &config.listen {
            listen(&config.clock, *address, &server, &tasks).await;
        }
        inputs.synced().await;
        complete.store(true, Ordering::Release);
        config.health.ready.store(true, Ordering::Release);
        tracing::info!(listen = ?config.listen, domain = config.domain, "cluster DNS is serving");
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = shutdown.requested() => {}
        () = start => {}
    }
    config.health.ready.store(false, Ordering::Release);
    Ok(())
}

/// Opens both sockets of an address and serves them.
async fn listen(clock: &SharedClock, address: SocketAddr, server: &Arc<Server>, tasks: &TaskGroup) {
    let udp = bind(clock, address, || UdpSocket::bind(address)).await;
    let tcp = bind(clock, address, || TcpListener::bind(address)).await;
    serve(udp, tcp, server, tasks);
}

/// Serves both; the sockets stay open when a task panics.
pub(crate) fn serve(udp: UdpSocket, tcp: TcpListener, server: &Arc<Server>, tasks: &TaskGroup) {
    let (answering, group, udp) = (server.clone(), tasks.clone(), Arc::new(udp));
    tasks.spawn_worker("dns-udp", move || answering.clone().udp(udp.clone(), group.clone()));
    let (answering, group, tcp) = (server.clone(), tasks.clone(), Arc::new(tcp));
    tasks.spawn_worker("dns-tcp", move || answering.clone().tcp(tcp.clone(), group.clone()));
}

/// Binds, again and again until it works: the address may belong to an interface still to come.
async fn bind<T, F>(clock: &SharedClock, address: SocketAddr, open: impl Fn() -> F) -> T
where
    F: Future<Output = io::Result<T>>,
{
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5), 20);
    let mut warned = false;
    loop {
        match open().await {
            Ok(socket) => return socket,
            Err(error) => {
                if !std::mem::replace(&mut warned, true) {
                    tracing::warn!(%address, %error, "cluster DNS cannot listen yet, trying again");
                }
                clock.sleep(backoff.next()).await;
            }
        }
    }
}

struct Inputs {
    services: Informer<Service>,
    slices: Informer<EndpointSlice>,
    namespaces: Informer<Namespace>,
}

impl Inputs {
    fn start(client: &Client, tasks: &TaskGroup, records: &Arc<RwLock<Records>>) -> Self {
        let all = ListParams::default;
        let inputs = Self {
            services: Informer::start(client, tasks, &resources::SERVICES, all()),
            slices: Informer::start(client, tasks, &resources::ENDPOINT_SLICES, all()),
            namespaces: Informer::start(client, tasks, &resources::NAMESPACES, all()),
        };
        let sink = records.clone();
        inputs.services.on_change(move |change| sink.write().set_service(&change.key(), change.new.clone()));
        let sink = records.clone();
        inputs.slices.on_change(move |change| sink.write().set_slice(&change.key(), change.new.clone()));
        let sink = records.clone();
        inputs
            .namespaces
            .on_change(move |change| sink.write().set_namespace(&change.key().name, change.new.as_deref()));
        inputs
    }

    async fn synced(&self) {
        self.services.synced().await;
        self.slices.synced().await;
        self.namespaces.synced().await;
    }
}
