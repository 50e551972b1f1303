//! What people do with etcdctl.

use kedge_etcdpb::etcdserverpb::SnapshotRequest;
use kedge_etcdpb::etcdserverpb::maintenance_client::MaintenanceClient;
use kedge_kv::{Kv as _, Op, Txn};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::served::{PATIENCE, Served, snapshot_bytes, with_tools};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

#[test]
fn keys() {
    with_tools(async {
        let s = Served::on_socket().await;
        assert_eq!(s.etcdctl(&["put", "/a/1", "one"]), "OK\n");
        assert_eq!(s.etcdctl(&["put", "/a/2", "two"]), "OK\n");
        s.etcdctl(&["put", "/b", "three"]);
        assert_eq!(s.etcdctl(&["get", "/a/1"]), "/a/1\none\n");
        assert_eq!(s.etcdctl(&["get", "/a/", "--prefix"]), "/a/1\none\n/a/2\ntwo\n");
        assert_eq!(s.etcdctl(&["get", "/a/2", "/c", "--keys-only"]), "/a/2\n\n/b\n\n");
        assert_eq!(
            s.etcdctl(&["get", "/", "--prefix", "--limit=1", "--order=DESCEND", "--sort-by=MODIFY"]),
            "/b\nthree\n"
        );
        assert_eq!(s.etcdctl(&["get", "/b", "--from-key", "--print-value-only"]), "three\n");
        assert_eq!(s.etcdctl(&["put", "/a/1", "new", "--prev-kv"]), "OK\n/a/1\none\n");
        assert_eq!(s.etcdctl(&["get", "/a/1", "--rev=2"]), "/a/1\none\n");
        let all = json(&s.etcdctl(&["get", "/", "--prefix", "--write-out=json"]));
        assert_eq!((&all["header"]["revision"], &all["count"]), (&5.into(), &3.into()));
        assert_eq!(all["kvs"][0]["version"], 2);
        let counted = s.etcdctl(&["get", "", "--prefix", "--count-only", "--write-out=fields"]);
        assert!(counted.contains("\"Count\" : 3"), "{counted}");
        s.etcdctl(&["put", "/a/1", "--ignore-value"]);
        assert_eq!(s.etcdctl(&["get", "/a/1"]), "/a/1\nnew\n");
        assert!(s.refused(&["put", "/absent", "--ignore-value"]).contains("etcdserver: key not found"));
        assert_eq!(s.etcdctl(&["del", "/a/", "--prefix", "--prev-kv"]), "2\n/a/1\nnew\n/a/2\ntwo\n");
        assert_eq!(s.etcdctl(&["del", "/a/1"]), "0\n");
        assert!(s.refused(&["get", "/b", "--rev=1000"]).contains("required revision is a future revision"));
        s.stop().await;
    });
}

/// The server keeps some values in fewer bytes; who reads its store by etcd's API is not to know.
#[test]
fn packed_values_are_shown_plain() {
    with_tools(async {
        let s = Served::on_socket().await;
        let plain = "much of the same, ".repeat(50);
        let value = kedge_packed::pack(plain.as_bytes()).unwrap();
        let put = Op::Put { key: "/e".into(), value, lease: 0 };
        s.kv.txn(Txn { success: vec![put], ..Txn::default() }).await.unwrap();
        assert_eq!(s.etcdctl(&["get", "/e", "--print-value-only"]), format!("{plain}\n"));
        assert_eq!(s.etcdctl(&["get", "/", "--prefix", "--sort-by=VALUE", "--print-value-only"]), format!("{plain}\n"));
        let mut watched = s.etcdctl_running(&["watch", "/e", "--rev=1"]);
        let mut lines = BufReader::new(watched.stdout.take().unwrap()).lines();
        for expected in ["PUT", "/e", &plain] {
            assert_eq!(lines.next_line().await.unwrap().as_deref(), Some(expected));
        }
        watched.kill().await.unwrap();
        let asked = format!("value(\"/e\") = \"{plain}\"\n\nput /equal yes\n\n\n");
        assert!(s.etcdctl_with(&["txn", "-i"], &asked).contains("SUCCESS"));
        assert_eq!(s.etcdctl(&["del", "/e", "--prev-kv"]), format!("1\n/e\n{plain}\n"));
        s.stop().await;
    });
}

