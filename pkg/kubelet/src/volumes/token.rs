//! Tokens of service accounts, bound to their pod: requested when first needed, and again before they expire.

use std::collections::HashMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kedge_base::{SharedClock, random};
use kedge_client::Client;
use kedge_meta::resources;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::json;
use tracing::warn;

use crate::pod::PodExt;

/// A token older than this is replaced however long it is valid.
const MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);
const MAX_JITTER_SECONDS: u64 = 10;
/// What the API server fills in where none is given.
const DEFAULT_SECONDS: i64 = 60 * 60;

/// What a token is for; also the key under which it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TokenRequest {
    namespace: String,
    account: String,
    pod: String,
    uid: String,
    audience: String,
    seconds: i64,
}

impl TokenRequest {
    pub(crate) fn new(pod: &Pod, audience: String, seconds: Option<i64>) -> TokenRequest {
        let account = PodExt::spec(pod).service_account_name.clone();
        TokenRequest {
            namespace: pod.namespace().to_string(),
            account: account.filter(|a| !a.is_empty()).unwrap_or_else(|| "default".into()),
            pod: pod.name().to_string(),
            uid: pod.uid().to_string(),
            audience,
            seconds: seconds.unwrap_or(DEFAULT_SECONDS),
        }
    }
}

#[derive(Deserialize)]
struct Answer {
    status: AnswerStatus,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AnswerStatus {
    token: String,
    expiration_timestamp: String,
}

/// A token that was issued.
#[derive(Clone)]
pub(crate) struct Token {
    pub(crate) text: String,
    refresh: Timestamp,
    pub(crate) expires: Timestamp,
}

/// The tokens of this node's pods.
pub(crate) struct Tokens {
    client: Client,
    clock: SharedClock,
    known: Mutex<HashMap<TokenRequest, Token>>,
}

impl Tokens {
    pub(crate) fn new(client: Client, clock: SharedClock) -> Tokens {
        Tokens { client, clock, known: Mutex::default() }
    }

    /// A token with at least a fifth of its time left, or the old one while no new one is to be had.
    pub(crate) async fn get(&self, request: &TokenRequest) -> Result<Token, String> {
        let now = self.clock.now();
        let known = self.known.lock().get(request).cloned();
        if let Some(token) = known.as_ref().filter(|t| now < t.refresh) {
            return Ok(token.clone());
        }
        match self.request(request, now).await {
            Ok(token) => {
                self.known.lock().insert(request.clone(), token.clone());
                Ok(token)
            }
            Err(error) => match known.filter(|t| now < t.expires) {
                Some(token) => {
                    let (pod, namespace) = (&request.pod, &request.namespace);
                    warn!(pod, namespace, %error, "token is not refreshed yet");
                    Ok(token)
                }
                None => Err(format!("failed to fetch token: {error}")),
            },
        }
    }

    /// Forgets the tokens of a pod.
    pub(super) fn forget(&self, uid: &str) {
        self.known.lock().retain(|request, _| request.uid != uid);
    }

    async fn request(&self, request: &TokenRequest, now: Timestamp) -> Result<Token, String> {
        let audiences: Vec<&str> = Some(request.audience.as_str()).filter(|a| !a.is_empty()).into_iter().collect();
        let mut spec = json!({
            "expirationSeconds": request.seconds,
            "boundObjectRef":
                {"apiVersion": "v1", "kind": "Pod", "name": request.pod, "uid": request.uid},
        });
        // The API server fills in its own audience where none is named.
        spec["audiences"] = json!(audiences);
        let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
        let (namespace, account) = (&request.namespace, &request.account);
        let accounts = &resources::SERVICE_ACCOUNTS;
        let answer: Answer = self
            .client
            .create_subresource(accounts, namespace, account, "token", &body)
            .await
            .map_err(|error| error.to_string())?;
        let expires = answer.status.expiration_timestamp.parse::<Timestamp>();
        let expires = expires.map_err(|error| error.to_string())?;
        let jitter = Duration::from_secs(random::u64() % MAX_JITTER_SECONDS);
        Ok(Token { text: answer.status.token, refresh: refresh_at(now, expires, jitter), expires })
    }
}

/// When a fifth of the time is left, or the token is a day old.
fn refresh_at(now: Timestamp, expires: Timestamp, jitter: Duration) -> Timestamp {
    let life = expires.duration_since(now);
    let max = SignedDuration::try_from(MAX_AGE).unwrap_or(SignedDuration::MAX);
    let jitter = SignedDuration::try_from(jitter).unwrap_or_default();
    let wait = (life / 5 * 4).min(max) - jitter;
    now.checked_add(wait).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn refreshed_at_four_fifths_or_after_a_day() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let after = |seconds| now.checked_add(SignedDuration::from_secs(seconds)).unwrap();
        assert_eq!(refresh_at(now, after(1000), Duration::ZERO), after(800));
        assert_eq!(refresh_at(now, after(10_000_000), Duration::from_secs(5)), after(86_395));
    }
}
