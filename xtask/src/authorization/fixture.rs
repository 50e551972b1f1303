//! What must be there before anybody asks: users with their rights, two nodes with their pods, and a kind of somebody's own.

use std::time::Duration;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kedge_client::ClusterAccess;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use serde_json::{Value, json};

use super::ask::Asker;
use super::users::{Shows, Who, all};

const OBJECTS: &str = include_str!("data/objects.yaml");
const TRIES: usize = 600;
const PAUSE: Duration = Duration::from_millis(100);

/// Makes all objects.
///
/// # Errors
/// When one cannot be made.
pub async fn prepare(admin: &Asker) -> anyhow::Result<()> {
    for document in serde_yaml::Deserializer::from_str(OBJECTS) {
        let object: Value = serde::Deserialize::deserialize(document)?;
        let path = object["path"].as_str().context("an object without a path")?;
        let made = admin.make("POST", path, &object["object"]).await?;
        // What is there from another run has a status already.
        if !object["status"].is_null() && made["kind"] != "Status" {
            let name = made["metadata"]["name"].as_str().unwrap_or_default();
            admin.make("PATCH", &format!("{path}/{name}/status"), &json!({"status": object["status"]})).await?;
        }
    }
    for who in all().iter().filter(|who| who.shows == Shows::Token) {
        let path = "/api/v1/namespaces/kube-system/serviceaccounts";
        admin.make("POST", path, &json!({"metadata": {"name": who.user}})).await?;
    }
    Ok(())
}

/// Waits until the last of the rights are there: of a kind that was just made, by a role that is gathered from others.
///
/// # Errors
/// When they do not come.
pub async fn settle(of: &[(Who, Asker)]) -> anyhow::Result<()> {
    for column in ["view in a", "admin in a", "aggregated reader"] {
        let (_, asker) = of.iter().find(|(who, _)| who.column == column).context(column)?;
        let path = "/apis/matrix.kedge.test/v1/namespaces/matrix-a/widgets";
        until(column, async || Ok(asker.json(path).await.ok())).await?;
    }
    let (_, node) = of.iter().find(|(who, _)| who.column == "node n1").context("node n1")?;
    for path in ["secrets/mine", "persistentvolumeclaims/mine"] {
        let path = format!("/api/v1/namespaces/matrix-a/{path}");
        until(&path, async || Ok(node.json(&path).await.ok())).await?;
    }
    Ok(())
}

async fn until<T>(what: &str, check: impl AsyncFn() -> anyhow::Result<Option<T>>) -> anyhow::Result<T> {
    for _ in 0..TRIES {
        if let Some(found) = check().await? {
            return Ok(found);
        }
        tokio::time::sleep(PAUSE).await;
    }
    bail!("{what} did not come about")
}

/// Somebody with what they show.
///
/// # Errors
/// When the cluster does not certify them.
pub async fn asker(admin: &Asker, access: &ClusterAccess, who: &Who) -> anyhow::Result<Asker> {
    let nobody =
        ClusterAccess { client_certificate: Vec::new(), client_key: Vec::new(), token: None, ..access.clone() };
    match who.shows {
        Shows::Nothing => Asker::new(&nobody),
        Shows::Lie => Asker::new(&ClusterAccess { token: Some("nobody.issued.this".to_owned()), ..nobody }),
        Shows::Administrator => Ok(admin.clone()),
        Shows::Impersonated => Ok(admin.acting_as(who.user)),
        Shows::Token => {
            let path = format!("/api/v1/namespaces/kube-system/serviceaccounts/{}/token", who.user);
            let made = admin.make("POST", &path, &json!({"spec": {"expirationSeconds": 3600}})).await?;
            let token = made["status"]["token"].as_str().context("no token")?;
            Asker::new(&ClusterAccess { token: Some(token.to_owned()), ..nobody })
        }
        Shows::Certificate => {
            let (certificate, key) = certified(admin, who).await?;
            Asker::new(&ClusterAccess { client_certificate: certificate, client_key: key, ..nobody })
        }
    }
}

/// A certificate for somebody, asked for and approved by the administrator.
async fn certified(admin: &Asker, who: &Who) -> anyhow::Result<(Vec<u8>, Vec<u8>)> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, who.user);
    for group in who.groups {
        params.distinguished_name.push(DnType::OrganizationName, *group);
    }
    let node = who.user.starts_with("system:node:");
    let signer =
        if node { "kubernetes.io/kube-apiserver-client-kubelet" } else { "kubernetes.io/kube-apiserver-client" };
    let request = STANDARD.encode(params.serialize_request(&key)?.pem()?);
    let spec = json!({"request": request, "signerName": signer, "usages": ["client auth", "digital signature"]});
    let path = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    let made = admin.make("POST", path, &json!({"metadata": {"generateName": "matrix-"}, "spec": spec})).await?;
    let path = format!("{path}/{}", made["metadata"]["name"].as_str().context("no name")?);
    let condition = json!({"type": "Approved", "status": "True", "reason": "Matrix"});
    let approval = json!({"status": {"conditions": [condition]}});
    admin.make("PATCH", &format!("{path}/approval"), &approval).await?;
    let signed = async || {
        let request = admin.json(&path).await?;
        Ok(request["status"]["certificate"].as_str().map(str::to_owned))
    };
    let certificate = STANDARD.decode(until(&format!("a certificate for {}", who.user), signed).await?)?;
    admin.make("DELETE", &path, &json!({})).await?;
    Ok((certificate, key.serialize_pem().into_bytes()))
}