#[test]
fn transactions() {
    with_tools(async {
        let s = Served::on_socket().await;
        s.etcdctl(&["put", "/a", "one"]);
        let txn = "value(\"/a\") = \"one\"\nversion(\"/b\") = \"0\"\n\nput /b two\nget /a\n\nget /b\n\n";
        let done = s.etcdctl_with(&["txn", "-i"], txn);
        assert!(done.ends_with("SUCCESS\n\nOK\n\n/a\none\n"), "{done}");
        let done = s.etcdctl_with(&["txn", "-i"], txn);
        assert!(done.ends_with("FAILURE\n\n/b\ntwo\n"), "{done}");
        s.stop().await;
    });
}

#[test]
fn watches() {
    with_tools(async {
        let s = Served::on_socket().await;
        s.etcdctl(&["put", "/a", "1"]);
        s.etcdctl(&["put", "/a", "2"]);
        let mut watch = s.etcdctl_running(&["watch", "/", "--prefix", "--rev=2", "--prev-kv"]);
        let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
        let mut expect = async |expected: &[&str]| {
            for line in expected {
                let next = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("no event").unwrap();
                assert_eq!(next.as_deref(), Some(*line));
            }
        };
        expect(&["PUT", "/a", "1", "PUT", "/a", "1", "/a", "2"]).await;
        s.etcdctl(&["del", "/a"]);
        expect(&["DELETE", "/a", "2", "/a", ""]).await;
        s.etcdctl(&["put", "/b", "3"]);
        expect(&["PUT", "/b", "3"]).await;
        // The server does not wait for clients that listen for ever.
        s.stop().await;
    });
}

#[test]
fn leases() {
    with_tools(async {
        let s = Served::on_socket().await;
        let granted = json(&s.etcdctl(&["lease", "grant", "3600", "--write-out=json"]));
        let id = format!("{:x}", granted["ID"].as_i64().unwrap());
        s.etcdctl(&["put", "/a", "1", "--lease", &id]);
        let left = json(&s.etcdctl(&["lease", "timetolive", &id, "--keys", "--write-out=json"]));
        assert_eq!((&left["granted-ttl"], left["keys"].as_array().unwrap().len()), (&3600.into(), 1));
        assert!(s.etcdctl(&["lease", "list"]).contains(&id));
        let kept = s.etcdctl(&["lease", "keep-alive", "--once", &id]);
        assert!(kept.contains("keepalived with TTL(3600)"), "{kept}");
        s.etcdctl(&["put", "/a", "2", "--ignore-lease"]);
        assert!(s.etcdctl(&["lease", "revoke", &id]).contains("revoked"));
        assert_eq!(s.etcdctl(&["get", "/a"]), "");
        assert!(s.etcdctl(&["lease", "timetolive", &id]).contains("already expired"));
        assert!(s.refused(&["lease", "revoke", &id]).contains("requested lease not found"));
        assert!(s.refused(&["put", "/a", "1", "--lease=99"]).contains("requested lease not found"));
        s.stop().await;
    });
}

#[test]
fn compaction() {
    with_tools(async {
        let s = Served::on_socket().await;
        for value in ["1", "2", "3", "4"] {
            s.etcdctl(&["put", "/a", value]);
        }
        assert_eq!(s.etcdctl(&["compaction", "4"]), "compacted revision 4\n");
        assert!(s.refused(&["get", "/a", "--rev=3"]).contains("required revision has been compacted"));
        assert!(s.refused(&["compaction", "4"]).contains("required revision has been compacted"));
        assert!(s.refused(&["watch", "/a", "--rev=3"]).contains("required revision has been compacted"));
        assert_eq!(s.etcdctl(&["get", "/a", "--rev=4"]), "/a\n3\n");
        s.stop().await;
    });
}

