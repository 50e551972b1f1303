//! The versions in which a resource is served, for owners of fields of another one.

use std::sync::Arc;

use kedge_fields::Versions;
use kedge_meta::GroupVersion;
use kedge_schema::{Kinds, ResourceInfo, SchemaRef};
use serde_json::Value;

use crate::catalogue::{Catalogue, Entry};
use crate::served::ScalePaths;
use crate::verbs::Request;

pub(super) struct ServedVersions<'a> {
    request: &'a Request<'a>,
    own: &'a ResourceInfo,
    catalogue: Arc<Catalogue>,
}

impl<'a> ServedVersions<'a> {
    pub(super) fn of(request: &'a Request<'a>) -> Self {
        Self { request, own: &request.served.info, catalogue: request.registry.catalogue() }
    }

    /// All of them, each with the fields that lead to its replicas.
    pub(super) fn scales(&self) -> Vec<(String, Vec<String>)> {
        let groups = Kinds::groups(&*self.catalogue);
        let versions = groups.flat_map(|group| group.versions.iter().map(move |version| (&group.name, version)));
        let names = versions.map(|(group, version)| GroupVersion::new(group, version).to_string());
        names.filter_map(|name| self.replicas(&name).map(|path| (name, path))).collect()
    }

    fn replicas(&self, api_version: &str) -> Option<Vec<String>> {
        let info = self.info(api_version)?;
        let path = match self.catalogue.get(&info.group, &info.version, &info.plural) {
            Some(Entry::Stored(served)) => served.custom.as_ref().and_then(|custom| custom.scale.as_ref()),
            _ => None,
        };
        let path = path.map_or(".spec.replicas", |scale| &scale.spec_replicas);
        Some(ScalePaths::steps(path).map(str::to_owned).collect())
    }

    fn info(&self, api_version: &str) -> Option<&ResourceInfo> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        if (group, version) == (&*self.own.group, &*self.own.version) {
            return Some(self.own);
        }
        let info = self.catalogue.get(group, version, &self.own.plural)?.info();
        (info.storage_prefix == self.own.storage_prefix).then_some(info)
    }
}

impl Versions for ServedVersions<'_> {
    fn schema(&self, api_version: &str) -> Option<&SchemaRef> {
        self.info(api_version).map(|info| &info.schema)
    }

    fn convert(&self, object: &Value, from: &str, to: &str) -> Result<Value, String> {
        if from == to {
            return Ok(object.clone());
        }
        let unknown = |version: &str| format!("{} is not served in version {version:?}", self.own.kind);
        self.info(from).ok_or_else(|| unknown(from))?;
        let info = self.info(to).ok_or_else(|| unknown(to))?;
        let mut object = self.request.later.convert(&self.request.served.conversion, object, to)?;
        info.schema.normalize(&mut object);
        Ok(object)
    }
}

/// The one version of a kind that is not stored.
pub(super) struct OneVersion<'a> {
    pub(super) api_version: &'a str,
    pub(super) schema: &'a SchemaRef,
}

impl Versions for OneVersion<'_> {
    fn schema(&self, api_version: &str) -> Option<&SchemaRef> {
        (api_version == self.api_version).then_some(self.schema)
    }

    fn convert(&self, object: &Value, _: &str, to: &str) -> Result<Value, String> {
        if to == self.api_version { Ok(object.clone()) } else { Err(format!("there is no version {to:?}")) }
    }
}
