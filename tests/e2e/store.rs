//! The store below a real server: kills, snapshots, moving, memory.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::support::etcd::{Etcd, tool};
use crate::support::writer::{self, Record};
use crate::support::{TestCluster, binary, eventually};

/// As a board that loses power again and again while clients write: whatever was acknowledged is there, whole.
#[test]
fn a_hundred_kills_lose_nothing_that_was_acknowledged() {
    const KILLS: usize = 100;
    const WRITES: usize = 40;
    let mut cluster = TestCluster::control_plane_with(&["--disable-scheduler"]);
    let record = Arc::new(Record::default());
    for kill in 0..KILLS {
        let (kubeconfig, written, before) = (cluster.kubeconfig(), record.clone(), record.count());
        let prefix = format!("k{kill}");
        let writers = std::thread::spawn(move || writer::write(&kubeconfig, &prefix, 4, true, &written));
        eventually("writes under way", || match record.count() {
            n if n >= before + WRITES => Ok(()),
            n => Err(format!("{} of {WRITES}", n - before)),
        });
        cluster.kill();
        writers.join().unwrap();
        cluster.start();
        if kill % 10 == 9 {
            let there = writer::names(&cluster);
            let lost: Vec<String> = record.acknowledged.lock().unwrap().difference(&there).cloned().collect();
            assert!(lost.is_empty(), "after kill {kill} {lost:?} are lost");
        }
    }
    assert!(record.count() >= KILLS * WRITES);
}

#[test]
fn a_snapshot_opens_in_etcd_and_one_of_etcd_opens_here() {
    let mut cluster = TestCluster::control_plane();
    cluster.ok(&["create", "configmap", "before", "--from-literal=a=b"]);
    let version = cluster.ok(&["get", "configmap", "before", "-o", "jsonpath={.metadata.resourceVersion}"]);
    let saved = cluster.kedge(&["etcd-snapshot", "save", "--name", "mine"]);
    let path = saved.split_whitespace().last().unwrap().to_owned();
    assert!(path.contains("/mine-"), "{saved}");
    assert!(cluster.kedge(&["etcd-snapshot", "ls"]).contains("mine-"));
    tool("etcdutl", &["snapshot", "status", &path]);

    // The real etcd serves what was saved, under upstream's keys and with the same revisions.
    let etcd = Etcd::restored(std::path::Path::new(&path));
    let stored = etcd.etcdctl(&["get", "/registry/configmaps/default/before", "-w", "json"]);
    let stored: serde_json::Value = serde_json::from_str(&stored).unwrap();
    assert_eq!(stored["kvs"][0]["mod_revision"].to_string(), version);

    // A server on that etcd continues the cluster; a snapshot of the etcd comes back into the embedded store.
    cluster.ok(&["create", "configmap", "after"]);
    cluster.stop();
    let other = TestCluster::control_plane_with(&["--datastore-endpoint", &etcd.endpoints()]);
    assert_eq!(writer_names(&other, "before"), 1);
    other.ok(&["create", "configmap", "in-etcd"]);
    let back = other.kedge(&["etcd-snapshot", "save"]);
    let back = back.split_whitespace().last().unwrap().to_owned();
    let official = cluster.data_dir().join("official.db").to_string_lossy().into_owned();
    let first = etcd.endpoints();
    tool("etcdctl", &["--endpoints", &first, "snapshot", "save", &official]);
    for snapshot in [back, official] {
        let reset = cluster.kedge_server(&["--cluster-reset", "--cluster-reset-restore-path", &snapshot]);
        assert!(reset.contains("restored"), "{reset}");
        cluster.start();
        assert_eq!(writer_names(&cluster, "in-etcd"), 1, "{snapshot}");
        assert_eq!(writer_names(&cluster, "after"), 0, "{snapshot}");
        let restored = cluster.ok(&["get", "configmap", "before", "-o", "jsonpath={.metadata.resourceVersion}"]);
        assert_eq!(restored, version, "{snapshot}");
        // Who watches from before the restore is told to list again.
        let watch = format!("/api/v1/configmaps?watch=1&timeoutSeconds=5&resourceVersion={version}");
        let watched = cluster.kubectl(&["get", "--raw", &watch]);
        let told = String::from_utf8_lossy(&watched.stdout);
        assert!(told.contains("\"type\":\"ERROR\"") && told.contains("too old"), "{watched:?}");
        cluster.stop();
    }
    let left = std::fs::read_dir(cluster.data_dir().join("server/db")).unwrap();
    let old = left.filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().starts_with("kv.old-")).count();
    assert!(old >= 1, "what was there before is kept");
}

