//! Who may approve and sign for a signer of certificates.

use kedge_auth::{Authorizer, Decision, Request};
use kedge_meta::Status;
use kedge_registry::Attributes;
use kedge_registry::value::ValueExt as _;

use crate::forbidden;

pub(crate) const GROUP: &str = "certificates.k8s.io";

/// Whether the user may do this for a signer: for it by name, or for all of its domain.
async fn may(authorizer: &dyn Authorizer, attributes: &Attributes<'_>, verb: &str, signer: &str) -> bool {
    let domain = signer.split('/').next().unwrap_or_default();
    for name in [signer, &format!("{domain}/*")] {
        let request = Request {
            user: Some(attributes.user),
            verb,
            group: GROUP,
            version: "*",
            resource: "signers",
            name,
            is_resource: true,
            ..Request::default()
        };
        if matches!(authorizer.authorize(&request).await, Decision::Allow(_)) {
            return true;
        }
    }
    false
}

/// Refuses what the user may not do for the signer of the request as it was: it cannot be changed here, but somebody may try.
///
/// # Errors
/// 403.
pub(crate) async fn must(authorizer: &dyn Authorizer, attributes: &Attributes<'_>, verb: &str) -> Result<(), Status> {
    let signer = attributes.old.map(|old| old.text(&["spec", "signerName"])).unwrap_or_default();
    if may(authorizer, attributes, verb, signer).await {
        return Ok(());
    }
    Err(forbidden(attributes, &format!("user not permitted to {verb} requests with signerName {signer:?}")))
}

#[cfg(test)]
pub(crate) mod testing {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use kedge_registry::{Operation, Registry};
    use serde_json::{Value, json};

    use super::*;
    use crate::{Plugin, testing};

    /// Lets the user of tests do something for a signer.
    pub(crate) async fn grant(registry: &Registry, verb: &str, signer: &str) {
        let api = "rbac.authorization.k8s.io/v1";
        let rules =
            json!([{"apiGroups": [GROUP], "resources": ["signers"], "resourceNames": [signer], "verbs": [verb]}]);
        let role = json!({"apiVersion": api, "kind": "ClusterRole", "metadata": {"name": "r"}, "rules": rules});
        testing::put(registry, role).await;
        let subjects = json!([{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "somebody"}]);
        let reference = json!({"kind": "ClusterRole", "apiGroup": "rbac.authorization.k8s.io", "name": "r"});
        let binding = json!({"apiVersion": api, "kind": "ClusterRoleBinding", "metadata": {"name": "b"},
            "subjects": subjects, "roleRef": reference});
        testing::put(registry, binding).await;
    }

    /// What a plugin says of a change of a signing request.
    pub(crate) async fn said(
        plugin: &dyn Plugin,
        registry: &Arc<Registry>,
        subresource: &str,
        new: Value,
        old: Option<&Value>,
    ) -> Result<(), String> {
        let user = testing::user();
        let requests = testing::resource(GROUP, "certificatesigningrequests");
        let operation = if old.is_some() { Operation::Update } else { Operation::Create };
        let mut attributes = Attributes::new(operation, requests, &user);
        (attributes.subresource, attributes.object, attributes.old) = (subresource, new, old);
        attributes.name = "csr";
        if !plugin.validates(&attributes) {
            return Ok(());
        }
        plugin.validate(registry, &attributes).await.map_err(|status| status.message)
    }
}
