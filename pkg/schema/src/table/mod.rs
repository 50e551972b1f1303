//! The table of built-in resources and types, read from the generated facts on first use.
//! Invariant: every [`TypeId`] handed out indexes the table, and the table lives as long as the process.

mod field;
mod parse;
mod resource;

pub use field::{FieldDef, FieldType, ListType};
pub(crate) use field::{go_type, object_go_type};
pub(crate) use resource::api_version;
pub use resource::{GroupInfo, KindInfo, ResourceInfo, SubresourceInfo, Verb};

use std::collections::HashMap;
use std::sync::LazyLock;

/// Names one type definition of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TypeId(pub(crate) u16);

impl TypeId {
    /// The definition this id names.
    pub fn def(self) -> &'static TypeDef {
        &TABLE.types[usize::from(self.0)]
    }
}

/// One structure of the API.
#[derive(Debug)]
pub struct TypeDef {
    /// Definition name, for example `io.k8s.api.core.v1.PodSpec`.
    pub name: &'static str,
    /// Sorted by JSON name.
    pub fields: Vec<FieldDef>,
    /// Group, version and kind where this is a kind of its own; `DeleteOptions` and `WatchEvent` belong to every
    /// group-version and list none.
    pub kinds: Vec<KindInfo>,
    pub(crate) attributes: &'static str,
}

impl TypeDef {
    /// The Go type's own name, as decode errors show it.
    pub fn short_name(&self) -> &'static str {
        self.name.rsplit('.').next().unwrap_or(self.name)
    }

    /// The field of a JSON name.
    pub fn field(&self, json: &str) -> Option<&FieldDef> {
        let at = self.fields.binary_search_by(|field| field.name.cmp(json)).ok()?;
        self.fields.get(at)
    }

    /// Whether server-side apply treats the whole structure as one value.
    pub fn is_atomic(&self) -> bool {
        parse::attribute(self.attributes, "t=") == Some("atomic")
    }

    /// The union markers as JSON text.
    pub fn unions(&self) -> Option<&'static str> {
        parse::attribute(self.attributes, "u=")
    }

    /// Whether every group-version registers this type under its own name.
    pub fn in_every_group(&self) -> bool {
        parse::attribute(self.attributes, "v=") == Some("*")
    }
}

pub(crate) struct Table {
    pub types: Vec<TypeDef>,
    pub by_name: HashMap<&'static str, TypeId>,
    pub by_kind: HashMap<(&'static str, &'static str, &'static str), TypeId>,
    pub served: Part,
    pub optional: Part,
}

/// Groups and their resources.
#[derive(Default)]
pub(crate) struct Part {
    pub resources: Vec<ResourceInfo>,
    pub groups: Vec<GroupInfo>,
}

/// What is generated, what is served only when the server is told so, and what is answered with beside them.
const FACTS: &str =
    concat!(include_str!("../generated/facts.txt"), include_str!("optional.txt"), include_str!("meta.txt"));

pub(crate) static TABLE: LazyLock<Table> = LazyLock::new(|| parse::parse(FACTS));

/// All resources that are served by default: core first, then in the order of `/apis`.
pub fn resources() -> &'static [ResourceInfo] {
    &TABLE.served.resources
}

/// All resources that are served when the server is told so, in the order in which they then follow the others.
pub fn optional_resources() -> &'static [ResourceInfo] {
    &TABLE.optional.resources
}

/// One resource by group (`""` for core), version and plural name; optional ones too.
pub fn resource(group: &str, version: &str, plural: &str) -> Option<&'static ResourceInfo> {
    resources()
        .iter()
        .chain(optional_resources())
        .find(|info| info.plural == plural && info.group == group && info.version == version)
}

/// All groups, core (`""`) first, each with its versions in order of preference.
pub fn groups() -> &'static [GroupInfo] {
    &TABLE.served.groups
}

/// The groups of [`optional_resources`].
pub fn optional_groups() -> &'static [GroupInfo] {
    &TABLE.optional.groups
}

/// What is served: groups, and the resources of their versions.
pub trait Kinds: Send + Sync {
    /// All groups, core (`""`) first, in the order of `/apis`.
    fn groups(&self) -> Box<dyn Iterator<Item = &GroupInfo> + '_>;

    /// The same in the order of aggregated discovery.
    fn groups_by_name(&self) -> Box<dyn Iterator<Item = &GroupInfo> + '_> {
        self.groups()
    }

    /// What is known of a group version that another server serves: it has no resources here.
    fn elsewhere(&self, _group: &str, _version: &str) -> Option<Elsewhere<'_>> {
        None
    }

    /// Differs whenever something else is served; empty for what is built in.
    fn generation(&self) -> String {
        String::new()
    }

    /// The resources of a group-version; none if it is not served.
    fn resources<'a>(&'a self, group: &'a str, version: &'a str) -> Box<dyn Iterator<Item = &'a ResourceInfo> + 'a>;
}

