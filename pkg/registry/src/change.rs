//! Kinds come and go while the server runs.
//!
//! Invariants: a kind is served from the moment its cache holds what the store holds; one that goes is first out of the catalogue, then
//! takes no more writes, then loses its objects and its cache, so that nothing of it is left for one of its name that comes later. That holds
//! for this server: others on the same store have catalogues of their own.
//! Changes are made one after the other. Requests in flight go on with the catalogue that they began with.

use std::sync::Arc;

use kedge_meta::{GroupResource, GroupVersion, Text};
use kedge_schema::{GroupInfo, ResourceInfo};
use kedge_storage::{Field, Fields, OtherVersion, ResourceConfig, StoredForm};

use crate::catalogue::{Catalogue, Entry, Group};
use crate::convert::Conversion;
use crate::printers::Print;
use crate::registry::Registry;
use crate::served::Served;
use crate::strategy::Strategy;

/// A kind to be served, in all its versions.
#[derive(Clone)]
pub struct Definition {
    /// Each served version, in order of preference. All say the same of names, scope and storage.
    pub versions: Vec<ResourceInfo>,
    pub strategy: Arc<dyn Strategy>,
    pub printer: Arc<dyn Print>,
    /// How its versions become each other.
    pub conversion: Arc<dyn Conversion>,
    /// What objects can be selected by, beside name and namespace.
    pub fields: Vec<Field>,
}

/// Why a kind does not come or go.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    #[error("no version of it is served")]
    NoVersion,
    #[error("the group {0:?} has built-in kinds")]
    BuiltInGroup(String),
    #[error("{0:?} is served already")]
    Taken(String),
    #[error("{0} is not served")]
    Unknown(GroupResource),
    #[error(transparent)]
    Storage(#[from] kedge_storage::Error),
}

impl Registry {
    /// Serves a kind.
    ///
    /// # Errors
    /// When its names are taken, or what the store holds of it cannot be read.
    pub async fn add(&self, definition: Definition) -> Result<(), ChangeError> {
        let _one_at_a_time = self.changing.lock().await;
        let first = definition.versions.first().ok_or(ChangeError::NoVersion)?;
        let catalogue = self.catalogue();
        check(&self.base, &catalogue, &definition.versions)?;
        let store = self.storage().add(&config(&definition, first)).await?;
        let entry = |info: ResourceInfo| {
            let (strategy, printer) = (definition.strategy.clone(), definition.printer.clone());
            let conversion = definition.conversion.clone();
            Entry::Stored(Arc::new(Served { info, strategy, printer, store: store.clone(), conversion }))
        };
        let group_name = first.group.clone();
        let old = catalogue.group(&group_name);
        let mut entries: Vec<Entry> = old.map(|group| group.entries.clone()).unwrap_or_default();
        entries.extend(definition.versions.into_iter().map(entry));
        self.publish(catalogue.with(group(group_name, entries)));
        Ok(())
    }

    /// Serves a kind no more. Its objects go, whatever their finalizers say: whoever wants these heard deletes the objects before.
    ///
    /// # Errors
    /// When there is none that is not built in, or the store fails: then it is served no more, but objects may be left.
    pub async fn remove(&self, resource: &GroupResource) -> Result<(), ChangeError> {
        let _one_at_a_time = self.changing.lock().await;
        let catalogue = self.catalogue();
        let unknown = || ChangeError::Unknown(resource.clone());
        if self.base.group(&resource.group).is_some() {
            return Err(unknown());
        }
        let old = catalogue.group(&resource.group).ok_or_else(unknown)?;
        let (gone, kept): (Vec<Entry>, Vec<Entry>) =
            old.entries.iter().cloned().partition(|entry| entry.info().plural == resource.resource);
        let store = gone.iter().find_map(|entry| match entry {
            Entry::Stored(served) => Some(served.store.clone()),
            Entry::Answered(_) => None,
        });
        let store = store.ok_or_else(unknown)?;
        let name = old.info.name.clone();
        self.publish(match kept.is_empty() {
            true => catalogue.without(&name),
            false => catalogue.with(group(name, kept)),
        });
        store.end_writes().await;
        self.storage().clear(&store).await?;
        self.storage().remove(&store).await;
        Ok(())
    }
}

