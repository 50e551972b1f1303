//! Two servers on one etcd while the encryption of secrets is changed: nothing that was acknowledged is ever missing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use kedge_client::{Client, DeleteOptions, List, ListParams, Patch, WatchEvent};
use kedge_meta::resources::SECRETS;
use serde_json::{Value, json};

use crate::support::etcd::Etcd;
use crate::support::{TestCluster, eventually};

/// Secrets that are written and read before and after every change.
const ROUNDS: usize = 20;
/// Secrets that each of those who write keeps.
const KEPT: usize = 5;
/// So many write at the same time.
const DRIVERS: usize = 4;

/// What has happened so far.
#[derive(Default)]
struct Seen {
    /// Acknowledged and not deleted, with what they hold.
    there: Mutex<BTreeMap<String, String>>,
    deleted: Mutex<BTreeSet<String>>,
    /// By server: names that its watch has shown.
    watched: [Mutex<BTreeSet<String>>; 2],
    wrong: Mutex<Vec<String>>,
    rounds: AtomicUsize,
    stop: AtomicBool,
}

impl Seen {
    fn wrong(&self, what: String) {
        self.wrong.lock().unwrap().push(what);
    }
}

fn name_of(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}

/// Follows all secrets at a server. Only what was deleted may be shown as deleted, and the watch never breaks.
async fn watch(client: Client, server: usize, seen: Arc<Seen>) {
    let list: List<Value> = client.list(&SECRETS, "default", &ListParams::default()).await.unwrap();
    // Those who write have begun already: what was whole before the list is in no event.
    seen.watched[server].lock().unwrap().extend(list.items.iter().map(name_of));
    let mut stream = client.watch(&SECRETS, "default", &ListParams::default(), &list.resource_version).await.unwrap();
    loop {
        let object = match stream.next().await {
            Some(Ok(WatchEvent::Added(o) | WatchEvent::Modified(o))) => o,
            Some(Ok(WatchEvent::Bookmark(_))) => continue,
            Some(Ok(WatchEvent::Deleted(o))) => {
                let name = name_of(&serde_json::from_slice(&o).unwrap());
                if !seen.deleted.lock().unwrap().contains(&name) {
                    seen.wrong(format!("server {server} says that {name} was deleted"));
                }
                continue;
            }
            other => return seen.wrong(format!("the watch at server {server} ended: {other:?}")),
        };
        let name = name_of(&serde_json::from_slice(&object).unwrap());
        seen.watched[server].lock().unwrap().insert(name);
    }
}

/// All secrets of a server, by pages or at once.
async fn all(client: &Client, limit: u64) -> Result<BTreeSet<String>, kedge_client::Error> {
    let (mut names, mut params) = (BTreeSet::new(), ListParams { limit, ..ListParams::default() });
    loop {
        let page: List<Value> = client.list(&SECRETS, "default", &params).await?;
        names.extend(page.items.iter().map(name_of));
        if page.continue_.is_empty() {
            return Ok(names);
        }
        params.continue_ = page.continue_;
    }
}

/// One secret, written at one server and at once written again and read in all ways at the other.
async fn round(clients: &[Client; 2], (driver, n): (usize, usize), seen: &Seen) -> Result<(), kedge_client::Error> {
    let (at, other) = (&clients[n % 2], &clients[(n + 1) % 2]);
    let (name, value) = (format!("s{driver}-{n}"), format!("dmFsdWUt{n:04}"));
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "default"},
        "data": {"value": value}});
    at.create::<Value>(&SECRETS, "default", &secret).await?;
    let mine = format!("s{driver}-");
    let there = {
        let mut there = seen.there.lock().unwrap();
        there.insert(name.clone(), value.clone());
        there.keys().filter(|name| name.starts_with(&mine)).cloned().collect::<BTreeSet<_>>()
    };
    let label = Patch::Merge(json!({"metadata": {"labels": {"round": n.to_string()}}}));
    other.patch::<Value>(&SECRETS, "default", &name, label, None).await?;
    let read: Value = other.get(&SECRETS, "default", &name).await?;
    if read["data"]["value"] != value.as_str() {
        seen.wrong(format!("{name} is {read}"));
    }
    for limit in [0, 10] {
        let missing: Vec<_> = there.difference(&all(other, limit).await?).cloned().collect();
        if !missing.is_empty() {
            seen.wrong(format!("{name}: {missing:?} are not in the list by {limit}"));
        }
    }
    let read: Value = at.get(&SECRETS, "default", &name).await?;
    if read["metadata"]["labels"]["round"] != n.to_string().as_str() {
        seen.wrong(format!("{name} lacks its label: {read}"));
    }
    if let Some(old) = n.checked_sub(KEPT) {
        let name = format!("s{driver}-{old}");
        seen.there.lock().unwrap().remove(&name);
        seen.deleted.lock().unwrap().insert(name.clone());
        other.delete(&SECRETS, "default", &name, &DeleteOptions::default()).await?;
        match at.get::<Value>(&SECRETS, "default", &name).await {
            Err(err) if err.is_not_found() => {}
            there => seen.wrong(format!("{name} was deleted and is {there:?}")),
        }
    }
    Ok(())
}

