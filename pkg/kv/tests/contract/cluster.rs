//! Three etcd processes and two handles that write, while members die, stop and are cut off.
//!
//! Nothing that was acknowledged is lost, observers have no gap, and clients see only errors after which they may try again.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kedge_etcdpb::etcdserverpb as pb;
use kedge_kv::Kv;
use tonic::transport::Endpoint;

use crate::engines::{self, PATIENCE};
use crate::etcd::{Guarded, free_port, tools};
use crate::model::Model;
use crate::netns::{self, Network};
use crate::recorder::Recorder;
use crate::store::Store;
use crate::workload::{PREFIX, Watching, Workload};

const MEMBERS: usize = 3;
/// Writes that must go through while a member is away, and after it is back.
const WRITES: usize = 60;

struct Member {
    process: Option<Guarded>,
    client: String,
    peer: String,
}

struct Cluster {
    members: Vec<Member>,
    network: Option<Network>,
    dir: tempfile::TempDir,
}

impl Cluster {
    fn start(network: Option<Network>) -> Self {
        let members = (0..MEMBERS).map(|i| {
            let host = network.as_ref().map_or("127.0.0.1".to_owned(), |network| network.address(i));
            let (client, peer) = (free_port(), free_port());
            Member { process: None, client: format!("http://{host}:{client}"), peer: format!("http://{host}:{peer}") }
        });
        let mut cluster = Self { members: members.collect(), network, dir: tempfile::tempdir().unwrap() };
        for i in 0..MEMBERS {
            cluster.run(i);
        }
        cluster
    }

    fn run(&mut self, i: usize) {
        let peers = self.members.iter().enumerate().map(|(i, m)| format!("m{i}={}", m.peer));
        let (member, dir) = (&self.members[i], self.dir.path());
        let mut args: Vec<String> = self.network.as_ref().map_or(Vec::new(), |network| {
            vec!["netns".into(), "exec".into(), network.name(i), tools().unwrap().join("etcd").display().to_string()]
        });
        args.extend([
            format!("--name=m{i}"),
            format!("--data-dir={}", dir.join(format!("m{i}")).display()),
            format!("--log-outputs={}", dir.join(format!("m{i}.log")).display()),
            format!("--listen-client-urls={}", member.client),
            format!("--advertise-client-urls={}", member.client),
            format!("--listen-peer-urls={}", member.peer),
            format!("--initial-advertise-peer-urls={}", member.peer),
            format!("--initial-cluster={}", peers.collect::<Vec<_>>().join(",")),
        ]);
        let program = if self.network.is_some() { "ip".into() } else { tools().unwrap().join("etcd") };
        self.members[i].process = Some(Guarded::spawn(&program, &args));
    }

    fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(|m| m.client.clone()).collect()
    }

    fn process(&self, i: usize) -> &Guarded {
        self.members[i].process.as_ref().unwrap()
    }

    /// Whether a member says that it leads; none when it does not answer.
    async fn leads(&self, i: usize) -> Option<bool> {
        let endpoint = Endpoint::from_shared(self.members[i].client.clone()).unwrap();
        let endpoint = endpoint.timeout(Duration::from_secs(2)).connect_timeout(Duration::from_secs(1));
        let mut client = pb::maintenance_client::MaintenanceClient::new(endpoint.connect().await.ok()?);
        let status = client.status(pb::StatusRequest {}).await.ok()?.into_inner();
        Some(status.leader != 0 && status.leader == status.header?.member_id)
    }

    async fn leader(&self) -> usize {
        let search = async {
            loop {
                for i in 0..MEMBERS {
                    if self.leads(i).await == Some(true) {
                        return i;
                    }
                }
                pause().await;
            }
        };
        tokio::time::timeout(PATIENCE, search).await.expect("the cluster has no leader")
    }

    /// Waits until a member answers.
    async fn is_back(&self, i: usize) {
        let waiting = async {
            while self.leads(i).await.is_none() {
                pause().await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("a member does not come back");
    }
}

/// Between two looks at something that is waited for.
async fn pause() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

/// What goes wrong, to which member.
enum Fault {
    Killed,
    Stopped,
    CutOff,
}

async fn strike(cluster: &mut Cluster, fault: &Fault, member: usize, work: &Workload) {
    match fault {
        Fault::Killed => {
            cluster.process(member).signal("KILL");
            work.more(WRITES).await;
            cluster.members[member].process = None;
            cluster.run(member);
        }
        Fault::Stopped => {
            cluster.process(member).signal("STOP");
            work.more(WRITES).await;
            cluster.process(member).signal("CONT");
        }
        Fault::CutOff => {
            cluster.network.as_ref().unwrap().cut(member);
            work.more(WRITES).await;
            cluster.network.as_ref().unwrap().heal(member);
        }
    }
    cluster.is_back(member).await;
    work.more(WRITES).await;
}

async fn handle(endpoints: Vec<String>) -> Arc<dyn Kv> {
    let mut options = engines::etcd_options(endpoints);
    options.attempt_timeout = Duration::from_secs(2);
    engines::connect(options).await
}

fn survives(fault: Fault, network: impl FnOnce() -> Option<Network>) {
    if tools().is_none() {
        eprintln!("not run: KEDGE_TEST_ETCD_DIR is not set");
        return;
    }
    let mut cluster = Cluster::start(network());
    engines::block_on(async {
        let mut endpoints = cluster.endpoints();
        let first = handle(endpoints.clone()).await;
        endpoints.rotate_left(1);
        let second = handle(endpoints).await;
        let mut watching = vec![
            Watching::begin(&*first, Bytes::from_static(PREFIX)).await.unwrap(),
            Watching::begin(&*second, Bytes::from_static(PREFIX)).await.unwrap(),
        ];
        let work = Workload::new(true);
        let clients: Vec<_> = [&first, &second, &first, &second]
            .into_iter()
            .map(|kv| tokio::spawn(work.clone().client(kv.clone(), usize::MAX)))
            .collect();
        work.more(WRITES).await;
        // The leader first, which costs an election; then a member that follows.
        let leader = cluster.leader().await;
        strike(&mut cluster, &fault, leader, &work).await;
        let follower = (cluster.leader().await + 1) % MEMBERS;
        strike(&mut cluster, &fault, follower, &work).await;
        work.stop();
        let mut done = Vec::new();
        for client in clients {
            let (did, watched) = client.await.unwrap();
            done.extend(did);
            watching.extend(watched);
        }
        first.barrier().await.unwrap();
        second.barrier().await.unwrap();
        let mut model = Model::new(&watching[0].start);
        model.extend(&watching[0].recorder.told());
        model.judge_clients(&done);
        for one in &watching {
            model.judge_observer(&one.prefix, &one.start, &one.recorder.told());
        }
        first.close().await;
        second.close().await;
    });
}

#[test]
fn a_killed_member_costs_nothing_acknowledged() {
    survives(Fault::Killed, || None);
}

#[test]
fn a_stopped_member_costs_nothing_acknowledged() {
    survives(Fault::Stopped, || None);
}

#[test]
fn a_member_that_is_cut_off_costs_nothing_acknowledged() {
    if !netns::available() {
        eprintln!("not run: network namespaces need root");
        return;
    }
    survives(Fault::CutOff, || Some(Network::new(MEMBERS)));
}

/// A member that slept answers at once when it wakes, with what it knew; a barrier and a read must not take that.
#[test]
fn reads_at_a_member_that_was_away_are_not_old() {
    if tools().is_none() {
        eprintln!("not run: KEDGE_TEST_ETCD_DIR is not set");
        return;
    }
    let cluster = Cluster::start(None);
    engines::block_on(async {
        let sleeper = (cluster.leader().await + 1) % MEMBERS;
        let mut others = cluster.endpoints();
        let pinned = handle(vec![others.remove(sleeper)]).await;
        let writer = Store::single(handle(others).await);
        let recorder = Recorder::new();
        pinned.observe(b"/", recorder.clone()).await.unwrap();
        for round in 0..5 {
            cluster.process(sleeper).signal("STOP");
            let mut written = 0;
            for i in 0..20 {
                written = writer.put("/a", &format!("{round} {i}")).await;
            }
            let asked = [pinned.clone(), pinned.clone(), pinned.clone(), pinned.clone()]
                .map(|kv| tokio::spawn(async move { (kv.barrier().await.unwrap(), kv.get(b"/a").await.unwrap()) }));
            pause().await;
            cluster.process(sleeper).signal("CONT");
            for asked in asked {
                let (revision, read) = asked.await.unwrap();
                assert!(revision >= written, "{revision} after {written}");
                assert_eq!(read.unwrap().mod_revision, written);
            }
            assert_eq!(recorder.events().last().unwrap().revision, written);
        }
    });
}
