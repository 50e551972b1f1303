//! A network of kubelets in memory; time passes only when nobody has anything to do.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use kedge_base::net::{Connection, Dialer};
use kedge_base::{Shutdown, TaskGroup, VirtualClock};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;

use super::super::Transport;
use super::*;

const SUMMARY: &str = r#"{"node": {"nodeName": "n",
    "cpu": {"time": "2026-01-02T03:04:05Z", "usageNanoCores": 7, "usageCoreNanoSeconds": 8},
    "memory": {"workingSetBytes": 1024}}, "pods": []}"#;

/// Kubelets: those at `dead:` refuse, those at `silent:` never answer, all others take a fifth of a second.
#[derive(Clone, Default)]
struct Network(Arc<Counts>);

#[derive(Default)]
struct Counts {
    dialed: AtomicUsize,
    open: AtomicUsize,
    most: AtomicUsize,
}

#[async_trait]
impl Dialer for Network {
    async fn dial(&self, address: &str) -> io::Result<Box<dyn Connection>> {
        self.0.dialed.fetch_add(1, Ordering::SeqCst);
        if address.starts_with("dead:") {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let (near, mut far) = tokio::io::duplex(4 << 10);
        let (counts, silent) = (self.0.clone(), address.starts_with("silent:"));
        counts.most.fetch_max(counts.open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        tokio::spawn(async move {
            let mut request = vec![0; 1 << 10];
            let read = far.read(&mut request).await.unwrap();
            assert!(request[..read].starts_with(b"GET /stats/summary"));
            if silent {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{SUMMARY}", SUMMARY.len());
            far.write_all(answer.as_bytes()).await.unwrap();
            counts.open.fetch_sub(1, Ordering::SeqCst);
        });
        Ok(Box::new(near))
    }
}

struct Cluster {
    network: Network,
    access: KubeletAccess,
    clock: VirtualClock,
    usages: Usages,
}

impl Cluster {
    fn new() -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let tls = tls.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
        let network = Network::default();
        let access = KubeletAccess::new(Arc::new(tls), TaskGroup::new("test", Shutdown::new())).unwrap();
        let access = access.with_dialer(Arc::new(network.clone()));
        let clock = VirtualClock::new("2026-01-02T03:04:05Z".parse().unwrap());
        let usages = Usages::new(Arc::new(clock.clone()));
        Self { network, access, clock, usages }
    }

    async fn of(&self, nodes: &[(String, Backend)]) -> usize {
        self.usages.of(&self.access, nodes.to_vec()).await.len()
    }

    fn dialed(&self) -> usize {
        self.network.0.dialed.load(Ordering::SeqCst)
    }
}

fn nodes(host: &str, count: usize) -> Vec<(String, Backend)> {
    let node = |n| (format!("{host}-{n}"), Backend { transport: Transport::Http, address: format!("{host}:{n}") });
    (0..count).map(node).collect()
}

#[tokio::test(start_paused = true)]
async fn two_hundred_nodes_are_read_at_once_and_once_for_all_who_ask() {
    let cluster = Cluster::new();
    let all = nodes("alive", 200);
    let began = Instant::now();
    assert_eq!(tokio::join!(cluster.of(&all), cluster.of(&all), cluster.of(&all[..10])), (200, 200, 10));
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(cluster.dialed(), 200, "who asks at the same time shares a reading");
    assert!(cluster.network.0.most.load(Ordering::SeqCst) <= AT_A_TIME);
    assert_eq!(cluster.of(&all).await, 200);
    assert_eq!(cluster.dialed(), 200, "and so does who asks soon after");
    cluster.clock.advance(FRESH);
    assert_eq!(cluster.of(&all).await, 200);
    assert_eq!(cluster.dialed(), 400);
}

#[tokio::test(start_paused = true)]
async fn nodes_that_do_not_answer_are_missing_and_left_alone_for_a_while() {
    let cluster = Cluster::new();
    let all = [nodes("alive", 2), nodes("dead", 3), nodes("silent", 3)].concat();
    let began = Instant::now();
    assert_eq!(cluster.of(&all).await, 2);
    assert!(began.elapsed() < PATIENCE + Duration::from_secs(1), "{:?}", began.elapsed());
    let began = Instant::now();
    cluster.clock.advance(FRESH);
    assert_eq!(cluster.of(&all).await, 2);
    assert!(began.elapsed() < Duration::from_secs(1), "they hold up nobody else: {:?}", began.elapsed());
    assert_eq!(cluster.dialed(), 8 + 2);
    cluster.clock.advance(RETRY);
    assert_eq!(cluster.of(&all).await, 2);
    assert_eq!(cluster.dialed(), 8 + 2 + 8);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_kept_and_nothing_runs_when_nobody_asks() {
    let cluster = Cluster::new();
    assert_eq!(cluster.clock.sleepers(), 0);
    let kept = |wanted: usize| {
        let inner = cluster.usages.0.clone();
        async move {
            while inner.nodes.lock().len() != wanted {
                tokio::task::yield_now().await;
            }
        }
    };
    assert_eq!(cluster.of(&nodes("alive", 3)).await, 3);
    cluster.clock.advance(KEPT / 2);
    assert_eq!(cluster.of(&nodes("alive", 1)).await, 1);
    cluster.clock.advance(KEPT / 2);
    kept(1).await;
    while cluster.clock.sleepers() == 0 {
        tokio::task::yield_now().await;
    }
    cluster.clock.advance(KEPT);
    kept(0).await;
    while cluster.clock.sleepers() > 0 {
        tokio::task::yield_now().await;
    }
}

#[test]
fn a_reading_is_an_answer_for_a_while() {
    let at = Duration::from_secs;
    let some = Reading(Some((at(10), Some(Arc::new(NodeUsage::default())))));
    assert!(some.current(at(14)).is_some_and(|usage| usage.is_some()) && some.current(at(15)).is_none());
    let none = Reading(Some((at(10), None)));
    assert!(none.current(at(19)).is_some_and(|usage| usage.is_none()) && none.current(at(20)).is_none());
    assert!(Reading::default().current(at(0)).is_none());
}
