//! Who is asked about a bearer token, in order: each knows its own by their form.

use std::sync::Arc;

use crate::bootstrap_tokens::BootstrapTokens;
use crate::legacy_tokens::LegacyTokens;
use crate::remarks::Remarks;
use crate::tokens::{Authenticated, TokenError, TokenSigner};

/// Those who know tokens.
pub struct BearerTokens {
    signer: Arc<TokenSigner>,
    legacy: LegacyTokens,
    bootstrap: BootstrapTokens,
}

// === impl BearerTokens ===

impl BearerTokens {
    /// With the keys and the caches of a signer.
    pub fn new(signer: Arc<TokenSigner>) -> Self {
        let (legacy, bootstrap) = (LegacyTokens::new(signer.clone()), BootstrapTokens::new(signer.secrets().clone()));
        Self { signer, legacy, bootstrap }
    }

    /// Who signs the tokens of service accounts.
    pub fn signer(&self) -> &Arc<TokenSigner> {
        &self.signer
    }

    /// The user that a token stands for, and for whom of `audiences` (empty: the API server) it is. `now` is in seconds since 1970.
    ///
    /// # Errors
    /// Why it is not valid; [`TokenError::Malformed`] when nobody knows it.
    pub fn authenticate(
        &self,
        token: &str,
        audiences: &[String],
        now: i64,
        remarks: &Remarks,
    ) -> Result<Authenticated, TokenError> {
        if let Some(found) = self.legacy.authenticate(token, audiences, now, remarks)? {
            return Ok(found);
        }
        match self.bootstrap.authenticate(token, now) {
            // They are for the API server.
            Some(user) => match self.signer.common(self.signer.default_audiences(), audiences) {
                Ok(audiences) => Ok(Authenticated { user, audiences }),
                Err(_) => Err(TokenError::Malformed),
            },
            None => self.signer.authenticate(token, audiences, now, remarks),
        }
    }
}
