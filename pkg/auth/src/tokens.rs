//! Service account tokens: JSON Web Tokens, bound to objects that must still exist.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kedge_base::random;
use kedge_meta::UserInfo;
use kedge_storage::ResourceStore;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::jws::Jws;
use crate::keys::{PublicKey, SigningKey};
use crate::remarks::{Remarks, ShownToken};
use crate::rules::quoted;

/// Why a token is refused, or could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("invalid bearer token")]
    Malformed,
    #[error("go-jose/go-jose: error in cryptographic primitive")]
    Signature,
    /// It names a key that is not known.
    #[error("invalid signature, no keys found")]
    NoKey,
    /// It lacks a claim, or has one that does not fit the others.
    #[error("{0}")]
    Claim(&'static str),
    #[error("service account token has expired")]
    Expired,
    #[error("service account token is not valid yet")]
    NotYet,
    #[error("service account token is issued in the future")]
    Future,
    #[error("token audiences {has} is invalid for the target audiences {wanted}")]
    Audience { has: String, wanted: String },
    /// What it is bound to is gone, or not yet in the caches here; in upstream's words.
    #[error("{0}")]
    Unbound(String),
    /// Somebody has put an end to it.
    #[error("{0}")]
    Ended(String),
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
    #[serde(default)]
    pub jti: String,
    #[serde(rename = "kubernetes.io")]
    pub bindings: Bindings,
}

/// Signs and checks tokens.
pub struct TokenSigner {
    key: SigningKey,
    /// The name of its public part, and by which algorithm it signs.
    header: Value,
    /// Those that verify tokens.
    keys: Vec<PublicKey>,
    /// The first one is that of tokens that are issued here; tokens of all of them are taken.
    issuers: Vec<String>,
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
    /// With a private key (PEM); the stores tell which bound objects still exist.
    ///
    /// # Errors
    /// When the key cannot be used.
    pub fn new(key_pem: &str, issuer: &str, accounts: ResourceStore, bound: BoundStores) -> Result<Self, TokenError> {
        let key = SigningKey::from_pem(key_pem)?;
        let public = key.public();
        let header = json!({"alg": public.algorithm(), "kid": public.id()});
        let audiences = vec![issuer.to_owned(), "kedge".to_owned()];
        Ok(Self { key, header, keys: vec![public], issuers: vec![issuer.to_owned()], audiences, accounts, bound })
    }

    /// The same, for issuers of which the first one is that of tokens that are issued here.
    #[must_use]
    pub fn of_issuers(self, issuers: Vec<String>) -> Self {
        let audiences = issuers.iter().cloned().chain(["kedge".to_owned()]).collect();
        Self { issuers, audiences, ..self }
    }

    /// The same, for other audiences than its issuers.
    #[must_use]
    pub fn for_audiences(self, audiences: Vec<String>) -> Self {
        Self { audiences, ..self }
    }

    /// The same, and further keys that verify.
    #[must_use]
    pub fn with_keys(mut self, keys: Vec<PublicKey>) -> Self {
        for key in keys {
            if !self.keys.contains(&key) {
                self.keys.push(key);
            }
        }
        self
    }

    /// What tokens are for when nobody says.
    pub fn default_audiences(&self) -> &[String] {
        &self.audiences
    }

    /// The public keys as a JSON Web Key Set.
    pub fn key_set(&self) -> Value {
        json!({"keys": self.keys.iter().map(PublicKey::web_key).collect::<Vec<_>>()})
    }

    pub(crate) fn keys(&self) -> &[PublicKey] {
        &self.keys
    }

    pub(crate) fn accounts(&self) -> &ResourceStore {
        &self.accounts
    }

    pub(crate) fn secrets(&self) -> &ResourceStore {
        &self.bound.secrets
    }

