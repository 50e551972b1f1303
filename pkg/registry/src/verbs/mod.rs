//! Create, update, patch and delete, the same for every kind.

mod create;
mod delete;
mod update;

pub use create::create;
pub use delete::{DeleteOptions, Deleted, delete};
pub use update::{Transform, UpdateOptions, update};

use kedge_meta::{GroupResource, Status, UserInfo};
use kedge_storage as storage;
use serde_json::Value;

use crate::attributes::Admission;
use crate::registry::{Registry, Served};
use crate::strategy::Context;

/// The request that a verb serves.
pub struct Request<'a> {
    pub registry: &'a Registry,
    pub served: &'a Served,
    pub admission: &'a dyn Admission,
    pub user: &'a UserInfo,
    pub namespace: &'a str,
    pub name: &'a str,
    pub subresource: &'a str,
    pub dry_run: bool,
}

/// A written object and what the client should be told beside it.
#[derive(Debug)]
pub struct Written {
    pub object: Value,
    pub created: bool,
    pub warnings: Vec<String>,
}

impl<'a> Request<'a> {
    pub(crate) fn context(&self) -> Context<'a> {
        Context {
            registry: self.registry,
            resource: self.served.info,
            subresource: self.subresource,
            now: self.registry.clock.now(),
            user: self.user,
            dry_run: self.dry_run,
        }
    }

    pub(crate) fn group_resource(&self) -> GroupResource {
        self.served.group_resource()
    }

    /// What the store says, as the client is told.
    pub(crate) fn storage_error(&self, name: &str, err: storage::Error) -> Status {
        let resource = self.group_resource();
        match err {
            storage::Error::NotFound => Status::not_found(&resource, name),
            storage::Error::Exists => Status::already_exists(&resource, name),
            storage::Error::Conflict(_) => Status::stale(&resource, name),
            storage::Error::TooOld { .. } => Status::expired(err.to_string()),
            storage::Error::Future { .. } => Status::timeout(err.to_string(), 1),
            storage::Error::Kv(ref kv) if matches!(kv, kedge_kv::Error::TooLarge { .. }) => {
                Status::too_large(kv.to_string())
            }
            other => Status::internal(other),
        }
    }

    /// When an object of a kind that goes by itself goes, in seconds since 1970.
    pub(crate) fn expires(&self) -> Option<u64> {
        let now = u64::try_from(self.registry.clock.now().as_second()).unwrap_or_default();
        self.served.strategy.time_to_live().map(|ttl| now + ttl)
    }

    /// Brings an object into the form in which it is stored and shown.
    pub(crate) fn normalize(&self, value: &mut Value) {
        if let Some(ty) = self.served.type_id() {
            kedge_schema::normalize(ty, value);
        }
    }

    /// The stored form of an object of the served version.
    pub(crate) fn stored_form(&self, value: &Value) -> Value {
        let mut value = value.clone();
        if self.served.needs_conversion() {
            crate::convert::to_storage(self.served.info, &mut value);
        }
        value
    }
}
