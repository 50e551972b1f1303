//! Service account tokens: JSON Web Tokens signed with ES256, bound to objects that must still exist.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kedge_base::random;
use kedge_meta::UserInfo;
use kedge_storage::ResourceStore;
use ring::digest;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::rules::quoted;

/// Longer tokens are not ours.
const MAX_TOKEN: usize = 16 << 10;

/// Why a token is refused, or could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("invalid bearer token")]
    Malformed,
    #[error("invalid signature")]
    Signature,
    #[error("service account token has expired")]
    Expired,
    #[error("service account token is not valid yet")]
    NotYet,
    #[error("service account token is issued in the future")]
    Future,
    #[error("token audiences {has} is invalid for the target audiences {wanted}")]
    Audience { has: String, wanted: String },
    /// What it is bound to is gone.
    #[error("service account token has been invalidated")]
    Unbound(&'static str),
    #[error("the signing key cannot be used: {0}")]
    Key(String),
    #[error("the token cannot be encoded")]
    Encode,
}

/// An object that a token is bound to: the token dies with it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BoundObject {
    pub name: String,
    pub uid: String,
}

/// The private claims under `kubernetes.io`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Bindings {
    pub namespace: String,
    pub serviceaccount: BoundObject,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<BoundObject>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<BoundObject>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<BoundObject>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warnafter: Option<i64>,
}

/// The claims of a token. Times are in seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    pub iss: String,
    pub sub: String,
    pub aud: Vec<String>,
    pub exp: i64,
    pub iat: i64,
    pub nbf: i64,
    pub jti: String,
    #[serde(rename = "kubernetes.io")]
    pub bindings: Bindings,
}

/// What precedes the point in the DER form (SubjectPublicKeyInfo) of a P-256 public key.
const P256_PUBLIC_KEY: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// The key's name as upstream forms it, from the hash of its DER form. A stock server looks for the key by this name, and
/// refuses tokens that name another.
fn key_id(point: &[u8]) -> String {
    let der = [&P256_PUBLIC_KEY, point].concat();
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, &der))
}

/// Signs and checks tokens.
pub struct TokenSigner {
    key: EcdsaKeyPair,
    key_id: String,
    issuer: String,
    /// What tokens are for when nobody says: the API server.
    audiences: Vec<String>,
    accounts: ResourceStore,
    bound: BoundStores,
}

/// What tokens can be bound to.
pub struct BoundStores {
    pub pods: ResourceStore,
    pub secrets: ResourceStore,
    pub nodes: ResourceStore,
}

/// A token that was found valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authenticated {
    pub user: UserInfo,
    /// Those that the token is for and that were asked for.
    pub audiences: Vec<String>,
}