    /// By which algorithms the keys verify.
    pub fn algorithms(&self) -> BTreeSet<&'static str> {
        self.keys.iter().map(PublicKey::algorithm).collect()
    }

    /// All issuers whose tokens are believed.
    pub fn issuers(&self) -> &[String] {
        &self.issuers
    }

    /// The issuer, as in the discovery document.
    pub fn issuer(&self) -> &str {
        self.issuers.first().map(String::as_str).unwrap_or_default()
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
            iss: self.issuer().to_owned(),
            sub: format!("system:serviceaccount:{}:{}", bindings.namespace, bindings.serviceaccount.name),
            aud: if audiences.is_empty() { self.audiences.clone() } else { audiences },
            exp: now + seconds,
            iat: now,
            nbf: now,
            jti: random::uuid(),
            bindings,
        };
        self.sign(&claims)
    }

    /// Signs any claims.
    ///
    /// # Errors
    /// When they cannot be signed.
    pub fn sign(&self, claims: &impl Serialize) -> Result<String, TokenError> {
        let encode = |value: &[u8]| URL_SAFE_NO_PAD.encode(value);
        let payload = serde_json::to_vec(claims).map_err(|_| TokenError::Encode)?;
        let signed = format!("{}.{}", encode(self.header.to_string().as_bytes()), encode(&payload));
        let signature = self.key.sign(signed.as_bytes())?;
        Ok(format!("{signed}.{}", encode(&signature)))
    }

    /// The claims of a valid token for one of `audiences` (empty: for the API server).
    ///
    /// # Errors
    /// Why it is not valid.
    pub fn verify(&self, token: &str, audiences: &[String], now: i64) -> Result<Claims, TokenError> {
        let jws = Jws::parse(token).filter(|jws| jws.is_of(&self.issuers)).ok_or(TokenError::Malformed)?;
        let claims: Claims = serde_json::from_slice(jws.verified(&self.keys)?).map_err(|_| TokenError::Malformed)?;
        if now - LEEWAY > claims.exp {
            return Err(TokenError::Expired);
        }
        if now + LEEWAY < claims.nbf {
            return Err(TokenError::NotYet);
        }
        if now + LEEWAY < claims.iat {
            return Err(TokenError::Future);
        }
        self.common(&claims.aud, audiences)?;
        self.check_bindings(&claims.bindings, now)?;
        Ok(claims)
    }

    /// The audiences that a question is about.
    fn wanted<'a>(&'a self, asked: &'a [String]) -> &'a [String] {
        if asked.is_empty() { &self.audiences } else { asked }
    }

    /// Those of the audiences of a token that a question is about.
    ///
    /// # Errors
    /// When there are none.
    pub(crate) fn common(&self, has: &[String], asked: &[String]) -> Result<Vec<String>, TokenError> {
        let wanted = self.wanted(asked);
        let common: Vec<String> = has.iter().filter(|audience| wanted.contains(audience)).cloned().collect();
        if common.is_empty() {
            return Err(TokenError::Audience { has: quoted(has), wanted: quoted(wanted) });
        }
        Ok(common)
    }

    fn check_bindings(&self, bindings: &Bindings, now: i64) -> Result<(), TokenError> {
        let Bindings { namespace, serviceaccount, pod, secret, node, .. } = bindings;
        let key = |bound: &BoundObject| format!("{namespace}/{}", bound.name);
        let account = Life::of(&self.accounts, &key(serviceaccount));
        let account = account.ok_or_else(|| TokenError::Unbound(no_account(&serviceaccount.name)))?;
        if account.uid != serviceaccount.uid {
            let (is, claimed) = (&account.uid, &serviceaccount.uid);
            return Err(TokenError::Unbound(format!("service account UID ({is}) does not match claim ({claimed})")));
        }
        if account.is_over(now) {
            let name = &serviceaccount.name;
            return Err(TokenError::Unbound(format!("service account {namespace}/{name} has been deleted")));
        }
        // A token for a pod also says on which node that is, and is not bound to it.
        let node = node.as_ref().filter(|_| pod.is_none());
        let checks = [
            (&self.bound.secrets, "secret", secret.as_ref().map(|bound| (bound, key(bound)))),
            (&self.bound.pods, "pod", pod.as_ref().map(|bound| (bound, key(bound)))),
            (&self.bound.nodes, "node", node.map(|bound| (bound, bound.name.clone()))),
        ];
        for (store, what, bound) in checks {
            let Some((bound, key)) = bound else { continue };
            let gone = || TokenError::Unbound("service account token has been invalidated".into());
            let life = Life::of(store, &key).ok_or_else(gone)?;
            if life.uid != bound.uid {
                return Err(TokenError::Unbound(format!(
                    "{what} UID ({}) does not match service account {what} ref claim ({})",
                    life.uid, bound.uid
                )));
            }
            if life.is_over(now) {
                return Err(gone());
            }
        }
        Ok(())
    }

    /// The user that a token stands for. One that is shown although there has been another for a while is remarked upon: its
    /// program reads it once.
    ///
    /// # Errors
    /// As [`TokenSigner::verify`].
    pub fn authenticate(
        &self,
        token: &str,
        audiences: &[String],
        now: i64,
        remarks: &Remarks,
    ) -> Result<Authenticated, TokenError> {
        let claims = self.verify(token, audiences, now)?;
        match claims.bindings.warnafter.filter(|after| *after != 0) {
            Some(after) if now > after => {
                let said = format!("subject: {}, seconds after warning threshold: {}", claims.sub, now - after);
                remarks.annotate("authentication.k8s.io/stale-token", said);
                remarks.count(ShownToken::Stale);
            }
            Some(_) => remarks.count(ShownToken::Valid),
            None => {}
        }
        Ok(Authenticated { user: user_of(&claims), audiences: self.common(&claims.aud, audiences)? })
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
    if !claims.jti.is_empty() {
        extra("credential-id", format!("JTI={}", claims.jti));
    }
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

/// One life of an object.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Life {
    #[serde(default)]
    pub(crate) uid: String,
    pub(crate) deletion_timestamp: Option<String>,
}

// === impl Life ===

impl Life {
    /// That of an object; none when it is not there. What cannot be read vouches for nothing.
    fn of(store: &ResourceStore, key: &str) -> Option<Self> {
        let object = store.get(key).ok().flatten()?;
        serde_json::from_slice::<Head>(&object.stored()).ok().map(|head| head.metadata)
    }

    /// Whether it was to be gone a while ago, whatever holds it up.
    fn is_over(&self, now: i64) -> bool {
        let gone = self.deletion_timestamp.as_ref().and_then(|at| kedge_base::time::parse(at).ok());
        gone.is_some_and(|at| at.as_second() < now - LEEWAY)
    }
}

/// What upstream says of an account that is not there.
pub(crate) fn no_account(name: &str) -> String {
    format!("serviceaccounts {name:?} not found")
}

/// Seconds that clocks may differ by.
const LEEWAY: i64 = 60;
