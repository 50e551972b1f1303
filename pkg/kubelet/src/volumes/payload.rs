//! What goes into the files of ConfigMap, Secret, downward API and projected volumes.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, KeyToPath, Pod, ProjectedVolumeSource, Volume};

use super::atomic::{FileProjection, Payload};
use super::token::{TokenRequest, Tokens};
use crate::generate::{DownwardContext, Machine, field_value, resource_value, supports_volume_field};
use crate::objects::{ConfigMap, ObjectError, Objects, Secret};
use crate::pod::PodExt;

/// The mode that the API server fills in where none is given.
const DEFAULT_MODE: i32 = 0o644;

/// Where the contents come from.
pub(super) struct Sources<'a> {
    pub(super) pod: &'a Pod,
    pub(super) config_maps: &'a Objects<ConfigMap>,
    pub(super) secrets: &'a Objects<Secret>,
    pub(super) tokens: &'a Tokens,
    pub(super) machine: &'a Machine,
}

fn mode(own: Option<i32>, default: Option<i32>) -> u32 {
    u32::try_from(own.or(default).unwrap_or(DEFAULT_MODE)).unwrap_or_default() & 0o777
}

fn file(data: Vec<u8>, mode: u32) -> FileProjection {
    FileProjection { data, mode, owner: None }
}

/// The keys that were asked for, or all of them.
fn select(
    all: &HashMap<&str, &[u8]>,
    items: &[KeyToPath],
    default: Option<i32>,
    missing: impl Fn(&str) -> Option<String>,
) -> Result<Payload, String> {
    if items.is_empty() {
        let files = all.iter().map(|(key, data)| (key.to_string(), file(data.to_vec(), mode(None, default))));
        return Ok(files.collect());
    }
    let mut payload = Payload::new();
    for item in items {
        match all.get(item.key.as_str()) {
            Some(data) => {
                payload.insert(item.path.clone(), file(data.to_vec(), mode(item.mode, default)));
            }
            None => {
                if let Some(message) = missing(&item.key) {
                    return Err(message);
                }
            }
        }
    }
    Ok(payload)
}

