//! Admission of what is created without being stored: evictions, tokens, bindings.

use kedge_meta::{Status, UserInfo};
use kedge_registry::{Attributes, Operation};
use kedge_schema::ResourceInfo;
use serde_json::Value;

use crate::chain::Admitted;
use crate::server::ApiServer;

/// Who the server is when it writes on its own account.
pub(crate) fn api_server() -> UserInfo {
    UserInfo::new("system:apiserver", &[kedge_auth::MASTERS])
}

/// Passes `object`, which a request creates under a subresource of `resource`, through admission. Returns warnings.
///
/// # Errors
/// The refusal.
pub(crate) async fn create(
    server: &ApiServer,
    admitted: &Admitted,
    resource: &ResourceInfo,
    object: Value,
    dry_run: bool,
) -> Result<Vec<String>, Status> {
    let mut attributes = Attributes {
        operation: Operation::Create,
        resource,
        subresource: &admitted.info.subresource,
        namespace: if resource.namespaced { &admitted.info.namespace } else { "" },
        name: &admitted.info.name,
        object,
        old: None,
        user: &admitted.user,
        dry_run,
        warnings: Vec::new(),
    };
    server.admission.admit(&mut attributes).await?;
    server.admission.validate(&attributes).await?;
    Ok(attributes.warnings)
}
