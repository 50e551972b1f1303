//! Kinds come and go while the server runs.
//!
//! Invariants: a kind is served from the moment its cache holds what the store holds; one that goes is first out of the catalogue, then
//! takes no more writes, then loses its objects and its cache, so that nothing of it is left for one of its name that comes later. That holds
//! for this server: others on the same store have catalogues of their own.
//! Changes are made one after the other. Requests in flight go on with the catalogue that they began with.

use std::sync::Arc;

use kedge_meta::{GroupResource, GroupVersion, Text};
use kedge_schema::{GroupInfo, ResourceInfo, SchemaRef};
use kedge_storage::{Field, Fields, OtherVersion, ResourceConfig, ResourceStore, StoredForm};

use crate::catalogue::{Catalogue, Entry, Group};
use crate::convert::Conversion;
use crate::printers::Print;
use crate::registry::Registry;
use crate::served::{Custom, Served};
use crate::strategy::Strategy;

/// A kind to be served, in all its versions.
#[derive(Clone)]
pub struct Definition {
    /// Each served version, in order of preference. All say the same of names, scope and storage.
    pub versions: Vec<DefinedVersion>,
    /// How its versions become each other.
    pub conversion: Arc<dyn Conversion>,
    /// What objects can be selected by in some version, beside name and namespace.
    pub fields: Vec<Field>,
    /// How they are stored.
    pub stored: Stored,
}

/// A version of a kind.
#[derive(Clone)]
pub struct DefinedVersion {
    pub info: ResourceInfo,
    pub strategy: Arc<dyn Strategy>,
    pub printer: Arc<dyn Print>,
    pub custom: Arc<Custom>,
}

/// How the objects of a kind are stored.
#[derive(Clone, Default)]
pub struct Stored {
    /// Versions of which there may be objects, beside those that are served.
    pub others: Vec<Text>,
    /// The schema of the version that is stored, and the revision up to which objects may have been written with another.
    pub shape: Option<(SchemaRef, u64)>,
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
    /// Serves a kind that is not served yet.
    ///
    /// # Errors
    /// When its names are taken, or what the store holds of it cannot be read.
    pub async fn add(&self, definition: Definition) -> Result<(), ChangeError> {
        let _one_at_a_time = self.changing.lock().await;
        let catalogue = self.prepared(&self.catalogue(), definition).await?;
        self.publish(catalogue);
        Ok(())
    }

    /// Serves a kind, or serves it from now on as the definition says. Watches go on where its objects are stored and selected as before; else they
    /// end, and begin anew with a list.
    ///
    /// # Errors
    /// As [`Registry::add`]. What was served before is served on then, unless it was to be stored otherwise and the store could not be read: then
    /// the caller tries again.
    pub async fn serve(&self, definition: Definition) -> Result<(), ChangeError> {
        let _one_at_a_time = self.changing.lock().await;
        let catalogue = self.catalogue();
        let config = config(&definition)?;
        let resource = resource_of(&definition)?;
        let (kept, old) = apart(&catalogue, &resource);
        check(&self.base, &kept, &definition.versions)?;
        let stored = config.form.as_ref().map(|form| form.api_version.clone());
        let store = match old {
            Some(old) if old.is_for(&config) && old.stored_version() == stored => {
                old.reform(form(&definition)?);
                old
            }
            Some(old) => {
                // Whoever asks meanwhile waits.
                let _coming = self.announce(resource.clone());
                self.publish(kept.clone());
                self.storage().remove(&old).await;
                let store = self.storage().add(&config).await?;
                self.publish(with_kind(&kept, definition, &store)?);
                return Ok(());
            }
            None => self.storage().add(&config).await?,
        };
        self.publish(with_kind(&kept, definition, &store)?);
        Ok(())
    }

    /// Serves kinds that are not served yet, all from one moment on. What cannot be served is told, and does not keep the others back.
    pub async fn serve_all(&self, definitions: Vec<Definition>) -> Vec<(String, ChangeError)> {
        let _one_at_a_time = self.changing.lock().await;
        let mut catalogue = Catalogue::clone(&self.catalogue());
        let mut failed = Vec::new();
        for definition in definitions {
            let name = resource_of(&definition).map(|resource| resource.to_string()).unwrap_or_default();
            match self.prepared(&catalogue, definition).await {
                Ok(more) => catalogue = more,
                Err(err) => failed.push((name, err)),
            }
        }
        self.publish(catalogue);
        failed
    }

    async fn prepared(&self, catalogue: &Catalogue, definition: Definition) -> Result<Catalogue, ChangeError> {
        check(&self.base, catalogue, &definition.versions)?;
        let store = self.storage().add(&config(&definition)?).await?;
        with_kind(catalogue, definition, &store)
    }

    /// A kind that nobody is served, so that its objects can be reached: give it to [`Registry::put_away`] again.
    ///
    /// # Errors
    /// When it is served, or cannot be read.
    pub async fn aside(&self, definition: Definition) -> Result<Arc<Served>, ChangeError> {
        let _one_at_a_time = self.changing.lock().await;
        let store = self.storage().add(&config(&definition)?).await?;
        let conversion = definition.conversion.clone();
        let DefinedVersion { info, strategy, printer, custom } =
            definition.versions.into_iter().next().ok_or(ChangeError::NoVersion)?;
        Ok(Arc::new(Served { info, strategy, printer, store, conversion, custom: Some(custom) }))
    }

