//! Which requests a rule is about.

use kedge_registry::value::ValueExt as _;
use kedge_registry::{Attributes, Operation};
use kedge_schema::ResourceInfo;
use serde_json::Value;

/// A rule of a webhook or of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    operations: Few,
    groups: Few,
    versions: Few,
    /// Each with its subresource, which may be empty.
    resources: Box<[(Box<str>, Box<str>)]>,
    scope: Scope,
    /// Names that it is about alone; none are all.
    names: Box<[Box<str>]>,
}

/// Some words, or all.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Few {
    All,
    These(Box<[Box<str>]>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    All,
    Namespaced,
    Cluster,
    /// Of a name that does not exist.
    Nothing,
}

impl Few {
    fn read(rule: &Value, field: &str) -> Self {
        let words: Vec<&str> = rule.list(&[field]).iter().filter_map(Value::as_str).collect();
        if words.contains(&"*") { Self::All } else { Self::These(words.into_iter().map(Into::into).collect()) }
    }

    fn has(&self, word: &str) -> bool {
        match self {
            Self::All => true,
            Self::These(words) => words.iter().any(|one| **one == *word),
        }
    }
}

impl Rule {
    pub(crate) fn read(rule: &Value) -> Self {
        let resource = |text: &Value| {
            let text = text.as_str().unwrap_or_default();
            let (resource, subresource) = text.split_once('/').unwrap_or((text, ""));
            (resource.into(), subresource.into())
        };
        Self {
            operations: Few::read(rule, "operations"),
            groups: Few::read(rule, "apiGroups"),
            versions: Few::read(rule, "apiVersions"),
            resources: rule.list(&["resources"]).iter().map(resource).collect(),
            scope: match rule.text(&["scope"]) {
                "" | "*" => Scope::All,
                "Namespaced" => Scope::Namespaced,
                "Cluster" => Scope::Cluster,
                _ => Scope::Nothing,
            },
            names: rule.list(&["resourceNames"]).iter().filter_map(Value::as_str).map(Into::into).collect(),
        }
    }

    /// Whether it is about the request, if that were one on `resource`.
    pub(crate) fn matches(&self, attributes: &Attributes<'_>, resource: &ResourceInfo) -> bool {
        self.may_match(attributes) && self.groups.has(&resource.group) && self.versions.has(&resource.version)
    }

    /// Whether it is about the request, but for group and version.
    pub(crate) fn may_match(&self, attributes: &Attributes<'_>) -> bool {
        self.operations.has(attributes.operation.as_str())
            && self.in_scope(attributes)
            && self.covers(&attributes.resource.plural, attributes.subresource)
            && (self.names.is_empty() || self.names.iter().any(|name| **name == *attributes.name))
    }

    fn covers(&self, resource: &str, subresource: &str) -> bool {
        let is = |pattern: &str, word: &str| pattern == "*" || pattern == word;
        self.resources.iter().any(|(one, sub)| is(one, resource) && is(sub, subresource))
    }

    /// A namespace is in none, although requests on it carry its name as theirs.
    fn in_scope(&self, attributes: &Attributes<'_>) -> bool {
        let resource = attributes.resource;
        let is_namespace = resource.group.is_empty() && resource.version == "v1" && resource.plural == "namespaces";
        let namespaced = !is_namespace && !attributes.namespace.is_empty();
        match self.scope {
            Scope::All => true,
            Scope::Namespaced => namespaced,
            Scope::Cluster => !namespaced,
            Scope::Nothing => false,
        }
    }
}

/// Whether an operation has an object whose labels can be looked at: the options of a connection have none.
pub(crate) fn has_labels(operation: Operation, object: &Value) -> bool {
    operation != Operation::Connect && object.is_object()
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