/// What was read after the snapshot and written back after the restore is of a time that has been undone.
#[test]
fn nothing_of_a_time_that_a_restore_has_undone_comes_back() {
    let mut cluster = TestCluster::control_plane();
    cluster.ok(&["create", "configmap", "c", "--from-literal=is=saved"]);
    let saved = cluster.kedge(&["etcd-snapshot", "save"]);
    let path = saved.split_whitespace().last().unwrap().to_owned();
    let set = |cluster: &TestCluster, to: &str| {
        cluster.ok(&["patch", "configmap", "c", "-p", &format!("{{\"data\":{{\"is\":\"{to}\"}}}}")]);
        let version = cluster.ok(&["get", "configmap", "c", "-o", "jsonpath={.metadata.resourceVersion}"]);
        version.parse::<u64>().unwrap()
    };
    let undone: Vec<u64> = ["1", "2", "3", "4", "5"].iter().map(|to| set(&cluster, to)).collect();
    let stale = cluster.json(&["configmap", "c"]);
    let refused = cluster.kedge_server_output(&["--cluster-reset", "--cluster-reset-restore-path", &path]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("in use"), "{refused:?}");
    assert!(!cluster.data_dir().join("server/db/kv.new").exists());
    cluster.stop();
    cluster.kedge_server(&["--cluster-reset", "--cluster-reset-restore-path", &path]);
    cluster.start();
    let stale = cluster.file("stale.json", &stale.to_string());
    let refused = cluster.fails(&["replace", "-f", &stale.to_string_lossy()]);
    assert!(refused.contains("Conflict"), "{refused}");
    let now = set(&cluster, "6");
    assert!(now > undone[4] + 900_000_000, "{now} may have been given out before: {undone:?}");
    let refused = cluster.fails(&["replace", "-f", &stale.to_string_lossy()]);
    assert!(refused.contains("Conflict"), "{refused}");
}

