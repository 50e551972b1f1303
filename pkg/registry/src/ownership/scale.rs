//! Who owns the replicas of an object, as its scale shows them and is written.

use kedge_base::time;
use kedge_fields::{
    ApplyError, EntryError, FieldManager, Resets, entries, put_entries, take_entries, to_parent, to_scale,
};
use kedge_meta::Status;
use kedge_schema::SchemaRef;
use serde_json::Value;

use super::refusal;
use super::versions::{OneVersion, ServedVersions};
use crate::verbs::Request;

const VERSION: &str = "autoscaling/v1";
const KIND: &str = "Scale";

/// Keeps the owners of an object's replicas while its scale is written.
pub struct ScaleOwners<'a> {
    request: &'a Request<'a>,
    schema: SchemaRef,
    now: String,
}

/// For the scale of a request's resource.
///
/// # Errors
/// When there are no scales.
pub fn scale_owners<'a>(request: &'a Request<'a>) -> Result<ScaleOwners<'a>, Status> {
    let schema = SchemaRef::builtin_kind("autoscaling", "v1", KIND).ok_or_else(Status::unknown_path)?;
    Ok(ScaleOwners { request, schema, now: time::rfc3339(request.registry.clock.now()) })
}

impl ScaleOwners<'_> {
    fn with_manager<T>(&self, work: impl FnOnce(&FieldManager<'_>) -> T) -> T {
        let versions = OneVersion { api_version: VERSION, schema: &self.schema };
        work(&FieldManager {
            api_version: VERSION,
            kind: KIND,
            subresource: "scale",
            schema: &self.schema,
            resets: Resets::All(&[]),
            versions: &versions,
            now: &self.now,
        })
    }

    fn replicas(&self) -> impl Fn(&str) -> Option<Vec<String>> + use<> {
        let versions = ServedVersions::of(self.request).scales();
        move |version| versions.iter().find(|(name, _)| name == version).map(|(_, path)| path.clone())
    }

    /// Notes in the scale of an object who owns its replicas.
    ///
    /// # Errors
    /// 500 when the owners of the object make no sense.
    pub fn show(&self, object: &Value, scale: &mut Value) -> Result<(), Status> {
        take_entries(scale);
        if let Some(list) = to_scale(entries(object), &self.replicas()).map_err(unreadable)? {
            put_entries(scale, list);
        }
        Ok(())
    }

    /// The manager comes to own what the written scale changes.
    pub fn written(&self, live: &Value, new: &mut Value, manager: &str) {
        self.with_manager(|fields| fields.update(Some(live), new, manager));
    }

    /// What a configuration makes of a scale.
    ///
    /// # Errors
    /// As [`super::apply`].
    pub fn apply(&self, live: &Value, applied: &Value, manager: &str, force: bool) -> Result<Value, Status> {
        self.with_manager(|fields| fields.apply(Some(live), applied, manager, force)).map_err(refusal)
    }

    /// Takes the owners of a scale over into its object.
    ///
    /// # Errors
    /// 500 when they make no sense.
    pub fn settle(&self, scale: &Value, object: &mut Value) -> Result<(), Status> {
        let own = self.request.served.info.api_version();
        let parent = take_entries(object);
        if let Some(list) = to_parent(parent.as_ref(), entries(scale), &own, &self.replicas()).map_err(unreadable)? {
            put_entries(object, list);
        }
        Ok(())
    }
}

fn unreadable(err: EntryError) -> Status {
    refusal(ApplyError::Failed(err.to_string()))
}
