//! CertificateSubjectRestriction: nobody asks for a certificate that makes them a master of the cluster.

use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kedge_auth::MASTERS;
use kedge_meta::Status;
use kedge_registry::value::ValueExt as _;
use kedge_registry::{Attributes, Registry};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::{AttributeTypeAndValue, FromDer as _};

use crate::signers::GROUP;
use crate::{Plugin, creates, forbidden};

const SIGNER: &str = "kubernetes.io/kube-apiserver-client";

pub(crate) struct CertificateSubjectRestriction;

/// The organizations that a request names, which become groups of the user.
fn organizations(request: &str) -> Result<Vec<String>, String> {
    let pem = STANDARD.decode(request).map_err(|err| err.to_string())?;
    let not_pem = || "PEM block type must be CERTIFICATE REQUEST".to_owned();
    let (_, pem) = parse_x509_pem(&pem).map_err(|_| not_pem())?;
    if pem.label != "CERTIFICATE REQUEST" {
        return Err(not_pem());
    }
    let (_, request) = X509CertificationRequest::from_der(&pem.contents).map_err(|err| err.to_string())?;
    let subject = &request.certification_request_info.subject;
    // One that cannot be read here may be read by who uses the certificate.
    let readable = |o: &AttributeTypeAndValue<'_>| o.as_str().map(str::to_owned).map_err(|err| err.to_string());
    subject.iter_organization().map(readable).collect()
}

#[async_trait]
impl Plugin for CertificateSubjectRestriction {
    fn name(&self) -> &'static str {
        "CertificateSubjectRestriction"
    }

    fn validates(&self, attributes: &Attributes<'_>) -> bool {
        creates(attributes, GROUP, "certificatesigningrequests")
            && attributes.object.text(&["spec", "signerName"]) == SIGNER
    }

    async fn validate(&self, _: &Arc<Registry>, attributes: &Attributes<'_>) -> Result<(), Status> {
        let organizations = organizations(attributes.object.text(&["spec", "request"]))
            .map_err(|why| forbidden(attributes, &format!("failed to parse CSR: {why}")))?;
        if organizations.iter().any(|organization| organization == MASTERS) {
            let why = format!("use of {SIGNER} signer with system:masters group is not allowed");
            return Err(forbidden(attributes, &why));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::signers::testing::said;
    use crate::testing;
    use rcgen::string::BmpString;
    use rcgen::{CertificateParams, DnType, DnValue, KeyPair};
    use serde_json::{Value, json};

    fn request(signer: &str, organization: impl Into<DnValue>) -> Value {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::OrganizationName, organization);
        let csr = params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap();
        json!({"spec": {"signerName": signer, "request": STANDARD.encode(csr)}})
    }

    #[tokio::test]
    async fn masters_are_not_made_by_request() {
        let (registry, _) = testing::registry().await;
        let asked = async |request| said(&CertificateSubjectRestriction, &registry, "", request, None).await;
        let refused = "certificatesigningrequests.certificates.k8s.io \"csr\" is forbidden: \
            use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed";
        assert_eq!(asked(request(SIGNER, "system:masters")).await, Err(refused.to_owned()));
        assert_eq!(asked(request(SIGNER, "system:nodes")).await, Ok(()));
        // What was in another alphabet was once not looked at, though servers in Go read it.
        let hidden = BmpString::try_from("system:masters").unwrap();
        let said = asked(request(SIGNER, DnValue::BmpString(hidden))).await.unwrap_err();
        assert!(said.contains("failed to parse CSR: "), "{said}");
        assert_eq!(asked(request("example.com/own", "system:masters")).await, Ok(()));
        let said = asked(json!({"spec": {"signerName": SIGNER, "request": "YQ=="}})).await.unwrap_err();
        assert!(said.contains("failed to parse CSR: PEM block type must be CERTIFICATE REQUEST"), "{said}");
    }
}
