//! Webhooks that are asked who somebody is, or whether somebody may do something.
//!
//! Invariants: a question ends within its time, however often it is asked again; an answer that is kept is found by everything that was
//! asked, and by nothing less; no token is kept, and none is logged.

mod authorizer;
mod conditions;
mod meters;
mod spec;
mod tokens;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use kedge_base::Backoff;
use kedge_webhook::{CallError, Caller, ClientConfig};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

pub(crate) use authorizer::{Behaviour, WebhookAuthorizer};
pub(crate) use conditions::Condition;
pub use meters::AuthorizationMeters;
pub(crate) use meters::Decisions;
pub use tokens::WebhookTokens;

/// How often a question is asked at most, and the pauses in between, as upstream.
const ATTEMPTS: usize = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Which version of reviews a webhook understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    V1,
    V1beta1,
}

impl Version {
    /// By its name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::V1, Self::V1beta1].into_iter().find(|version| version.name() == name)
    }

    /// Such as `v1`.
    pub fn name(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V1beta1 => "v1beta1",
        }
    }
}

/// Somebody who answers reviews.
#[async_trait]
pub trait Reviewer: Send + Sync {
    /// The answer to a review, within the time.
    ///
    /// # Errors
    /// Why there is none.
    async fn review(&self, review: Bytes, within: Duration) -> Result<Bytes, CallError>;
}

/// Finds somebody who answers reviews.
pub trait Connect: Send + Sync {
    /// The one whom a kubeconfig names.
    ///
    /// # Errors
    /// When the file cannot be used.
    fn connect(&self, kubeconfig: &Path) -> Result<Arc<dyn Reviewer>, String>;
}

/// Who is reached over HTTPS.
pub struct Remote {
    caller: Caller,
    config: ClientConfig,
}

impl Remote {
    /// Whom a caller reaches so.
    pub fn new(caller: Caller, config: ClientConfig) -> Self {
        Self { caller, config }
    }
}

#[async_trait]
impl Reviewer for Remote {
    async fn review(&self, review: Bytes, within: Duration) -> Result<Bytes, CallError> {
        self.caller.post(&self.config, review, within).await
    }
}

/// Why a review came to nothing.
#[derive(Debug, thiserror::Error)]
enum ReviewError {
    #[error(transparent)]
    Call(#[from] CallError),
    /// What was answered is no answer.
    #[error("{0}")]
    Answer(String),
    #[error("context deadline exceeded")]
    Late,
}

impl ReviewError {
    fn is_transient(&self) -> bool {
        matches!(self, Self::Call(why) if why.is_transient())
    }

    fn is_timeout(&self) -> bool {
        match self {
            Self::Call(why) => why.is_timeout(),
            Self::Late => true,
            Self::Answer(_) => false,
        }
    }
}

/// How often a question is asked, and after which pauses.
struct Attempts {
    pauses: Backoff,
    left: usize,
}

impl Attempts {
    fn new() -> Self {
        Self { pauses: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE, 15), left: ATTEMPTS }
    }

    /// After which time to ask once more; none when this is the answer, or an error that would be the same the next time.
    fn pause<T>(&mut self, answered: &Result<T, ReviewError>) -> Option<Duration> {
        self.left -= 1;
        let goes_on = answered.as_ref().is_err_and(ReviewError::is_transient) && self.left > 0;
        goes_on.then(|| self.pauses.next())
    }
}

