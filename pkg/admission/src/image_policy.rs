//! ImagePolicyWebhook: somebody outside says which images pods may run.
//!
//! What was said counts for a while, and is found by all that was asked.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use kedge_auth::Expiring;
use kedge_base::{Backoff, SharedClock, sizes};
use kedge_meta::Status;
use kedge_registry::value::ValueExt as _;
use kedge_registry::{Attributes, Operation, Registry};
use serde::Deserialize;
use serde_json::{Value, json};
use tracing::debug;

use crate::configuration::AdmissionConfiguration;
use crate::{Plugin, forbidden, is, is_sub};

/// What begins the keys of what is noted for the audit.
const AUDIT: &str = "imagepolicywebhook.image-policy.k8s.io/";
/// What annotations have in their keys that the backend is told.
const TOLD: &str = ".image-policy.k8s.io/";
/// As upstream: how often it is asked, and by how many tenths the pauses grow.
const ATTEMPTS: u32 = 5;
const GROWTH: u32 = 15;

/// Who is asked about images.
#[async_trait]
pub trait ImageReviewer: Send + Sync {
    /// Posts a review and returns it answered.
    ///
    /// # Errors
    /// Why there is no answer.
    async fn review(&self, review: Bytes) -> Result<Bytes, Unreviewed>;
}

/// Why nothing was said about images.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Unreviewed {
    pub why: String,
    /// Whether it may be said yet when it is asked again.
    pub again: bool,
}

/// `imagePolicy` of the configuration: durations are numbers of seconds, that of `retryBackoff` of milliseconds.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Given {
    kube_config_file: PathBuf,
    #[serde(rename = "allowTTL")]
    allow_ttl: i64,
    #[serde(rename = "denyTTL")]
    deny_ttl: i64,
    retry_backoff: i64,
    default_allow: bool,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct File {
    image_policy: Given,
}

/// What is said to the plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImagePolicySettings {
    /// The kubeconfig of who is asked.
    pub kubeconfig: PathBuf,
    allowed: Duration,
    denied: Duration,
    pause: Duration,
    default_allow: bool,
}

impl ImagePolicySettings {
    /// As they stand in the configuration; none when the plugin is told nothing.
    ///
    /// # Errors
    /// When they cannot be read, or a duration is out of bounds.
    pub fn of(configuration: &AdmissionConfiguration) -> Result<Option<Self>, String> {
        let Some(config) = configuration.of(ImagePolicyWebhook::NAME) else { return Ok(None) };
        let File { image_policy: given } = serde_json::from_value(config.clone()).map_err(|why| why.to_string())?;
        const MILLI: Duration = Duration::from_millis(1);
        const SECOND: Duration = Duration::from_secs(1);
        let (backoff, cache) = ((Duration::from_nanos(1), SECOND * 300), (SECOND, SECOND * 1_800));
        Ok(Some(Self {
            kubeconfig: given.kube_config_file,
            allowed: duration(given.allow_ttl, SECOND, cache, SECOND * 300)?,
            denied: duration(given.deny_ttl, SECOND, cache, SECOND * 30)?,
            pause: duration(given.retry_backoff, MILLI, backoff, MILLI * 500)?,
            default_allow: given.default_allow,
        }))
    }
}

/// A number of units: 0 is what is usual, and -1 nothing.
fn duration(given: i64, unit: Duration, (min, max): (Duration, Duration), usual: Duration) -> Result<Duration, String> {
    let shown =
        |duration: Duration| kedge_base::time::go_duration_text(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX));
    match given {
        0 => return Ok(usual),
        -1 => return Ok(Duration::ZERO),
        _ => {}
    }
    let found = u32::try_from(given).ok().and_then(|count| unit.checked_mul(count));
    found.filter(|found| (min..=max).contains(found)).ok_or_else(|| {
        let got = found.map_or_else(|| given.to_string(), shown);
        format!("valid value is between {} and {}, got {got}", shown(min), shown(max))
    })
}

/// An answer.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Verdict {
    allowed: bool,
    reason: String,
    audit_annotations: HashMap<String, String>,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    status: Verdict,
}

/// The plugin. Without settings it is not asked, since it cannot be on.
#[derive(Default)]
pub(crate) struct ImagePolicyWebhook(Option<Asking>);

struct Asking {
    settings: ImagePolicySettings,
    reviewer: Arc<dyn ImageReviewer>,
    clock: SharedClock,
    answers: Arc<Expiring<Arc<Verdict>>>,
}

