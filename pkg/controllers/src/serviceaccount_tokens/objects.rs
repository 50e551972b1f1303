//! Accounts and the secrets with their tokens, without the tokens.

use std::sync::Arc;

use kedge_base::Alike;
use kedge_meta::{ObjectMeta, exact};
use serde::{Deserialize, Deserializer};

use super::plan::{NAME, UID};
use crate::objects::keyed;

/// All secrets have the same.
static AUTHORITIES: Alike<str> = Alike::new();

fn authority<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<str>, D::Error> {
    Ok(AUTHORITIES.share(String::deserialize(deserializer)?))
}

fn is_filled<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(!String::deserialize(deserializer)?.is_empty())
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Account {
    pub metadata: ObjectMeta,
    #[serde(deserialize_with = "exact")]
    pub secrets: Vec<Reference>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Reference {
    pub name: String,
}

/// A secret for a token of an account.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct TokenSecret {
    pub metadata: ObjectMeta,
    pub data: TokenData,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct TokenData {
    /// In base64.
    #[serde(rename = "ca.crt", deserialize_with = "authority")]
    pub authority: Arc<str>,
    #[serde(rename = "namespace", deserialize_with = "is_filled")]
    pub has_namespace: bool,
    #[serde(rename = "token", deserialize_with = "is_filled")]
    pub has_token: bool,
}

impl Default for TokenData {
    fn default() -> Self {
        Self { authority: AUTHORITIES.share(String::new()), has_namespace: false, has_token: false }
    }
}

keyed!(Account, TokenSecret);

impl Account {
    /// Whether it names a secret as its own.
    pub fn names(&self, secret: &str) -> bool {
        self.secrets.iter().any(|reference| reference.name == secret)
    }
}

impl TokenSecret {
    /// Whether it is for one life of an account, or may become so.
    pub fn is_for(&self, account: &str, uid: &str) -> bool {
        let annotation = |key: &str| self.metadata.annotations.get(key).unwrap_or_default();
        annotation(NAME) == account && (annotation(UID).is_empty() || annotation(UID) == uid)
    }
}