/// What is known of a group version that another server serves.
#[derive(Debug, Clone, Copy)]
pub struct Elsewhere<'a> {
    /// Its resources as aggregated discovery lists them, if they are known.
    pub resources: Option<&'a serde_json::Value>,
    /// Whether that may not be true any more.
    pub stale: bool,
    /// An OpenAPI v2 document that is about it alone.
    pub open_api_v2: Option<&'a str>,
    /// Where its OpenAPI v3 document is.
    pub open_api_v3: Option<&'a str>,
}

/// What is built in.
#[derive(Debug, Clone, Copy)]
pub struct Builtin;

impl Kinds for Builtin {
    fn groups(&self) -> Box<dyn Iterator<Item = &GroupInfo> + '_> {
        Box::new(groups().iter())
    }

    fn resources<'a>(&'a self, group: &'a str, version: &'a str) -> Box<dyn Iterator<Item = &'a ResourceInfo> + 'a> {
        Box::new(resources().iter().filter(move |r| r.group == group && r.version == version))
    }
}

/// The type of a kind, including list kinds and kinds that are only request bodies (`Scale`, `TokenRequest`, …).
pub fn kind(group: &str, version: &str, kind: &str) -> Option<TypeId> {
    if let Some(id) = TABLE.by_kind.get(&(group, version, kind)) {
        return Some(*id);
    }
    // Options are registered in every group-version.
    let options = matches!(kind, "DeleteOptions" | "WatchEvent");
    if options { type_by_name(&format!("io.k8s.apimachinery.pkg.apis.meta.v1.{kind}")) } else { None }
}

/// A type by its definition name.
pub fn type_by_name(name: &str) -> Option<TypeId> {
    TABLE.by_name.get(name).copied()
}

/// The name of the kind that lists `kind`.
pub fn list_kind(kind: &str) -> String {
    format!("{kind}List")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn knows_the_pod_and_its_containers() {
        let pods = resource("", "v1", "pods").unwrap();
        assert_eq!((&*pods.kind, &*pods.singular, pods.namespaced), ("Pod", "pod", true));
        assert_eq!(pods.storage_prefix, "pods");
        assert!(pods.has_verb(Verb::Watch) && pods.subresource("status").is_some());
        let spec = type_by_name("io.k8s.api.core.v1.PodSpec").unwrap().def();
        let containers = spec.field("containers").unwrap();
        assert_eq!(containers.list_type(), ListType::Map);
        assert_eq!(containers.map_keys().collect::<Vec<_>>(), ["name"]);
        assert_eq!(containers.merge_key(), Some("name"));
        assert!(!containers.omit_empty() && spec.field("hostUsers").unwrap().is_pointer());
    }

    #[test]
    fn keeps_upstreams_places_in_the_store() {
        let prefix = |group, plural| resource(group, "v1", plural).unwrap().storage_prefix.clone();
        assert_eq!(prefix("", "services"), "services/specs");
        assert_eq!(prefix("", "endpoints"), "services/endpoints");
        assert_eq!(prefix("", "nodes"), "minions");
        assert_eq!(prefix("", "replicationcontrollers"), "controllers");
        assert_eq!(prefix("networking.k8s.io", "ingresses"), "ingress");
        assert_eq!(
            prefix("apiextensions.k8s.io", "customresourcedefinitions"),
            "apiextensions.k8s.io/customresourcedefinitions"
        );
        let hpa = resource("autoscaling", "v1", "horizontalpodautoscalers").unwrap();
        assert_eq!((&*hpa.storage_group, &*hpa.storage_version), ("autoscaling", "v2"));
    }

    #[test]
    fn every_served_kind_and_list_has_a_type() {
        assert_eq!(
            resources().len(),
            include_str!("../generated/facts.txt").lines().filter(|l| l.starts_with("R ")).count()
        );
        for info in resources().iter().chain(optional_resources()) {
            assert!(info.schema.builtin().is_some(), "{}", info.plural);
            if info.has_verb(Verb::List) {
                assert!(kind(&info.group, &info.version, &info.list_kind).is_some(), "{}", info.plural);
            }
        }
        assert!(kind("apps", "v1", "DeleteOptions").is_some());
        assert!(kind("apps", "v1beta1", "Deployment").is_none());
    }

    #[test]
    fn fields_are_sorted_for_the_search() {
        for def in &TABLE.types {
            assert!(def.fields.is_sorted_by_key(|field| field.name), "{}", def.name);
        }
    }
}
