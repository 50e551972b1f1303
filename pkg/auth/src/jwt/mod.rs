//! Tokens of others: JSON Web Tokens of issuers that a configuration names, as OpenID Connect has them.
//!
//! Invariants: a token counts only with a signature by a key of its issuer, an audience that is ours, and within its time; what an issuer says
//! about itself is believed only over TLS, and only of itself. Nothing runs while no token of an issuer comes; many that come at once make it
//! asked once.

mod claims;
mod config;
mod issuers;
mod keys;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use kedge_base::{SharedClock, TaskGroup};
use kedge_meta::UserInfo;
use parking_lot::{Mutex, RwLock};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::sync::{Semaphore, watch};
use tracing::warn;

use crate::authenticator::TokenAuthenticator;
use claims::Reader;
pub use config::{
    AnonymousConfig, AuthenticationConfiguration, ClaimRule, Condition, Extra, Issuer, JwtAuthenticator, Mappings,
    Plain, Prefixed, UserRule,
};
pub use issuers::Issuers;
pub use keys::ALGORITHMS;
use keys::KeySet;

/// Longer tokens are none.
const MAX_TOKEN: usize = 64 << 10;
/// An issuer is not asked more often, whether it answers or not.
const PAUSE: Duration = Duration::from_secs(10);
/// How long a request waits for an issuer, and how many of them at a time.
const PATIENCE: Duration = Duration::from_secs(5);
const WAITING: usize = 64;
/// What is not valid yet may be so within this many seconds, as upstream.
const LEEWAY: f64 = 300.0;
const DISCOVERY: &str = "/.well-known/openid-configuration";

/// Gets what issuers publish.
#[async_trait]
pub trait Fetch: Send + Sync {
    /// The body of a successful answer to a GET, trusting the authorities in PEM, or those that the host trusts if that is empty. It is bounded in
    /// size and time.
    ///
    /// # Errors
    /// Why there is none.
    async fn get(&self, url: &str, authority: &str) -> Result<Bytes, String>;
}

/// Believes the tokens of one issuer.
pub struct Jwt(Arc<Inner>);

struct Inner {
    issuer: Issuer,
    algorithms: Vec<String>,
    reader: Reader,
    fetch: Arc<dyn Fetch>,
    clock: SharedClock,
    tasks: TaskGroup,
    keys: RwLock<Option<Arc<KeySet>>>,
    asked: Mutex<Asked>,
    /// Requests that wait for the issuer; others are not let wait.
    waiting: Semaphore,
}

#[derive(Default)]
struct Asked {
    /// When it was asked for the last time, and has answered or not.
    last: Option<Duration>,
    /// Closed when the issuer that is being asked has answered.
    running: Option<watch::Receiver<()>>,
    /// Where the keys are, once that is known.
    keys_url: Option<String>,
    failure: String,
}

#[derive(Deserialize)]
struct Document {
    issuer: String,
    #[serde(default)]
    jwks_uri: String,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: String,
    /// What has to be understood, which is nothing here.
    crit: Option<Value>,
}

impl Jwt {
    /// Of one issuer, whose tokens are signed by one of `algorithms`; none of them are all.
    ///
    /// # Errors
    /// When the configuration cannot be used.
    pub fn new(
        config: &JwtAuthenticator,
        algorithms: &[String],
        fetch: Arc<dyn Fetch>,
        (clock, tasks): (&SharedClock, &TaskGroup),
    ) -> Result<Self, String> {
        if let Some(unknown) = algorithms.iter().find(|algorithm| !ALGORITHMS.contains(&algorithm.as_str())) {
            return Err(format!("oidc: unsupported signing alg: {unknown:?}"));
        }
        let all = || ALGORITHMS.map(str::to_owned).to_vec();
        Ok(Self(Arc::new(Inner {
            issuer: config.issuer.clone(),
            algorithms: if algorithms.is_empty() { all() } else { algorithms.to_vec() },
            reader: Reader::new(config)?,
            fetch,
            clock: clock.clone(),
            tasks: tasks.clone(),
            keys: RwLock::default(),
            asked: Mutex::default(),
            waiting: Semaphore::new(WAITING),
        })))
    }
}

