//! A pod as the kubelet keeps it: its metadata, and its JSON to be decoded when a worker needs it.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kedge_client::Keyed;
use kedge_meta::ObjectMeta;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

/// A pod of the watch: about as large as its JSON, a tenth of the typed form.
#[derive(Clone, Debug)]
pub(crate) struct RawPod {
    pub(crate) metadata: ObjectMeta,
    json: Arc<str>,
}

impl RawPod {
    /// The typed pod.
    ///
    /// # Errors
    /// When the object does not have the shape of a pod.
    pub(crate) fn decode(&self) -> Result<Pod, kedge_types::Error> {
        kedge_types::decode_pod(self.json.as_bytes())
    }

    /// The object as the API sent it.
    pub(crate) fn json(&self) -> &str {
        &self.json
    }

    /// The status as JSON; null when there is none.
    pub(crate) fn status(&self) -> Value {
        let parsed: Result<WithStatus, _> = serde_json::from_str(&self.json);
        parsed.map(|p| p.status).unwrap_or_default()
    }
}

#[derive(Deserialize)]
struct WithStatus {
    #[serde(default)]
    status: Value,
}

#[derive(Deserialize)]
struct Slim {
    metadata: ObjectMeta,
}

impl<'de> Deserialize<'de> for RawPod {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RawPod, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let slim: Slim = serde_json::from_str(raw.get()).map_err(serde::de::Error::custom)?;
        Ok(RawPod { metadata: slim.metadata, json: Arc::from(raw.get()) })
    }
}

impl Keyed for RawPod {
    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn keeps_metadata_and_decodes_later() {
        let json = r#"{"metadata":{"name":"a","uid":"1"},"spec":{"containers":[{"name":"c"}]}}"#;
        let raw: RawPod = serde_json::from_str(json).unwrap();
        assert_eq!(raw.metadata.uid, "1");
        assert_eq!(raw.decode().unwrap().spec.unwrap().containers[0].name, "c");
    }
}
