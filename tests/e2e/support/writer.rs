//! Clients that write as fast as they are answered, and remember what was acknowledged.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use kedge_client::Client;
use kedge_meta::resources::CONFIG_MAPS;
use serde_json::{Value, json};

/// What was acknowledged, and how writes failed.
#[derive(Default)]
pub struct Record {
    pub acknowledged: Mutex<BTreeSet<String>>,
    pub failures: Mutex<Vec<String>>,
    stop: AtomicBool,
    count: AtomicUsize,
}

impl Record {
    /// How many writes were acknowledged so far.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    /// Lets the writers end.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

/// Creates config maps `<prefix>-<client>-<n>` with several clients until it is told to stop, or, with `until_broken`, the
/// server is gone. Returns once all clients have ended.
pub fn write(kubeconfig: &Path, prefix: &str, clients: usize, until_broken: bool, record: &Arc<Record>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let mut tasks = Vec::new();
        for number in 0..clients {
            let client = Client::from_kubeconfig(kubeconfig).unwrap();
            tasks.push(tokio::spawn(one(client, format!("{prefix}-{number}"), until_broken, record.clone())));
        }
        for task in tasks {
            task.await.unwrap();
        }
    });
}

async fn one(client: Client, prefix: String, until_broken: bool, record: Arc<Record>) {
    for n in 0.. {
        if record.stop.load(Ordering::SeqCst) {
            return;
        }
        let name = format!("{prefix}-{n}");
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"},
            "data": {"name": name}});
        match client.create::<Value>(&CONFIG_MAPS, "default", &object).await {
            Ok(_) => {
                record.acknowledged.lock().unwrap().insert(name);
                record.count.fetch_add(1, Ordering::SeqCst);
            }
            Err(err) if err.status().is_none() && until_broken => return,
            Err(err) => {
                let what = err
                    .status()
                    .map_or_else(|| format!("{err:?}"), |s| format!("{} {:?} {}", s.code, s.reason, s.message));
                record.failures.lock().unwrap().push(what);
            }
        }
    }
}

/// The names of all config maps of the default namespace.
pub fn names(cluster: &super::TestCluster) -> BTreeSet<String> {
    let out = cluster.ok(&[
        "get",
        "configmaps",
        "-o",
        "jsonpath={range .items[*]}{.metadata.name}={.data.name}{\"\\n\"}{end}",
    ]);
    let intact = |line: &str| line.split_once('=').filter(|(name, data)| name == data).map(|(name, _)| name.to_owned());
    out.lines().filter_map(intact).collect()
}