#[test]
fn snapshots_go_where_the_flags_and_the_configuration_file_say() {
    let cluster = TestCluster::control_plane();
    let own = cluster.data_dir().join("server/db/snapshots");
    let elsewhere = cluster.data_dir().join("elsewhere");
    let there = elsewhere.to_string_lossy().into_owned();
    let data_dir = cluster.data_dir().to_string_lossy().into_owned();
    let saved = |args: &[&str]| {
        let out = cluster.kedge(&[&["etcd-snapshot", "save"], args].concat());
        std::path::PathBuf::from(out.split_whitespace().last().unwrap())
    };
    let path = saved(&["--dir", &there, "--node-name", "other"]);
    assert!(path.starts_with(&elsewhere) && path.to_string_lossy().contains("/on-demand-other-"), "{path:?}");
    assert!(path.exists() && !own.exists());
    assert!(saved(&[]).starts_with(&own));
    // The file says what the server's file says; a data directory of the command line is another matter.
    let config = format!("data-dir: {data_dir}\netcd-snapshot-dir: {there}\nhttps-listen-port: 1\n");
    let config = cluster.file("config.yaml", &config).to_string_lossy().into_owned();
    let kedge = |args: &[&str]| {
        let mut command = std::process::Command::new(binary());
        let out = command.args(["etcd-snapshot", "--config", &config]).args(args).output().unwrap();
        assert!(out.status.success(), "{out:?}");
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    let by_file = kedge(&["save", "--name", "by-file"]);
    assert!(by_file.contains(&format!("{there}/by-file-")), "{by_file}");
    let listed = kedge(&["ls"]);
    assert!(listed.contains("on-demand-other-") && listed.contains("by-file-"), "{listed}");
    let name = listed.split_whitespace().find(|word| word.starts_with("by-file-")).unwrap();
    kedge(&["delete", name]);
    assert!(!kedge(&["ls"]).contains("by-file-"));
    // Saves at the same time are that many snapshots.
    let before = std::fs::read_dir(&own).unwrap().count();
    let saves: Vec<_> = (0..4)
        .map(|_| {
            let mut command = std::process::Command::new(binary());
            command.args(["etcd-snapshot", "save", "--data-dir", &data_dir]).stdout(std::process::Stdio::null());
            command.stderr(std::process::Stdio::null()).spawn().unwrap()
        })
        .collect();
    saves.into_iter().for_each(|mut save| assert!(save.wait().unwrap().success()));
    assert_eq!(std::fs::read_dir(&own).unwrap().count(), before + 4);
}

fn writer_names(cluster: &TestCluster, name: &str) -> usize {
    let all = cluster.ok(&["get", "configmaps", "-o", "name"]);
    all.lines().filter(|line| *line == format!("configmap/{name}")).count()
}

#[test]
fn a_damaged_snapshot_is_refused_and_changes_nothing() {
    let mut cluster = TestCluster::control_plane();
    cluster.ok(&["create", "configmap", "kept"]);
    let saved = cluster.kedge(&["etcd-snapshot", "save"]);
    let path = saved.split_whitespace().last().unwrap().to_owned();
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let refused = cluster.kedge_server_output(&["--cluster-reset", "--cluster-reset-restore-path", &path]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("in use"), "{refused:?}");
    cluster.stop();
    let refused = cluster.kedge_server_output(&["--cluster-reset", "--cluster-reset-restore-path", &path]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("checksum"), "{refused:?}");
    cluster.start();
    assert_eq!(writer_names(&cluster, "kept"), 1);
}

#[test]
fn everything_moves_to_an_etcd_and_back() {
    let mut cluster = TestCluster::control_plane();
    for name in ["one", "two"] {
        cluster.ok(&["create", "configmap", name, &format!("--from-literal=is={name}")]);
    }
    let etcd = Etcd::one();
    let there = etcd.endpoints();
    let running = cluster.kedge_output(&["store", "migrate", "embedded-to-etcd", "--datastore-endpoint", &there]);
    assert!(String::from_utf8_lossy(&running.stderr).contains("in use"), "{running:?}");
    cluster.stop();
    // Cut off in the middle, as far as the target can tell: its marker keeps servers away until it is run again.
    etcd.etcdctl(&["put", "/kedge/migration", "running"]);
    etcd.etcdctl(&["put", "/registry/configmaps/default/stray", "x"]);
    cluster.set_flags(&["--disable-agent", "--datastore-endpoint", &there]);
    let refused = cluster.kedge_server_output(&[]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("migration that has not ended"), "{refused:?}");
    let moved = cluster.kedge(&["store", "migrate", "embedded-to-etcd", "--datastore-endpoint", &there]);
    assert!(moved.contains("are the same on both sides"), "{moved}");
    assert!(etcd.etcdctl(&["get", "/registry/configmaps/default/stray"]).is_empty());
    cluster.start();
    assert_eq!(cluster.ok(&["get", "configmap", "one", "-o", "jsonpath={.data.is}"]), "one");
    cluster.ok(&["create", "configmap", "three"]);
    cluster.stop();

    let full = cluster.kedge_output(&["store", "migrate", "etcd-to-embedded", "--datastore-endpoint", &there]);
    assert!(String::from_utf8_lossy(&full.stderr).contains("is not empty"), "{full:?}");
    std::fs::rename(cluster.data_dir().join("server/db/kv"), cluster.data_dir().join("server/db/kv.before")).unwrap();
    cluster.kedge(&["store", "migrate", "etcd-to-embedded", "--datastore-endpoint", &there]);
    drop(etcd);
    cluster.set_flags(&["--disable-agent"]);
    cluster.start();
    let names: BTreeSet<&str> = BTreeSet::from(["one", "two", "three"]);
    names.iter().for_each(|name| assert_eq!(writer_names(&cluster, name), 1, "{name}"));
}

/// Secrets stay readable wherever the store goes, for whoever has the cluster's token.
#[test]
fn encryption_keys_move_with_the_store() {
    let mut first = TestCluster::control_plane_with(&["--token", "a-token", "--secrets-encryption"]);
    first.ok(&["create", "secret", "generic", "s", "--from-literal=password=geheim"]);
    let etcd = Etcd::one();
    let there = etcd.endpoints();
    let migrate = |cluster: &TestCluster, direction: &str, args: &[&str]| {
        cluster.kedge_output(&[&["store", "migrate", direction, "--datastore-endpoint", &there], args].concat())
    };
    first.stop();
    let moved = migrate(&first, "embedded-to-etcd", &[]);
    assert!(moved.status.success(), "{moved:?}");
    // A server that knows nothing but the token; its directory is not that of the first one.
    let mut second = TestCluster::control_plane_with(&["--datastore-endpoint", &there, "--token", "a-token"]);
    let read = |cluster: &TestCluster| cluster.ok(&["get", "secret", "s", "-o", "jsonpath={.data.password}"]);
    assert_eq!(read(&second), "Z2VoZWlt");

    let mut third = TestCluster::control_plane_with(&["--datastore-endpoint", "memory://"]);
    third.stop();
    std::fs::remove_dir_all(third.data_dir()).unwrap();
    let used = migrate(&third, "etcd-to-embedded", &["--token", "a-token"]);
    assert!(String::from_utf8_lossy(&used.stderr).contains("is in use by"), "{used:?}");
    assert!(second.stop());
    let refused = migrate(&third, "etcd-to-embedded", &[]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--token"), "{refused:?}");
    let refused = migrate(&third, "etcd-to-embedded", &["--token", "another"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("another token"), "{refused:?}");
    // Run again after the etcd has changed, it starts over: no server has used what it had written.
    for name in ["one", "two"] {
        etcd.etcdctl(&["put", &format!("/registry/x/{name}"), "x"]);
        let moved = migrate(&third, "etcd-to-embedded", &["--token", "a-token"]);
        assert!(moved.status.success(), "{moved:?}");
    }
    etcd.etcdctl(&["del", "--prefix", "/registry/x/"]);
    assert!(migrate(&third, "etcd-to-embedded", &[]).status.success());
    drop(etcd);
    third.set_flags(&["--disable-agent"]);
    third.start();
    assert_eq!(read(&third), "Z2VoZWlt");
    let authority = |cluster: &TestCluster| std::fs::read(cluster.data_dir().join("server/tls/server-ca.crt")).unwrap();
    assert_eq!(authority(&first), authority(&third));
}

#[test]
fn a_store_in_memory_leaves_nothing_and_the_files_of_others_can_be_looked_into() {
    let mut cluster = TestCluster::control_plane_with(&["--datastore-endpoint", "memory://"]);
    cluster.ok(&["create", "configmap", "gone"]);
    assert!(!cluster.data_dir().join("server/db/kv").exists());
    cluster.kill();
    cluster.start();
    assert_eq!(writer_names(&cluster, "gone"), 0);

    let mut embedded = TestCluster::control_plane();
    embedded.ok(&["create", "configmap", "seen"]);
    // Also while the server runs.
    let shown = embedded.kedge(&["store", "inspect", "--records"]);
    assert!(shown.contains("/registry/configmaps/default/seen"), "{shown}");
    embedded.stop();
    let log = std::fs::read_dir(embedded.data_dir().join("server/db/kv")).unwrap().map(|e| e.unwrap().path());
    let log = log.filter(|p| p.extension().is_some_and(|e| e == "log")).max().unwrap();
    let mut bytes = std::fs::read(&log).unwrap();
    bytes[200] ^= 1;
    std::fs::write(&log, bytes).unwrap();
    let damaged = embedded.kedge_output(&["store", "inspect"]);
    assert!(!damaged.status.success());
    let refused = embedded.kedge_server_output(&[]);
    let message = String::from_utf8_lossy(&refused.stderr);
    assert!(message.contains("is damaged at byte") && message.contains(&*log.to_string_lossy()), "{message}");
}

#[test]
fn a_disk_that_is_nearly_full_takes_no_more_objects_and_gives_them_back() {
    let cluster = TestCluster::on_small_disk(300);
    cluster.ok(&["create", "configmap", "before"]);
    let filler = cluster.data_dir().join("filler");
    let fill = |size: &str| {
        let filled = std::process::Command::new("fallocate").args(["-l", size]).arg(&filler).status();
        assert!(filled.unwrap().success());
    };
    fill("255M");
    let refused = eventually("a refusal", || {
        let out = cluster.kubectl(&["create", "configmap", "during"]);
        let stderr = String::from_utf8_lossy(&out.stderr).into_owned();
        if out.status.success() {
            cluster.ok(&["delete", "configmap", "during"]);
            return Err("it was created".into());
        }
        Ok(stderr)
    });
    assert!(refused.contains("free"), "{refused}");
    // What is there can be read, and deleted to make room.
    cluster.ok(&["get", "configmap", "before"]);
    cluster.ok(&["delete", "configmap", "before"]);
    std::fs::remove_file(&filler).unwrap();
    eventually("room again", || {
        let out = cluster.kubectl(&["create", "configmap", "after"]);
        if out.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&out.stderr).into_owned()) }
    });
}

