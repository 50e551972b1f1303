//! The environment of a container: services, whole ConfigMaps and Secrets, then its own variables in order.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, EnvVar, EnvVarSource};

use super::downward::{DownwardContext, field_value, resource_value};
use super::expansion::expand;
use crate::objects::{ConfigMap, ObjectError, Secret};

/// Why an environment cannot be made; the message is what the container's waiting state shows.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnvError {
    #[error(transparent)]
    Object(#[from] ObjectError),
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    Key { key: String, kind: &'static str, namespace: String, name: String },
    #[error("{0}")]
    Field(String),
}

/// What the variables are taken from. The objects are fetched before, so that this stays pure.
pub(crate) struct EnvContext<'a> {
    pub(crate) downward: DownwardContext<'a>,
    pub(crate) services: Vec<(String, String)>,
    pub(crate) config_maps: HashMap<String, Result<Arc<ConfigMap>, ObjectError>>,
    pub(crate) secrets: HashMap<String, Result<Arc<Secret>, ObjectError>>,
}

/// Variables in order; a later one replaces an earlier one of the same name in its place.
#[derive(Default)]
struct Variables {
    list: Vec<(String, String)>,
    index: HashMap<String, usize>,
}

impl Variables {
    fn set(&mut self, name: String, value: String) {
        match self.index.get(&name) {
            Some(index) => self.list[*index].1 = value,
            None => {
                self.index.insert(name.clone(), self.list.len());
                self.list.push((name, value));
            }
        }
    }

    fn get(&self, name: &str) -> Option<&String> {
        self.index.get(name).map(|index| &self.list[*index].1)
    }
}

/// The environment of `container`.
///
/// # Errors
/// [`EnvError`] for an object, key or field that is not there and not optional.
pub(crate) fn environment(container: &Container, context: &EnvContext<'_>) -> Result<Vec<(String, String)>, EnvError> {
    let mut own = Variables::default();
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        if let Some(reference) = &source.config_map_ref {
            let Some(map) = context.config_map(&reference.name, reference.optional)? else { continue };
            for (key, value) in &map.data {
                own.set(format!("{prefix}{key}"), value.clone());
            }
        } else if let Some(reference) = &source.secret_ref {
            let Some(secret) = context.secret(&reference.name, reference.optional)? else { continue };
            for (key, value) in &secret.data {
                let value = String::from_utf8_lossy(&value.0).into_owned();
                own.set(format!("{prefix}{key}"), value);
            }
        }
    }
    let services: HashMap<&str, &str> = context.services.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    for variable in container.env.iter().flatten() {
        let lookup = |name: &str| {
            let value = own.get(name).map(String::as_str).or_else(|| services.get(name).copied());
            value.map(str::to_string)
        };
        if let Some(value) = context.value(variable, container, &lookup)? {
            own.set(variable.name.clone(), value);
        }
    }
    let fresh = context.services.iter().filter(|(name, _)| own.get(name).is_none()).cloned();
    let fresh: Vec<(String, String)> = fresh.collect();
    let mut all = own.list;
    all.extend(fresh);
    Ok(all)
}

