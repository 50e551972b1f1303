//! Figures of the embedded engine on a directory, beside a real etcd on the same disk:
//! `cargo bench -p kedge-kv --bench store -- [directory]`; `cargo xtask bench store` does that.
//!
//! Prints one row a figure, `| what | embedded | etcd | ratio |`. Nothing is asserted: machines are noisy, so both take turns
//! and the ratio is what counts. Without an argument the directory is a temporary one, which may be in memory. Without
//! `KEDGE_TEST_ETCD_DIR`, which says where the programs of etcd are, the column of etcd stays empty.
#![allow(clippy::unwrap_used)]

mod etcd;

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use etcd::Server;
use kedge_base::{SharedClock, system_clock};
use kedge_kv::{Durability, Embedded, Kv, Op, Options, Txn};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

const SPAN: Duration = Duration::from_secs(5);
const SMALL: usize = 256;
const OBJECT: usize = 2_560;
const OBJECTS: usize = 100_000;
const CLIENTS: [usize; 3] = [1, 64, 256];
const TURNS: usize = 2;
const OPENING: &str = "opening with 100,000 objects of 2,560 bytes";
const MEMORY: &str = "RSS per 10,000 objects of 2,560 bytes";

/// Only opens the store in the directory that follows.
const OPEN: &str = "--open";

fn main() {
    let runtime = Runtime::new().unwrap();
    let args: Vec<String> = std::env::args().collect();
    if let [_, open, dir] = &args[..]
        && open == OPEN
    {
        return runtime.block_on(opening(Path::new(dir), &system_clock()));
    }
    let temporary = tempfile::tempdir().unwrap();
    let dir = args.iter().skip(1).find(|arg| !arg.starts_with('-')).map(PathBuf::from);
    let dir = dir.map_or_else(|| temporary.path().to_owned(), |dir| dir.join("kedge-bench-store"));
    let clock = system_clock();
    println!("| What | embedded | etcd | ratio |\n|---|---|---|---|");
    for clients in CLIENTS {
        runtime.block_on(compare(&dir, &clock, clients));
    }
    let idle = runtime.block_on(renewals(&dir, &clock));
    row("bytes that 100 relaxed renewals of 600 bytes hand to the log", Some(idle), None, "");
    runtime.block_on(objects(&dir, &clock));
    // Memory is that of a process that has done nothing but open the store.
    let child =
        std::process::Command::new(std::env::current_exe().unwrap()).args([OPEN.as_ref(), dir.as_os_str()]).status();
    assert!(child.unwrap().success());
    remove(&dir);
    runtime.block_on(etcd_objects(&dir, &clock));
    remove(&dir);
}

fn row(what: &str, embedded: Option<f64>, etcd: Option<f64>, unit: &str) {
    let shown = |figure: Option<f64>| figure.map_or_else(String::new, |f| format!("{f:.0}{unit}"));
    let ratio = embedded.zip(etcd).map_or_else(String::new, |(a, b)| format!("{:.2}", a / b));
    println!("| {what} | {} | {} | {ratio} |", shown(embedded), shown(etcd));
}

/// Embedded store and etcd take turns, so that what else the machine does hits both.
async fn compare(dir: &Path, clock: &SharedClock, clients: usize) {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        remove(dir);
        let kv: Arc<dyn Kv> = Arc::new(open(dir, clock));
        ours.push(puts(kv.clone(), dir, clock, clients).await);
        kv.close().await;
        remove(dir);
        if let Some(server) = Server::start(dir) {
            let kv: Arc<dyn Kv> = server.client(clock).await;
            theirs.push(puts(kv.clone(), dir, clock, clients).await);
            kv.close().await;
        }
    }
    let mean = |all: &[(f64, f64)], pick: fn(&(f64, f64)) -> f64| {
        (!all.is_empty()).then(|| all.iter().map(pick).sum::<f64>() / all.len() as f64)
    };
    row(
        &format!("durable puts of {SMALL} bytes, {clients} clients"),
        mean(&ours, |t| t.0),
        mean(&theirs, |t| t.0),
        "/s",
    );
    row(
        &format!("… bytes written to disk for each, {clients} clients"),
        mean(&ours, |t| t.1),
        mean(&theirs, |t| t.1),
        "",
    );
}

fn remove(dir: &Path) {
    if dir.exists() {
        std::fs::remove_dir_all(dir).unwrap();
    }
}

fn open(dir: &Path, clock: &SharedClock) -> Embedded {
    Embedded::open(Options::new(dir.to_owned(), clock.clone())).unwrap()
}

