//! Keys of tokens: the one that signs, and those that verify, as they are in PEM files.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED, ECDSA_P384_SHA384_FIXED_SIGNING,
    EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair,
    UnparsedPublicKey, VerificationAlgorithm,
};
use serde_json::{Value, json};
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::tokens::TokenError;

/// How many keys of a file are looked at.
const MOST: usize = 64;

/// What precedes the point in the DER form (SubjectPublicKeyInfo) of public keys.
const P256: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
const P384: [u8; 23] = [
    0x30, 0x76, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81, 0x04, 0x00,
    0x22, 0x03, 0x62, 0x00,
];
/// The algorithm in that of an RSA key.
const RSA: [u8; 15] = [0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

/// By which a key signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    Es256,
    Es384,
    Rs256,
}

impl Algorithm {
    fn name(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Rs256 => "RS256",
        }
    }

    /// Of those on curves.
    fn signing(self) -> &'static EcdsaSigningAlgorithm {
        if self == Self::Es384 { &ECDSA_P384_SHA384_FIXED_SIGNING } else { &ECDSA_P256_SHA256_FIXED_SIGNING }
    }

    fn verification(self) -> &'static dyn VerificationAlgorithm {
        match self {
            Self::Es256 => &ECDSA_P256_SHA256_FIXED,
            Self::Es384 => &ECDSA_P384_SHA384_FIXED,
            Self::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
        }
    }
}

/// A key by which tokens are verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    id: String,
    algorithm: Algorithm,
    /// An uncompressed point (one byte of form, then both coordinates), or an `RSAPublicKey`.
    key: Vec<u8>,
}

// === impl PublicKey ===

impl PublicKey {
    fn new(algorithm: Algorithm, key: &[u8]) -> Self {
        let der = match algorithm {
            Algorithm::Es256 => [&P256, key].concat(),
            Algorithm::Es384 => [&P384, key].concat(),
            Algorithm::Rs256 => {
                let bits = der(0x03, &[&[0], key].concat());
                der(0x30, &[&RSA, bits.as_slice()].concat())
            }
        };
        // As upstream forms it. A stock server looks for the key by this name, and refuses tokens that name another.
        let id = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, &der));
        Self { id, algorithm, key: key.to_vec() }
    }

    /// All keys of a PEM file: public keys, and those of certificates and private keys.
    ///
    /// # Errors
    /// When there is none, or one that cannot be used.
    pub fn all_of(pem: &str) -> Result<Vec<Self>, TokenError> {
        let mut keys = Vec::new();
        for block in Pem::iter_from_buffer(pem.as_bytes()).take(MOST) {
            let block = block.map_err(|err| TokenError::Key(err.to_string()))?;
            match block.label.as_str() {
                "PUBLIC KEY" => keys.push(Self::of_info(&block.contents)?),
                "CERTIFICATE" => {
                    let unreadable = |err: &dyn std::fmt::Display| TokenError::Key(err.to_string());
                    let (_, certificate) =
                        X509Certificate::from_der(&block.contents).map_err(|err| unreadable(&err))?;
                    keys.push(Self::of_info(certificate.public_key().raw)?);
                }
                label => keys.extend(SigningKey::of_block(label, &block.contents)?.map(|key| key.public())),
            }
        }
        if keys.is_empty() { Err(TokenError::Key("it has none that can be used".into())) } else { Ok(keys) }
    }

    /// That of a SubjectPublicKeyInfo.
    fn of_info(der: &[u8]) -> Result<Self, TokenError> {
        let (_, info) = SubjectPublicKeyInfo::from_der(der).map_err(|err| TokenError::Key(err.to_string()))?;
        let curve = info.algorithm.parameters.as_ref().and_then(|any| any.as_oid().ok()).map(|oid| oid.to_id_string());
        let algorithm = match (info.algorithm.algorithm.to_id_string().as_str(), curve.as_deref()) {
            ("1.2.840.113549.1.1.1", _) => Algorithm::Rs256,
            ("1.2.840.10045.2.1", Some("1.2.840.10045.3.1.7")) => Algorithm::Es256,
            ("1.2.840.10045.2.1", Some("1.3.132.0.34")) => Algorithm::Es384,
            _ => return Err(TokenError::Key("it is neither an RSA key nor one on the curves P-256 and P-384".into())),
        };
        Ok(Self::new(algorithm, &info.subject_public_key.data))
    }

    /// Its name.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// The algorithm by which it verifies.
    pub(crate) fn algorithm(&self) -> &'static str {
        self.algorithm.name()
    }

    /// As a JSON Web Key.
    pub(crate) fn web_key(&self) -> Value {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let mut web_key = json!({ "use": "sig", "kid": self.id, "alg": self.algorithm() });
        let mut set = |name: &str, value: String| web_key[name] = value.into();
        if self.algorithm == Algorithm::Rs256 {
            let (modulus, exponent) = numbers(&self.key).unwrap_or_default();
            set("kty", "RSA".into());
            set("n", encode(modulus));
            set("e", encode(exponent));
        } else {
            let coordinates = self.key.get(1..).unwrap_or_default();
            let (x, y) = coordinates.split_at(coordinates.len() / 2);
            set("kty", "EC".into());
            set("crv", if self.algorithm == Algorithm::Es256 { "P-256" } else { "P-384" }.into());
            set("x", encode(x));
            set("y", encode(y));
        }
        web_key
    }

    /// Whether it verifies a signature that is said to be by an algorithm.
    pub(crate) fn verifies(&self, algorithm: &str, signed: &[u8], signature: &[u8]) -> bool {
        let public = UnparsedPublicKey::new(self.algorithm.verification(), &self.key);
        algorithm == self.algorithm() && public.verify(signed, signature).is_ok()
    }
}

