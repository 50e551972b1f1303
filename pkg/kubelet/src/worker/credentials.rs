//! Credentials for pulling, out of the pull secrets of a pod.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Pod;
use kedge_cri::v1;
use serde::Deserialize;

use super::image_name::split_host;
use crate::kubelet::Kubelet;
use crate::pod::PodExt;

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
pub(super) async fn credentials(kubelet: &Kubelet, pod: &Pod, image: &str) -> Option<v1::AuthConfig> {
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
