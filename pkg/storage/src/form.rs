//! What the objects of a resource are stored as, and as what other versions in the store are read.

use bytes::Bytes;
use kedge_meta::{GroupVersion, Text};
use kedge_schema::{ResourceInfo, SchemaRef, TypeId, former};
use serde_json::Value;

use crate::object::{self, Object};

/// Versions of built-in kinds that are served, and have other fields than the one that is stored for them.
const CONVERTED: [&str; 2] = ["autoscaling/v1", "events.k8s.io/v1"];

/// The kind of a cache's objects, and the version that they are stored in.
#[derive(Debug)]
pub struct StoredForm {
    pub api_version: Text,
    pub kind: Text,
    /// Their type, when it is a built-in one.
    pub schema: Option<TypeId>,
    /// Whether it is a kind of Kubernetes itself, of which there have been versions that are served no more.
    pub built_in: bool,
    /// Other versions of which the store may hold objects.
    pub others: Box<[OtherVersion]>,
    /// What they begin with, and what they began with when they were sorted.
    heads: [Box<[u8]>; 2],
    shape: Option<Shape>,
}

/// A schema that became another while there were objects: those from before lack what it fills in by now, and have what it does not know.
#[derive(Debug)]
struct Shape {
    schema: SchemaRef,
    /// Whatever was written later was written as the schema says.
    until: u64,
}

/// A version that objects may say to be of, beside the one that is stored.
#[derive(Debug, Clone)]
pub struct OtherVersion {
    pub api_version: Text,
    /// Its type, when it is a built-in one.
    pub schema: Option<TypeId>,
    /// Whether its objects are read, as they are: those of a version that has other fields, and is not converted when it is read, are
    /// not, since shown as what is stored, they would lose fields with the next update.
    pub same: bool,
}

impl StoredForm {
    pub fn new(
        api_version: Text,
        kind: Text,
        schema: Option<TypeId>,
        built_in: bool,
        others: impl IntoIterator<Item = OtherVersion>,
    ) -> Self {
        let heads = [schema, None].map(|ty| object::head(ty, &api_version, &kind).into());
        Self { api_version, kind, schema, built_in, others: others.into_iter().collect(), heads, shape: None }
    }

    /// Objects that were last written up to the revision `until` are read as if they were written with `schema`.
    pub fn shaped(mut self, schema: SchemaRef, until: u64) -> Self {
        self.shape = Some(Shape { schema, until });
        self
    }

    /// An object in our own form as the schema of today has it, if that is another than it was written with.
    pub(crate) fn reshape(&self, json: &Bytes, revision: u64) -> Option<Bytes> {
        let shape = self.shape.as_ref().filter(|shape| revision <= shape.until)?;
        let mut value: Value = serde_json::from_slice(json).ok().filter(|_| self.begins(json))?;
        // What has metadata of a wrong form is shown as it is.
        shape.schema.conform(&mut value, &mut Vec::new()).ok()?;
        shape.schema.default(&mut value);
        Object::encode(self.schema, &value).ok().filter(|shaped| shaped != json)
    }

    /// Of a built-in resource: one form for all its versions.
    pub fn built_in(info: &ResourceInfo) -> Self {
        let stored = GroupVersion::new(&info.storage_group, &info.storage_version).to_string();
        // A version that is stored but not served has the fields of the one that is.
        let schema = kedge_schema::kind(&info.storage_group, &info.storage_version, &info.kind);
        let schema = schema.or_else(|| info.schema.builtin());
        let all = kedge_schema::resources().iter().chain(kedge_schema::optional_resources());
        let served = all.filter(|r| r.storage_prefix == info.storage_prefix);
        let others: Vec<OtherVersion> = served
            .map(|r| (r.api_version(), r.schema.builtin()))
            .filter(|(api_version, _)| *api_version != stored)
            .map(|(api_version, schema)| {
                let same = !CONVERTED.contains(&&*api_version);
                OtherVersion { api_version: api_version.into(), schema, same }
            })
            .collect();
        Self::new(stored.into(), info.kind.clone(), schema, true, others)
    }

    /// An object of the stored version that is about to be written, as the schema of today has it, if that is another than it was made with.
    pub(crate) fn in_shape(&self, value: &Value) -> Option<Value> {
        let shape = self.shape.as_ref().filter(|_| value["apiVersion"] == *self.api_version)?;
        let mut shaped = value.clone();
        shape.schema.conform(&mut shaped, &mut Vec::new()).ok()?;
        shape.schema.default(&mut shaped);
        (shaped != *value).then_some(shaped)
    }

    /// Whether an object in our own form is of the version that is stored.
    pub(crate) fn begins(&self, json: &[u8]) -> bool {
        self.heads.iter().any(|head| json.starts_with(head))
    }

    /// Whether there is such a version of the kind, or was.
    pub(crate) fn knows(&self, api_version: &str) -> bool {
        self.api_version == *api_version
            || self.others.iter().any(|other| other.api_version == *api_version)
            || self.former(api_version).is_some()
    }

    /// The type of a version of which objects are read, if that is known: those of Kubernetes itself have one. None when
    /// objects of that version are not read.
    pub(crate) fn reads(&self, api_version: &str) -> Option<Option<TypeId>> {
        if self.api_version == *api_version {
            return Some(self.schema);
        }
        let other = self.others.iter().find(|other| other.api_version == *api_version);
        match other {
            Some(other) => other.same.then_some(other.schema),
            None => self.former(api_version),
        }
    }

    /// The type of the stored version, when objects of a version that once was are read as that.
    fn former(&self, api_version: &str) -> Option<Option<TypeId>> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        (self.built_in && former::successor(group, version, &self.kind).is_some()).then_some(self.schema)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn form(prefix: &str) -> StoredForm {
        StoredForm::built_in(kedge_schema::resources().iter().find(|r| r.storage_prefix == prefix).unwrap())
    }

    #[test]
    fn versions_are_read_when_they_have_the_stored_fields() {
        let events = form("events");
        assert_eq!((&*events.api_version, &*events.kind), ("v1", "Event"));
        assert!(events.reads("v1").unwrap().is_some() && events.reads("events.k8s.io/v1").is_none());
        assert!(events.knows("events.k8s.io/v1") && !events.knows("events.k8s.io/v1beta1"));
        let policies = form("mutatingadmissionpolicies");
        let newer = policies.reads("admissionregistration.k8s.io/v1").unwrap();
        assert!(newer.is_some() && newer == policies.schema);
        let classes = form("priorityclasses");
        assert_eq!(classes.reads("scheduling.k8s.io/v1beta1"), Some(classes.schema));
        assert!(!classes.knows("scheduling.k8s.io/v2"));
    }

    #[test]
    fn every_stored_resource_has_one_form_in_all_its_versions() {
        for info in kedge_schema::resources().iter().filter(|r| r.is_stored()) {
            let (one, first) = (StoredForm::built_in(info), form(&info.storage_prefix));
            assert!(one.schema.is_some(), "{}", info.plural);
            assert_eq!((&one.api_version, &one.kind, one.schema), (&first.api_version, &first.kind, first.schema));
            assert_eq!(one.others.len(), first.others.len());
        }
    }
}
