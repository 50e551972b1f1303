//! Resources, subresources and groups as discovery shows them, and where they are stored.

use kedge_meta::Text;

use crate::SchemaRef;

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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupInfo {
    /// Empty for core.
    pub name: Text,
    /// In order of preference.
    pub versions: Vec<Text>,
}

impl GroupInfo {
    /// The version that discovery prefers.
    pub fn preferred_version(&self) -> Text {
        self.versions.first().cloned().unwrap_or_default()
    }
}

/// A group, version and kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KindInfo {
    pub group: Text,
    pub version: Text,
    pub kind: Text,
}

/// A subresource: its name, the kind of its body, and its verbs.
#[derive(Debug, Clone)]
pub struct SubresourceInfo {
    pub name: Text,
    pub kind: KindInfo,
    /// The schema of the body, where it has one (connect options do not).
    pub schema: Option<SchemaRef>,
    /// Sorted.
    pub verbs: Vec<Text>,
}

impl SubresourceInfo {
    pub fn has_verb(&self, verb: Verb) -> bool {
        self.verbs.iter().any(|v| *v == verb.as_str())
    }
}

/// One resource in one version: a built-in one, or one that came while the server runs.
#[derive(Debug, Clone)]
pub struct ResourceInfo {
    /// Empty for core.
    pub group: Text,
    pub version: Text,
    pub plural: Text,
    pub singular: Text,
    pub kind: Text,
    pub list_kind: Text,
    pub namespaced: bool,
    /// Sorted, discovery's names.
    pub verbs: Vec<Text>,
    pub short_names: Vec<Text>,
    pub categories: Vec<Text>,
    /// Discovery's hash of the storage version; empty for what is not stored.
    pub storage_version_hash: Text,
    /// The place below `/registry/`, for example `services/specs`.
    pub storage_prefix: Text,
    /// Group of the stored form: `""` for `events.k8s.io` events, which are stored as core events.
    pub storage_group: Text,
    /// Version of the stored form as upstream 1.36 chooses it.
    pub storage_version: Text,
    /// What its objects look like.
    pub schema: SchemaRef,
    pub subresources: Vec<SubresourceInfo>,
}

impl ResourceInfo {
    pub fn has_verb(&self, verb: Verb) -> bool {
        self.verbs.iter().any(|v| *v == verb.as_str())
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
        api_version(&self.group, &self.version)
    }

    /// Group, version and kind of its objects.
    pub fn own_kind(&self) -> KindInfo {
        KindInfo { group: self.group.clone(), version: self.version.clone(), kind: self.kind.clone() }
    }
}

/// `v1` for core, `group/version` otherwise.
pub(crate) fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_string() } else { format!("{group}/{version}") }
}
