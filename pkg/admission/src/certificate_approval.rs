//! CertificateApproval: who approves or denies a request must be allowed to for its signer.

use std::sync::Arc;

use async_trait::async_trait;
use kedge_auth::Authorizer;
use kedge_meta::Status;
use kedge_registry::{Attributes, Operation, Registry};

use crate::signers::{GROUP, must};
use crate::{Plugin, is_sub};

pub(crate) struct CertificateApproval(pub(crate) Arc<dyn Authorizer>);

#[async_trait]
impl Plugin for CertificateApproval {
    fn name(&self) -> &'static str {
        "CertificateApproval"
    }

    fn validates(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation == Operation::Update && is_sub(attributes, GROUP, "certificatesigningrequests", "approval")
    }

    async fn validate(&self, _: &Arc<Registry>, attributes: &Attributes<'_>) -> Result<(), Status> {
        must(&*self.0, attributes, "approve").await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signers::testing::{grant, said};
    use crate::testing;
    use serde_json::json;

    #[tokio::test]
    async fn approving_takes_a_right_for_the_signer() {
        let (registry, rbac) = testing::registry().await;
        let plugin = CertificateApproval(rbac);
        let request = |signer: &str| json!({"spec": {"signerName": signer}});
        let mine = request("example.com/a");
        let refused = "certificatesigningrequests.certificates.k8s.io \"csr\" is forbidden: \
            user not permitted to approve requests with signerName \"example.com/a\"";
        let approve = async |new, old| said(&plugin, &registry, "approval", new, Some(old)).await;
        assert_eq!(approve(mine.clone(), &mine).await, Err(refused.to_owned()));
        assert_eq!(said(&plugin, &registry, "status", mine.clone(), Some(&mine)).await, Ok(()));
        grant(&registry, "approve", "example.com/*").await;
        assert_eq!(approve(mine.clone(), &mine).await, Ok(()));
        let masters = kedge_auth::Union::new(Vec::new());
        let user = kedge_meta::UserInfo::new("root", &[kedge_auth::MASTERS]);
        let requests = testing::resource("certificates.k8s.io", "certificatesigningrequests");
        let mut attributes = Attributes::new(Operation::Update, requests, &user);
        (attributes.object, attributes.old) = (mine.clone(), Some(&mine));
        assert_eq!(must(&masters, &attributes, "approve").await, Ok(()), "masters may without any role");
        let other = request("example.org/a");
        assert!(approve(mine.clone(), &other).await.is_err(), "it is the signer of the stored request that counts");
    }
}
