//! JSON Web Signatures in their compact form.
//!
//! Invariant: what a token says is believed when one of the known keys verifies it, and by the algorithm of that key, whatever
//! the token names.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use crate::keys::PublicKey;
use crate::tokens::TokenError;

/// Longer tokens are not ours.
const MAX_TOKEN: usize = 16 << 10;

/// A token that has been taken apart and not been verified.
pub(crate) struct Jws<'a> {
    header: Header,
    signed: &'a str,
    signature: Vec<u8>,
    payload: Vec<u8>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: String,
}

#[derive(Deserialize)]
struct Issued {
    iss: String,
}

// === impl Jws ===

impl<'a> Jws<'a> {
    /// Takes a token apart; none when it is no such token.
    pub(crate) fn parse(token: &'a str) -> Option<Self> {
        if token.len() > MAX_TOKEN {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, payload) = signed.split_once('.')?;
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).ok();
        let header = serde_json::from_slice(&decode(header)?).ok()?;
        Some(Self { header, signed, signature: decode(signature)?, payload: decode(payload)? })
    }

    /// Whether it says that it is of one of these issuers. What else it says is nobody's business then.
    pub(crate) fn is_of<I: AsRef<str>>(&self, issuers: &[I]) -> bool {
        let issued = serde_json::from_slice::<Issued>(&self.payload);
        issued.is_ok_and(|issued| issuers.iter().any(|issuer| *issuer.as_ref() == issued.iss))
    }

    /// What it says, when one of the keys verifies it.
    ///
    /// # Errors
    /// When the key that it names is not known, or none of the keys verifies it.
    pub(crate) fn verified(&self, keys: &[PublicKey]) -> Result<&[u8], TokenError> {
        let named = |key: &&PublicKey| self.header.kid.is_empty() || self.header.kid == key.id();
        let mut named = keys.iter().filter(named).peekable();
        if named.peek().is_none() {
            return Err(TokenError::NoKey);
        }
        let (algorithm, signed) = (&self.header.alg, self.signed.as_bytes());
        let verifies = |key: &PublicKey| key.verifies(algorithm, signed, &self.signature);
        if named.any(verifies) { Ok(&self.payload) } else { Err(TokenError::Signature) }
    }
}
