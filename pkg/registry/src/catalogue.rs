//! What is served: the groups, their versions, and the resources of each.
//!
//! A catalogue never changes. When a kind comes or goes, the registry puts another catalogue in its place, which shares with the
//! one before all groups that stayed as they are. Whoever begins a piece of work (a request, a pass of a controller) takes the catalogue
//! of that moment and sees one state of things to the end; what outlives it (a watch) keeps the resource alone.
//!
//! Above the kinds of this server are the group versions that others serve. If this server has such a group version too, its kinds stay, and are not
//! shown.
//!
//! Invariants: the built-in kinds are in every catalogue; within a group-version no two resources have one plural or one kind.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use kedge_meta::Text;
use kedge_schema::{Elsewhere, GroupInfo, Kinds, ResourceInfo};

use crate::priorities::{self, Priority};
use crate::remote::{Above, Remote};
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
    /// Of this server. What is built in goes first.
    groups: Vec<Arc<Group>>,
    by_name: HashMap<Text, usize>,
    /// How many of the groups are built in.
    built_in: usize,
    pub(crate) above: Above,
    /// What is shown: worked out when somebody asks.
    shown: OnceLock<Shown>,
    /// What tells its documents from those of other catalogues, once somebody has worked that out.
    tags: [OnceLock<String>; 2],
}

impl Catalogue {
    /// Of what is built in.
    pub(crate) fn new(born: u64, groups: Vec<Arc<Group>>) -> Self {
        let built_in = groups.len();
        Self::of(0, born, groups, built_in, Above::default())
    }

    fn of(generation: u64, born: u64, groups: Vec<Arc<Group>>, built_in: usize, above: Above) -> Self {
        let by_name = groups.iter().enumerate().map(|(at, group)| (group.info.name.clone(), at)).collect();
        Self { generation, born, groups, by_name, built_in, above, shown: OnceLock::new(), tags: Default::default() }
    }

    /// The next one, of these groups.
    fn next(&self, groups: Vec<Arc<Group>>) -> Self {
        Self::of(self.generation + 1, self.born, groups, self.built_in, self.above.clone())
    }

    /// The next one, with what is above it.
    pub(crate) fn below(&self, above: Above) -> Self {
        Self::of(self.generation + 1, self.born, self.groups.clone(), self.built_in, above)
    }

    /// Who serves a group version, if that is not this server.
    pub fn remote(&self, group: &str, version: &str) -> Option<&Arc<Remote>> {
        self.above.remote(group, version)
    }

    /// The group versions of this server's own kinds, with the priorities that they have by themselves; and whether they are built in.
    pub fn own(&self) -> impl Iterator<Item = (&Text, &Text, Priority, bool)> {
        self.groups.iter().enumerate().flat_map(move |(at, group)| {
            let name = &group.info.name;
            group.info.versions.iter().map(move |version| match at < self.built_in {
                true => (name, version, priorities::built_in(name, version), true),
                false => (name, version, priorities::CUSTOM, false),
            })
        })
    }

    /// The tag of the core group's document of discovery, or of that of all others, worked out once.
    pub fn tag(&self, core: bool, work_out: impl FnOnce() -> String) -> &str {
        self.tags[usize::from(core)].get_or_init(work_out)
    }

    /// The API services of all that is shown, and whether it is available.
    pub fn services(&self) -> impl Iterator<Item = (String, bool)> {
        let own = self.own().filter(|(group, version, ..)| self.remote(group, version).is_none());
        let own = own.map(|(group, version, ..)| (format!("{version}.{group}"), true));
        let others = self.above.remotes().iter();
        own.chain(others.map(|remote| (format!("{}.{}", remote.version, remote.group), remote.available)))
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

    /// How many objects of a resource there are, and the bytes that they take here; none for what is not stored here.
    pub fn held(&self, group: &str, version: &str, plural: &str) -> Option<(usize, usize)> {
        match self.get(group, version, plural)? {
            Entry::Stored(served) => Some(served.store.held()),
            Entry::Answered(_) => None,
        }
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
        self.next(groups)
    }

    /// The same without a group.
    pub(crate) fn without(&self, name: &str) -> Self {
        let groups = self.groups.iter().filter(|group| group.info.name != name).cloned().collect();
        self.next(groups)
    }
}

/// The groups that are shown, in both orders.
#[derive(Clone)]
struct Shown {
    /// As `/apis` lists them: those of the same priority by the names of their API services, which begin with the version.
    by_priority: Vec<GroupInfo>,
    /// As aggregated discovery does: those of the same priority by their names. Places in the other list.
    by_name: Vec<usize>,
}

/// A version of a group that is shown.
struct Ranked<'a> {
    group: &'a Text,
    version: &'a Text,
    priority: Priority,
}

impl Ranked<'_> {
    fn service(&self) -> String {
        format!("{}.{}", self.version, self.group)
    }
}

