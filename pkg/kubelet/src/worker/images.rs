//! Images: whether one is there, and pulling it, with back-off and with the credentials of the pod.

use std::collections::HashMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::{Container, Pod};
use kedge_client::EventType;
use kedge_cri::v1;
use kedge_meta::ObjectReference;
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::sync::Mutex as AsyncMutex;

use super::start::StartError;
use crate::backoff::KeyedBackoff;
use crate::kubelet::Kubelet;
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
    /// One pull at a time, as upstream's `serializeImagePulls`.
    pulling: AsyncMutex<()>,
}

impl Images {
    pub(crate) fn new() -> Images {
        let backoff = KeyedBackoff::new(FIRST_DELAY, LAST_DELAY);
        Images { backoff, last_errors: Mutex::default(), pulling: AsyncMutex::new(()) }
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
        let reference = pod.container_reference(&container.name);
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
        let policy = container.image_pull_policy.as_deref().unwrap_or("IfNotPresent");
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
        let turn = self.pulling.lock().await;
        let begun = kubelet.clock.monotonic();
        let pulled = kubelet.runtime.pull_image(spec.clone(), credentials, sandbox.clone()).await;
        drop(turn);
        let done = kubelet.clock.monotonic();
        match pulled {
            Ok(found) => {
                let status = kubelet.runtime.image_status(v1::ImageSpec { image: found.clone(), ..spec }).await;
                let size = status.ok().flatten().map_or(0, |i| i.size);
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

/// As Go prints a duration that is cut to milliseconds.
pub(super) fn go_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis == 0 {
        return "0s".into();
    }
    if millis < 1000 {
        return format!("{millis}ms");
    }
    let (hours, minutes) = (millis / 3_600_000, millis / 60_000 % 60);
    let (seconds, rest) = (millis / 1000 % 60, millis % 1000);
    let fraction = format!("{rest:03}");
    let fraction = fraction.trim_end_matches('0');
    let dot = if fraction.is_empty() { "" } else { "." };
    let seconds = format!("{seconds}{dot}{fraction}s");
    match (hours, minutes) {
        (0, 0) => seconds,
        (0, minutes) => format!("{minutes}m{seconds}"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
    }
}

/// Adds `:latest` to a name without tag and digest, and refuses what cannot be a name.
fn with_tag(image: &str) -> Result<String, &'static str> {
    let invalid = Err("invalid reference format");
    let (name, digest) = match image.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (image, None),
    };
    let slash = name.rfind('/').map_or(0, |at| at + 1);
    let (repository, tag) = match name[slash..].split_once(':') {
        Some((_, tag)) => (&name[..name.len() - tag.len() - 1], Some(tag)),
        None => (name, None),
    };
    let (host, path) = split_host(repository);
    let component = |c: &str| {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        c.bytes().all(|b| plain(b) || matches!(b, b'.' | b'_' | b'-'))
            && c.bytes().next().is_some_and(plain)
            && c.bytes().last().is_some_and(plain)
    };
    if path.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err("invalid reference format: repository name must be lowercase");
    }
    let host_ok = host.is_none_or(|h| h.bytes().all(|b| b.is_ascii_alphanumeric() || b".:-[]".contains(&b)));
    if !host_ok || path.is_empty() || repository.len() > 255 || !path.split('/').all(component) {
        return invalid;
    }
    let word = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    if tag.is_some_and(|t| t.len() > 128 || !word(t) || t.starts_with(['.', '-'])) {
        return invalid;
    }
    if let Some(digest) = digest {
        let hex = digest.split_once(':').map_or("", |(_, hex)| hex);
        if hex.len() < 32 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return invalid;
        }
    }
    Ok(if tag.is_none() && digest.is_none() { format!("{image}:latest") } else { image.to_string() })
}

/// The registry of a name, if it names one.
fn split_host(repository: &str) -> (Option<&str>, &str) {
    match repository.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => (Some(host), path),
        _ => (None, repository),
    }
}

