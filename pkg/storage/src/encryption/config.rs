//! `EncryptionConfiguration`, as upstream's `--encryption-provider-config` takes it.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;

use super::aesgcm::AesGcm;
use super::{Encryption, Provider, Rule};

/// A configuration that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("encryption configuration: {0}")]
pub struct ConfigError(String);

/// Providers of one rule, and keys of one provider; there is no use for more.
const LIMIT: usize = 64;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    api_version: String,
    kind: String,
    #[serde(default)]
    resources: Vec<FileRule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileRule {
    resources: Vec<String>,
    providers: Vec<serde_json::Map<String, Value>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    keys: Vec<Key>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    name: String,
    secret: String,
}

impl Encryption {
    /// Reads a configuration.
    ///
    /// # Errors
    /// [`ConfigError`] with the path of the field.
    pub fn from_value(value: Value) -> Result<Self, ConfigError> {
        let file: File = serde_json::from_value(value).map_err(|e| ConfigError(redacted(&e)))?;
        if (file.api_version.as_str(), file.kind.as_str()) != ("apiserver.config.k8s.io/v1", "EncryptionConfiguration")
        {
            let what =
                format!("{} {} is not apiserver.config.k8s.io/v1 EncryptionConfiguration", file.api_version, file.kind);
            return Err(ConfigError(what));
        }
        let rules = file.resources.into_iter().enumerate().map(|(i, r)| rule(&format!("resources[{i}]"), r));
        Ok(Self { rules: rules.collect::<Result<_, _>>()? })
    }
}

/// What is wrong, without the value that is wrong: it may be a secret in the wrong place.
fn redacted(err: &serde_json::Error) -> String {
    let text = err.to_string();
    match (text.starts_with("invalid "), text.rfind(", expected ")) {
        (true, Some(expected)) => format!("Invalid value: \"REDACTED\"{}", &text[expected..]),
        (true, None) => "Invalid value: \"REDACTED\"".to_owned(),
        (false, _) => text,
    }
}

fn rule(path: &str, rule: FileRule) -> Result<Rule, ConfigError> {
    let fail = |what: String| Err(ConfigError(what));
    if rule.resources.is_empty() {
        return fail(format!("{path}.resources: Required value: at least one resource"));
    }
    if let Some(bad) = rule.resources.iter().find(|r| r.is_empty() || r.to_lowercase() != **r) {
        return fail(format!("{path}.resources: Invalid value: {bad:?}: a lower-case plural, or plural.group"));
    }
    if rule.providers.is_empty() || rule.providers.len() > LIMIT {
        return fail(format!("{path}.providers: Required value: 1 to {LIMIT} providers"));
    }
    let providers = rule.providers.into_iter().enumerate();
    let providers =
        providers.map(|(i, entry)| provider(&format!("{path}.providers[{i}]"), entry)).collect::<Result<_, _>>()?;
    Ok(Rule { resources: rule.resources, providers })
}

fn provider(path: &str, entry: serde_json::Map<String, Value>) -> Result<Provider, ConfigError> {
    let fail = |what: String| Err(ConfigError(what));
    let mut entries = entry.into_iter();
    let (Some((name, value)), None) = (entries.next(), entries.next()) else {
        return fail(format!("{path}: Invalid value: exactly one provider must be named"));
    };
    match name.as_str() {
        "identity" => Ok(Provider::Identity),
        "aesgcm" => aes_gcm(&format!("{path}.aesgcm"), value),
        "aescbc" | "secretbox" | "kms" => {
            fail(format!("{path}.{name}: the provider {name} is not supported; aesgcm and identity are"))
        }
        other => fail(format!("{path}: Invalid value: {other:?}: unknown provider; aesgcm and identity are supported")),
    }
}

fn aes_gcm(path: &str, value: Value) -> Result<Provider, ConfigError> {
    let Keys { keys } = serde_json::from_value(value).map_err(|e| ConfigError(format!("{path}: {}", redacted(&e))))?;
    if keys.is_empty() || keys.len() > LIMIT {
        return Err(ConfigError(format!("{path}.keys: Required value: 1 to {LIMIT} keys")));
    }
    let mut provider = AesGcm::new();
    for (i, key) in keys.iter().enumerate() {
        let at = format!("{path}.keys[{i}]");
        if key.name.is_empty() || key.name.contains(':') {
            return Err(ConfigError(format!("{at}.name: Invalid value: {:?}: a name without colons", key.name)));
        }
        // What is wrong with a secret is said without showing it.
        let secret = STANDARD.decode(key.secret.trim()).map_err(|_| {
            ConfigError(format!("{at}.secret: Invalid value: \"REDACTED\": secret must be base64 encoded"))
        })?;
        provider
            .add(&key.name, &secret)
            .map_err(|e| ConfigError(format!("{at}.secret: Invalid value: \"REDACTED\": {e}")))?;
    }
    Ok(Provider::AesGcm(Arc::new(provider)))
}

/// Whether a name of the configuration covers a resource: `secrets`, `deployments.apps`, `*.apps`, `*.` (the core group), `*.*`.
pub(super) fn covers(name: &str, resource: &str) -> bool {
    let group = resource.split_once('.').map_or("", |(_, group)| group);
    match name.strip_prefix("*.") {
        Some("*") => true,
        Some(wanted) => wanted == group,
        None => name == resource,
    }
}
