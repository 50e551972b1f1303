//! One resource in one served version, with all that serving it needs.

use std::sync::Arc;

use kedge_meta::{GroupResource, Status};
use kedge_schema::ResourceInfo;
use kedge_storage::ResourceStore;
use serde_json::Value;

use crate::convert;
use crate::printers::Print;
use crate::strategy::Strategy;
use crate::verbs::store_failure;

/// One resource in one served version.
pub struct Served {
    pub info: ResourceInfo,
    pub strategy: Arc<dyn Strategy>,
    /// How its objects become rows.
    pub printer: Arc<dyn Print>,
    pub store: ResourceStore,
}

impl Served {
    /// Group and plural, for messages.
    pub fn group_resource(&self) -> GroupResource {
        GroupResource::new(&self.info.group, &self.info.plural)
    }

    /// Whether this is a resource that upstream has too. Kinds that came at run time may have the same names in another group.
    pub fn is(&self, group: &str, plural: &str) -> bool {
        self.info.group == group && self.info.plural == plural
    }

    /// Whether what is stored is of another version than what is served.
    pub fn needs_conversion(&self) -> bool {
        (&self.info.group, &self.info.version) != (&self.info.storage_group, &self.info.storage_version)
    }

    /// An object in this version, which must be there.
    ///
    /// # Errors
    /// 404, or 500 for what cannot be read.
    pub fn get(&self, namespace: &str, name: &str) -> Result<Value, Status> {
        let object = self.store.get(&self.key(namespace, name)).map_err(store_failure)?;
        convert::read(self, &*object.ok_or_else(|| Status::not_found(&self.group_resource(), name))?)
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
