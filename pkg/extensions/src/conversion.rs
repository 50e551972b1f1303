//! How the versions of a custom resource become each other.

use std::sync::Arc;

use kedge_meta::{GroupVersion, Status, Text};
use kedge_registry::convert::{Conversed, Conversion};
use kedge_schema::structural::Structural;
use serde_json::Value;

use crate::definition::Crd;

/// The conversion that a definition asks for.
pub(crate) fn of(crd: &Crd, schemas: &[(Text, Arc<Structural>)]) -> Arc<dyn Conversion> {
    let version = |(name, schema): &(Text, Arc<Structural>)| {
        (GroupVersion::new(&crd.spec.group, name).to_string(), schema.clone())
    };
    Arc::new(Renamed(schemas.iter().map(version).collect()))
}

/// Versions have other names, and each knows its own fields.
struct Renamed(Vec<(String, Arc<Structural>)>);

impl Conversion for Renamed {
    fn convert<'a>(&'a self, objects: &'a mut [Value], to: &'a str) -> Conversed<'a> {
        let schema = self.0.iter().find(|(version, _)| version == to).map(|(_, schema)| schema);
        for object in objects {
            if object["apiVersion"] == to {
                continue;
            }
            object["apiVersion"] = to.into();
            if let Some(Err(err)) = schema.map(|schema| schema.prune(object, &mut Vec::new())) {
                return Conversed::Done(Err(Status::internal(err.message)));
            }
        }
        Conversed::Done(Ok(()))
    }
}