impl EnvContext<'_> {
    fn config_map(&self, name: &str, optional: Option<bool>) -> Result<Option<&Arc<ConfigMap>>, EnvError> {
        found(self.config_maps.get(name), optional)
    }

    fn secret(&self, name: &str, optional: Option<bool>) -> Result<Option<&Arc<Secret>>, EnvError> {
        found(self.secrets.get(name), optional)
    }

    /// `None` for an optional source that is not there: the variable is left out.
    fn value(
        &self,
        variable: &EnvVar,
        container: &Container,
        lookup: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Option<String>, EnvError> {
        let plain = variable.value.as_deref().unwrap_or_default();
        match &variable.value_from {
            Some(source) if plain.is_empty() => self.value_from(source, container),
            _ => Ok(Some(expand(plain, lookup).0)),
        }
    }

    fn value_from(&self, source: &EnvVarSource, container: &Container) -> Result<Option<String>, EnvError> {
        let missing = |kind, key: &str, name: &str| EnvError::Key {
            key: key.to_string(),
            kind,
            namespace: self.downward.pod.metadata.namespace.clone().unwrap_or_default(),
            name: name.to_string(),
        };
        if let Some(field) = &source.field_ref {
            return field_value(&self.downward, &field.field_path).map(Some).map_err(EnvError::Field);
        }
        if let Some(field) = &source.resource_field_ref {
            let of = match field.container_name.as_deref().filter(|name| !name.is_empty()) {
                Some(name) => crate::pod::PodExt::container(self.downward.pod, name),
                None => Some(container.clone()),
            };
            let of = of.ok_or_else(|| EnvError::Field("container not found".to_string()))?;
            return resource_value(field, &of, self.downward.machine).map(Some).map_err(EnvError::Field);
        }
        if let Some(reference) = &source.config_map_key_ref {
            let optional = reference.optional;
            let Some(map) = self.config_map(&reference.name, optional)? else { return Ok(None) };
            return match map.data.get(&reference.key) {
                Some(value) => Ok(Some(value.clone())),
                None if optional == Some(true) => Ok(None),
                None => Err(missing("ConfigMap", &reference.key, &reference.name)),
            };
        }
        if let Some(reference) = &source.secret_key_ref {
            let optional = reference.optional;
            let Some(secret) = self.secret(&reference.name, optional)? else { return Ok(None) };
            return match secret.data.get(&reference.key) {
                Some(value) => Ok(Some(String::from_utf8_lossy(&value.0).into_owned())),
                None if optional == Some(true) => Ok(None),
                None => Err(missing("Secret", &reference.key, &reference.name)),
            };
        }
        if source.file_key_ref.is_some() {
            return Err(EnvError::Field("fileKeyRef is not supported by this kubelet".to_string()));
        }
        Ok(Some(String::new()))
    }
}

fn found<T>(object: Option<&Result<Arc<T>, ObjectError>>, optional: Option<bool>) -> Result<Option<&Arc<T>>, EnvError> {
    match object {
        Some(Ok(object)) => Ok(Some(object)),
        Some(Err(error)) if error.is_not_found() && optional == Some(true) => Ok(None),
        Some(Err(error)) => Err(error.clone().into()),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::limits::Machine;
    use super::*;
    use crate::pod::PodExt;
    use crate::pod::testing::pod;
    use serde_json::{Value, json};

    fn env(spec: Value) -> Result<Vec<(String, String)>, EnvError> {
        let pod = pod(json!({"containers": [spec]}));
        let machine = Machine::default();
        let map: ConfigMap = serde_json::from_value(json!({"metadata": {}, "data": {"k": "v"}})).unwrap();
        let missing = ObjectError::not_found("secret", "gone");
        let context = EnvContext {
            downward: DownwardContext { pod: &pod, pod_ips: &[], host_ips: &[], machine: &machine },
            services: vec![("S_HOST".into(), "1.1.1.1".into()), ("A".into(), "service".into())],
            config_maps: HashMap::from([("cm".to_string(), Ok(Arc::new(map)))]),
            secrets: HashMap::from([("gone".to_string(), Err(missing))]),
        };
        environment(&PodExt::spec(&pod).containers[0], &context)
    }

    #[test]
    fn order_expansion_and_services() {
        let got = env(json!({"name": "c", "envFrom": [{"prefix": "P_", "configMapRef": {"name": "cm"}}],
            "env": [{"name": "A", "value": "$(P_k)-$(S_HOST)-$(X)"},
                    {"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}))
        .unwrap();
        let got: Vec<(&str, &str)> = got.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let want = [("P_k", "v"), ("A", "v-1.1.1.1-$(X)"), ("N", "p"), ("S_HOST", "1.1.1.1")];
        assert_eq!(got, want);
    }

    #[test]
    fn what_is_missing_is_named_unless_optional() {
        let key = |optional| {
            env(json!({"name": "c", "env": [{"name": "A", "valueFrom": {"configMapKeyRef":
                {"name": "cm", "key": "x", "optional": optional}}}]}))
        };
        let message = key(false).unwrap_err().to_string();
        assert_eq!(message, "couldn't find key x in ConfigMap ns/cm");
        assert_eq!(key(true).unwrap().len(), 2);
        let secret =
            |optional| env(json!({"name": "c", "envFrom": [{"secretRef": {"name": "gone", "optional": optional}}]}));
        assert_eq!(secret(false).unwrap_err().to_string(), "secret \"gone\" not found");
        assert!(secret(true).is_ok());
    }
}
