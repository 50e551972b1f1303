//! What drivers are given beside the volume: passwords from secrets, and tokens of the pod's account.

use std::collections::{BTreeMap, HashMap};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Pod;
use kedge_base::time::rfc3339;
use kedge_client::Client;
use kedge_meta::resources;
use serde::Deserialize;
use serde_json::json;

use super::drivers::DriverSpec;
use super::source::SecretRef;
use crate::pod::PodExt;
use crate::volumes::{TokenRequest, Tokens};

const TOKENS: &str = "csi.storage.k8s.io/serviceAccount.tokens";

#[derive(Deserialize)]
struct Secret {
    #[serde(default)]
    data: HashMap<String, String>,
}

/// The content of a secret.
///
/// # Errors
/// When it cannot be read, or holds what is no text.
pub(super) async fn read(client: &Client, reference: &SecretRef) -> Result<HashMap<String, String>, String> {
    let SecretRef { namespace, name } = reference;
    let secret: Secret = client.get(&resources::SECRETS, namespace, name).await.map_err(|error| {
        format!("failed to find the secret {name} in the namespace {namespace} with error: {error}")
    })?;
    let text = |value: String| {
        let bytes = STANDARD.decode(value).map_err(|error| error.to_string())?;
        String::from_utf8(bytes).map_err(|error| error.to_string())
    };
    secret.data.into_iter().map(|(key, value)| Ok((key, text(value)?))).collect()
}

/// The tokens that a driver asks for, under the name by which it looks for them.
///
/// # Errors
/// When one is not to be had.
pub(super) async fn tokens(tokens: &Tokens, driver: &DriverSpec, pod: &Pod) -> Result<HashMap<String, String>, String> {
    if driver.token_requests.is_empty() {
        return Ok(HashMap::new());
    }
    let mut all = BTreeMap::new();
    for wanted in &driver.token_requests {
        let request = TokenRequest::new(pod, wanted.audience.clone(), wanted.expiration_seconds);
        let token = tokens.get(&request).await?;
        let status = json!({ "token": token.text, "expirationTimestamp": rfc3339(token.expires) });
        all.insert(wanted.audience.clone(), status);
    }
    let text = serde_json::to_string(&all).map_err(|error| error.to_string())?;
    Ok(HashMap::from([(TOKENS.to_owned(), text)]))
}

/// What a driver is told of the pod.
pub(super) fn pod_attributes(pod: &Pod, ephemeral: bool) -> [(String, String); 5] {
    let account = PodExt::spec(pod).service_account_name.clone().unwrap_or_default();
    [
        ("csi.storage.k8s.io/pod.name", pod.name().to_owned()),
        ("csi.storage.k8s.io/pod.namespace", pod.namespace().to_owned()),
        ("csi.storage.k8s.io/pod.uid", pod.uid().to_owned()),
        ("csi.storage.k8s.io/serviceAccount.name", account),
        ("csi.storage.k8s.io/ephemeral", ephemeral.to_string()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
}