#[test]
fn maintenance() {
    with_tools(async {
        let s = Served::on_socket().await;
        s.etcdctl(&["put", "/a", "1"]);
        assert!(s.etcdctl(&["endpoint", "health"]).contains("is healthy"));
        let status = json(&s.etcdctl(&["endpoint", "status", "--write-out=json"]));
        let status = &status[0]["Status"];
        assert_eq!((&status["header"]["revision"], &status["version"]), (&2.into(), &kedge_etcdapi::VERSION.into()));
        assert_eq!(status["leader"], status["header"]["member_id"]);
        let members = json(&s.etcdctl(&["member", "list", "--write-out=json"]));
        assert_eq!(members["members"][0]["clientURLs"][0], s.endpoint.as_str());
        assert_eq!(s.etcdctl(&["alarm", "list"]), "");
        s.etcdctl(&["defrag"]);
        let hash = json(&s.etcdctl(&["endpoint", "hashkv", "--write-out=json"]));
        s.etcdctl(&["put", "/a", "2"]);
        let changed = json(&s.etcdctl(&["endpoint", "hashkv", "--write-out=json"]));
        let again = json(&s.etcdctl(&["endpoint", "hashkv", "--rev=2", "--write-out=json"]));
        assert_ne!(hash[0]["HashKV"]["hash"], changed[0]["HashKV"]["hash"]);
        assert_eq!(hash[0]["HashKV"]["hash"], again[0]["HashKV"]["hash"]);
        let refused = s.refused(&["member", "add", "other", "--peer-urls=http://127.0.0.1:1"]);
        assert!(refused.contains("MemberAdd is not implemented"), "{refused}");
        assert!(s.refused(&["user", "list"]).contains("Unimplemented"));
        s.stop().await;
    });
}

#[test]
fn snapshots() {
    with_tools(async {
        let s = Served::on_socket().await;
        let file = s.dir.path().join("saved");
        s.etcdctl(&["snapshot", "save", file.to_str().unwrap()]);
        let saved = std::fs::read(file).unwrap();
        let bytes = snapshot_bytes();
        assert_eq!(saved[..bytes.len()], bytes);
        assert_eq!(saved.len(), bytes.len() + 32, "the checksum comes last");
        // Clients that take their time hold copies, so there are few of them.
        s.endless.store(true, std::sync::atomic::Ordering::SeqCst);
        let client = MaintenanceClient::new(s.channel().await);
        let ask = async || client.clone().snapshot(SnapshotRequest {}).await;
        // What an earlier client held is given back a little after it is gone.
        let granted = async || {
            let give_up = tokio::time::Instant::now() + PATIENCE;
            loop {
                match ask().await {
                    Ok(stream) => break stream,
                    Err(refused) => assert!(tokio::time::Instant::now() < give_up, "{refused}"),
                }
                tokio::task::yield_now().await;
            }
        };
        let held = [granted().await, granted().await];
        assert_eq!(ask().await.unwrap_err().code(), tonic::Code::ResourceExhausted);
        drop(held);
        granted().await;
        s.stop().await;
    });
}

#[test]
fn a_socket_is_only_for_its_user_and_only_one_server() {
    use std::os::unix::fs::PermissionsExt as _;
    with_tools(async {
        let s = Served::on_socket().await;
        let path = s.endpoint.strip_prefix("unix://").unwrap().to_owned();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(kedge_etcdapi::Listen::open(&s.endpoint, None).await.is_err(), "another server took it over");
        assert!(kedge_etcdapi::Listen::open("http://127.0.0.1:0", None).await.is_err(), "plain TCP is refused");
        assert!(kedge_etcdapi::Listen::open("https://127.0.0.1:0", None).await.is_err(), "so is TLS without files");
        s.stop().await;
        assert!(!std::path::Path::new(&path).exists());
    });
}

#[tokio::test]
async fn a_file_that_is_no_socket_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (file, neighbour) = (dir.path().join("precious.yaml"), dir.path().join("precious.new"));
    for path in [&file, &neighbour] {
        std::fs::write(path, "precious").unwrap();
    }
    let refused = kedge_etcdapi::Listen::open(&format!("unix://{}", file.display()), None).await.err().unwrap();
    assert!(refused.to_string().contains("no socket"), "{refused}");
    for path in [&file, &neighbour] {
        assert_eq!(std::fs::read_to_string(path).unwrap(), "precious");
    }
    // What an earlier server left is taken over.
    let socket = dir.path().join("etcd.sock");
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    // A process that another test is just starting may have it open for a moment, as its own.
    let taken_over = async {
        while kedge_etcdapi::Listen::open(&format!("unix://{}", socket.display()), None).await.is_err() {
            kedge_base::system_clock().sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), taken_over).await.unwrap();
}
