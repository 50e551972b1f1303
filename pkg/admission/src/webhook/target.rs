//! Whether a webhook is asked about a request, and as what it sees it: its rules may name another version of the resource.

use std::sync::Arc;

use kedge_meta::{GroupResource, GroupVersion, Status, Text};
use kedge_registry::value::ValueExt as _;
use kedge_registry::{Attributes, Entry, Operation, Registry, Served, convert};
use kedge_schema::{KindInfo, Kinds as _, ResourceInfo, SchemaRef};
use serde_json::Value;

use super::hook::Hook;
use super::rules::has_labels;

/// What a webhook sees of a request: the resource and the kind of its objects.
#[derive(Clone)]
pub(crate) struct Target {
    pub group: Text,
    pub version: Text,
    pub plural: Text,
    pub kind: KindInfo,
    schema: Option<SchemaRef>,
    /// Where that is another version than the client asked for: how one comes there, and back.
    other: Option<Other>,
}

#[derive(Clone)]
struct Other {
    there: Arc<Served>,
    back: Arc<Served>,
}

impl Hook {
    /// Whether it has anything to do with a request, looked at without the objects.
    pub(crate) fn may_match(&self, attributes: &Attributes<'_>) -> bool {
        let resource = attributes.resource;
        let matches = |rule: &super::rules::Rule| rule.matches(attributes, resource);
        self.rules.iter().any(matches) || (self.equivalent && self.rules.iter().any(|rule| rule.may_match(attributes)))
    }

    /// Whether it is to be asked about a request whose object is now `object`, but for its conditions.
    ///
    /// # Errors
    /// What keeps that from being known, of a request that its rules are about.
    pub(crate) fn target(
        &self,
        attributes: &Attributes<'_>,
        object: &Value,
        registry: &Registry,
    ) -> Result<Option<Target>, Status> {
        if !self.may_match(attributes) || !self.selects_object(attributes, object)? {
            return Ok(None);
        }
        let Some(target) = self.by_rules(attributes, registry)? else { return Ok(None) };
        Ok(self.selects_namespace(attributes, object, registry)?.then_some(target))
    }

    fn by_rules(&self, attributes: &Attributes<'_>, registry: &Registry) -> Result<Option<Target>, Status> {
        let resource = attributes.resource;
        if self.rules.iter().any(|rule| rule.matches(attributes, resource)) {
            return Ok(Some(Target::of(resource, attributes.subresource)));
        }
        if !self.equivalent || resource.storage_prefix.is_empty() {
            return Ok(None);
        }
        let equivalents = equivalents(registry, resource, attributes.subresource);
        // Earlier rules go first.
        let pairs = self.rules.iter().flat_map(|rule| equivalents.iter().map(move |served| (rule, served)));
        let found = pairs.into_iter().find(|(rule, served)| rule.matches(attributes, &served.info));
        let Some((_, there)) = found else { return Ok(None) };
        let mut target = Target::of(&there.info, attributes.subresource);
        let asked = Target::of(resource, attributes.subresource);
        if target.kind != asked.kind {
            let back = own(registry, resource).ok_or_else(|| no_way(resource))?;
            target.other = Some(Other { there: there.clone(), back });
        }
        Ok(Some(target))
    }

    /// Cluster-wide objects are in no namespace that could be left out; a namespace is its own.
    fn selects_namespace(
        &self,
        attributes: &Attributes<'_>,
        object: &Value,
        registry: &Registry,
    ) -> Result<bool, Status> {
        let namespaces = attributes.resource.plural == "namespaces";
        if attributes.namespace.is_empty() && !namespaces {
            return Ok(true);
        }
        let selector = self.namespaces.as_ref().map_err(Status::internal)?;
        if selector.is_everything() {
            return Ok(true);
        }
        let written = matches!(attributes.operation, Operation::Create | Operation::Update);
        if namespaces && attributes.subresource.is_empty() && written {
            return Ok(selector.matches_with(|label| label_of(object, label)));
        }
        let namespace = attributes
            .namespace_object(registry)?
            .ok_or_else(|| Status::not_found(&GroupResource::new("", "namespaces"), attributes.namespace))?;
        Ok(selector.matches_with(|label| label_of(namespace, label)))
    }