fn drive(kubeconfigs: [PathBuf; 2], seen: &Arc<Seen>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let clients = kubeconfigs.map(|path| Client::from_kubeconfig(&path).unwrap());
        for (server, client) in clients.iter().enumerate() {
            tokio::spawn(watch(client.clone(), server, seen.clone()));
        }
        let drivers = (0..DRIVERS).map(|driver| {
            let (clients, seen) = (clients.clone(), seen.clone());
            tokio::spawn(async move {
                for n in 0.. {
                    if let Err(err) = round(&clients, (driver, n), &seen).await {
                        seen.wrong(format!("round {n} of {driver}: {err:?}"));
                    }
                    seen.rounds.fetch_add(1, Ordering::SeqCst);
                    if seen.stop.load(Ordering::SeqCst) {
                        break;
                    }
                }
            })
        });
        for driver in drivers.collect::<Vec<_>>() {
            driver.await.unwrap();
        }
        // What was acknowledged comes to every watcher.
        let mut there: BTreeSet<String> = seen.there.lock().unwrap().keys().cloned().collect();
        there.extend(seen.deleted.lock().unwrap().iter().cloned());
        for _ in 0..600 {
            if seen.watched.iter().all(|watched| watched.lock().unwrap().is_superset(&there)) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        seen.wrong("not every secret was watched".into());
    });
}

fn progress(phase: &str, seen: &Seen) {
    let before = seen.rounds.load(Ordering::SeqCst);
    eventually(phase, || match seen.rounds.load(Ordering::SeqCst) - before {
        n if n >= ROUNDS => Ok(()),
        n => Err(format!("{n} of {ROUNDS} rounds")),
    });
    let wrong = seen.wrong.lock().unwrap().clone();
    assert!(wrong.is_empty(), "{phase}: {wrong:#?}");
}

/// Waits until every secret of the namespace is stored so in the etcd.
fn stored_as(etcd: &Etcd, what: &str, prefix: &str) {
    eventually(what, || {
        let all = etcd.etcdctl(&["get", "--prefix", "/registry/secrets/default/", "-w", "json"]);
        let all: Value = serde_json::from_str(&all).unwrap();
        // In base64, of which whole groups of four are compared.
        let wanted = base64_head(prefix);
        let values = all["kvs"].as_array().cloned().unwrap_or_default();
        let other = values.iter().filter(|kv| !kv["value"].as_str().unwrap_or_default().starts_with(&wanted)).count();
        if other == 0 { Ok(()) } else { Err(format!("{other} of {} are not", values.len())) }
    });
}

/// What the base64 of anything that begins so begins with.
fn base64_head(text: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |bits: u32| char::from(DIGITS[(bits & 63) as usize]);
    let group = |three: &[u8]| {
        let bits = u32::from(three[0]) << 16 | u32::from(three[1]) << 8 | u32::from(three[2]);
        [18, 12, 6, 0].map(|shift| digit(bits >> shift))
    };
    text.as_bytes().chunks_exact(3).flat_map(group).collect()
}

fn newest_key(cluster: &TestCluster) -> String {
    let out = cluster.kedge(&["secrets-encrypt", "status", "-o", "json"]);
    let status: Value = serde_json::from_str(&out).unwrap();
    format!("k8s:enc:aesgcm:v1:{}:", status["keys"][0].as_str().unwrap())
}

#[test]
fn nothing_acknowledged_is_missing_anywhere_while_keys_are_changed() {
    let etcd = Etcd::one();
    let server = |name: &str| {
        let endpoints = etcd.endpoints();
        let flags = ["--datastore-endpoint", &endpoints, "--token", "t", "--node-name", name, "--secrets-encryption"];
        TestCluster::control_plane_with(&flags)
    };
    let (a, b) = (server("a"), server("b"));
    let seen = Arc::new(Seen::default());
    let driver = {
        let (kubeconfigs, seen) = ([a.kubeconfig(), b.kubeconfig()], seen.clone());
        std::thread::spawn(move || drive(kubeconfigs, &seen))
    };
    progress("all is well", &seen);
    for (turn, cluster) in [&a, &b, &a, &a].into_iter().enumerate() {
        cluster.kedge(&["secrets-encrypt", "rotate-keys"]);
        progress(&format!("rotation {turn}"), &seen);
        stored_as(&etcd, "the newest key", &newest_key(cluster));
    }
    // Faster than the other one can follow.
    for cluster in [&a, &a, &a, &a, &b, &b, &b] {
        cluster.kedge(&["secrets-encrypt", "rotate-keys"]);
    }
    stored_as(&etcd, "the newest key", &newest_key(&b));
    progress("many rotations", &seen);
    a.kedge(&["secrets-encrypt", "disable"]);
    stored_as(&etcd, "plain secrets", "{\"kind\":\"S");
    progress("disabled", &seen);
    b.kedge(&["secrets-encrypt", "enable"]);
    stored_as(&etcd, "sealed secrets", &newest_key(&b));
    progress("enabled", &seen);
    seen.stop.store(true, Ordering::SeqCst);
    driver.join().unwrap();
    let wrong = seen.wrong.lock().unwrap().clone();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
