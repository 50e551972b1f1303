//! Opening the store that a server was told to use.

use std::sync::Arc;

use kedge_base::{SharedClock, TaskGroup};
use kedge_kv::{Embedded, Etcd, EtcdOptions, Kv, Options};
use tracing::info;

use crate::endpoint::{Endpoint, Tls};
use crate::error::Error;
use crate::layout::Layout;
use crate::{migrate, place};

/// An open store.
#[derive(Clone)]
pub struct Store {
    pub kv: Arc<dyn Kv>,
    /// The engine inside this process, if it is that.
    pub embedded: Option<Arc<Embedded>>,
}

impl Store {
    /// Whether other servers may use the store at the same time.
    pub fn is_shared(&self) -> bool {
        self.embedded.is_none()
    }
}

/// Opens the store; on an etcd, the background work of a server (compaction) runs in `tasks`.
///
/// # Errors
/// When it cannot be opened or reached, or holds a migration that has not ended.
pub async fn open(
    endpoint: &Endpoint,
    tls: &Tls,
    layout: &Layout,
    clock: &SharedClock,
    tasks: &TaskGroup,
) -> Result<Store, Error> {
    match endpoint {
        Endpoint::Embedded => {
            let layout = layout.clone();
            let options = Options::new(layout.store(), clock.clone());
            // Replaying the log takes as long as it takes; it must not hold up other tasks.
            let opened = kedge_base::blocking::unbounded("open the store", move || place::open(&layout, options)).await;
            Ok(embedded(opened.map_err(|_| Error::Cancelled)??))
        }
        Endpoint::Memory => Ok(embedded(Embedded::memory(clock.clone())?)),
        Endpoint::Etcd(_) => {
            let options = etcd_options(endpoint, tls)?;
            let etcd = Arc::new(Etcd::connect(options, clock.clone(), tasks.clone()).await?);
            migrate::refuse_unfinished(&*etcd, &endpoint.to_string()).await?;
            info!(%endpoint, "using an etcd");
            Ok(Store { kv: etcd, embedded: None })
        }
    }
}

/// Connects to an etcd and does nothing else.
///
/// # Errors
/// When it cannot be reached, or the endpoint is no etcd.
pub async fn connect(
    endpoint: &Endpoint,
    tls: &Tls,
    clock: &SharedClock,
    tasks: &TaskGroup,
) -> Result<Arc<Etcd>, Error> {
    let options = EtcdOptions { compact_interval: None, ..etcd_options(endpoint, tls)? };
    Ok(Arc::new(Etcd::connect(options, clock.clone(), tasks.clone()).await?))
}

fn etcd_options(endpoint: &Endpoint, tls: &Tls) -> Result<EtcdOptions, Error> {
    let Endpoint::Etcd(members) = endpoint else { return Err(Error::NoEtcd(endpoint.to_string())) };
    let mut options = EtcdOptions::new(members);
    (options.ca, options.cert, options.key) = (tls.ca_file.clone(), tls.cert_file.clone(), tls.key_file.clone());
    Ok(options)
}

fn embedded(engine: Embedded) -> Store {
    let engine = Arc::new(engine);
    Store { kv: engine.clone(), embedded: Some(engine) }
}