#[test]
fn etcds_own_tools_work_on_the_embedded_store() {
    let dir = tempfile::tempdir().unwrap();
    let socket = format!("unix://{}/etcd.sock", dir.path().display());
    let cluster = TestCluster::control_plane_with(&["--etcd-listen", &socket]);
    cluster.ok(&["create", "configmap", "seen", "--from-literal=a=b"]);
    let ctl = |args: &[&str]| tool("etcdctl", &[&["--endpoints", &socket], args].concat());
    let keys = ctl(&["get", "/registry/configmaps/default/", "--prefix", "--keys-only"]);
    assert!(keys.contains("/registry/configmaps/default/seen"), "{keys}");
    assert!(ctl(&["get", "/registry/configmaps/default/seen", "--print-value-only"]).contains("\"a\":\"b\""));
    assert!(ctl(&["endpoint", "status", "-w", "table"]).contains("3.5"));
    let saved = dir.path().join("saved.db").to_string_lossy().into_owned();
    ctl(&["snapshot", "save", &saved]);
    let etcd = Etcd::restored(std::path::Path::new(&saved));
    assert!(etcd.etcdctl(&["get", "/registry/configmaps/default/seen"]).contains("\"a\":\"b\""));
    // What is deleted through etcd's API is gone for clients of the API, too.
    ctl(&["del", "/registry/configmaps/default/seen"]);
    assert!(cluster.fails(&["get", "configmap", "seen"]).contains("NotFound"));
}

