//! Public keys as JSON Web Keys, and the signatures that they verify.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, EcdsaVerificationAlgorithm, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384,
    RSA_PSS_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::Deserialize;

/// Nobody has more keys.
const MOST: usize = 128;

/// How tokens may be signed. ES512 is a curve that is not supported.
pub const ALGORITHMS: [&str; 8] = ["ES256", "ES384", "PS256", "PS384", "PS512", "RS256", "RS384", "RS512"];

enum Kind {
    Rsa(&'static RsaParameters),
    /// Bytes of a coordinate, too.
    Curve(&'static EcdsaVerificationAlgorithm, &'static str),
}

fn kind(algorithm: &str) -> Option<Kind> {
    Some(match algorithm {
        "RS256" => Kind::Rsa(&RSA_PKCS1_2048_8192_SHA256),
        "RS384" => Kind::Rsa(&RSA_PKCS1_2048_8192_SHA384),
        "RS512" => Kind::Rsa(&RSA_PKCS1_2048_8192_SHA512),
        "PS256" => Kind::Rsa(&RSA_PSS_2048_8192_SHA256),
        "PS384" => Kind::Rsa(&RSA_PSS_2048_8192_SHA384),
        "PS512" => Kind::Rsa(&RSA_PSS_2048_8192_SHA512),
        "ES256" => Kind::Curve(&ECDSA_P256_SHA256_FIXED, "P-256"),
        "ES384" => Kind::Curve(&ECDSA_P384_SHA384_FIXED, "P-384"),
        _ => return None,
    })
}

/// A set of keys.
#[derive(Debug, Default, Clone, Deserialize)]
pub(super) struct KeySet {
    keys: Vec<Key>,
}

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default)]
struct Key {
    kty: String,
    kid: String,
    #[serde(rename = "use")]
    usage: String,
    crv: String,
    n: String,
    e: String,
    x: String,
    y: String,
}

impl KeySet {
    /// Reads a set; keys of other kinds are in it and verify nothing.
    pub fn read(json: &[u8]) -> Result<Self, String> {
        let mut set: Self = serde_json::from_slice(json).map_err(|why| why.to_string())?;
        set.keys.truncate(MOST);
        Ok(set)
    }

    /// Whether one of the keys has made a signature. A name of a key leaves out those of other names.
    pub fn verify(&self, (algorithm, name): (&str, &str), signed: &[u8], signature: &[u8]) -> bool {
        let named = |key: &&Key| name.is_empty() || key.kid == name;
        let signs = |key: &&Key| matches!(key.usage.as_str(), "" | "sig");
        self.keys.iter().filter(named).filter(signs).any(|key| key.verify(algorithm, signed, signature) == Some(true))
    }
}

impl Key {
    fn verify(&self, algorithm: &str, signed: &[u8], signature: &[u8]) -> Option<bool> {
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok();
        match kind(algorithm)? {
            Kind::Rsa(parameters) if self.kty == "RSA" => {
                let key = RsaPublicKeyComponents { n: decode(&self.n)?, e: decode(&self.e)? };
                Some(key.verify(parameters, signed, signature).is_ok())
            }
            Kind::Curve(of, name) if self.kty == "EC" && self.crv == name => {
                let point = [&[4], &*decode(&self.x)?, &*decode(&self.y)?].concat();
                Some(UnparsedPublicKey::new(of, point).verify(signed, signature).is_ok())
            }
            _ => None,
        }
    }
}
