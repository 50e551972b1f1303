//! What somebody sees of a request: its rules may name another version of the resource.

use std::sync::Arc;

use kedge_meta::{GroupVersion, Status, Text};
use kedge_registry::value::ValueExt as _;
use kedge_registry::{Entry, Registry, Served, convert};
use kedge_schema::{KindInfo, Kinds as _, ResourceInfo, SchemaRef};
use serde_json::Value;

/// What is seen of a request: the resource and the kind of its objects.
#[derive(Clone)]
pub(crate) struct Target {
    pub group: Text,
    pub version: Text,
    pub plural: Text,
    pub kind: KindInfo,
    pub schema: Option<SchemaRef>,
    /// Where that is another version than the client asked for: how one comes there, and back.
    other: Option<Other>,
}

#[derive(Clone)]
struct Other {
    there: Arc<Served>,
    back: Arc<Served>,
}

fn own(registry: &Registry, resource: &ResourceInfo) -> Option<Arc<Served>> {
    match registry.catalogue().get(&resource.group, &resource.version, &resource.plural)? {
        Entry::Stored(served) => Some(served.clone()),
        Entry::Answered(_) => None,
    }
}

/// The same objects in other versions and groups, as far as they have the subresource.
pub(super) fn equivalents(registry: &Registry, resource: &ResourceInfo, subresource: &str) -> Vec<Arc<Served>> {
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
    /// A resource of another version than the one that was asked for.
    ///
    /// # Errors
    /// When there is no way back.
    pub(super) fn equivalent(
        registry: &Registry,
        there: &Arc<Served>,
        resource: &ResourceInfo,
        subresource: &str,
    ) -> Result<Self, Status> {
        let mut target = Self::of(&there.info, subresource);
        if target.kind != Self::of(resource, subresource).kind {
            let back = own(registry, resource).ok_or_else(|| no_way(resource))?;
            target.other = Some(Other { there: there.clone(), back });
        }
        Ok(target)
    }

    pub(super) fn of(resource: &ResourceInfo, subresource: &str) -> Self {
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

    /// An object of the request as it is seen; null stays null.
    ///
    /// # Errors
    /// 500 when it cannot be converted.
    pub(crate) async fn shown(&self, object: &Value) -> Result<Value, Status> {
        converted(self.other.as_ref().map(|other| &other.there), object.clone()).await
    }

    /// An object as somebody left it, as the client's version has it.
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

    /// Whether objects are seen in another version than they were sent in.
    #[cfg(test)]
    pub(super) fn is_converted(&self) -> bool {
        self.other.is_some()
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