#[derive(Deserialize)]
struct DockerConfig {
    auths: HashMap<String, DockerAuth>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct DockerAuth {
    username: String,
    password: String,
    auth: String,
}

/// The first of the pod's pull secrets that knows the image's registry.
async fn credentials(kubelet: &Kubelet, pod: &Pod, image: &str) -> Option<v1::AuthConfig> {
    let mut missing = Vec::new();
    let mut found = None;
    for reference in PodExt::spec(pod).image_pull_secrets.iter().flatten() {
        match kubelet.secrets.get(pod.namespace(), &reference.name).await {
            Ok(secret) => {
                let new = secret.data.get(".dockerconfigjson").map(|b| b.0.clone());
                let old = || secret.data.get(".dockercfg").map(|b| wrapped(&b.0));
                let config = new.or_else(old).unwrap_or_default();
                found = found.or_else(|| lookup(&config, image));
            }
            Err(_) => missing.push(reference.name.clone()),
        }
    }
    if !missing.is_empty() {
        let message = format!(
            "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
            missing.join(", ")
        );
        kubelet.pod_warning(pod, "FailedToRetrieveImagePullSecret", message);
    }
    found
}

/// The old form of the file is the new one's `auths` alone.
fn wrapped(old: &[u8]) -> Vec<u8> {
    [b"{\"auths\":", old, b"}"].concat()
}

fn lookup(config: &[u8], image: &str) -> Option<v1::AuthConfig> {
    let config: DockerConfig = serde_json::from_slice(config).ok()?;
    let (host, path) = split_host(image);
    let host = host.unwrap_or("index.docker.io");
    let whole = format!("{host}/{path}");
    let mut keys: Vec<(&String, &DockerAuth)> = config.auths.iter().collect();
    // The most specific entry counts.
    keys.sort_by_key(|(key, _)| std::cmp::Reverse(key.len()));
    let (_, auth) = keys.into_iter().find(|(key, _)| {
        let key = key.trim_start_matches("https://").trim_start_matches("http://");
        let key = key.trim_end_matches('/').trim_end_matches("/v1").trim_end_matches("/v2");
        let same_host = key == host || (host == "index.docker.io" && key == "docker.io");
        same_host || whole.strip_prefix(key).is_some_and(|rest| rest.starts_with(['/', ':', '@']))
    })?;
    let decoded = STANDARD.decode(&auth.auth).ok().and_then(|d| String::from_utf8(d).ok());
    let (username, password) = match decoded.as_deref().and_then(|d| d.split_once(':')) {
        Some((name, password)) => (name.to_string(), password.to_string()),
        None => (auth.username.clone(), auth.password.clone()),
    };
    Some(v1::AuthConfig { username, password, ..Default::default() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_get_a_tag_or_are_refused() {
        let ok = |name: &str| with_tag(name).unwrap();
        assert_eq!(ok("busybox"), "busybox:latest");
        assert_eq!(ok("localhost:5000/a/b"), "localhost:5000/a/b:latest");
        assert_eq!(ok("a.io/b:1"), "a.io/b:1");
        let digest = format!("a@sha256:{}", "0".repeat(64));
        assert_eq!(ok(&digest), digest);
        for bad in ["", "Upper/x", "a:", "a b", "-a", "a//b", "a@sha256:1"] {
            assert!(with_tag(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_are_gos() {
        let of = |ms| go_duration(Duration::from_millis(ms));
        assert_eq!((of(0), of(12), of(1_500)), ("0s".into(), "12ms".into(), "1.5s".into()));
        assert_eq!((of(10_000), of(80_000), of(300_000)), ("10s".into(), "1m20s".into(), "5m0s".into()));
    }

    #[test]
    fn credentials_are_those_of_the_registry() {
        let config =
            br#"{"auths": {"https://a.io/v1/": {"auth": "dTpw"}, "b.io/x": {"username": "n", "password": "q"}}}"#;
        let of = |image: &str| lookup(config, image).map(|a| (a.username, a.password));
        assert_eq!(of("a.io/y:1"), Some(("u".into(), "p".into())));
        assert_eq!(of("b.io/x/z:1"), Some(("n".into(), "q".into())));
        assert_eq!(of("b.io/y:1"), None);
        assert_eq!(of("busybox:latest"), None);
    }
}
