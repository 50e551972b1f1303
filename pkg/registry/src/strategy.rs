//! What a kind adds to the verbs.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use kedge_meta::field::ErrorList;
use kedge_meta::{Status, names};
use kedge_schema::ResourceInfo;
use kedge_storage::{Amend, Durability, With};
use serde_json::{Value, json};

use crate::notes::Notes;
use crate::registry::Registry;
use crate::value::ValueExt;

/// The surroundings of a write.
pub struct Context<'a> {
    pub registry: &'a Registry,
    pub resource: &'a ResourceInfo,
    /// Empty for the object itself.
    pub subresource: &'a str,
    pub now: Timestamp,
    pub user: &'a kedge_meta::UserInfo,
    pub dry_run: bool,
    /// For what the client is to be told beside the answer.
    pub notes: Notes,
}

/// Something taken for an object (an address, a port) before it is stored. `settle(true)` keeps it, `settle(false)` or
/// a drop gives it back. What other servers must not take either is claimed in the transaction that stores the object.
#[derive(Default)]
pub struct Reservation {
    /// Keys that must be free and are taken when the object is stored, with their values.
    pub claims: Vec<(String, Bytes)>,
    /// Keys that are given back then.
    pub releases: Vec<String>,
    /// Keys whose last change must still be of these revisions then.
    pub unchanged: Vec<(String, u64)>,
    /// What becomes of a value that other programs change, too.
    pub amend: Option<Arc<dyn Amend>>,
    settle: Option<Box<dyn FnOnce(bool) + Send>>,
}

impl Reservation {
    /// Nothing was taken.
    pub fn none() -> Self {
        Self::default()
    }

    /// `settle` is called once: with true when the object was stored.
    pub fn new(settle: impl FnOnce(bool) + Send + 'static) -> Self {
        let mut reservation = Self::none();
        reservation.settle = Some(Box::new(settle));
        reservation
    }

    /// What of it goes into the transaction that stores the object.
    pub(crate) fn take_keys(&mut self) -> With {
        With {
            claims: std::mem::take(&mut self.claims),
            releases: std::mem::take(&mut self.releases),
            unchanged: std::mem::take(&mut self.unchanged),
            amend: self.amend.take(),
            ..With::default()
        }
    }

    /// The object was stored, or not.
    pub fn settle(mut self, stored: bool) {
        if let Some(settle) = self.settle.take() {
            settle(stored);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(settle) = self.settle.take() {
            settle(false);
        }
    }
}

/// Something that is waited for.
pub type Look<'a> = Pin<Box<dyn Future<Output = Result<(), Status>> + Send + 'a>>;

/// A kind's part in the verbs. All methods see objects with defaults applied, in the served version.
pub trait Strategy: Send + Sync {
    /// The rule for names; `prefix` says that it is a `generateName`, which may end in a dash.
    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        names::is_dns1123_subdomain(&masked(name, prefix))
    }

    /// What is wrong with the name, or the base of one, of an object; for most kinds only what the rule says.
    fn validate_name_of(&self, _object: &Value, name: &str, prefix: bool) -> Vec<String> {
        self.validate_name(name, prefix)
    }

    /// Whether the store counts `metadata.generation` on changes of anything but metadata and status.
    fn has_generation(&self, resource: &ResourceInfo) -> bool {
        resource.subresource("status").is_some()
    }

    /// Whether changes are counted; most kinds count from the creation on or not at all.
    fn counts_changes(&self, resource: &ResourceInfo) -> bool {
        self.has_generation(resource)
    }

