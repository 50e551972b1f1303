//! Create, update, patch and delete, the same for every kind.

mod create;
mod delete;
mod update;

pub use crate::metadata::check_name;
pub use crate::ownership::{ScaleOwners, Writer, answered, apply, scale_owners};
pub use create::create;
pub use delete::{DeleteOptions, Deleted, Preconditions, check_options, delete, delete_in_collection};
pub use update::{Transform, UpdateOptions, View, update};

use std::borrow::Cow;
use std::time::Duration;

use kedge_meta::{GroupKind, GroupResource, Status, UserInfo};
use kedge_storage::{self as storage, With};
use serde_json::Value;

use crate::attributes::{Admission, Attributes, Operation, Options, WriteOptions};
use crate::convert;
pub use crate::convert::Later;
use crate::notes::Notes;
use crate::registry::Registry;
use crate::served::Served;
use crate::strategy::{Context, Reservation};
use crate::value::ValueExt as _;

/// The request that a verb serves.
#[derive(Clone)]
pub struct Request<'a> {
    pub registry: &'a Registry,
    pub served: &'a Served,
    pub admission: &'a dyn Admission,
    pub user: &'a UserInfo,
    pub namespace: &'a str,
    pub name: &'a str,
    pub subresource: &'a str,
    pub dry_run: bool,
    /// What the client says of the write itself, for admission.
    pub options: WriteOptions<'a>,
    /// Who comes to own what the write changes.
    pub writer: Writer<'a>,
    /// Conversions that had to be waited for.
    pub later: Later,
    /// What is said about the request beside its answer.
    pub notes: Notes,
}

/// A written object. What the client is to be warned of is in the notes of its request.
#[derive(Debug)]
pub struct Written {
    pub object: Value,
    pub created: bool,
}

impl<'a> Request<'a> {
    /// What admission sees of it, but for the objects.
    pub(crate) fn attributes(&self, operation: Operation) -> Attributes<'a> {
        let info = &self.served.info;
        let mut attributes = Attributes::new(operation, info, self.user);
        (attributes.subresource, attributes.name) = (self.subresource, self.name);
        let itself = self.namespace.is_empty() && self.served.is("", "namespaces");
        attributes.namespace = if itself { self.name } else { self.namespace };
        attributes.options = Options::Write(self.options);
        attributes.dry_run = self.dry_run;
        attributes.notes = self.notes.clone();
        attributes
    }

    pub(crate) fn context(&self) -> Context<'a> {
        Context {
            registry: self.registry,
            resource: &self.served.info,
            subresource: self.subresource,
            now: self.registry.clock.now(),
            user: self.user,
            dry_run: self.dry_run,
            notes: self.notes.clone(),
        }
    }

    /// Fills in what a client left out.
    pub(crate) fn set_defaults(&self, object: &mut Value) {
        self.served.strategy.set_defaults(&self.served.info, object);
    }

    pub(crate) fn group_resource(&self) -> GroupResource {
        self.served.group_resource()
    }

    /// The kind, as errors about objects name it: events have the one of their first group.
    pub(crate) fn group_kind(&self) -> GroupKind {
        let info = &self.served.info;
        let group = if info.group == "events.k8s.io" { "" } else { &info.group };
        GroupKind::new(group, &info.kind)
    }

    /// What the store says, as the client is told.
    pub(crate) fn storage_error(&self, name: &str, err: storage::Error) -> Status {
        let resource = self.group_resource();
        match err {
            storage::Error::NotFound => Status::not_found(&resource, name),
            storage::Error::Exists => Status::already_exists(&resource, name),
            storage::Error::Conflict(_) => Status::stale(&resource, name),
            storage::Error::TooOld { .. } => Status::expired(err.to_string()),
            storage::Error::Future { .. } => Status::too_large_version(err.to_string()),
            // It is stored elsewhere by now, or will be in a moment.
            storage::Error::Removed if self.registry.serves(&self.served.info) => {
                Status::timeout("the resource is being changed", 1)
            }
            other => store_failure(other),
        }
    }

    /// What goes with the write that makes `new` of `old`: no `old` when it creates, no `new` when it deletes.
    pub(crate) fn with(&self, reservation: &mut Reservation, old: Option<&Value>, new: Option<&Value>) -> With {
        let strategy = &self.served.strategy;
        let ttl = strategy.time_to_live().map(Duration::from_secs);
        With { ttl, durability: strategy.durability(old, new), ..reservation.take_keys() }
    }

    /// What goes with the deletion of an object.
    pub(crate) fn with_deletion(&self, old: &Value) -> With {
        let strategy = &self.served.strategy;
        let durability = strategy.durability(Some(old), None);
        With { durability, ..strategy.releases(self.registry, old).take_keys() }
    }

    /// Brings an object into the form in which it is stored and shown.
    pub(crate) fn normalize(&self, value: &mut Value) {
        self.served.info.schema.normalize(value);
    }

    /// The stored form of an object of the served version.
    ///
    /// # Errors
    /// When it cannot be converted.
    pub(crate) async fn stored_form<'v>(&self, value: &'v Value) -> Result<Cow<'v, Value>, Status> {
        if self.served.is_stored_version() {
            return Ok(Cow::Borrowed(value));
        }
        let mut value = value.clone();
        convert::to_storage(self.served, &mut value).await?;
        Ok(Cow::Owned(value))
    }

    /// An object that has just been stored, as the client is shown it.
    pub(crate) async fn shown(&self, mut object: Value, stored: &storage::Object) -> Result<Value, Status> {
        if !self.served.is_stored_version() {
            return convert::read_later(self.served, stored).await;
        }
        object.entry("metadata").insert("resourceVersion".into(), stored.revision.to_string().into());
        Ok(object)
    }
}

/// Whether it is a namespace, which has finalizers of its own: other groups may have kinds of that name.
pub(crate) fn is_namespace(object: &Value) -> bool {
    object["kind"] == "Namespace" && object["apiVersion"] == "v1"
}

/// A failure of the store itself, as a client is told: what may pass is to be tried again.
pub fn store_failure(err: storage::Error) -> Status {
    match &err {
        storage::Error::TooOld { .. } => Status::expired(err.to_string()),
        storage::Error::Future { .. } => Status::too_large_version(err.to_string()),
        storage::Error::Removed => Status::unknown_path(),
        // Others were faster each time.
        storage::Error::Behind { .. } | storage::Error::Outdated(_) | storage::Error::Claimed(_) => {
            Status::timeout(err.to_string(), 1)
        }
        storage::Error::Kv(kv) => match kv {
            kedge_kv::Error::TooLarge { .. } => Status::too_large(kv.to_string()),
            // Only what claims addresses and ports takes more than an operation.
            kedge_kv::Error::TooManyOps { limit, .. } => Status::too_large(format!(
                "the object claims too many addresses and ports at once: with itself it may take {limit} at most; add them in steps"
            )),
            kedge_kv::Error::NoSpace(_) => Status::insufficient_storage(kv.to_string()),
            kv if kv.is_retriable() => Status::timeout(kv.to_string(), 1),
            kedge_kv::Error::Closed(_) => Status::timeout(kv.to_string(), 1),
            _ => Status::internal(err),
        },
        _ => Status::internal(err),
    }
}
