//! Group versions and who serves them: what API services say.
//!
//! [`Aggregation`] keeps an API service for each group version of this server ([`local`]), follows all of them ([`follow`]), looks whether the
//! servers behind those with a service are there ([`available`]) and asks them what they serve ([`discover`], [`open_api`]). What it finds out is in the
//! registry's catalogue, by which requests are passed on.
//!
//! Invariants: who cannot be reached is not waited for by anybody but the task that looks after it; what another server says is bounded in
//! size, and shown only where it is about its own group version.

mod ask;
mod available;
mod discover;
mod follow;
mod local;
mod open_api;
mod service;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kedge_base::TaskGroup;
use kedge_meta::{Status, Text};
use kedge_registry::priorities::Priority;
use kedge_registry::{Known, Registry, Remote, Served};
use kedge_webhook::Caller;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};

use crate::Extensions;
use service::ApiService;

const GROUP: &str = "apiregistration.k8s.io";
const SERVICES: &str = "apiservices";
/// So many servers are looked at a time.
const LOOKS: usize = 16;
/// So many are asked at a time for the document about everything, which may be large.
const DOCUMENTS: usize = 2;

/// Keeps and follows API services.
pub struct Aggregation {
    extensions: Arc<Extensions>,
    registry: Arc<Registry>,
    tasks: TaskGroup,
    /// Reaches other servers.
    caller: Arc<Caller>,
    state: Mutex<State>,
    local: Mutex<local::Local>,
    looks: Semaphore,
    documents: Semaphore,
}

#[derive(Default)]
struct State {
    /// Those with a service, by name.
    others: BTreeMap<String, Other>,
    /// What those without say of priorities, if that is not what is usual, by name.
    priorities: BTreeMap<String, (Text, Text, Priority)>,
}

/// An API service with a service.
#[derive(Clone)]
struct Other {
    service: Arc<ApiService>,
    known: Arc<Known>,
    /// Something has changed that availability may depend on.
    changed: Arc<Notify>,
}

impl Aggregation {
    /// Beside the followers of definitions. Nothing is passed on before [`Aggregation::begin`].
    pub fn new(extensions: &Arc<Extensions>, caller: Arc<Caller>) -> Arc<Self> {
        Arc::new(Self {
            extensions: extensions.clone(),
            registry: extensions.registry.clone(),
            tasks: extensions.tasks.clone(),
            caller,
            state: Mutex::default(),
            local: Mutex::default(),
            looks: Semaphore::new(LOOKS),
            documents: Semaphore::new(DOCUMENTS),
        })
    }

    fn services(&self) -> Result<&Arc<Served>, Status> {
        self.registry.builtin(GROUP, "v1", SERVICES).ok_or_else(Status::unknown_path)
    }

    /// The group versions of custom resources that are served.
    fn custom(&self) -> BTreeSet<(Text, Text)> {
        self.extensions.served_versions()
    }

    /// Puts what is known into the catalogue.
    async fn publish(&self) {
        let (remotes, priorities) = {
            let state = self.state.lock();
            let remotes = state.others.values().filter_map(remote).map(Arc::new).collect();
            (remotes, state.priorities.values().cloned().collect())
        };
        self.registry.aggregate(remotes, priorities).await;
    }
}

/// What the catalogue is told of an API service with a service.
fn remote(other: &Other) -> Option<Remote> {
    let Other { service, known, .. } = other;
    Some(Remote {
        group: service.spec.group.clone(),
        version: service.spec.version.clone(),
        priority: service.priority(),
        service: service.service()?,
        trust: service.trust(),
        available: service.is_available(),
        known: known.clone(),
    })
}