#[test]
fn the_store_is_served_over_tls_to_its_own_clients_only() {
    let port = crate::support::free_port();
    let endpoint = format!("https://127.0.0.1:{port}");
    let cluster = TestCluster::control_plane_with(&["--etcd-listen", &endpoint]);
    let tls = |name: &str| cluster.data_dir().join("server/tls").join(name).to_string_lossy().into_owned();
    let with = |cert: &str, args: &[&str]| {
        let (ca, key) = (tls("server-ca.crt"), tls(&format!("{cert}.key")));
        let cert = tls(&format!("{cert}.crt"));
        let access =
            ["--endpoints", &endpoint, "--cacert", &ca, "--cert", &cert, "--key", &key, "--command-timeout=5s"];
        crate::support::etcd::run("etcdctl", &[&access, args].concat())
    };
    let out = with("etcd-client", &["get", "/registry/namespaces/default", "--keys-only"]);
    assert!(String::from_utf8_lossy(&out.stdout).contains("/registry/namespaces/default"), "{out:?}");
    let refused = with("client-admin", &["get", "/registry/namespaces/default"]);
    assert!(!refused.status.success(), "a certificate of the API opens the store: {refused:?}");
}

#[test]
fn wrong_endpoints_and_tokens_are_named() {
    let fails = |args: &[&str]| {
        let dir = tempfile::tempdir().unwrap();
        let mut command = std::process::Command::new("timeout");
        command
            .arg("60")
            .arg(binary())
            .args(["server", "--disable-agent", "--config", "/dev/null", "--data-dir"])
            .arg(dir.path())
            .args(args);
        let out = command.output().unwrap();
        assert!(!out.status.success());
        String::from_utf8_lossy(&out.stderr).into_owned()
    };
    assert!(fails(&["--datastore-endpoint", "mysql://u:geheim@h/db"]).contains("mysql are not supported"));
    assert!(fails(&["--datastore-endpoint", "127.0.0.1:2379"]).contains("names no scheme"));
    assert!(fails(&["--datastore-certfile", "/x"]).contains("--datastore-keyfile"));
    assert!(fails(&["--datastore-cafile", "/x"]).contains("are for an etcd"));
    assert!(fails(&["--etcd-listen", "http://127.0.0.1:2379"]).contains("--etcd-listen"));
    assert!(fails(&["--token", "two words"]).contains("token cannot be used"));
    assert!(fails(&["--etcd-snapshot-schedule-cron", "nonsense"]).contains("--etcd-snapshot-schedule-cron"));
    assert!(fails(&["--etcd-snapshot-schedule-cron", "0 0 31 2 *"]).contains("names no time that will come"));
    let gone = fails(&["--datastore-endpoint", "http://127.0.0.1:1"]);
    assert!(gone.contains("etcd is unavailable"), "{gone}");
}