impl Jwt {
    /// Whether the issuer has said by which keys it signs. It is asked if it has not, though not at any rate.
    ///
    /// # Errors
    /// Why it has not.
    pub async fn ready(&self) -> Result<(), String> {
        let known = self.0.keys.read().is_some();
        if known { Ok(()) } else { self.0.newer(None).await.map(drop) }
    }
}

impl Inner {
    async fn read(self: &Arc<Self>, token: &str, now: i64) -> Result<Option<UserInfo>, String> {
        let Some(parts) = Parts::of(token).filter(|parts| parts.issuer() == self.issuer.url) else { return Ok(None) };
        self.verify(&parts).await.map_err(|why| format!("verify token: {why}"))?;
        self.check(&parts.claims, now).map_err(|why| format!("verify token: {why}"))?;
        self.reader.user(&parts.claims).map(Some)
    }

    async fn verify(self: &Arc<Self>, parts: &Parts<'_>) -> Result<(), String> {
        let Header { alg, kid, crit } = &parts.header;
        if crit.is_some() {
            return Err("oidc: malformed jwt: unsupported crit header".to_owned());
        }
        if !self.algorithms.contains(alg) {
            let all = self.algorithms.join(" ");
            return Err(format!("oidc: id token signed with unsupported algorithm, expected [{all}] got {alg:?}"));
        }
        let verified = |keys: &KeySet| keys.verify((alg, kid), parts.signed.as_bytes(), &parts.signature);
        let known = self.keys.read().clone();
        if known.as_ref().is_some_and(|keys| verified(keys)) {
            return Ok(());
        }
        // The issuer may have new ones.
        let keys = self.newer(known.as_ref()).await?;
        if verified(&keys) {
            Ok(())
        } else {
            Err("failed to verify signature: failed to verify id token signature".to_owned())
        }
    }

    /// Keys that are not those that are known, if there are any by now. The issuer is asked by a task of its own, so that a client that goes
    /// away keeps nobody from the answer, and nobody waits for it for long.
    async fn newer(self: &Arc<Self>, known: Option<&Arc<KeySet>>) -> Result<Arc<KeySet>, String> {
        let Ok(_waits) = self.waiting.try_acquire() else { return self.known(known) };
        let mut answered = {
            let mut asked = self.asked.lock();
            let is_new = |keys: &Arc<KeySet>| known.is_none_or(|known| !Arc::ptr_eq(known, keys));
            // Somebody else has asked meanwhile.
            if let Some(keys) = self.keys.read().clone().filter(is_new) {
                return Ok(keys);
            }
            let now = self.clock.monotonic();
            match &asked.running {
                Some(running) if running.has_changed().is_ok() => running.clone(),
                _ if asked.last.is_some_and(|last| now < last + PAUSE) => {
                    drop(asked);
                    return self.known(known);
                }
                _ => {
                    let (answers, answered) = watch::channel(());
                    asked.running = Some(answered.clone());
                    let own = self.clone();
                    self.tasks.spawn("issuer of tokens", async move {
                        let _answers = answers;
                        own.ask_once().await;
                    });
                    answered
                }
            }
        };
        // It ends when whoever asks has gone.
        let _late = kedge_base::time::timeout(PATIENCE, answered.changed()).await;
        self.known(known)
    }

    /// What is known now.
    fn known(&self, known: Option<&Arc<KeySet>>) -> Result<Arc<KeySet>, String> {
        let keys = self.keys.read().clone();
        keys.or_else(|| known.cloned()).ok_or_else(|| match self.asked.lock().failure.as_str() {
            "" => "oidc: authenticator not initialized".to_owned(),
            failure => format!("oidc: authenticator not initialized: {failure}"),
        })
    }

