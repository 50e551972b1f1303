//! All issuers of a configuration; others may take their place while the server runs.

use std::sync::Arc;

use async_trait::async_trait;
use kedge_meta::UserInfo;
use parking_lot::RwLock;

use super::Jwt;
use crate::authenticator::TokenAuthenticator;

/// Issuers whose tokens are believed.
pub struct Issuers(RwLock<Arc<Vec<Jwt>>>);

impl Issuers {
    /// These.
    pub fn new(issuers: Vec<Jwt>) -> Self {
        Self(RwLock::new(Arc::new(issuers)))
    }

    /// From now on these and no others.
    pub fn replace(&self, issuers: Vec<Jwt>) {
        *self.0.write() = Arc::new(issuers);
    }
}

#[async_trait]
impl TokenAuthenticator for Issuers {
    /// Who knows a token decides.
    async fn authenticate(&self, token: &str, now: i64) -> Result<Option<UserInfo>, String> {
        let issuers = self.0.read().clone();
        for issuer in issuers.iter() {
            if let Some(user) = issuer.authenticate(token, now).await? {
                return Ok(Some(user));
            }
        }
        Ok(None)
    }
}
