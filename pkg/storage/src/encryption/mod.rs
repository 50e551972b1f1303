//! Encryption at rest: which resources are sealed, with which keys, in upstream's form.
//!
//! A sealed value is `k8s:enc:aesgcm:v1:<key name>:` and what the provider makes of the JSON; the key that it is stored
//! under is authenticated with it, so that a value cannot be moved to another name. The first provider of a resource
//! seals; all of them are tried for reading, also the one that does not seal (`identity`).

mod aesgcm;
mod config;

use std::sync::Arc;

use bytes::Bytes;

pub use aesgcm::KeyError;
pub use config::ConfigError;

use aesgcm::AesGcm;

/// What every sealed value begins with.
pub(crate) const SEALED: &[u8] = b"k8s:enc:";

/// Something that seals and opens values.
#[derive(Debug, Clone)]
enum Provider {
    Identity,
    AesGcm(Arc<AesGcm>),
}

/// Resources and their providers.
#[derive(Debug, Clone)]
struct Rule {
    resources: Vec<String>,
    providers: Vec<Provider>,
}

/// How resources are encrypted: the parsed `EncryptionConfiguration`.
#[derive(Debug, Clone, Default)]
pub struct Encryption {
    rules: Vec<Rule>,
}

/// What was read from the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    pub value: Bytes,
    /// It is not as it would be written now: of an older key, or not sealed at all.
    pub stale: bool,
}

/// A value that cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    #[error("no key of the encryption configuration opens it")]
    NoKey,
    #[error("it is encrypted, and the encryption configuration names no provider for it")]
    NotConfigured,
    #[error("it is not encrypted, and the encryption configuration does not name the identity provider")]
    Plain,
}

impl Encryption {
    /// The providers of a resource, `plural` or `plural.group`; the first rule that names it decides.
    fn providers(&self, resource: &str) -> &[Provider] {
        let rule = self.rules.iter().find(|rule| rule.resources.iter().any(|name| config::covers(name, resource)));
        rule.map_or(&[], |rule| &rule.providers)
    }

    /// Whether values of a resource are sealed when they are written.
    pub fn seals(&self, resource: &str) -> bool {
        matches!(self.providers(resource).first(), Some(Provider::AesGcm(_)))
    }

    /// The stored form of a value.
    ///
    /// # Errors
    /// When the kernel gives no randomness.
    pub fn seal(&self, resource: &str, key: &str, value: Bytes) -> Result<Bytes, KeyError> {
        match self.providers(resource).first() {
            None | Some(Provider::Identity) => Ok(value),
            Some(Provider::AesGcm(provider)) => provider.seal(key, &value),
        }
    }

    /// The value of a stored form.
    ///
    /// # Errors
    /// When no provider of the resource reads it.
    pub fn open(&self, resource: &str, key: &str, stored: Bytes) -> Result<Opened, OpenError> {
        let providers = self.providers(resource);
        let sealed = stored.starts_with(SEALED);
        if providers.is_empty() {
            return if sealed { Err(OpenError::NotConfigured) } else { Ok(Opened { value: stored, stale: false }) };
        }
        for (at, provider) in providers.iter().enumerate() {
            match provider {
                Provider::Identity if !sealed => return Ok(Opened { value: stored, stale: at > 0 }),
                Provider::Identity => {}
                Provider::AesGcm(provider) => {
                    if let Some((value, first)) = provider.open(key, &stored) {
                        return Ok(Opened { value, stale: at > 0 || !first });
                    }
                }
            }
        }
        Err(if sealed { OpenError::NoKey } else { OpenError::Plain })
    }
}

#[cfg(test)]
mod tests;
