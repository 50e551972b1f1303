//! Bearer tokens: the API says whose they are. What it said is remembered for as long as upstream remembers it, by a digest: the tokens
//! themselves are not kept.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use http::{HeaderMap, header};
use kedge_base::SharedClock;
use kedge_client::Client;
use kedge_meta::resources;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use super::access::Identity;

/// Upstream's `authentication.webhook.cacheTTL`.
const KEPT: Duration = Duration::from_secs(120);
const REFUSED: Duration = Duration::from_secs(10);
/// Reviews at a time.
const ASKING: usize = 16;
/// Answers that are remembered.
const MOST: usize = 1_024;
/// No token is longer.
const LONGEST: usize = 16 << 10;

/// Answers by what was asked, each for a while; when there are too many, those that are over go, then all.
pub(super) struct Remembered<K, V> {
    clock: SharedClock,
    answers: Mutex<HashMap<K, (Duration, V)>>,
}

impl<K: Hash + Eq, V: Clone> Remembered<K, V> {
    pub(super) fn new(clock: SharedClock) -> Self {
        Self { clock, answers: Mutex::default() }
    }

    pub(super) fn get(&self, key: &K) -> Option<V> {
        let now = self.clock.monotonic();
        self.answers.lock().get(key).filter(|(until, _)| now < *until).map(|(_, answer)| answer.clone())
    }

    pub(super) fn put(&self, key: K, answer: V, kept: Duration) {
        let now = self.clock.monotonic();
        let mut answers = self.answers.lock();
        if answers.len() >= MOST {
            answers.retain(|_, (until, _)| now < *until);
        }
        if answers.len() >= MOST {
            answers.clear();
        }
        answers.insert(key, (now.saturating_add(kept), answer));
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Review {
    status: ReviewStatus,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ReviewStatus {
    authenticated: bool,
    user: User,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct User {
    username: String,
    uid: String,
    groups: Vec<String>,
    extra: HashMap<String, Value>,
}

/// The tokens that the API was asked about.
pub(super) struct Tokens {
    known: Remembered<[u8; 32], Option<Identity>>,
    /// Of those that ask who they are: anybody can.
    asking: Semaphore,
}

impl Tokens {
    pub(super) fn new(clock: SharedClock) -> Tokens {
        Tokens { known: Remembered::new(clock), asking: Semaphore::new(ASKING) }
    }

    /// Whose token came with a request, if one did and is good.
    ///
    /// # Errors
    /// Why nothing could be found out.
    pub(super) async fn identify(&self, client: &Client, headers: &HeaderMap) -> Result<Option<Identity>, String> {
        let Some(token) = bearer(headers) else { return Ok(None) };
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        if let Some(known) = self.known.get(&digest) {
            return Ok(known);
        }
        let _turn = self.asking.acquire().await.map_err(|error| error.to_string())?;
        // Somebody with the same may have been before.
        if let Some(known) = self.known.get(&digest) {
            return Ok(known);
        }
        let review = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}});
        let answer = client.create::<Review>(&resources::TOKEN_REVIEWS, "", &review).await;
        let Review { status } = answer.map_err(|error| error.to_string())?;
        let User { username, uid, groups, extra } = status.user;
        let identity = (status.authenticated && !username.is_empty()).then(|| Identity {
            uid,
            extra: json!(extra),
            ..Identity::new(username, groups)
        });
        // A token that is not good now may be when its key has come about.
        let kept = if identity.is_some() { KEPT } else { REFUSED };
        self.known.put(digest, identity.clone(), kept);
        Ok(identity)
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.trim().split_once(' ')?;
    let token = token.trim();
    let good = scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && token.len() <= LONGEST;
    good.then_some(token)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use kedge_base::VirtualClock;

    use super::*;

    #[test]
    fn answers_are_remembered_for_a_while_and_there_are_not_too_many() {
        let clock = VirtualClock::new("2026-01-01T00:00:00Z".parse().unwrap());
        let answers = Remembered::new(Arc::new(clock.clone()));
        answers.put(1, 'a', Duration::from_secs(10));
        assert_eq!((answers.get(&1), answers.get(&2)), (Some('a'), None));
        clock.advance(Duration::from_secs(10));
        assert_eq!(answers.get(&1), None);
        for key in 0..MOST + 5 {
            answers.put(key, 'b', Duration::from_secs(10));
        }
        assert!(answers.answers.lock().len() <= MOST);
        assert_eq!(answers.get(&(MOST + 4)), Some('b'));
    }

    #[test]
    fn only_bearer_tokens_are_tokens() {
        let of = |text: &str| {
            let headers = HeaderMap::from_iter([(header::AUTHORIZATION, text.parse().unwrap())]);
            bearer(&headers).map(str::to_owned)
        };
        assert_eq!((of("Bearer abc"), of("bearer  abc ")), (Some("abc".into()), Some("abc".into())));
        assert_eq!((of("Basic abc"), of("Bearer "), of(&format!("Bearer {}", "x".repeat(20_000)))), (None, None, None));
    }
}