impl ImagePolicyWebhook {
    pub(crate) const NAME: &str = "ImagePolicyWebhook";

    pub(crate) fn new(settings: ImagePolicySettings, reviewer: Arc<dyn ImageReviewer>, clock: SharedClock) -> Self {
        let answers = Arc::new(Expiring::default());
        sizes::list("image policy webhook", &answers);
        Self(Some(Asking { settings, reviewer, clock, answers }))
    }
}

/// What is to be reviewed of a request.
fn spec(attributes: &Attributes<'_>) -> Value {
    let lists: &[&str] =
        if attributes.subresource.is_empty() { &["containers", "initContainers"] } else { &["ephemeralContainers"] };
    let containers = lists.iter().flat_map(|list| attributes.object.list(&["spec", list]));
    let containers: Vec<Value> = containers.map(|container| json!({"image": container.text(&["image"])})).collect();
    let annotations = attributes.object.map(&["metadata", "annotations"]).into_iter().flatten();
    let told: serde_json::Map<String, Value> =
        annotations.filter(|(key, _)| key.contains(TOLD)).map(|(key, value)| (key.clone(), value.clone())).collect();
    let mut spec = json!({"containers": containers, "namespace": attributes.namespace});
    if !told.is_empty() {
        spec.set("annotations", Value::Object(told));
    }
    spec
}

impl Asking {
    async fn verdict(&self, spec: Value) -> Result<Arc<Verdict>, Unreviewed> {
        let key = self.answers.key([spec.to_string().as_bytes()]);
        if let Some(known) = self.answers.get(&key, self.clock.monotonic()) {
            return Ok(known);
        }
        let review = json!({"kind": "ImageReview", "apiVersion": "imagepolicy.k8s.io/v1alpha1", "metadata": {}, "spec": spec, "status": {"allowed": false}});
        let answer = self.insist(Bytes::from(review.to_string())).await?;
        let read: Answer = serde_json::from_slice(&answer)
            .map_err(|why| Unreviewed { why: format!("the answer is no ImageReview: {why}"), again: false })?;
        let verdict = Arc::new(read.status);
        let lasts = if verdict.allowed { self.settings.allowed } else { self.settings.denied };
        if !lasts.is_zero() {
            self.answers.keep(key, verdict.clone(), answer.len(), self.clock.monotonic() + lasts);
        }
        Ok(verdict)
    }

    /// Asks until there is an answer, or none to be expected.
    async fn insist(&self, review: Bytes) -> Result<Bytes, Unreviewed> {
        let mut pauses = Backoff::new(self.settings.pause, Duration::MAX, GROWTH);
        let mut attempt = 1;
        loop {
            match self.reviewer.review(review.clone()).await {
                Err(failed) if failed.again && attempt < ATTEMPTS => attempt += 1,
                answered => return answered,
            }
            self.clock.sleep(pauses.next()).await;
        }
    }
}

#[async_trait]
impl Plugin for ImagePolicyWebhook {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn validates(&self, attributes: &Attributes<'_>) -> bool {
        self.0.is_some()
            && matches!(attributes.operation, Operation::Create | Operation::Update)
            && (is(attributes, "", "pods") || is_sub(attributes, "", "pods", "ephemeralcontainers"))
    }

    async fn validate(&self, _: &Arc<Registry>, attributes: &Attributes<'_>) -> Result<(), Status> {
        let Some(asking) = &self.0 else { return Ok(()) };
        let verdict = match asking.verdict(spec(attributes)).await {
            Ok(verdict) => verdict,
            Err(failed) => {
                debug!(error = %failed, "nothing is known of the images of a pod");
                if asking.settings.default_allow {
                    attributes.notes.annotate(&format!("{AUDIT}failed-open"), "true");
                    return Ok(());
                }
                return Err(forbidden(attributes, &failed.why));
            }
        };
        for (key, value) in &verdict.audit_annotations {
            attributes.notes.annotate(&format!("{AUDIT}{key}"), value.as_str());
        }
        match (verdict.allowed, verdict.reason.as_str()) {
            (true, _) => Ok(()),
            (false, "") => Err(forbidden(attributes, "one or more images rejected by webhook backend")),
            (false, why) => {
                let why = format!("image policy webhook backend denied one or more images: {why}");
                Err(forbidden(attributes, &why))
            }
        }
    }
}

#[cfg(test)]
#[path = "image_policy_tests.rs"]
mod tests;