impl TokenSigner {
    /// With a P-256 key (PKCS#8 PEM); the stores tell which bound objects still exist.
    ///
    /// # Errors
    /// When the key cannot be used.
    pub fn new(key_pem: &str, issuer: &str, accounts: ResourceStore, bound: BoundStores) -> Result<Self, TokenError> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|e| TokenError::Key(e.to_string()))?;
        let key =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.secret_pkcs8_der(), &SystemRandom::new())
                .map_err(|e| TokenError::Key(e.to_string()))?;
        let key_id = key_id(key.public_key().as_ref());
        let audiences = vec![issuer.to_owned(), "kedge".to_owned()];
        Ok(Self { key, key_id, issuer: issuer.to_owned(), audiences, accounts, bound })
    }

    /// What tokens are for when nobody says.
    pub fn default_audiences(&self) -> &[String] {
        &self.audiences
    }

    /// The public key as a JSON Web Key Set.
    pub fn key_set(&self) -> Value {
        // An uncompressed point: one byte of form, then both coordinates.
        let point = self.key.public_key().as_ref();
        let (x, y) = point.get(1..).unwrap_or_default().split_at(32.min(point.len().saturating_sub(1)));
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        json!({"keys": [{
            "use": "sig", "kty": "EC", "kid": self.key_id, "crv": "P-256", "alg": "ES256",
            "x": encode(x), "y": encode(y),
        }]})
    }

    /// The issuer, as in the discovery document.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// A token for a service account. `seconds` is how long it is valid from `now`.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn issue(
        &self,
        bindings: Bindings,
        audiences: Vec<String>,
        now: i64,
        seconds: i64,
    ) -> Result<String, TokenError> {
        let claims = Claims {
            iss: self.issuer.clone(),
            sub: format!("system:serviceaccount:{}:{}", bindings.namespace, bindings.serviceaccount.name),
            aud: if audiences.is_empty() { self.audiences.clone() } else { audiences },
            exp: now + seconds,
            iat: now,
            nbf: now,
            jti: random::uuid(),
            bindings,
        };
        let header = json!({"alg": "ES256", "kid": self.key_id});
        let encode = |value: &[u8]| URL_SAFE_NO_PAD.encode(value);
        let payload = serde_json::to_vec(&claims).map_err(|_| TokenError::Encode)?;
        let signed = format!("{}.{}", encode(header.to_string().as_bytes()), encode(&payload));
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes()).map_err(|_| TokenError::Encode)?;
        Ok(format!("{signed}.{}", encode(signature.as_ref())))
    }

    /// The claims of a valid token for one of `audiences` (empty: for the API server).
    ///
    /// # Errors
    /// Why it is not valid.
    pub fn verify(&self, token: &str, audiences: &[String], now: i64) -> Result<Claims, TokenError> {
        if token.len() > MAX_TOKEN {
            return Err(TokenError::Malformed);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(TokenError::Malformed)?;
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| TokenError::Malformed);
        let header: Value = serde_json::from_slice(&decode(header)?).map_err(|_| TokenError::Malformed)?;
        if header.get("alg").and_then(Value::as_str) != Some("ES256") {
            return Err(TokenError::Malformed);
        }
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.key.public_key().as_ref())
            .verify(signed.as_bytes(), &decode(signature)?)
            .map_err(|_| TokenError::Signature)?;
        let claims: Claims = serde_json::from_slice(&decode(payload)?).map_err(|_| TokenError::Malformed)?;
        if claims.iss != self.issuer {
            return Err(TokenError::Malformed);
        }
        if now - LEEWAY > claims.exp {
            return Err(TokenError::Expired);
        }
        if now + LEEWAY < claims.nbf {
            return Err(TokenError::NotYet);
        }
        if now + LEEWAY < claims.iat {
            return Err(TokenError::Future);
        }
        let wanted = self.wanted(audiences);
        if !claims.aud.iter().any(|a| wanted.contains(a)) {
            return Err(TokenError::Audience { has: quoted(&claims.aud), wanted: quoted(wanted) });
        }
        self.check_bindings(&claims.bindings, now)?;
        Ok(claims)
    }

    /// The audiences that a question is about.
    fn wanted<'a>(&'a self, asked: &'a [String]) -> &'a [String] {
        if asked.is_empty() { &self.audiences } else { asked }
    }

    fn check_bindings(&self, bindings: &Bindings, now: i64) -> Result<(), TokenError> {
        let namespaced = |bound: &BoundObject| format!("{}/{}", bindings.namespace, bound.name);
        // A token for a pod also says on which node that is, and is not bound to it.
        let node = bindings.node.as_ref().filter(|_| bindings.pod.is_none());
        let checks = [
            (&self.accounts, "service account", Some(&bindings.serviceaccount)),
            (&self.bound.pods, "pod", bindings.pod.as_ref()),
            (&self.bound.secrets, "secret", bindings.secret.as_ref()),
            (&self.bound.nodes, "node", node),
        ];
        for (store, what, bound) in checks {
            let Some(bound) = bound else { continue };
            let key = if what == "node" { bound.name.clone() } else { namespaced(bound) };
            if !exists(store, &key, &bound.uid, now) {
                return Err(TokenError::Unbound(what));
            }
        }
        Ok(())
    }

    /// The user that a token stands for.
    ///
    /// # Errors
    /// As [`TokenSigner::verify`].
    pub fn authenticate(&self, token: &str, audiences: &[String], now: i64) -> Result<Authenticated, TokenError> {
        let claims = self.verify(token, audiences, now)?;
        let wanted = self.wanted(audiences);
        let audiences = claims.aud.iter().filter(|audience| wanted.contains(audience)).cloned().collect();
        Ok(Authenticated { user: user_of(&claims), audiences })
    }
}

/// The user that claims stand for.
pub(crate) fn user_of(claims: &Claims) -> UserInfo {
    let bindings = &claims.bindings;
    let groups = ["system:serviceaccounts", &format!("system:serviceaccounts:{}", bindings.namespace)];
    let mut user = UserInfo::new(&claims.sub, &groups);
    user.uid.clone_from(&bindings.serviceaccount.uid);
    let mut extra =
        |key: &str, value: String| user.extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value]);
    extra("credential-id", format!("JTI={}", claims.jti));
    for (kind, bound) in [("pod", &bindings.pod), ("node", &bindings.node)] {
        if let Some(bound) = bound {
            extra(&format!("{kind}-name"), bound.name.clone());
            if !bound.uid.is_empty() {
                extra(&format!("{kind}-uid"), bound.uid.clone());
            }
        }
    }
    user
}

#[derive(Deserialize)]
struct Head {
    metadata: Life,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Life {
    #[serde(default)]
    uid: String,
    deletion_timestamp: Option<String>,
}

/// Whether that life of an object goes on. What was to be gone a while ago is so, whatever holds it up.
fn exists(store: &ResourceStore, key: &str, uid: &str, now: i64) -> bool {
    // What cannot be read vouches for nothing.
    let object = store.get(key).ok().flatten();
    let Some(head) = object.and_then(|o| serde_json::from_slice::<Head>(&o.stored()).ok()) else { return false };
    let Life { uid: is, deletion_timestamp } = head.metadata;
    let gone = deletion_timestamp.and_then(|at| kedge_base::time::parse(&at).ok());
    is == uid && gone.is_none_or(|at| at.as_second() >= now - LEEWAY)
}

/// Seconds that clocks may differ by.
const LEEWAY: i64 = 60;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Point and name of a key as `openssl pkey -pubout -outform DER | sha256sum` and a stock server tell them.
    #[test]
    fn a_key_is_named_as_a_stock_server_names_it() {
        let point = URL_SAFE_NO_PAD
            .decode(
                "BFjBzT6nr1b99ufEAdpzTDdqWSANFRVqbTe_VQQdt-HftgCs1GItVXOHhHAx\
             Yg3M9cQmo9jgTkrH8gpxra8E9FE",
            )
            .unwrap();
        assert_eq!(key_id(&point), "KrIT2hmf1STyzeyJw2GmBgK4El5tDpP6nuecz1kyvZA");
    }
}
