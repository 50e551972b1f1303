//! The authorizer that asks a webhook.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kedge_base::{SharedClock, sizes, time};
use kedge_meta::UserInfo;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tracing::error;

use super::conditions::{self, Condition};
use super::{Attempts, AuthorizationMeters, ReviewError, Reviewer, Version, review, spec, status};
use crate::authorizer::{Authorizer, Deciding, Decision, Request, Rules};
use crate::expiring::{Expiring, Key};

const GROUP: &str = "authorization.k8s.io";
const KIND: &str = "SubjectAccessReview";
/// What a requester may make of a question for its answer to be kept, in bytes, as upstream.
const CONTROLLED: usize = 10_000;
/// How long a request waits for a decision, however often the webhook is asked: as long as upstream lets a request take.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a webhook is asked.
#[derive(Debug, Clone)]
pub(crate) struct Behaviour {
    pub(crate) name: String,
    pub(crate) version: Version,
    /// For one call.
    pub(crate) timeout: Duration,
    /// How long an answer that allows is kept, and one that does not; zero for not at all.
    pub(crate) authorized: Duration,
    pub(crate) unauthorized: Duration,
    /// Whether somebody who cannot be asked counts as one who refuses.
    pub(crate) denies_on_failure: bool,
    pub(crate) conditions: Vec<Condition>,
}

/// Asks a webhook.
pub(crate) struct WebhookAuthorizer(Arc<Inner>);

struct Inner {
    behaviour: Behaviour,
    reviewer: Arc<dyn Reviewer>,
    answers: Arc<Expiring<Answer>>,
    meters: Arc<AuthorizationMeters>,
    clock: SharedClock,
}

/// `status` of a SubjectAccessReview.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Answer {
    allowed: bool,
    denied: bool,
    reason: String,
}

/// What is known of a request before anybody is asked.
struct Begun {
    held: Result<bool, String>,
    took: Duration,
    spec: Map<String, Value>,
    key: Key,
}

impl WebhookAuthorizer {
    pub(crate) fn new(
        behaviour: Behaviour,
        reviewer: Arc<dyn Reviewer>,
        meters: &Arc<AuthorizationMeters>,
        clock: &SharedClock,
    ) -> Self {
        let answers = Arc::new(Expiring::default());
        sizes::list(format!("authorization webhook {}", behaviour.name), &answers);
        Self(Arc::new(Inner { behaviour, reviewer, answers, meters: meters.clone(), clock: clock.clone() }))
    }
}

impl Authorizer for WebhookAuthorizer {
    /// Nothing is counted before it is certain what becomes of the request: what is decided later is begun anew by some.
    fn authorize<'a>(&'a self, request: &'a Request<'a>) -> Deciding<'a> {
        let inner = &self.0;
        let begun = inner.begin(request);
        let known = match &begun.held {
            Ok(true) => inner.answers.get(&begun.key, inner.clock.monotonic()).map(Answer::decision),
            Ok(false) => Some(Decision::NoOpinion(String::new())),
            Err(why) => Some(inner.failed(why.clone())),
        };
        if let Some(decision) = known {
            inner.count(&begun);
            return decision.into();
        }
        let (inner, keeps) = (inner.clone(), spec::controlled(request) < CONTROLLED);
        Deciding::later(async move {
            inner.count(&begun);
            inner.decide(begun, keeps).await
        })
    }

    fn rules_of(&self, _: &UserInfo, _: &str) -> Rules {
        let errors = vec!["webhook authorizer does not support user rule resolution".to_owned()];
        Rules { incomplete: true, errors, ..Rules::default() }
    }
}

impl Inner {
    fn begin(&self, request: &Request<'_>) -> Begun {
        let began = self.clock.monotonic();
        let conditions = &self.behaviour.conditions;
        let held = if conditions.is_empty() { Ok(true) } else { conditions::hold(conditions, &spec::shown(request)) };
        let took = self.clock.monotonic().saturating_sub(began);
        let spec = spec::sent(request);
        let whole = serde_json::to_vec(&spec).unwrap_or_default();
        Begun { held, took, key: self.answers.key([whole.as_slice()]), spec }
    }

    fn count(&self, begun: &Begun) {
        if !self.behaviour.conditions.is_empty() {
            self.meters.conditions(&self.behaviour.name, &begun.held, begun.took);
        }
    }

    async fn decide(&self, begun: Begun, keeps: bool) -> Decision {
        let Behaviour { name, version, authorized, unauthorized, denies_on_failure, .. } = &self.behaviour;
        let sent = review(GROUP, *version, KIND, &spec::versioned(begun.spec, *version), &json!({"allowed": false}));
        let asked = time::timeout(PATIENCE, self.insist(&sent));
        match asked.await.unwrap_or(Err(ReviewError::Late)) {
            Ok(answer) => {
                let kept_for = if answer.allowed { *authorized } else { *unauthorized };
                if keeps && !kept_for.is_zero() {
                    let until = self.clock.monotonic() + kept_for;
                    self.answers.keep(begun.key, answer.clone(), answer.reason.len(), until);
                }
                answer.decision()
            }
            Err(why) => {
                error!(webhook = name, error = %why, "failed to make webhook authorizer request");
                if !denies_on_failure {
                    self.meters.failed_open(name, result(&why));
                }
                self.failed(why.to_string())
            }
        }
    }

    async fn insist(&self, sent: &Bytes) -> Result<Answer, ReviewError> {
        let mut attempts = Attempts::new();
        loop {
            let answered = self.ask(sent).await;
            let Some(pause) = attempts.pause(&answered) else { return answered };
            self.clock.sleep(pause).await;
        }
    }

    async fn ask(&self, sent: &Bytes) -> Result<Answer, ReviewError> {
        let Behaviour { name, version, timeout, .. } = &self.behaviour;
        let began = self.clock.monotonic();
        let answered = self.reviewer.review(sent.clone(), *timeout).await.map_err(ReviewError::from);
        let answered = answered.and_then(|answer| status(&answer, GROUP, *version, KIND));
        let took = self.clock.monotonic().saturating_sub(began);
        self.meters.round_trip(name, answered.as_ref().map_or_else(result, |_| "success"), took);
        answered
    }

    fn failed(&self, error: String) -> Decision {
        Decision::Failed { denied: self.behaviour.denies_on_failure, reason: String::new(), error }
    }
}

fn result(why: &ReviewError) -> &'static str {
    if why.is_timeout() { "timeout" } else { "error" }
}

impl Answer {
    fn decision(self) -> Decision {
        let Self { allowed, denied, reason } = self;
        match (allowed, denied) {
            (true, true) => Decision::Failed {
                denied: true,
                reason,
                error: "webhook subject access review returned both allow and deny response".to_owned(),
            },
            (_, true) => Decision::Deny(reason),
            (true, false) => Decision::Allow(reason),
            (false, false) => Decision::NoOpinion(reason),
        }
    }
}

#[cfg(test)]
#[path = "authorizer_tests.rs"]
mod tests;
