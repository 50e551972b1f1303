//! Images: whether one is there, and pulling it, with back-off and with the credentials of the pod.

use std::collections::HashMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, ImageVolumeSource, Pod};
use kedge_client::EventType;
use kedge_cri::v1;
use kedge_meta::ObjectReference;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::credentials::credentials;
use super::duration::go_duration;
use super::image_name::with_tag;
use super::start::StartError;
use crate::backoff::KeyedBackoff;
use crate::kubelet::Kubelet;
use crate::metrics::label;
use crate::pod::PodExt;

const FIRST_DELAY: Duration = Duration::from_secs(10);
const LAST_DELAY: Duration = Duration::from_secs(300);
/// How long the error of a pull is shown before the back-off is.
const SHOW_ERROR: Duration = Duration::from_secs(2);

/// State of pulling.
pub(crate) struct Images {
    backoff: KeyedBackoff,
    /// What went wrong at the last pull, by pod and image.
    last_errors: Mutex<HashMap<String, String>>,
    /// Turns of those who pull; `None` has everybody pull at once.
    pulling: Option<Semaphore>,
}

impl Images {
    /// `at_a_time`: how many pull, if that is limited: upstream's `serializeImagePulls` and `maxParallelImagePulls`.
    pub(crate) fn new(at_a_time: Option<usize>) -> Images {
        let backoff = KeyedBackoff::new(FIRST_DELAY, LAST_DELAY);
        Images { backoff, last_errors: Mutex::default(), pulling: at_a_time.map(Semaphore::new) }
    }

    /// Forgets the failures of one pod.
    pub(crate) fn forget(&self, uid: &str) {
        let prefix = format!("{uid}_");
        self.backoff.forget_prefix(&prefix);
        self.last_errors.lock().retain(|key, _| !key.starts_with(&prefix));
    }

    /// Makes sure that the image of a container is there; returns the reference by which the runtime knows it.
    ///
    /// # Errors
    /// With the reason and message for the container's waiting state.
    pub(super) async fn ensure(
        &self,
        kubelet: &Kubelet,
        pod: &Pod,
        container: &Container,
        sandbox: &v1::PodSandboxConfig,
    ) -> Result<String, StartError> {
        let requested = container.image.as_deref().unwrap_or_default();
        let policy = container.image_pull_policy.as_deref();
        self.have(kubelet, pod, (requested, policy), pod.container_reference(&container.name), sandbox).await
    }

    /// The same for an image that is a volume; events are the pod's.
    ///
    /// # Errors
    /// As [`Images::ensure`].
    pub(super) async fn ensure_volume(
        &self,
        kubelet: &Kubelet,
        pod: &Pod,
        source: &ImageVolumeSource,
        sandbox: &v1::PodSandboxConfig,
    ) -> Result<String, StartError> {
        let requested = source.reference.as_deref().unwrap_or_default();
        self.have(kubelet, pod, (requested, source.pull_policy.as_deref()), pod.reference(), sandbox).await
    }

    async fn have(
        &self,
        kubelet: &Kubelet,
        pod: &Pod,
        (requested, policy): (&str, Option<&str>),
        reference: ObjectReference,
        sandbox: &v1::PodSandboxConfig,
    ) -> Result<String, StartError> {
        let image = match with_tag(requested) {
            Ok(image) => image,
            Err(error) => {
                let error = format!("couldn't parse image name {requested:?}: {error}");
                let message = format!("Failed to apply default image tag {requested:?}: {error}");
                kubelet.event(&reference, EventType::Warning, "InspectFailed", &message);
                return Err(StartError::new("InvalidImageName", message));
            }
        };
        let spec = v1::ImageSpec {
            image,
            annotations: pod.metadata.annotations.clone().unwrap_or_default().into_iter().collect(),
            ..Default::default()
        };
        let policy = policy.unwrap_or("IfNotPresent");
        if policy != "Always" {
            let present = kubelet.runtime.image_status(spec.clone()).await.map_err(|error| {
                let message = format!("Failed to inspect image {:?}: {error}", "");
                kubelet.event(&reference, EventType::Warning, "InspectFailed", &message);
                StartError::new("ImageInspectError", message)
            })?;
            if let Some(found) = present {
                let message =
                    format!("Container image {requested:?} already present on machine and can be accessed by the pod");
                kubelet.event(&reference, EventType::Normal, "Pulled", message);
                return Ok(found.id);
            }
            if policy == "Never" {
                let message = format!("Container image {requested:?} is not present with pull policy of Never");
                kubelet.event(&reference, EventType::Warning, "ErrImageNeverPull", &message);
                return Err(StartError::new("ErrImageNeverPull", message));
            }
        }
        self.pull(kubelet, pod, requested, spec, &reference, sandbox).await
    }

