//! One resource in one served version, with all that serving it needs.

use std::sync::Arc;

use kedge_meta::{GroupResource, Status, Text};
use kedge_schema::ResourceInfo;
use kedge_storage::{Object, ResourceStore};
use serde_json::Value;

use crate::convert::{self, Conversion};
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
    /// How its objects get from one version into another.
    pub conversion: Arc<dyn Conversion>,
    /// What is said of it beside its description, if it came while the server runs.
    pub custom: Option<Arc<Custom>>,
}

/// What is said of a version of a kind that came while the server runs.
#[derive(Debug, Default)]
pub struct Custom {
    /// The fields that its objects can be selected by in this version, beside name and namespace.
    pub selectable: Vec<Text>,
    /// What its users are told.
    pub deprecation: Option<Text>,
    /// Where its objects keep what `scale` shows.
    pub scale: Option<ScalePaths>,
    /// It is on its way out: nothing new may be made.
    pub terminating: bool,
}

/// Places in an object, with dots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScalePaths {
    pub spec_replicas: Text,
    pub status_replicas: Text,
    pub label_selector: Option<Text>,
}

impl ScalePaths {
    /// The names of the fields that lead to a place.
    pub fn steps(path: &str) -> impl Iterator<Item = &str> {
        path.trim_start_matches('.').split('.')
    }
}

impl Served {
    /// Whether lists can be selected by this field.
    pub fn is_selectable(&self, field: &str) -> bool {
        let own = |custom: &Arc<Custom>| {
            matches!(field, "metadata.name" | "metadata.namespace")
                || custom.selectable.iter().any(|own| *own == *field)
        };
        self.store.is_selectable(field) && self.custom.as_ref().is_none_or(own)
    }

    /// Group and plural, for messages.
    pub fn group_resource(&self) -> GroupResource {
        GroupResource::new(&self.info.group, &self.info.plural)
    }

    /// Whether this is a resource that upstream has too. Kinds that came at run time may have the same names in another group.
    pub fn is(&self, group: &str, plural: &str) -> bool {
        self.info.group == group && self.info.plural == plural
    }

    /// Whether what is served is what is stored.
    pub fn is_stored_version(&self) -> bool {
        (&self.info.group, &self.info.version) == (&self.info.storage_group, &self.info.storage_version)
    }

    /// Whether objects are shown as they are stored, all of them.
    pub fn shows_all(&self) -> bool {
        self.is_stored_version() && !self.store.is_mixed()
    }

    /// Whether an object is shown as it is stored.
    pub fn shows(&self, object: &Object) -> bool {
        self.is_stored_version() && (!self.store.is_mixed() || self.store.is_current(object))
    }

    /// Whether what is not shown as it is stored has to be waited for.
    pub fn waits(&self) -> bool {
        self.conversion.waits() && !self.shows_all()
    }

    /// An object in this version, which must be there.
    ///
    /// # Errors
    /// 404, or 500 for what cannot be read.
    pub fn get(&self, namespace: &str, name: &str) -> Result<Value, Status> {
        let object = self.store.get(&self.key(namespace, name)).map_err(store_failure)?;
        convert::read(self, &*object.ok_or_else(|| Status::not_found(&self.group_resource(), name))?)
    }

    /// The same, and its conversion is waited for.
    ///
    /// # Errors
    /// As [`Served::get`], and what the conversion says.
    pub async fn get_later(&self, namespace: &str, name: &str) -> Result<Value, Status> {
        let object = self.store.get(&self.key(namespace, name)).map_err(store_failure)?;
        convert::read_later(self, &*object.ok_or_else(|| Status::not_found(&self.group_resource(), name))?).await
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
