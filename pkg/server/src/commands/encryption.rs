//! `kedge secrets-encrypt`.

use std::path::Path;

use http::Method;
use kedge_client::Client;
use serde_json::json;

use super::{CommandError, collect};
use crate::encryption::{Action, EncryptionStatus};

const PATH: &str = "/kedge/v1/encryption";

/// How the encryption of secrets stands on a running server.
///
/// # Errors
/// When the server cannot be asked.
pub async fn encryption_status(kubeconfig: &Path) -> Result<EncryptionStatus, CommandError> {
    ask(kubeconfig, Method::GET, String::new()).await
}

/// Changes the encryption of secrets on a running server; returns when all secrets are stored as wanted.
///
/// # Errors
/// When the server cannot be asked, or refuses.
pub async fn change_encryption(kubeconfig: &Path, action: Action) -> Result<EncryptionStatus, CommandError> {
    ask(kubeconfig, Method::POST, json!({ "action": action }).to_string()).await
}

async fn ask(kubeconfig: &Path, method: Method, body: String) -> Result<EncryptionStatus, CommandError> {
    let client = Client::from_kubeconfig(kubeconfig)?;
    let response = client.open(method, PATH, body.into()).await.map_err(CommandError::Client)?;
    let bytes = collect(response).await?;
    serde_json::from_slice(&bytes).map_err(|e| CommandError::Answer(e.to_string()))
}
