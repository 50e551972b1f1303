//! Engines under test, and how a guarantee is run on each.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use kedge_base::{SharedClock, Shutdown, TaskGroup, system_clock};
use kedge_kv::{Embedded, Error, Etcd, EtcdOptions, Kv, Options};

use crate::etcd::{Process, tools};
use crate::store::Store;

/// After this a test has hung. Far more than any of them takes on a slow machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

pub type Guarantee = Pin<Box<dyn Future<Output = ()>>>;

/// Runs a future to its end, or fails when it hangs.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE * 2, future).await.expect("the test hangs") })
}

pub fn open_files(dir: &Path) -> Arc<dyn Kv> {
    Arc::new(Embedded::open(Options::new(dir.to_owned(), system_clock())).unwrap())
}

pub fn on_files(guarantee: impl FnOnce(Store) -> Guarantee) {
    let dir = tempfile::tempdir().unwrap();
    block_on(async {
        let kv = open_files(dir.path());
        guarantee(Store::single(kv.clone())).await;
        kv.close().await;
    });
}

pub fn in_memory(guarantee: impl FnOnce(Store) -> Guarantee) {
    block_on(async {
        let kv: Arc<dyn Kv> = Arc::new(Embedded::memory(system_clock()).unwrap());
        guarantee(Store::single(kv.clone())).await;
        kv.close().await;
    });
}

/// Options for tests: patient, with small pages, without compaction of its own.
pub fn etcd_options(endpoints: Vec<String>) -> EtcdOptions {
    let mut options = EtcdOptions::new(endpoints);
    options.total_timeout = Duration::from_secs(60);
    options.page = 7;
    options.compact_interval = None;
    options
}

pub async fn connect(options: EtcdOptions) -> Arc<dyn Kv> {
    try_connect(options).await.unwrap()
}

pub async fn try_connect(options: EtcdOptions) -> Result<Arc<dyn Kv>, Error> {
    connect_by(options, system_clock()).await
}

pub async fn connect_by(options: EtcdOptions, clock: SharedClock) -> Result<Arc<dyn Kv>, Error> {
    let tasks = TaskGroup::new("test", Shutdown::new());
    Ok(Arc::new(Etcd::connect(options, clock, tasks).await?))
}

/// The tests on etcd share one process, one after the other, each beginning with no keys and no leases.
pub fn on_etcd(guarantee: impl FnOnce(Store) -> Guarantee) {
    static SHARED: OnceLock<Process> = OnceLock::new();
    static TURN: Mutex<()> = Mutex::new(());
    if tools().is_none() {
        eprintln!("not run: KEDGE_TEST_ETCD_DIR is not set");
        return;
    }
    // A failed test has nothing that the next one needs.
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let etcd = SHARED.get_or_init(Process::start);
    block_on(async {
        let (kv, other) =
            (connect(etcd_options(vec![etcd.url()])).await, connect(etcd_options(vec![etcd.url()])).await);
        let store = Store { kv, other };
        store.wipe().await;
        let (kv, other) = (store.kv.clone(), store.other.clone());
        guarantee(store).await;
        kv.close().await;
        other.close().await;
    });
}
