//! CertificateSigning: who fills in a certificate must be allowed to sign for its signer.

use std::sync::Arc;

use async_trait::async_trait;
use kedge_auth::Authorizer;
use kedge_meta::Status;
use kedge_registry::value::ValueExt as _;
use kedge_registry::{Attributes, Operation, Registry};

use crate::signers::{GROUP, must};
use crate::{Plugin, is_sub};

pub(crate) struct CertificateSigning(pub(crate) Arc<dyn Authorizer>);

#[async_trait]
impl Plugin for CertificateSigning {
    fn name(&self) -> &'static str {
        "CertificateSigning"
    }

    fn validates(&self, attributes: &Attributes<'_>) -> bool {
        let signs = |field: &str| {
            let of = |object: &serde_json::Value| object.at(&["status", field]).cloned().unwrap_or_default();
            attributes.old.is_some_and(|old| of(old) != of(&attributes.object))
        };
        attributes.operation == Operation::Update
            && is_sub(attributes, GROUP, "certificatesigningrequests", "status")
            && (signs("certificate") || signs("conditions"))
    }

    async fn validate(&self, _: &Arc<Registry>, attributes: &Attributes<'_>) -> Result<(), Status> {
        must(&*self.0, attributes, "sign").await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signers::testing::{grant, said};
    use crate::testing;
    use serde_json::{Value, json};

    #[tokio::test]
    async fn signing_takes_a_right_for_the_signer() {
        let (registry, rbac) = testing::registry().await;
        let plugin = CertificateSigning(rbac);
        let request = |status: Value| json!({"spec": {"signerName": "example.com/a"}, "status": status});
        let old = request(json!({}));
        let sign = async |status| said(&plugin, &registry, "status", request(status), Some(&old)).await;
        let refused = "certificatesigningrequests.certificates.k8s.io \"csr\" is forbidden: \
            user not permitted to sign requests with signerName \"example.com/a\"";
        assert_eq!(sign(json!({"certificate": "YQ=="})).await, Err(refused.to_owned()));
        assert_eq!(sign(json!({"conditions": [{"type": "Failed"}]})).await, Err(refused.to_owned()));
        assert_eq!(sign(json!({"other": 1})).await, Ok(()), "that is no signature");
        grant(&registry, "sign", "example.com/a").await;
        assert_eq!(sign(json!({"certificate": "YQ=="})).await, Ok(()));
    }
}
