//! Resources, subresources and groups as discovery shows them, and where they are stored.

use super::TypeId;

/// What can be done to a resource; the names are discovery's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Create,
    Delete,
    DeleteCollection,
    Get,
    List,
    Patch,
    Update,
    Watch,
}

impl Verb {
    /// In discovery's (alphabetical) order.
    pub const ALL: [Verb; 8] = [
        Verb::Create,
        Verb::Delete,
        Verb::DeleteCollection,
        Verb::Get,
        Verb::List,
        Verb::Patch,
        Verb::Update,
        Verb::Watch,
    ];

    /// Discovery's name of the verb.
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Create => "create",
            Verb::Delete => "delete",
            Verb::DeleteCollection => "deletecollection",
            Verb::Get => "get",
            Verb::List => "list",
            Verb::Patch => "patch",
            Verb::Update => "update",
            Verb::Watch => "watch",
        }
    }
}

/// One group and its served versions.
#[derive(Debug)]
pub struct GroupInfo {
    /// Empty for core.
    pub name: &'static str,
    /// In order of preference.
    pub versions: Vec<&'static str>,
}

impl GroupInfo {
    /// The version that discovery prefers.
    pub fn preferred_version(&self) -> &'static str {
        self.versions.first().copied().unwrap_or_default()
    }
}

/// A group, version and kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KindInfo {
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
}

/// A subresource: its name, the kind of its body, and its verbs.
#[derive(Debug)]
pub struct SubresourceInfo {
    pub name: &'static str,
    pub kind: KindInfo,
    /// Sorted.
    pub verbs: Vec<&'static str>,
}

impl SubresourceInfo {
    pub fn has_verb(&self, verb: Verb) -> bool {
        self.verbs.contains(&verb.as_str())
    }

    /// The type of the body, where it is one (connect options are not).
    pub fn type_id(&self) -> Option<TypeId> {
        super::kind(self.kind.group, self.kind.version, self.kind.kind)
    }
}

/// One resource in one version.
#[derive(Debug)]
pub struct ResourceInfo {
    /// Empty for core.
    pub group: &'static str,
    pub version: &'static str,
    pub plural: &'static str,
    pub singular: &'static str,
    pub kind: &'static str,
    pub namespaced: bool,
    /// Sorted, discovery's names.
    pub verbs: Vec<&'static str>,
    pub short_names: Vec<&'static str>,
    pub categories: Vec<&'static str>,
    /// Discovery's hash of the storage version; empty for what is not stored.
    pub storage_version_hash: &'static str,
    /// The place below `/registry/`, for example `services/specs`.
    pub storage_prefix: &'static str,
    /// Group of the stored form: `""` for `events.k8s.io` events, which are stored as core events.
    pub storage_group: &'static str,
    /// Version of the stored form as upstream 1.36 chooses it.
    pub storage_version: &'static str,
    pub subresources: Vec<SubresourceInfo>,
}

impl ResourceInfo {
    pub fn has_verb(&self, verb: Verb) -> bool {
        self.verbs.contains(&verb.as_str())
    }

    /// Whether objects of this resource are kept in the store at all.
    pub fn is_stored(&self) -> bool {
        !self.storage_version_hash.is_empty()
    }

    pub fn subresource(&self, name: &str) -> Option<&SubresourceInfo> {
        self.subresources.iter().find(|sub| sub.name == name)
    }

    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        api_version(self.group, self.version)
    }

    /// The type of one object.
    pub fn type_id(&self) -> Option<TypeId> {
        super::kind(self.group, self.version, self.kind)
    }

    /// The type of a list.
    pub fn list_type_id(&self) -> Option<TypeId> {
        super::kind(self.group, self.version, &super::list_kind(self.kind))
    }
}

/// `v1` for core, `group/version` otherwise.
pub(crate) fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_string() } else { format!("{group}/{version}") }
}
