//! Everything that is served and stored.

use std::sync::Arc;

use kedge_base::SharedClock;
use kedge_meta::{Cidr, GroupResource, Text};
use kedge_schema::{GroupInfo, ResourceInfo};
use kedge_storage::{ResourceConfig, Storage, StoredForm};
use tokio::sync::watch;

use crate::catalogue::{Catalogue, Entry, Group};
use crate::coming::Coming;
use crate::conversions::Conversions;
use crate::convert;
use crate::printers;
use crate::served::Served;
use crate::strategies::{self, Finding, State};
use crate::unavailable::Unavailable;

/// Of these there are many that nobody looks at, or they are long: there is an API service for each group version, and a definition
/// of a custom resource is read when it changes.
const PACKED: [&str; 3] =
    ["events", "apiregistration.k8s.io/apiservices", "apiextensions.k8s.io/customresourcedefinitions"];

/// What strategies need to know of the cluster.
#[derive(Debug, Clone)]
pub struct ClusterConfig {
    /// Service addresses, such as `10.43.0.0/16`: a range of each family that services can have, the first being the one that
    /// they have when they do not say.
    pub service_cidrs: Vec<Cidr>,
    /// Ports for NodePort services, inclusive.
    pub node_ports: (u16, u16),
    /// Whether other programs, among them API servers of others, may write into the store.
    pub shared: bool,
}

/// All resources.
pub struct Registry {
    storage: Arc<Storage>,
    /// What is built in, which is served for ever.
    pub(crate) base: Arc<Catalogue>,
    current: watch::Sender<Arc<Catalogue>>,
    /// The generation of that, for those who need not know more.
    generation: watch::Sender<u64>,
    /// Held while a kind comes or goes.
    pub(crate) changing: tokio::sync::Mutex<()>,
    /// Kinds of which it is known that they come.
    pub(crate) coming: Coming,
    pub clock: SharedClock,
    pub config: ClusterConfig,
    /// What strategies keep between requests: allocators.
    pub(crate) state: Arc<State>,
    /// How often API services became unavailable.
    pub unavailable: Unavailable,
    /// How webhooks converted.
    pub conversions: Arc<Conversions>,
}

impl Registry {
    /// How every stored resource is stored, for [`Storage::open`].
    pub fn storage_configs() -> Vec<ResourceConfig> {
        let mut configs: Vec<ResourceConfig> = Vec::new();
        // What is not served today may have been yesterday, and is there when it is served again.
        let all = kedge_schema::resources().iter().chain(kedge_schema::optional_resources());
        for info in all.filter(|r| r.is_stored()) {
            if configs.iter().any(|c| c.prefix == info.storage_prefix) {
                continue;
            }
            configs.push(ResourceConfig {
                prefix: info.storage_prefix.clone(),
                resource: GroupResource::new(&info.storage_group, &info.plural).to_string(),
                fields: Arc::new(strategies::fields(info)),
                indexed: (info.storage_prefix == "pods").then_some(Text::of("spec.nodeName")),
                form: Some(Arc::new(StoredForm::built_in(info))),
                packed: PACKED.contains(&&*info.storage_prefix),
            });
        }
        configs.push(State::node_port_config());
        configs
    }

    /// Over an opened storage.
    pub fn new(storage: Arc<Storage>, clock: SharedClock, config: ClusterConfig) -> Self {
        let base = Arc::new(built_in(&storage, &[]));
        let current = watch::Sender::new(base.clone());
        let state = Arc::new(State::new(&config, &storage));
        let generation = watch::Sender::new(0);
        Self {
            storage,
            base,
            current,
            generation,
            changing: tokio::sync::Mutex::default(),
            coming: Coming::default(),
            clock,
            config,
            state,
            unavailable: Unavailable::default(),
            conversions: Arc::default(),
        }
    }

    /// Serves optional groups too, as built-in ones, from the beginning.
    #[must_use]
    pub fn with_optional(mut self, groups: &[&str]) -> Self {
        self.base = Arc::new(built_in(&self.storage, groups));
        self.current.send_replace(self.base.clone());
        self
    }

    /// What is served now.
    pub fn catalogue(&self) -> Arc<Catalogue> {
        self.current.borrow().clone()
    }

    pub(crate) fn publish(&self, catalogue: Catalogue) {
        let generation = catalogue.generation;
        self.current.send_replace(Arc::new(catalogue));
        self.generation.send_replace(generation);
    }

    /// Tells when kinds have come or gone.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    pub(crate) fn storage(&self) -> &Storage {
        &self.storage
    }

    /// A built-in resource that is stored.
    pub fn builtin(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Served>> {
        match self.base.get(group, version, plural)? {
            Entry::Stored(served) => Some(served),
            Entry::Answered(_) => None,
        }
    }

    /// Makes the claims on service addresses and node ports those of the stored services, which other versions and stock servers
    /// may have written; returns what is to be told of it.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub async fn repair_claims(&self) -> Result<Vec<Finding>, kedge_storage::Error> {
        let Some(services) = self.storage.resource("services/specs") else { return Ok(Vec::new()) };
        let mut findings = self.state.repair(&services, self.clock.now()).await?;
        findings.extend(self.state.repair_record(&services).await?);
        Ok(findings)
    }

    /// For what outlives a request.
    pub(crate) fn shared_state(&self) -> Arc<State> {
        self.state.clone()
    }

    /// Waits until the caches hold everything that was acknowledged to anybody before the call.
    ///
    /// # Errors
    /// When the store cannot say what that is, or the caches do not get there in time.
    pub async fn fresh(&self) -> Result<(), kedge_storage::Error> {
        self.storage.fresh().await
    }

    /// Whether the store takes writes.
    ///
    /// # Errors
    /// Why not.
    pub async fn health(&self) -> Result<(), kedge_storage::Error> {
        self.storage.health().await
    }

    /// The newest revision.
    pub fn revision(&self) -> u64 {
        self.storage.revision()
    }
}

/// The first catalogue: all that is built in, with some of the optional groups.
fn built_in(storage: &Storage, optional: &[&str]) -> Catalogue {
    let entry = |info: &ResourceInfo| {
        let store = storage.resource(&info.storage_prefix).filter(|_| info.is_stored());
        let Some(store) = store else { return Entry::Answered(Arc::new(info.clone())) };
        let strategy = strategies::strategy(&info.group, &info.plural);
        let printer = printers::of(&info.group, &info.plural);
        let conversion = convert::built_in(&info.storage_group, &info.plural);
        let info = info.clone();
        Entry::Stored(Arc::new(Served { info, strategy, printer, store, conversion, custom: None }))
    };
    let group = |info: &GroupInfo| {
        let all = || kedge_schema::resources().iter().chain(kedge_schema::optional_resources());
        let of = |version: &Text| all().filter(|r| r.group == info.name && r.version == *version).map(entry).collect();
        let versions = info.versions.iter().flat_map(|version| -> Vec<Entry> { of(version) });
        Arc::new(Group::new(info.clone(), versions.collect()))
    };
    let optional = kedge_schema::optional_groups().iter().filter(|group| optional.contains(&&*group.name));
    Catalogue::new(kedge_base::random::u64(), kedge_schema::groups().iter().chain(optional).map(group).collect())
}