    async fn pull(
        &self,
        kubelet: &Kubelet,
        pod: &Pod,
        image: &str,
        spec: v1::ImageSpec,
        reference: &ObjectReference,
        sandbox: &v1::PodSandboxConfig,
    ) -> Result<String, StartError> {
        let key = format!("{}_{image}", pod.uid());
        let now = kubelet.clock.now();
        if let Some(until) = self.backoff.until_since_update(&key, now) {
            let mut message = format!("Back-off pulling image {image:?}");
            kubelet.event(reference, EventType::Normal, "BackOff", &message);
            if let Some(last) = self.last_errors.lock().get(&key) {
                message = format!("{message}: {last}");
            }
            return Err(StartError { until: Some(until), ..StartError::new("ImagePullBackOff", message) });
        }
        self.last_errors.lock().remove(&key);
        kubelet.event(reference, EventType::Normal, "Pulling", format!("Pulling image {image:?}"));
        let credentials = credentials(kubelet, pod, &spec.image).await;
        let asked = kubelet.clock.monotonic();
        let turn = match &self.pulling {
            // It is never closed.
            Some(turns) => turns.acquire().await.ok(),
            None => None,
        };
        let begun = kubelet.clock.monotonic();
        let pulled = kubelet.runtime.pull_image(spec.clone(), credentials, sandbox.clone()).await;
        drop(turn);
        let done = kubelet.clock.monotonic();
        match pulled {
            Ok(found) => {
                let status = kubelet.runtime.image_status(v1::ImageSpec { image: found.clone(), ..spec }).await;
                let size = status.ok().flatten().map_or(0, |i| i.size);
                let took = done.saturating_sub(begun).as_secs_f64();
                kubelet.metrics.image_pull.observe(label("image_size_in_bytes", size_bucket(size)), took);
                let message = format!(
                    "Successfully pulled image {image:?} in {} ({} including waiting). Image size: {size} bytes.",
                    go_duration(done.saturating_sub(begun)),
                    go_duration(done.saturating_sub(asked)),
                );
                kubelet.event(reference, EventType::Normal, "Pulled", message);
                Ok(found)
            }
            Err(error) => {
                let message = format!("Failed to pull image {image:?}: {error}");
                kubelet.event(reference, EventType::Warning, "Failed", message);
                let now = kubelet.clock.now();
                self.backoff.next(&key, now, now);
                let (reason, message) = explain(image, &error);
                self.last_errors.lock().insert(key.clone(), format!("{reason}: {message}"));
                // The next round finds the delay and shows it.
                let soon = now.checked_add(SHOW_ERROR).unwrap_or(now);
                Err(StartError { until: Some(soon), ..StartError::new(reason, message) })
            }
        }
    }
}

/// Upstream's classes of sizes in metrics.
fn size_bucket(size: u64) -> &'static str {
    match size >> 20 {
        0..10 => "0-10MB",
        10..100 => "10MB-100MB",
        100..500 => "100MB-500MB",
        500..1024 => "500MB-1GB",
        1024..5120 => "1GB-5GB",
        5120..10_240 => "5GB-10GB",
        10_240..20_480 => "10GB-20GB",
        20_480..30_720 => "20GB-30GB",
        30_720..40_960 => "30GB-40GB",
        40_960..61_440 => "40GB-60GB",
        61_440..102_400 => "60GB-100GB",
        _ => "GT100GB",
    }
}

/// The reason and message of a failed pull.
fn explain(image: &str, error: &kedge_cri::Error) -> (&'static str, String) {
    let text = error.to_string();
    let after = |name: &str| text.strip_prefix(name).map(str::to_string);
    if let Some(rest) = after("RegistryUnavailable") {
        return (
            "RegistryUnavailable",
            format!("image pull failed for {image} because the registry is unavailable{rest}"),
        );
    }
    if let Some(rest) = after("SignatureValidationFailed") {
        let message = format!("image pull failed for {image} because the signature validation failed{rest}");
        return ("SignatureValidationFailed", message);
    }
    ("ErrImagePull", text)
}