    /// The object as it will be, or as it was.
    fn selects_object(&self, attributes: &Attributes<'_>, object: &Value) -> Result<bool, Status> {
        let selector = self.objects.as_ref().map_err(Status::internal)?;
        if selector.is_everything() {
            return Ok(true);
        }
        let selects = |object: &Value| {
            has_labels(attributes.operation, object) && selector.matches_with(|label| label_of(object, label))
        };
        Ok(selects(object) || attributes.old.is_some_and(selects))
    }
}

fn label_of<'a>(object: &'a Value, label: &str) -> Option<&'a str> {
    object.at(&["metadata", "labels", label])?.as_str()
}

fn own(registry: &Registry, resource: &ResourceInfo) -> Option<Arc<Served>> {
    match registry.catalogue().get(&resource.group, &resource.version, &resource.plural)? {
        Entry::Stored(served) => Some(served.clone()),
        Entry::Answered(_) => None,
    }
}

/// The same objects in other versions and groups, as far as they have the subresource.
fn equivalents(registry: &Registry, resource: &ResourceInfo, subresource: &str) -> Vec<Arc<Served>> {
    let catalogue = registry.catalogue();
    let mut found = Vec::new();
    for group in catalogue.groups() {
        for version in &group.versions {
            let all = catalogue.resources(&group.name, version);
            let same = all.filter(|other| {
                other.storage_prefix == resource.storage_prefix
                    && (&other.group, &other.version) != (&resource.group, &resource.version)
                    && (subresource.is_empty() || other.subresource(subresource).is_some())
            });
            for other in same {
                if let Some(Entry::Stored(served)) = catalogue.get(&other.group, &other.version, &other.plural) {
                    found.push(served.clone());
                }
            }
        }
    }
    found
}

fn no_way(resource: &ResourceInfo) -> Status {
    Status::internal(format!("unable to convert to {}: unknown kind", resource.plural))
}

impl Target {
    fn of(resource: &ResourceInfo, subresource: &str) -> Self {
        let sub = resource.subresource(subresource);
        let (kind, schema) = match sub {
            Some(sub) => (sub.kind.clone(), sub.schema.clone()),
            None => (resource.own_kind(), Some(resource.schema.clone())),
        };
        Self {
            group: resource.group.clone(),
            version: resource.version.clone(),
            plural: resource.plural.clone(),
            kind,
            schema,
            other: None,
        }
    }

    /// An object of the request as the webhook sees it; null stays null.
    ///
    /// # Errors
    /// 500 when it cannot be converted.
    pub(crate) async fn shown(&self, object: &Value) -> Result<Value, Status> {
        converted(self.other.as_ref().map(|other| &other.there), object.clone()).await
    }

    /// An object as the webhook left it, as the client's version has it.
    ///
    /// # Errors
    /// 500 when it cannot be converted, or is no longer of its kind.
    pub(crate) async fn taken(&self, mut object: Value) -> Result<Value, Status> {
        self.check(&object)?;
        if let Some(schema) = &self.schema {
            schema.conform(&mut object, &mut Vec::new()).map_err(Status::internal)?;
        }
        self.default(&mut object);
        converted(self.other.as_ref().map(|other| &other.back), object).await
    }

    fn check(&self, object: &Value) -> Result<(), Status> {
        let wanted = GroupVersion::new(&self.kind.group, &self.kind.version).to_string();
        let (version, kind) = (object.text(&["apiVersion"]), object.text(&["kind"]));
        if kind.is_empty() {
            return Err(Status::internal(format!("Object 'Kind' is missing in '{object}'")));
        }
        if version == wanted && kind == self.kind.kind {
            return Ok(());
        }
        let short = |version: &str| version.rsplit('/').next().unwrap_or_default().to_owned();
        let (was, is) = (short(&wanted), short(version));
        Err(Status::internal(format!("converting ({is}.{kind}) to ({was}.{}): unknown conversion", self.kind.kind)))
    }

    fn default(&self, object: &mut Value) {
        match (&self.other, &self.schema) {
            (Some(other), _) => other.there.strategy.set_defaults(&other.there.info, object),
            (None, Some(schema)) => schema.default(object),
            (None, None) => {}
        }
    }
}

async fn converted(to: Option<&Arc<Served>>, object: Value) -> Result<Value, Status> {
    let mut object = [object];
    match to {
        Some(served) if !object[0].is_null() => {
            convert::shown(served, &mut object).await.map_err(|err| Status::internal(err.message))?;
        }
        _ => {}
    }
    let [object] = object;
    Ok(object)
}

#[cfg(test)]
#[path = "target_tests.rs"]
mod tests;