/// A review as it is sent; `status` is that of one that nobody has answered.
fn review(group: &str, version: Version, kind: &str, spec: &Value, status: &Value) -> Bytes {
    let version = format!("{group}/{}", version.name());
    json!({"kind": kind, "apiVersion": version, "metadata": {}, "spec": spec, "status": status}).to_string().into()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", bound = "S: DeserializeOwned + Default")]
struct Answered<S> {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    status: S,
}

/// The status of a review that was answered, which must be of the kind and the version that were asked for, where it says them.
fn status<S: DeserializeOwned + Default>(
    answer: &[u8],
    group: &str,
    version: Version,
    kind: &str,
) -> Result<S, ReviewError> {
    let answered: Answered<S> = serde_json::from_slice(answer)
        .map_err(|why| ReviewError::Answer(format!("couldn't get version/kind; json parse error: {why}")))?;
    let wanted = format!("{group}/{}", version.name());
    let fits = |said: &str, wanted: &str| said.is_empty() || said == wanted;
    if fits(&answered.kind, kind) && fits(&answered.api_version, &wanted) {
        return Ok(answered.status);
    }
    let (said, of) = (answered.kind, answered.api_version);
    Err(ReviewError::Answer(format!(
        "expected kind {kind:?} of version {wanted:?}, got kind {said:?} of version {of:?}"
    )))
}

#[cfg(test)]
mod testing {
    #![allow(clippy::unwrap_used)]
    use parking_lot::Mutex;

    use super::*;

    type Answers = dyn Fn(usize, &Value) -> Result<Value, CallError> + Send + Sync;

    /// Answers what a function makes of the number of the question and its text.
    pub(super) struct Scripted {
        answers: Box<Answers>,
        pub(super) asked: Mutex<Vec<Value>>,
    }

    impl Scripted {
        pub(super) fn new(
            answers: impl Fn(usize, &Value) -> Result<Value, CallError> + Send + Sync + 'static,
        ) -> Arc<Self> {
            Arc::new(Self { answers: Box::new(answers), asked: Mutex::default() })
        }
    }

    #[async_trait]
    impl Reviewer for Scripted {
        async fn review(&self, review: Bytes, _: Duration) -> Result<Bytes, CallError> {
            let review: Value = serde_json::from_slice(&review).unwrap();
            let number = {
                let mut asked = self.asked.lock();
                asked.push(review.clone());
                asked.len() - 1
            };
            // Others have their turn.
            tokio::task::yield_now().await;
            (self.answers)(number, &review).map(|answer| answer.to_string().into())
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use kedge_meta::{Reason, Status};

    fn refused(code: u16, reason: Reason) -> ReviewError {
        CallError::Refused(Box::new(Status::failure(code, reason, "no"))).into()
    }

    #[test]
    fn who_is_broken_is_asked_again_five_times_in_all() {
        for (code, reason, wanted) in [(500, Reason::InternalError, 4), (403, Reason::Forbidden, 0)] {
            let mut attempts = Attempts::new();
            let pauses = std::iter::from_fn(|| attempts.pause::<()>(&Err(refused(code, reason))));
            let pauses: Vec<u128> = pauses.map(|pause| pause.as_millis() / 100).collect();
            assert_eq!(pauses.len(), wanted, "{code}");
            assert!(pauses.is_sorted() && pauses.first().is_none_or(|first| *first == 5), "{pauses:?}");
        }
        assert_eq!(Attempts::new().pause(&Ok(())), None);
    }

    #[test]
    fn an_answer_is_of_the_kind_that_was_asked_for() {
        let read = |answer: &Value| {
            status::<Value>(answer.to_string().as_bytes(), "authentication.k8s.io", Version::V1, "TokenReview")
        };
        let fits = json!({"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "status": {"a": 1}});
        assert_eq!(read(&fits).unwrap(), json!({"a": 1}));
        assert_eq!(read(&json!({"status": {"a": 1}})).unwrap(), json!({"a": 1}), "what it does not say fits");
        for (field, value) in [("kind", "SubjectAccessReview"), ("apiVersion", "authentication.k8s.io/v1beta1")] {
            let mut other = fits.clone();
            other[field] = value.into();
            assert!(read(&other).unwrap_err().to_string().contains(value));
        }
        assert!(status::<Value>(b"hello", "g", Version::V1, "TokenReview").is_err());
    }
}