/// A key that signs tokens.
pub struct SigningKey {
    algorithm: Algorithm,
    pair: Pair,
}

enum Pair {
    OnCurve(Box<EcdsaKeyPair>),
    Rsa(Box<RsaKeyPair>),
}

// === impl SigningKey ===

impl SigningKey {
    /// The first private key of a PEM file.
    ///
    /// # Errors
    /// When there is none, or it cannot be used.
    pub fn from_pem(pem: &str) -> Result<Self, TokenError> {
        for block in Pem::iter_from_buffer(pem.as_bytes()).take(MOST) {
            let block = block.map_err(|err| TokenError::Key(err.to_string()))?;
            if let Some(key) = Self::of_block(&block.label, &block.contents)? {
                return Ok(key);
            }
        }
        Err(TokenError::Key("there is no private key".into()))
    }

    /// The key of one part of a PEM file; none when that is something else.
    fn of_block(label: &str, der: &[u8]) -> Result<Option<Self>, TokenError> {
        let rejected = |err: ring::error::KeyRejected| TokenError::Key(err.to_string());
        let rsa = |pair: RsaKeyPair| Self { algorithm: Algorithm::Rs256, pair: Pair::Rsa(Box::new(pair)) };
        match label {
            "RSA PRIVATE KEY" => Ok(Some(rsa(RsaKeyPair::from_der(der).map_err(rejected)?))),
            "EC PRIVATE KEY" => Self::of_sec1(der).map(Some),
            "PRIVATE KEY" => {
                if let Ok(pair) = RsaKeyPair::from_pkcs8(der) {
                    return Ok(Some(rsa(pair)));
                }
                let of = |algorithm: Algorithm| {
                    let pair = EcdsaKeyPair::from_pkcs8(algorithm.signing(), der, &SystemRandom::new());
                    pair.map(|pair| Self { algorithm, pair: Pair::OnCurve(Box::new(pair)) })
                };
                of(Algorithm::Es256).or_else(|_| of(Algorithm::Es384)).map(Some).map_err(rejected)
            }
            _ => Ok(None),
        }
    }

    /// That of an ECPrivateKey, which names its curve by the length of its public key.
    fn of_sec1(der: &[u8]) -> Result<Self, TokenError> {
        let unreadable =
            || TokenError::Key("it is no private key on the curves P-256 and P-384 with its public key".into());
        let (private, public) = parts_of_sec1(der).ok_or_else(unreadable)?;
        let (algorithm, length) = match public.len() {
            65 => (Algorithm::Es256, 32),
            97 => (Algorithm::Es384, 48),
            _ => return Err(unreadable()),
        };
        let missing = usize::checked_sub(length, private.len()).ok_or_else(unreadable)?;
        let private = [&vec![0; missing], private].concat();
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_private_key_and_public_key(algorithm.signing(), &private, public, &random);
        let pair = pair.map_err(|err| TokenError::Key(err.to_string()))?;
        Ok(Self { algorithm, pair: Pair::OnCurve(Box::new(pair)) })
    }

    /// The key that verifies what this one signs.
    pub(crate) fn public(&self) -> PublicKey {
        let key = match &self.pair {
            Pair::OnCurve(pair) => pair.public_key().as_ref(),
            Pair::Rsa(pair) => pair.public_key().as_ref(),
        };
        PublicKey::new(self.algorithm, key)
    }

    pub(crate) fn sign(&self, signed: &[u8]) -> Result<Vec<u8>, TokenError> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::OnCurve(pair) => {
                pair.sign(&random, signed).map(|signature| signature.as_ref().to_vec()).map_err(|_| TokenError::Encode)
            }
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, signed, &mut signature).map_err(|_| TokenError::Encode)?;
                Ok(signature)
            }
        }
    }
}

/// An element in DER.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let bytes = content.len().to_be_bytes();
    let length: Vec<u8> = bytes.into_iter().skip_while(|byte| *byte == 0).collect();
    let mut out = vec![tag];
    if content.len() < 0x80 {
        out.push(length.first().copied().unwrap_or_default());
    } else {
        out.push(0x80 | u8::try_from(length.len()).unwrap_or_default());
        out.extend(&length);
    }
    out.extend(content);
    out
}

/// The content of the next element, which must have this tag, and what follows.
fn element(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    (found == tag).then_some(())?;
    rest.split_at_checked(length)
}

/// Modulus and exponent of an `RSAPublicKey`.
fn numbers(key: &[u8]) -> Option<(&[u8], &[u8])> {
    let (key, _) = element(0x30, key)?;
    let (modulus, rest) = element(0x02, key)?;
    let (exponent, _) = element(0x02, rest)?;
    Some((without_zeros(modulus), without_zeros(exponent)))
}

fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}

/// Private and public key of an ECPrivateKey.
fn parts_of_sec1(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (key, _) = element(0x30, der)?;
    let (_, rest) = element(0x02, key)?;
    let (private, rest) = element(0x04, rest)?;
    let rest = element(0xa0, rest).map_or(rest, |(_, rest)| rest);
    let (bits, _) = element(0x03, element(0xa1, rest)?.0)?;
    Some((private, bits.split_first()?.1))
}

#[cfg(test)]
#[path = "keys_tests.rs"]
mod tests;