/// An object that need not be there counts as empty.
fn optional<T>(got: Result<Arc<T>, ObjectError>, optional: bool) -> Result<Option<Arc<T>>, String> {
    match got {
        Ok(object) => Ok(Some(object)),
        Err(error) if error.is_not_found() && optional => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

impl Sources<'_> {
    /// The files of a volume, or `None` if it is of another kind.
    ///
    /// # Errors
    /// The message for the pod's events.
    pub(super) async fn payload(&self, volume: &Volume) -> Result<Option<Payload>, String> {
        let none: &[KeyToPath] = &[];
        if let Some(source) = &volume.config_map {
            let items = source.items.as_deref().unwrap_or(none);
            let optional = source.optional == Some(true);
            let files = self.config_map(&source.name, items, source.default_mode, optional);
            return files.await.map(Some);
        }
        if let Some(source) = &volume.secret {
            let name = source.secret_name.clone().unwrap_or_default();
            let items = source.items.as_deref().unwrap_or(none);
            let optional = source.optional == Some(true);
            return self.secret(&name, items, source.default_mode, optional).await.map(Some);
        }
        if let Some(source) = &volume.downward_api {
            let items = source.items.as_deref().unwrap_or_default();
            return self.downward(items, source.default_mode).map(Some);
        }
        if let Some(source) = &volume.projected {
            return self.projected(source).await.map(Some);
        }
        Ok(None)
    }

    async fn config_map(
        &self,
        name: &str,
        items: &[KeyToPath],
        default: Option<i32>,
        may_miss: bool,
    ) -> Result<Payload, String> {
        let got = self.config_maps.get(self.pod.namespace(), name).await;
        let Some(map) = optional(got, may_miss)? else { return Ok(Payload::new()) };
        let text = map.data.iter().map(|(key, value)| (key.as_str(), value.as_bytes()));
        let binary = map.binary_data.iter().map(|(key, value)| (key.as_str(), value.0.as_slice()));
        let all: HashMap<&str, &[u8]> = text.chain(binary).collect();
        select(&all, items, default, |key| {
            (!may_miss).then(|| format!("configmap references non-existent config key: {key}"))
        })
    }

    async fn secret(
        &self,
        name: &str,
        items: &[KeyToPath],
        default: Option<i32>,
        may_miss: bool,
    ) -> Result<Payload, String> {
        let got = self.secrets.get(self.pod.namespace(), name).await;
        let Some(secret) = optional(got, may_miss)? else { return Ok(Payload::new()) };
        let all: HashMap<&str, &[u8]> =
            secret.data.iter().map(|(key, value)| (key.as_str(), value.0.as_slice())).collect();
        select(&all, items, default, |key| (!may_miss).then(|| format!("references non-existent secret key: {key}")))
    }

    fn downward(&self, items: &[DownwardAPIVolumeFile], default: Option<i32>) -> Result<Payload, String> {
        let context = DownwardContext { pod: self.pod, pod_ips: &[], host_ips: &[], machine: self.machine };
        let mut payload = Payload::new();
        for item in items {
            let value = if let Some(field) = &item.field_ref {
                if !supports_volume_field(&field.field_path) {
                    return Err(format!("unsupported fieldPath: {}", field.field_path));
                }
                field_value(&context, &field.field_path)?
            } else if let Some(field) = &item.resource_field_ref {
                let name = field.container_name.clone().unwrap_or_default();
                let container =
                    PodExt::container(self.pod, &name).ok_or_else(|| format!("container {name} not found"))?;
                resource_value(field, &container, self.machine)?
            } else {
                continue;
            };
            payload.insert(item.path.clone(), file(value.into_bytes(), mode(item.mode, default)));
        }
        Ok(payload)
    }

    async fn projected(&self, source: &ProjectedVolumeSource) -> Result<Payload, String> {
        let default = source.default_mode;
        let mut payload = Payload::new();
        let mut errors: Vec<String> = Vec::new();
        for part in source.sources.iter().flatten() {
            let files = if let Some(part) = &part.secret {
                let items = part.items.as_deref().unwrap_or_default();
                self.secret(&part.name, items, default, part.optional == Some(true)).await
            } else if let Some(part) = &part.config_map {
                let items = part.items.as_deref().unwrap_or_default();
                self.config_map(&part.name, items, default, part.optional == Some(true)).await
            } else if let Some(part) = &part.downward_api {
                self.downward(part.items.as_deref().unwrap_or_default(), default)
            } else if let Some(part) = &part.service_account_token {
                let audience = part.audience.clone().unwrap_or_default();
                let request = TokenRequest::new(self.pod, audience, part.expiration_seconds);
                self.token(&request, &part.path, default).await
            } else if part.cluster_trust_bundle.is_some() {
                Err("ClusterTrustBundle projections are not supported by this kubelet".to_string())
            } else if part.pod_certificate.is_some() {
                Err("PodCertificate projections are not supported by this kubelet".to_string())
            } else {
                Ok(Payload::new())
            };
            match files {
                Ok(files) => payload.extend(files),
                Err(error) if !errors.contains(&error) => errors.push(error),
                Err(_) => {}
            }
        }
        match errors.len() {
            0 => Ok(payload),
            1 => Err(errors.remove(0)),
            _ => Err(format!("[{}]", errors.join(", "))),
        }
    }

    async fn token(&self, request: &TokenRequest, path: &str, default: Option<i32>) -> Result<Payload, String> {
        let owner = common_user(self.pod);
        let group = self.pod.security_context().fs_group;
        // With a group the file is widened to it afterwards; nobody else is to read it then.
        let mode = if owner.is_some() || group.is_some() { 0o600 } else { mode(None, default) };
        let data = self.tokens.get(request).await?.text.into_bytes();
        Ok(Payload::from([(path.to_string(), FileProjection { data, mode, owner })]))
    }
}

/// The user as whom all containers run, if they do.
fn common_user(pod: &Pod) -> Option<u32> {
    let of_pod = pod.security_context().run_as_user;
    let all = PodExt::spec(pod).containers.iter().chain(pod.init_containers());
    let mut users = all.map(|c| c.security_context.as_ref().and_then(|s| s.run_as_user).or(of_pod));
    let first = users.next()??;
    users.all(|user| user == Some(first)).then(|| u32::try_from(first).ok())?
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::pod::testing::pod;
    use serde_json::json;

    #[test]
    fn keys_are_selected_with_their_modes() {
        let all: HashMap<&str, &[u8]> = HashMap::from([("a", b"1".as_slice()), ("b", b"2")]);
        let everything = select(&all, &[], Some(0o400), |_| None).unwrap();
        assert_eq!((everything.len(), everything["a"].mode), (2, 0o400));
        let item = |key: &str, mode| KeyToPath { key: key.into(), path: "x/y".into(), mode };
        let one = select(&all, &[item("b", Some(0o777))], None, |_| None).unwrap();
        assert_eq!((one["x/y"].data.as_slice(), one["x/y"].mode), (b"2".as_slice(), 0o777));
        let missing = select(&all, &[item("c", None)], None, |key| Some(key.to_string()));
        assert_eq!(missing.unwrap_err(), "c");
        assert!(select(&all, &[item("c", None)], None, |_| None).unwrap().is_empty());
    }

    #[test]
    fn the_common_user() {
        let of = |spec| common_user(&pod(spec));
        let user = |uid: Option<i64>| json!({"name": "a", "securityContext": {"runAsUser": uid}});
        assert_eq!(of(json!({"containers": [user(Some(5)), user(Some(5))]})), Some(5));
        assert_eq!(of(json!({"containers": [user(Some(5)), user(None)]})), None);
        assert_eq!(of(json!({"containers": [{"name": "a"}], "securityContext": {"runAsUser": 7}})), Some(7));
    }
}
