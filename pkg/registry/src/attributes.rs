//! What admission sees of a request.

use async_trait::async_trait;
use kedge_meta::{Status, UserInfo};
use kedge_schema::ResourceInfo;
use serde_json::Value;

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

/// A request on its way through admission.
pub struct Attributes<'a> {
    pub operation: Operation,
    pub resource: &'a ResourceInfo,
    /// Empty for the object itself.
    pub subresource: &'a str,
    pub namespace: &'a str,
    /// Empty when the name is still to be generated.
    pub name: &'a str,
    /// The new object; null for a delete.
    pub object: Value,
    pub old: Option<&'a Value>,
    pub user: &'a UserInfo,
    pub dry_run: bool,
    /// Warnings for the client, collected on the way.
    pub warnings: Vec<String>,
}

/// The admission chain.
#[async_trait]
pub trait Admission: Send + Sync {
    /// May change the object.
    ///
    /// # Errors
    /// The refusal.
    async fn admit(&self, attributes: &mut Attributes<'_>) -> Result<(), Status>;

    /// Sees the object as it will be stored.
    ///
    /// # Errors
    /// The refusal.
    async fn validate(&self, attributes: &Attributes<'_>) -> Result<(), Status>;
}

/// Admits everything.
pub struct NoAdmission;

#[async_trait]
impl Admission for NoAdmission {
    async fn admit(&self, _: &mut Attributes<'_>) -> Result<(), Status> {
        Ok(())
    }

    async fn validate(&self, _: &Attributes<'_>) -> Result<(), Status> {
        Ok(())
    }
}