impl Catalogue {
    fn shown(&self) -> &Shown {
        self.shown.get_or_init(|| {
            let own = self.own().filter(|(group, version, ..)| self.remote(group, version).is_none());
            let own = own.map(|(group, version, usual, _)| {
                let priority = self.above.priority(group, version).unwrap_or(usual);
                Ranked { group, version, priority }
            });
            let others = self.above.remotes().iter().map(|remote| {
                let Remote { group, version, priority, .. } = &**remote;
                Ranked { group, version, priority: *priority }
            });
            arranged(own.chain(others).collect())
        })
    }
}

/// Groups of versions, arranged as upstream arranges them.
fn arranged(versions: Vec<Ranked<'_>>) -> Shown {
    let mut groups: HashMap<&Text, Vec<Ranked<'_>>> = HashMap::new();
    for ranked in versions {
        groups.entry(ranked.group).or_default().push(ranked);
    }
    let mut groups: Vec<(i32, String, GroupInfo)> = groups
        .into_iter()
        .map(|(name, mut versions)| {
            versions.sort_by(|a, b| {
                let key = |one: &Ranked<'_>| (one.priority.version, crate::change::rank(one.version));
                key(b).cmp(&key(a)).then_with(|| a.version.cmp(b.version))
            });
            let priority = match &**name {
                // The core has a place of its own, and this one is what all the others go by.
                "" => i32::MAX,
                "apiregistration.k8s.io" => i32::MAX - 1,
                _ => versions.iter().map(|one| one.priority.group).max().unwrap_or_default(),
            };
            let best = versions.iter().filter(|one| one.priority.group == priority).map(Ranked::service).min();
            let versions = versions.into_iter().map(|one| one.version.clone()).collect();
            (priority, best.unwrap_or_default(), GroupInfo { name: name.clone(), versions })
        })
        .collect();
    groups.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    let mut by_name: Vec<usize> = (0..groups.len()).collect();
    by_name.sort_by(|a, b| {
        let ((one, _, first), (other, _, second)) = (&groups[*a], &groups[*b]);
        other.cmp(one).then_with(|| first.name.cmp(&second.name))
    });
    Shown { by_priority: groups.into_iter().map(|(_, _, info)| info).collect(), by_name }
}

impl Kinds for Catalogue {
    fn groups(&self) -> Box<dyn Iterator<Item = &GroupInfo> + '_> {
        Box::new(self.shown().by_priority.iter())
    }

    fn groups_by_name(&self) -> Box<dyn Iterator<Item = &GroupInfo> + '_> {
        let shown = self.shown();
        Box::new(shown.by_name.iter().filter_map(|at| shown.by_priority.get(*at)))
    }

    fn elsewhere(&self, group: &str, version: &str) -> Option<Elsewhere<'_>> {
        self.remote(group, version).map(|remote| remote.elsewhere())
    }

    fn generation(&self) -> String {
        if self.generation == 0 { String::new() } else { format!("-{}-{:x}", self.generation, self.born) }
    }

    fn resources<'a>(&'a self, group: &'a str, version: &'a str) -> Box<dyn Iterator<Item = &'a ResourceInfo> + 'a> {
        let own = self.remote(group, version).is_none();
        let entries = self.group(group).filter(|_| own).into_iter().flat_map(|group| &group.entries);
        Box::new(entries.map(Entry::info).filter(move |info| info.version == version))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_and_versions_stand_as_upstream_arranges_them() {
        let texts = |all: &[&str]| all.iter().map(|one| Text::from(*one)).collect::<Vec<Text>>();
        let groups = texts(&["zoo", "zoo", "ant", "apps", "", "apiregistration.k8s.io", "bee", "bee"]);
        let versions = texts(&["v1", "v2", "v2", "v1", "v1", "v1", "v1beta1", "v1"]);
        let priorities =
            [(1000, 100), (1000, 100), (1000, 100), (17_800, 15), (18_000, 1), (1, 1), (500, 100), (2000, 50)];
        let ranked = groups.iter().zip(&versions).zip(priorities).map(|((group, version), (of_group, of_version))| {
            Ranked { group, version, priority: Priority { group: of_group, version: of_version } }
        });
        let shown = arranged(ranked.collect());
        let names: Vec<&str> = shown.by_priority.iter().map(|group| &*group.name).collect();
        // `v1.zoo` goes before `v2.ant`; the best of a group's priorities counts for it.
        assert_eq!(names, ["", "apiregistration.k8s.io", "apps", "bee", "zoo", "ant"]);
        let by_name: Vec<&str> = shown.by_name.iter().map(|at| &*shown.by_priority[*at].name).collect();
        assert_eq!(by_name, ["", "apiregistration.k8s.io", "apps", "bee", "ant", "zoo"]);
        let versions = |name: &str| {
            let group = shown.by_priority.iter().find(|group| group.name == *name);
            group.map(|group| group.versions.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap_or_default()
        };
        assert_eq!(
            (versions("zoo"), versions("bee")),
            (vec!["v2".into(), "v1".into()], vec!["v1beta1".into(), "v1".into()])
        );
    }
}