    /// Forgets what [`Registry::aside`] gave. Its objects stay.
    pub async fn put_away(&self, served: &Served) {
        self.storage().remove(&served.store).await;
    }

    /// Serves a kind no more, and leaves its objects where they are: if the kind comes again, they are there. False when it is not served.
    pub async fn withdraw(&self, resource: &GroupResource) -> bool {
        let _one_at_a_time = self.changing.lock().await;
        let catalogue = self.catalogue();
        if self.base.group(&resource.group).is_some() {
            return false;
        }
        let (kept, store) = apart(&catalogue, resource);
        let Some(store) = store else { return false };
        self.publish(kept);
        self.storage().remove(&store).await
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
        let (kept, store) = apart(&catalogue, resource);
        let store = store.ok_or_else(unknown)?;
        self.publish(kept);
        store.end_writes().await;
        self.storage().clear(&store).await?;
        self.storage().remove(&store).await;
        Ok(())
    }
}

/// The catalogue without a kind that is not built in, and where that is stored.
fn apart(catalogue: &Catalogue, resource: &GroupResource) -> (Catalogue, Option<ResourceStore>) {
    let Some(old) = catalogue.group(&resource.group) else { return (catalogue.clone(), None) };
    let (gone, kept): (Vec<Entry>, Vec<Entry>) =
        old.entries.iter().cloned().partition(|entry| entry.info().plural == resource.resource);
    let store = gone.iter().find_map(|entry| match entry {
        Entry::Stored(served) => Some(served.store.clone()),
        Entry::Answered(_) => None,
    });
    let name = old.info.name.clone();
    let rest = match (gone.is_empty(), kept.is_empty()) {
        (true, _) => catalogue.clone(),
        (false, true) => catalogue.without(&name),
        (false, false) => catalogue.with(group(name, kept)),
    };
    (rest, store)
}

/// The catalogue with a kind.
fn with_kind(catalogue: &Catalogue, definition: Definition, store: &ResourceStore) -> Result<Catalogue, ChangeError> {
    let name = first(&definition)?.group.clone();
    let mut entries: Vec<Entry> = catalogue.group(&name).map(|group| group.entries.clone()).unwrap_or_default();
    let Definition { versions, conversion, .. } = definition;
    entries.extend(versions.into_iter().map(|version| {
        let DefinedVersion { info, strategy, printer, custom } = version;
        let (store, conversion) = (store.clone(), conversion.clone());
        Entry::Stored(Arc::new(Served { info, strategy, printer, store, conversion, custom: Some(custom) }))
    }));
    Ok(catalogue.with(group(name, entries)))
}

fn first(definition: &Definition) -> Result<&ResourceInfo, ChangeError> {
    definition.versions.first().map(|version| &version.info).ok_or(ChangeError::NoVersion)
}

fn resource_of(definition: &Definition) -> Result<GroupResource, ChangeError> {
    first(definition).map(|info| GroupResource::new(&info.group, &info.plural))
}

fn check(base: &Catalogue, catalogue: &Catalogue, versions: &[DefinedVersion]) -> Result<(), ChangeError> {
    for info in versions.iter().map(|version| &version.info) {
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

fn form(definition: &Definition) -> Result<StoredForm, ChangeError> {
    let info = first(definition)?;
    let stored = GroupVersion::new(&info.storage_group, &info.storage_version).to_string();
    let served = definition.versions.iter().map(|version| version.info.api_version());
    let others = definition.stored.others.iter().map(|version| GroupVersion::new(&info.group, version).to_string());
    let mut names: Vec<String> = served.chain(others).filter(|version| *version != stored).collect();
    names.sort();
    names.dedup();
    // They stay in the store as they were written, and are converted when they are read.
    let other = |name: String| OtherVersion { api_version: name.into(), schema: None, same: true };
    let form = StoredForm::new(stored.into(), info.kind.clone(), None, false, names.into_iter().map(other));
    Ok(match definition.stored.shape.clone() {
        Some((schema, until)) => form.shaped(schema, until),
        None => form,
    })
}

fn config(definition: &Definition) -> Result<ResourceConfig, ChangeError> {
    let info = first(definition)?;
    let common =
        ["metadata.name", "metadata.namespace"].map(|path| Field { path: Text::of(path), zero: Text::default() });
    let fields: Fields = common.into_iter().chain(definition.fields.iter().cloned()).collect();
    Ok(ResourceConfig {
        prefix: info.storage_prefix.clone(),
        resource: GroupResource::new(&info.storage_group, &info.plural).to_string(),
        fields: Arc::new(fields),
        indexed: None,
        form: Some(Arc::new(form(definition)?)),
        packed: false,
    })
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

/// How much a version is preferred: `v2`, `v1`, `v1beta1`, `v1alpha2`, and then whatever has no such form.
pub fn rank(version: &str) -> (u8, u64, u64) {
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
