//! What is served: the groups, their versions, and the resources of each.
//!
//! A catalogue never changes. When a kind comes or goes, the registry puts another catalogue in its place, which shares with the
//! one before all groups that stayed as they are. Whoever begins a piece of work (a request, a pass of a controller) takes the catalogue
//! of that moment and sees one state of things to the end; what outlives it (a watch) keeps the resource alone.
//!
//! Invariants: the built-in kinds are in every catalogue; within a group-version no two resources have one plural or one kind.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use kedge_meta::Text;
use kedge_schema::{GroupInfo, Kinds, ResourceInfo};

use crate::served::Served;

/// A resource in one version.
#[derive(Clone)]
pub enum Entry {
    /// Its objects are kept.
    Stored(Arc<Served>),
    /// Every request is answered from elsewhere: reviews, bindings, the state of components.
    Answered(Arc<ResourceInfo>),
}

impl Entry {
    /// Its description.
    pub fn info(&self) -> &ResourceInfo {
        match self {
            Self::Stored(served) => &served.info,
            Self::Answered(info) => info,
        }
    }
}

/// A group, its versions, and their resources in discovery's order.
#[derive(Clone)]
pub(crate) struct Group {
    pub(crate) info: GroupInfo,
    pub(crate) entries: Vec<Entry>,
    /// Places in `entries`, one for each version.
    by_plural: HashMap<Text, Vec<usize>>,
}

impl Group {
    pub(crate) fn new(info: GroupInfo, entries: Vec<Entry>) -> Self {
        let mut by_plural: HashMap<Text, Vec<usize>> = HashMap::new();
        for (at, entry) in entries.iter().enumerate() {
            by_plural.entry(entry.info().plural.clone()).or_default().push(at);
        }
        Self { info, entries, by_plural }
    }

    fn get(&self, version: &str, plural: &str) -> Option<&Entry> {
        let places = self.by_plural.get(plural)?;
        places.iter().map(|at| &self.entries[*at]).find(|entry| entry.info().version == version)
    }
}

/// A state of what is served.
#[derive(Clone)]
pub struct Catalogue {
    /// Counts from the catalogue that the server began with.
    pub generation: u64,
    /// Of this server: another one may have counted to the same number with other kinds.
    born: u64,
    /// Core first, then in the order of `/apis`.
    groups: Vec<Arc<Group>>,
    by_name: HashMap<Text, usize>,
    /// What tells its documents from those of other catalogues, once somebody has worked that out.
    tags: [OnceLock<String>; 2],
}

impl Catalogue {
    pub(crate) fn new(generation: u64, born: u64, groups: Vec<Arc<Group>>) -> Self {
        let by_name = groups.iter().enumerate().map(|(at, group)| (group.info.name.clone(), at)).collect();
        Self { generation, born, groups, by_name, tags: Default::default() }
    }

    /// The tag of the core group's document of discovery, or of that of all others, worked out once.
    pub fn tag(&self, core: bool, work_out: impl FnOnce() -> String) -> &str {
        self.tags[usize::from(core)].get_or_init(work_out)
    }

    /// A resource, if it is served.
    pub fn get(&self, group: &str, version: &str, plural: &str) -> Option<&Entry> {
        self.group(group)?.get(version, plural)
    }

    /// A resource by the kind of its objects.
    pub fn kind(&self, group: &str, version: &str, kind: &str) -> Option<&Entry> {
        let group = self.group(group)?;
        group.entries.iter().find(|entry| entry.info().version == version && entry.info().kind == kind)
    }

    /// Group, name and number of objects of everything that is stored, once for all its versions.
    pub fn stored(&self) -> impl Iterator<Item = (&str, &str, usize)> {
        let all = self.groups.iter().flat_map(|group| &group.entries);
        let stored = all.filter_map(|entry| match entry {
            Entry::Stored(served) => Some(served),
            Entry::Answered(_) => None,
        });
        let own = stored.filter(|served| {
            served.info.storage_group == served.info.group && served.info.storage_version == served.info.version
        });
        own.map(|served| (&*served.info.group, &*served.info.plural, served.store.count()))
    }

    pub(crate) fn group(&self, name: &str) -> Option<&Arc<Group>> {
        self.by_name.get(name).map(|at| &self.groups[*at])
    }

    /// The same with a group in the place of the one of its name, or behind all others.
    pub(crate) fn with(&self, group: Group) -> Self {
        let mut groups = self.groups.clone();
        match self.by_name.get(&group.info.name) {
            Some(at) => groups[*at] = Arc::new(group),
            None => groups.push(Arc::new(group)),
        }
        Self::new(self.generation + 1, self.born, groups)
    }

    /// The same without a group.
    pub(crate) fn without(&self, name: &str) -> Self {
        let groups = self.groups.iter().filter(|group| group.info.name != name).cloned().collect();
        Self::new(self.generation + 1, self.born, groups)
    }
}

impl Kinds for Catalogue {
    fn groups(&self) -> Box<dyn Iterator<Item = &GroupInfo> + '_> {
        Box::new(self.groups.iter().map(|group| &group.info))
    }

    fn generation(&self) -> String {
        if self.generation == 0 { String::new() } else { format!("-{}-{:x}", self.generation, self.born) }
    }

    fn resources<'a>(&'a self, group: &'a str, version: &'a str) -> Box<dyn Iterator<Item = &'a ResourceInfo> + 'a> {
        let entries = self.group(group).into_iter().flat_map(|group| &group.entries);
        Box::new(entries.map(Entry::info).filter(move |info| info.version == version))
    }
}