    /// Fields of the metadata whose change counts as one of what is wanted.
    fn counted_metadata(&self) -> &'static [&'static str] {
        &[]
    }

    /// Whether PUT on a name that does not exist creates it.
    fn allow_create_on_update(&self) -> bool {
        false
    }

    /// Whether an update may leave out `resourceVersion`.
    fn allow_unconditional_update(&self) -> bool {
        true
    }

    /// Whether a creator may set the status: nodes register with theirs.
    fn keeps_status_on_create(&self) -> bool {
        false
    }

    /// Fills in what a client left out; by default what the schema says.
    fn set_defaults(&self, resource: &ResourceInfo, object: &mut Value) {
        resource.schema.default(object);
    }

    /// Removes what a creator may not set.
    fn prepare_for_create(&self, _ctx: &Context<'_>, _object: &mut Value) {}

    /// Puts back what an updater may not change. For the subresource `status`, what is not status has been put back.
    fn prepare_for_update(&self, _ctx: &Context<'_>, _new: &mut Value, _old: &Value) {}

    /// Whether who writes the status may change all of metadata with it, finalizers as well.
    fn keeps_metadata_on_status(&self) -> bool {
        false
    }

    /// What is wrong with a new object.
    fn validate(&self, _ctx: &Context<'_>, _object: &Value) -> ErrorList {
        ErrorList::new()
    }

    /// What is wrong with a change; by default what would be wrong with it as a new object.
    fn validate_update(&self, ctx: &Context<'_>, new: &Value, _old: &Value) -> ErrorList {
        self.validate(ctx, new)
    }

    /// What is wrong with a change of status.
    fn validate_status_update(&self, _ctx: &Context<'_>, _new: &Value, _old: &Value) -> ErrorList {
        ErrorList::new()
    }

    /// Warnings for who creates or changes it; by default what upstream says of its kind.
    fn warnings(&self, ctx: &Context<'_>, new: &Value, old: Option<&Value>) -> Vec<String> {
        crate::strategies::warnings::of(ctx, new, old)
    }

    /// What of the store is looked at before [`Strategy::reserve`] beside the caches.
    fn look<'a>(&self, _ctx: &'a Context<'_>, _new: &Value) -> Option<Look<'a>> {
        None
    }

    /// Takes what the object needs from the cluster (addresses, ports) and writes it into the object.
    ///
    /// # Errors
    /// The refusal.
    fn reserve(&self, _ctx: &Context<'_>, _new: &mut Value, _old: Option<&Value>) -> Result<Reservation, Status> {
        Ok(Reservation::none())
    }

    /// Marks the object the first time that it is deleted, in the kind's own way; whether it has one. It waits then.
    fn mark_first(&self, _object: &mut Value, _now: &str) -> bool {
        false
    }

    /// The object has just been marked for deletion and waits.
    fn mark_deleted(&self, _object: &mut Value) {}

    /// What is given back when the object goes.
    fn releases(&self, _registry: &Registry, _object: &Value) -> Reservation {
        Reservation::none()
    }

    /// The grace period of a delete: none for kinds that go at once. `requested` is what the client asked for.
    fn grace_period(&self, _object: &Value, _requested: Option<i64>) -> Option<i64> {
        None
    }

    /// Whether others may belong to objects of the kind: to those of the rest, what a delete says of dependents means nothing.
    fn has_dependents(&self) -> bool {
        true
    }

    /// What who deletes without a word on dependents is warned of.
    fn warning_of_deletion(&self) -> Option<&'static str> {
        None
    }

    /// Whether dependents are left alone when a delete does not say what to do with them.
    fn orphans_by_default(&self) -> bool {
        false
    }

    /// Seconds that objects are kept; events go by themselves.
    fn time_to_live(&self) -> Option<u64> {
        None
    }

    /// What the acknowledgement of a write promises: less for what is written all the time and soon stale, to spare flash.
    /// There is no `old` when it creates, and no `new` when it deletes.
    fn durability(&self, _old: Option<&Value>, _new: Option<&Value>) -> Durability {
        Durability::Synced
    }
}

/// A kind without rules of its own.
pub struct Plain;

impl Strategy for Plain {}

/// A prefix that ends in a dash is judged as if something followed.
pub fn masked(name: &str, prefix: bool) -> String {
    match name.strip_suffix('-') {
        Some(head) if prefix && !head.is_empty() => format!("{head}a"),
        _ => name.to_owned(),
    }
}

/// For `status` writes: everything but the status is as it was.
pub(crate) fn keep_all_but_status(new: &mut Value, old: &Value) {
    let status = new.get("status").cloned();
    let written = new.get("metadata").cloned().unwrap_or(json!({}));
    *new = old.clone();
    new.set_or_remove("status", status);
    // The version is the writer's, so that a stale write is noticed; finalizers and owners are not status.
    if let Some(version) = written.get("resourceVersion").cloned() {
        new["metadata"].set("resourceVersion", version);
    }
    for field in ["labels", "annotations", "managedFields"] {
        let value = written.get(field).cloned();
        new["metadata"].set_or_remove(field, value);
    }
}