    async fn ask_once(&self) {
        let mut keys_url = self.asked.lock().keys_url.clone();
        let answer = self.ask(&mut keys_url).await;
        let mut asked = self.asked.lock();
        asked.last = Some(self.clock.monotonic());
        match answer {
            Ok(keys) => {
                *self.keys.write() = Some(Arc::new(keys));
                asked.keys_url = keys_url;
                asked.failure.clear();
            }
            Err(why) => {
                warn!(issuer = self.issuer.url, error = why, "cannot get the keys of an issuer of tokens");
                asked.failure = why;
                // Where the keys are may have changed, too.
                asked.keys_url = None;
            }
        }
    }

    async fn ask(&self, keys_url: &mut Option<String>) -> Result<KeySet, String> {
        let authority = &self.issuer.certificate_authority;
        let url = match keys_url {
            Some(url) => url,
            None => {
                let own = format!("{}{DISCOVERY}", self.issuer.url.trim_end_matches('/'));
                let at = if self.issuer.discovery_url.is_empty() { &own } else { &self.issuer.discovery_url };
                let document = self.fetch.get(at, authority).await?;
                let document: Document = serde_json::from_slice(&document).map_err(|why| format!("{at}: {why}"))?;
                if document.issuer != self.issuer.url {
                    let (wanted, got) = (&self.issuer.url, document.issuer);
                    return Err(format!(
                        "oidc: issuer did not match the issuer returned by provider, expected {wanted:?} got {got:?}"
                    ));
                }
                if !document.jwks_uri.starts_with("https://") {
                    return Err(format!("{at}: the place of the keys {:?} is not https", document.jwks_uri));
                }
                keys_url.insert(document.jwks_uri)
            }
        };
        let keys = self.fetch.get(url, authority).await?;
        KeySet::read(&keys).map_err(|why| format!("{url}: {why}"))
    }

    fn check(&self, claims: &Map<String, Value>, now: i64) -> Result<(), String> {
        let audiences = match claims.get("aud") {
            Some(Value::String(one)) => vec![one.as_str()],
            Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        if !self.issuer.audiences.iter().any(|ours| audiences.contains(&ours.as_str())) {
            return Err(format!("oidc: expected audience in {:?} got {audiences:?}", self.issuer.audiences));
        }
        let time = |claim: &str| claims.get(claim).and_then(Value::as_f64);
        let now = now as f64;
        match time("exp") {
            Some(expires) if expires >= now => {}
            _ => return Err("oidc: token is expired".to_owned()),
        }
        if time("nbf").is_some_and(|from| now + LEEWAY < from) {
            return Err("oidc: current time is before the nbf (not before) time".to_owned());
        }
        Ok(())
    }
}

#[async_trait]
impl TokenAuthenticator for Jwt {
    async fn authenticate(&self, token: &str, now: i64) -> Result<Option<UserInfo>, String> {
        self.0.read(token, now).await.map_err(|why| format!("oidc: {why}"))
    }
}

/// A token, taken apart and not yet believed.
struct Parts<'a> {
    header: Header,
    claims: Map<String, Value>,
    signed: &'a str,
    signature: Vec<u8>,
}

impl<'a> Parts<'a> {
    fn of(token: &'a str) -> Option<Self> {
        if token.len() > MAX_TOKEN {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).ok();
        Some(Self {
            header: serde_json::from_slice(&decode(header)?).ok()?,
            claims: serde_json::from_slice(&decode(claims)?).ok()?,
            signed,
            signature: decode(signature)?,
        })
    }

    /// As the token says.
    fn issuer(&self) -> &str {
        match self.claims.get("iss").and_then(Value::as_str).unwrap_or_default() {
            // The name that it once had.
            "accounts.google.com" => "https://accounts.google.com",
            issuer => issuer,
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