fn check(base: &Catalogue, catalogue: &Catalogue, versions: &[ResourceInfo]) -> Result<(), ChangeError> {
    for info in versions {
        if base.group(&info.group).is_some() {
            return Err(ChangeError::BuiltInGroup(info.group.to_string()));
        }
        if catalogue.get(&info.group, &info.version, &info.plural).is_some() {
            return Err(ChangeError::Taken(info.plural.to_string()));
        }
        let kinds = [&info.kind, &info.list_kind];
        if let Some(kind) = kinds.into_iter().find(|kind| catalogue.kind(&info.group, &info.version, kind).is_some()) {
            return Err(ChangeError::Taken(kind.to_string()));
        }
    }
    Ok(())
}

fn config(definition: &Definition, info: &ResourceInfo) -> ResourceConfig {
    let common =
        ["metadata.name", "metadata.namespace"].map(|path| Field { path: Text::of(path), zero: Text::default() });
    let fields: Fields = common.into_iter().chain(definition.fields.iter().cloned()).collect();
    let stored = GroupVersion::new(&info.storage_group, &info.storage_version).to_string();
    let others = definition.versions.iter().map(ResourceInfo::api_version).filter(|version| *version != stored);
    // They stay in the store as they were written, and are converted when they are read.
    let others = others.map(|api_version| OtherVersion { api_version: api_version.into(), schema: None, same: true });
    let form = StoredForm::new(stored.clone().into(), info.kind.clone(), None, false, others.collect::<Vec<_>>());
    ResourceConfig {
        prefix: info.storage_prefix.clone(),
        resource: GroupResource::new(&info.storage_group, &info.plural).to_string(),
        fields: Arc::new(fields),
        indexed: None,
        form: Some(Arc::new(form)),
        packed: false,
    }
}

/// A group of such entries. Its versions are in upstream's order: stable ones first, the highest first.
fn group(name: Text, entries: Vec<Entry>) -> Group {
    let mut versions: Vec<Text> = Vec::new();
    for entry in &entries {
        if !versions.contains(&entry.info().version) {
            versions.push(entry.info().version.clone());
        }
    }
    versions.sort_by(|a, b| rank(b).cmp(&rank(a)).then_with(|| a.cmp(b)));
    let mut sorted = entries;
    let place = |version: &Text| versions.iter().position(|v| v == version);
    sorted.sort_by(|a, b| {
        let key = |entry: &Entry| (place(&entry.info().version), entry.info().plural.clone());
        key(a).cmp(&key(b))
    });
    Group::new(GroupInfo { name, versions }, sorted)
}

/// Higher is preferred: `v2`, `v1`, `v1beta1`, `v1alpha2`, and then whatever has no such form.
fn rank(version: &str) -> (u8, u64, u64) {
    let number = |text: &str| text.parse::<u64>().ok();
    let Some(rest) = version.strip_prefix('v') else { return (0, 0, 0) };
    for (stage, name) in [(1, "alpha"), (2, "beta")] {
        if let Some((major, minor)) = rest.split_once(name) {
            return number(major).zip(number(minor)).map_or((0, 0, 0), |(major, minor)| (stage, major, minor));
        }
    }
    number(rest).map_or((0, 0, 0), |major| (3, major, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_preferred_in_upstreams_order() {
        let mut versions = ["v1beta1", "foo", "v1alpha2", "v10", "v2", "v1beta2", "v1", "v1alpha1", "v11beta2"];
        versions.sort_by(|a, b| rank(b).cmp(&rank(a)).then_with(|| a.cmp(b)));
        assert_eq!(versions, ["v10", "v2", "v1", "v11beta2", "v1beta2", "v1beta1", "v1alpha2", "v1alpha1", "foo"]);
    }
}
