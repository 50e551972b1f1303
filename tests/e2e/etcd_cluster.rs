//! Two servers on three etcds, while those fail.

use std::sync::Arc;

use crate::servers::holder;
use crate::support::etcd::Etcd;
use crate::support::writer::{self, Record};
use crate::support::{TestCluster, eventually};

/// Acknowledged writes that both servers must get through in every phase.
const WRITES: usize = 50;

struct Load {
    server: &'static str,
    record: Arc<Record>,
    thread: std::thread::JoinHandle<()>,
}

fn load(cluster: &TestCluster, server: &'static str) -> Load {
    let (kubeconfig, record) = (cluster.kubeconfig(), Arc::new(Record::default()));
    let written = record.clone();
    let thread = std::thread::spawn(move || writer::write(&kubeconfig, server, 2, false, &written));
    Load { server, record, thread }
}

/// Waits until both servers have acknowledged more writes.
fn progress(phase: &str, loads: &[Load]) {
    let before: Vec<usize> = loads.iter().map(|l| l.record.count()).collect();
    for (load, before) in loads.iter().zip(before) {
        eventually(&format!("{phase}: writes at server {}", load.server), || match load.record.count() - before {
            n if n >= WRITES => Ok(()),
            n => Err(format!("{n} of {WRITES}; {:?}", load.record.failures.lock().unwrap().last())),
        });
    }
}

/// The controllers work, whoever runs them: a new deployment gets its replica set.
fn controllers_work(cluster: &TestCluster, name: &str) {
    eventually("a deployment", || {
        let out = cluster.kubectl(&["create", "deployment", name, "--image=x"]);
        let stderr = String::from_utf8_lossy(&out.stderr).into_owned();
        if out.status.success() || stderr.contains("already exists") { Ok(()) } else { Err(stderr) }
    });
    cluster.wait_for("1", &["get", "deployment", name, "-o", "jsonpath={.status.replicas}"]);
}

#[test]
fn nothing_acknowledged_is_lost_while_members_die_freeze_and_are_cut_off() {
    let mut etcd = Etcd::three_apart();
    let flags = |name: &'static str| {
        let endpoints = etcd.endpoints();
        TestCluster::control_plane_with(&["--datastore-endpoint", &endpoints, "--token", "t", "--node-name", name])
    };
    let (a, b) = (flags("a"), flags("b"));
    // A client that watches one server sees what is written through both.
    let mut watch = b
        .kubectl_command(&["get", "configmaps", "--watch", "-o", "name"])
        .stdin(std::process::Stdio::null())
        .stdout(std::fs::File::create(b.data_dir().join("watched")).unwrap())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let loads = [load(&a, "a"), load(&b, "b")];
    progress("all is well", &loads);

    let leader = etcd.leader();
    etcd.kill(leader);
    progress("the leader was killed", &loads);
    controllers_work(&a, "killed");
    etcd.run(leader);
    progress("it is back", &loads);

    let leader = etcd.leader();
    etcd.freeze(leader);
    progress("the leader is frozen", &loads);
    controllers_work(&b, "frozen");
    etcd.thaw(leader);
    progress("it goes on", &loads);

    let leader = etcd.leader();
    etcd.connect(leader, false);
    progress("the leader is cut off", &loads);
    controllers_work(&a, "cut-off");
    etcd.connect(leader, true);
    progress("it is connected again", &loads);

    for load in &loads {
        load.record.stop();
    }
    let mut acknowledged = std::collections::BTreeSet::new();
    for Load { server, record, thread } in loads {
        thread.join().unwrap();
        acknowledged.append(&mut record.acknowledged.lock().unwrap());
        // A client may be told to try again, and that a try whose answer was lost had succeeded; nothing else.
        for failure in record.failures.lock().unwrap().iter() {
            let retriable = ["504 Timeout", "409 AlreadyExists", "503 ", "429 "].iter().any(|r| failure.starts_with(r));
            assert!(retriable, "server {server} answered {failure}");
        }
    }
    for cluster in [&a, &b] {
        let there = writer::names(cluster);
        let lost: Vec<_> = acknowledged.difference(&there).collect();
        assert!(lost.is_empty(), "{lost:?} are lost");
    }
    eventually("every write to have been watched", || {
        let seen = std::fs::read_to_string(b.data_dir().join("watched")).unwrap();
        let seen: std::collections::BTreeSet<&str> =
            seen.lines().filter_map(|l| l.strip_prefix("configmap/")).collect();
        match acknowledged.iter().filter(|name| !seen.contains(name.as_str())).count() {
            0 => Ok(()),
            n => Err(format!("{n} of {} were not", acknowledged.len())),
        }
    });
    watch.kill().unwrap();
    watch.wait().unwrap();
    assert_eq!(holder(&a, "kube-controller-manager"), holder(&b, "kube-controller-manager"));
}
