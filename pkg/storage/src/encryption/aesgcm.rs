//! AES-GCM with a random 96-bit nonce, as upstream's `aesgcm` provider writes it.

use bytes::Bytes;
use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

const PREFIX: &[u8] = b"k8s:enc:aesgcm:v1:";

/// A key that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("secret is not of the expected length, got {0}, expected one of [16 24 32]")]
    Length(usize),
    #[error("a key of 24 bytes (AES-192) is not supported; use 32 or 16 bytes")]
    Aes192,
    #[error("the value could not be encrypted")]
    Seal,
}

/// The keys of a provider; the first one seals.
pub(super) struct AesGcm {
    keys: Vec<(String, LessSafeKey)>,
}

impl std::fmt::Debug for AesGcm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|(name, _)| name)).finish()
    }
}

impl AesGcm {
    pub(super) fn new() -> Self {
        Self { keys: Vec::new() }
    }

    pub(super) fn add(&mut self, name: &str, secret: &[u8]) -> Result<(), KeyError> {
        let algorithm = match secret.len() {
            16 => &AES_128_GCM,
            24 => return Err(KeyError::Aes192),
            32 => &AES_256_GCM,
            other => return Err(KeyError::Length(other)),
        };
        let key = UnboundKey::new(algorithm, secret).map_err(|_| KeyError::Length(secret.len()))?;
        self.keys.push((name.to_owned(), LessSafeKey::new(key)));
        Ok(())
    }

    pub(super) fn seal(&self, context: &str, value: &[u8]) -> Result<Bytes, KeyError> {
        let (name, key) = self.keys.first().ok_or(KeyError::Seal)?;
        let nonce: [u8; NONCE_LEN] = kedge_base::random::bytes();
        let mut out = Vec::with_capacity(PREFIX.len() + name.len() + 1 + NONCE_LEN + value.len() + 16);
        out.extend_from_slice(PREFIX);
        out.extend_from_slice(name.as_bytes());
        out.push(b':');
        out.extend_from_slice(&nonce);
        let start = out.len();
        out.extend_from_slice(value);
        let aad = Aad::from(context.as_bytes());
        let tag = key
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), aad, &mut out[start..])
            .map_err(|_| KeyError::Seal)?;
        out.extend_from_slice(tag.as_ref());
        Ok(out.into())
    }

    /// The value, and whether the first key opened it.
    pub(super) fn open(&self, context: &str, stored: &[u8]) -> Option<(Bytes, bool)> {
        let rest = stored.strip_prefix(PREFIX)?;
        for (at, (name, key)) in self.keys.iter().enumerate() {
            let Some(sealed) = rest.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b":")) else {
                continue;
            };
            let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>()?;
            let mut value = sealed.to_vec();
            let nonce = Nonce::assume_unique_for_key(*nonce);
            // Two keys may bear one name while keys are rotated: the next one is tried.
            if let Ok(plain) = key.open_in_place(nonce, Aad::from(context.as_bytes()), &mut value) {
                let len = plain.len();
                value.truncate(len);
                return Some((value.into(), at == 0));
            }
        }
        None
    }
}
