//! Everything that is served and stored.

use std::collections::HashMap;
use std::sync::Arc;

use kedge_base::SharedClock;
use kedge_meta::{GroupResource, Text};
use kedge_schema::{ResourceInfo, TypeId};
use kedge_storage::{ResourceConfig, ResourceStore, Storage, StoredForm};

use crate::strategies::{self, State};
use crate::strategy::Strategy;

/// What strategies need to know of the cluster.
#[derive(Debug, Clone)]
pub struct ClusterConfig {
    /// Service addresses, such as `10.43.0.0/16`.
    pub service_cidr: String,
    /// Ports for NodePort services, inclusive.
    pub node_ports: (u16, u16),
}

/// One resource in one served version.
#[derive(Clone)]
pub struct Served {
    pub info: &'static ResourceInfo,
    pub strategy: &'static dyn Strategy,
    pub store: ResourceStore,
}

impl Served {
    /// Group and plural, for messages.
    pub fn group_resource(&self) -> GroupResource {
        GroupResource::new(self.info.group, self.info.plural)
    }

    /// The type of the served version.
    pub fn type_id(&self) -> Option<TypeId> {
        self.info.type_id()
    }

    /// Whether what is stored is of another version than what is served.
    pub fn needs_conversion(&self) -> bool {
        (self.info.group, self.info.version) != (self.info.storage_group, self.info.storage_version)
    }

    /// The key of an object.
    pub fn key(&self, namespace: &str, name: &str) -> String {
        if self.info.namespaced { format!("{namespace}/{name}") } else { name.to_owned() }
    }

    /// What the keys of a namespace (empty: of all) begin with.
    pub fn scope(&self, namespace: &str) -> String {
        if self.info.namespaced && !namespace.is_empty() { format!("{namespace}/") } else { String::new() }
    }
}

/// All resources.
pub struct Registry {
    storage: Arc<Storage>,
    served: HashMap<(&'static str, &'static str, &'static str), Served>,
    pub clock: SharedClock,
    pub config: ClusterConfig,
    /// What strategies keep between requests: allocators.
    pub(crate) state: State,
}

impl Registry {
    /// How every stored resource is stored, for [`Storage::open`].
    pub fn storage_configs() -> Vec<ResourceConfig> {
        let mut configs: Vec<ResourceConfig> = Vec::new();
        for info in kedge_schema::resources().iter().filter(|r| r.is_stored()) {
            if configs.iter().any(|c| c.prefix == info.storage_prefix) {
                continue;
            }
            configs.push(ResourceConfig {
                prefix: Text::of(info.storage_prefix),
                resource: GroupResource::new(info.storage_group, info.plural).to_string(),
                fields: Arc::new(strategies::fields(info)),
                indexed: (info.storage_prefix == "pods").then_some(Text::of("spec.nodeName")),
                form: Some(Arc::new(StoredForm::built_in(info))),
            });
        }
        configs.push(State::node_port_config());
        configs
    }

    /// Over an opened storage.
    pub fn new(storage: Arc<Storage>, clock: SharedClock, config: ClusterConfig) -> Self {
        let mut served = HashMap::new();
        for info in kedge_schema::resources().iter().filter(|r| r.is_stored()) {
            let Some(store) = storage.resource(info.storage_prefix) else { continue };
            let strategy = strategies::strategy(info.group, info.plural);
            served.insert((info.group, info.version, info.plural), Served { info, strategy, store });
        }
        let state = State::new(&config, storage.resource("ipaddresses"), storage.resource(State::NODE_PORTS));
        Self { storage, served, clock, config, state }
    }

    /// A resource, if it is served and stored.
    pub fn get(&self, group: &str, version: &str, plural: &str) -> Option<&Served> {
        // The key's static lifetime is only that of the table's own names.
        let info = kedge_schema::resource(group, version, plural)?;
        self.served.get(&(info.group, info.version, info.plural))
    }

    /// All served resources.
    pub fn all(&self) -> impl Iterator<Item = &Served> {
        self.served.values()
    }

    /// Takes the addresses and node ports of services that were stored without (by other versions, by stock servers), and
    /// gives back ports of services that are gone.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn repair_claims(&self) -> Result<(), kedge_storage::Error> {
        match self.storage.resource("services/specs") {
            Some(services) => self.state.repair(&services, self.clock.now()).await,
            None => Ok(()),
        }
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