fn put(key: String, len: usize, durability: Durability) -> Txn {
    let op = Op::Put { key: key.into(), value: Bytes::from(vec![b'x'; len]), lease: 0 };
    Txn { success: vec![op], durability, ..Txn::default() }
}

/// A number of this process from a file of `/proc/self`.
fn own(file: &str, name: &str) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/self/{file}")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// Bytes that the device of a directory has written, for whomever.
fn device_written(dir: &Path) -> f64 {
    let dev = std::fs::metadata(dir).unwrap().dev();
    let (major, minor) = (rustix::fs::major(dev).to_string(), rustix::fs::minor(dev).to_string());
    let stats = std::fs::read_to_string("/proc/diskstats").unwrap();
    let mut lines = stats.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let line = lines.find(|fields| fields[0] == major && fields[1] == minor);
    line.map_or(f64::NAN, |fields| fields[9].parse::<f64>().unwrap() * 512.0)
}

/// Puts a second, and bytes that went to the disk for each.
async fn puts(kv: Arc<dyn Kv>, dir: &Path, clock: &SharedClock, clients: usize) -> (f64, f64) {
    let done = Arc::new(AtomicU64::new(0));
    let written = device_written(dir);
    let start = clock.monotonic();
    let mut set = JoinSet::new();
    for client in 0..clients {
        let (kv, done, clock) = (kv.clone(), done.clone(), clock.clone());
        let client = async move {
            let mut i = 0;
            while clock.monotonic() - start < SPAN {
                let txn = put(format!("/registry/configmaps/default/{client}-{}", i % 100), SMALL, Durability::Synced);
                kv.txn(txn).await.unwrap();
                i += 1;
            }
            done.fetch_add(i, Ordering::Relaxed);
        };
        set.spawn(client);
    }
    set.join_all().await;
    let took = clock.monotonic() - start;
    let done = done.load(Ordering::Relaxed) as f64;
    let written = device_written(dir) - written;
    (done / took.as_secs_f64(), written / done)
}

/// Bytes that relaxed writes hand to the operating system.
async fn renewals(dir: &Path, clock: &SharedClock) -> f64 {
    remove(dir);
    let kv = open(dir, clock);
    kv.txn(put("/registry/leases/kube-node-lease/node".into(), 600, Durability::Relaxed)).await.unwrap();
    let before = own("io", "wchar:");
    for _ in 0..100 {
        kv.txn(put("/registry/leases/kube-node-lease/node".into(), 600, Durability::Relaxed)).await.unwrap();
    }
    let written = own("io", "wchar:") - before;
    kv.close().await;
    written
}

/// Fills the embedded store.
async fn objects(dir: &Path, clock: &SharedClock) {
    remove(dir);
    let kv = open(dir, clock);
    fill(&kv).await;
    kv.close().await;
}

/// Fills an etcd, and starts it again.
async fn etcd_objects(dir: &Path, clock: &SharedClock) {
    let Some(server) = Server::start(dir) else { return };
    let kv = server.client(clock).await;
    fill(&*kv).await;
    kv.close().await;
    drop(server);
    let start = clock.monotonic();
    let Some(server) = Server::start(dir) else { return };
    let kv = server.client(clock).await;
    kv.health().await.unwrap();
    let took = clock.monotonic() - start;
    row(OPENING, None, Some(took.as_secs_f64() * 1e3), " ms");
    row(MEMORY, None, Some(server.rss() / OBJECTS as f64 * 10_000.0 / 1_024.0), " MiB");
    kv.close().await;
}

async fn fill(kv: &dyn Kv) {
    for chunk in (0..OBJECTS).collect::<Vec<_>>().chunks(64) {
        let txn = |i: &usize| kv.txn(put(format!("/registry/pods/default/pod-{i:08}"), OBJECT, Durability::Relaxed));
        futures::future::join_all(chunk.iter().map(txn)).await.into_iter().for_each(|result| drop(result.unwrap()));
    }
}

/// Memory for an object, and the time to open a store with many.
async fn opening(dir: &Path, clock: &SharedClock) {
    let before = own("status", "VmRSS:");
    let start = clock.monotonic();
    let kv = open(dir, clock);
    let took = clock.monotonic() - start;
    let per_object = (own("status", "VmRSS:") - before) / OBJECTS as f64;
    row(OPENING, Some(took.as_secs_f64() * 1e3), None, " ms");
    row(MEMORY, Some(per_object * 10_000.0 / 1_024.0), None, " MiB");
    kv.close().await;
}
