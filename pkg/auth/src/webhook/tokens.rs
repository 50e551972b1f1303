//! Tokens that a webhook knows.
//!
//! Many requests with the same token make it asked once; what it has said is kept for a while, errors are not.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kedge_base::{SharedClock, TaskGroup, sizes, time};
use kedge_meta::UserInfo;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::watch;
use tracing::error;

use super::{Attempts, ReviewError, Reviewer, Version, review, status};
use crate::authenticator::authenticated;
use crate::expiring::{Expiring, Key};
use crate::tokens::Authenticated;

const GROUP: &str = "authentication.k8s.io";
const KIND: &str = "TokenReview";
/// For one call, and for a question however often it is asked, as upstream.
const WITHIN: Duration = Duration::from_secs(30);
/// Tokens that are asked about at the same time.
const RUNNING: usize = 1_024;

/// Asks a webhook about tokens.
pub struct WebhookTokens(Arc<Inner>);

struct Inner {
    reviewer: Arc<dyn Reviewer>,
    version: Version,
    /// How long an answer is kept; zero for not at all.
    kept_for: Duration,
    /// What is authenticated, or that nobody is.
    answers: Arc<Expiring<Option<Authenticated>>>,
    running: Mutex<HashMap<Key, watch::Receiver<Option<Answered>>>>,
    clock: SharedClock,
    tasks: TaskGroup,
}

type Answered = Result<Option<Authenticated>, String>;

/// `status` of a TokenReview.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    authenticated: bool,
    user: User,
    audiences: Vec<String>,
    error: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct User {
    username: String,
    uid: String,
    groups: Option<Vec<String>>,
    extra: Option<BTreeMap<String, Option<Vec<String>>>>,
}

/// Takes a question off the list of those that are being asked, also when its task ends before its time.
struct Listed(Arc<Inner>, Key);

impl Drop for Listed {
    fn drop(&mut self) {
        self.0.running.lock().remove(&self.1);
    }
}

impl WebhookTokens {
    /// Of a webhook, whose answers are kept for so long.
    pub fn new(
        reviewer: Arc<dyn Reviewer>,
        version: Version,
        kept_for: Duration,
        (clock, tasks): (&SharedClock, &TaskGroup),
    ) -> Self {
        let answers = Arc::new(Expiring::default());
        sizes::list("authentication webhook", &answers);
        let (running, clock, tasks) = (Mutex::default(), clock.clone(), tasks.clone());
        Self(Arc::new(Inner { reviewer, version, kept_for, answers, running, clock, tasks }))
    }

    /// The user that a token stands for, and for whom of those it is. `wanted` are the audiences that are asked about, and `ours` those
    /// that count where the webhook knows of none.
    ///
    /// # Errors
    /// What the webhook says is wrong with it, or why it could not be asked.
    pub(crate) async fn authenticate(&self, token: &str, wanted: &[String], ours: &[String]) -> Answered {
        let inner = &self.0;
        let parts = [token].into_iter().chain(wanted.iter().map(String::as_str)).map(str::as_bytes);
        let key = inner.answers.key(parts);
        if let Some(known) = inner.answers.get(&key, inner.clock.monotonic()) {
            return Ok(known);
        }
        let mut answered = match inner.begin(key, token, wanted, ours)? {
            Begun::Known(known) => return Ok(known),
            Begun::Asked(answered) => answered,
        };
        match answered.wait_for(Option::is_some).await {
            Ok(answered) => answered.clone().unwrap_or(Ok(None)),
            Err(_) => Err("authentication failed unexpectedly".to_owned()),
        }
    }
}

enum Begun {
    Known(Option<Authenticated>),
    Asked(watch::Receiver<Option<Answered>>),
}

impl Inner {
    /// Has the webhook asked by a task of its own, so that a client that goes away keeps nobody from the answer.
    fn begin(self: &Arc<Self>, key: Key, token: &str, wanted: &[String], ours: &[String]) -> Result<Begun, String> {
        let mut running = self.running.lock();
        if let Some(asked) = running.get(&key) {
            return Ok(Begun::Asked(asked.clone()));
        }
        // Who asked meanwhile has kept the answer before it went off the list.
        if let Some(known) = self.answers.get(&key, self.clock.monotonic()) {
            return Ok(Begun::Known(known));
        }
        if running.len() >= RUNNING {
            return Err("too many tokens are being asked about".to_owned());
        }
        let (answer, asked) = watch::channel(None);
        running.insert(key, asked.clone());
        drop(running);
        let listed = Listed(self.clone(), key);
        let (own, token, wanted, ours) = (self.clone(), token.to_owned(), wanted.to_vec(), ours.to_vec());
        self.tasks.spawn_until_shutdown("review of a token", async move {
            let answered = own.ask(&token, &wanted, &ours).await;
            if let (Ok(known), false) = (&answered, own.kept_for.is_zero()) {
                let until = own.clock.monotonic() + own.kept_for;
                own.answers.keep(key, known.clone(), known.as_ref().map_or(0, size), until);
            }
            drop(listed);
            answer.send_replace(Some(answered));
        });
        Ok(Begun::Asked(asked))
    }

    async fn ask(&self, token: &str, wanted: &[String], ours: &[String]) -> Answered {
        let spec = json!({"token": token, "audiences": wanted});
        let sent = review(GROUP, self.version, KIND, &spec, &json!({"user": {}}));
        let asked = time::timeout(WITHIN, self.insist(&sent));
        match asked.await.unwrap_or(Err(ReviewError::Late)) {
            Ok(status) => status.judged(wanted, ours),
            Err(why) => {
                error!(error = %why, "failed to make webhook authenticator request");
                Err(why.to_string())
            }
        }
    }
}

impl Inner {
    async fn insist(&self, sent: &Bytes) -> Result<Status, ReviewError> {
        let mut attempts = Attempts::new();
        loop {
            let answered = self.reviewer.review(sent.clone(), WITHIN).await.map_err(ReviewError::from);
            let answered = answered.and_then(|answer| status(&answer, GROUP, self.version, KIND));
            let Some(pause) = attempts.pause(&answered) else { return answered };
            self.clock.sleep(pause).await;
        }
    }
}

impl Status {
    /// The user, if the token is for somebody who was asked about.
    fn judged(self, wanted: &[String], ours: &[String]) -> Answered {
        let known = if self.audiences.is_empty() { ours } else { &self.audiences };
        let audiences: Vec<String> = wanted.iter().filter(|one| known.contains(one)).cloned().collect();
        if audiences.is_empty() {
            return Ok(None);
        }
        if !self.authenticated {
            return if self.error.is_empty() { Ok(None) } else { Err(self.error) };
        }
        let User { username, uid, groups, extra } = self.user;
        if username.is_empty() {
            return Err("the webhook names no user".to_owned());
        }
        let extra = extra.unwrap_or_default().into_iter().map(|(key, values)| (key, values.unwrap_or_default()));
        let user = UserInfo { name: username, uid, groups: groups.unwrap_or_default(), extra: extra.collect() };
        Ok(Some(Authenticated { user: authenticated(user), audiences }))
    }
}

/// What an answer takes, about.
fn size(known: &Authenticated) -> usize {
    let texts = |all: &[String]| all.iter().map(|text| text.len() + 24).sum::<usize>();
    let user = &known.user;
    let extra: usize = user.extra.iter().map(|(key, values)| key.len() + 48 + texts(values)).sum();
    user.name.len() + user.uid.len() + texts(&user.groups) + extra + texts(&known.audiences)
}

#[cfg(test)]
#[path = "tokens_tests.rs"]
mod tests;
