//! A pod as the kubelet keeps it: its metadata, and its JSON to be decoded when a worker needs it.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kedge_client::Keyed;
use kedge_meta::ObjectMeta;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::{CONFIG_MIRROR, CONFIG_SOURCE};
use crate::status::is_owned;

/// A pod of the watch: about as large as its JSON, a tenth of the typed form.
#[derive(Clone, Debug)]
pub(crate) struct RawPod {
    pub(crate) metadata: ObjectMeta,
    json: Arc<str>,
    /// A static one; what the API says of itself does not make a pod that.
    of_file: bool,
}

impl RawPod {
    /// The typed pod.
    ///
    /// # Errors
    /// When the object does not have the shape of a pod.
    pub(crate) fn decode(&self) -> Result<Pod, kedge_types::Error> {
        let mut pod = kedge_types::decode_pod(self.json.as_bytes())?;
        if let (false, Some(annotations)) = (self.of_file, &mut pod.metadata.annotations) {
            // Only files make static pods: nobody gets to be one by saying so.
            annotations.remove(CONFIG_SOURCE);
        }
        Ok(pod)
    }

    /// The same, said by a file.
    pub(crate) fn into_static(self) -> RawPod {
        RawPod { of_file: true, ..self }
    }

    /// Whether a file told of it.
    pub(crate) fn is_static(&self) -> bool {
        self.of_file
    }

    /// The uid of the static pod that this one is the image of in the API.
    pub(crate) fn mirror_of(&self) -> Option<&str> {
        self.metadata.annotations.get(CONFIG_MIRROR).filter(|_| !self.of_file)
    }

    /// The object as the API sent it.
    pub(crate) fn json(&self) -> &str {
        &self.json
    }

    /// Whether there is something to do about the pod that there was not before: anything but its status changed, or a condition of
    /// its status that others set. What this node itself reported is no news to it; a report whose words change each time (with the
    /// name of a container in it) would make it try again at once, and report anew.
    pub(crate) fn is_news_after(&self, old: &RawPod) -> bool {
        let metadata = |pod: &RawPod| ObjectMeta { resource_version: String::new(), ..pod.metadata.clone() };
        if metadata(self) != metadata(old) {
            return true;
        }
        match (serde_json::from_str::<Wanted<'_>>(&self.json), serde_json::from_str::<Wanted<'_>>(&old.json)) {
            (Ok(new), Ok(old)) => {
                new.spec.map(RawValue::get) != old.spec.map(RawValue::get) || new.foreign() != old.foreign()
            }
            // No pod at all: whoever decodes it says so.
            _ => true,
        }
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

/// What of a pod is for the node to do something about.
#[derive(Deserialize)]
struct Wanted<'a> {
    #[serde(borrow)]
    spec: Option<&'a RawValue>,
    #[serde(default)]
    status: Conditions,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Conditions {
    phase: String,
    conditions: Vec<Condition>,
}

#[derive(Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

impl Wanted<'_> {
    /// Conditions that others set, such as those of readiness gates; and the end, which others may declare.
    fn foreign(&self) -> Vec<(&str, &str)> {
        let all = self.status.conditions.iter().filter(|condition| !is_owned(&condition.kind));
        let ended = matches!(self.status.phase.as_str(), "Succeeded" | "Failed").then_some(("phase", "ended"));
        all.map(|condition| (condition.kind.as_str(), condition.status.as_str())).chain(ended).collect()
    }
}

#[derive(Deserialize)]
struct Slim {
    metadata: ObjectMeta,
}

impl<'de> Deserialize<'de> for RawPod {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RawPod, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let slim: Slim = serde_json::from_str(raw.get()).map_err(serde::de::Error::custom)?;
        Ok(RawPod { metadata: slim.metadata, json: Arc::from(raw.get()), of_file: false })
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

    #[test]
    fn only_a_file_makes_a_static_pod() {
        use crate::pod::PodExt as _;
        let json = r#"{"metadata":{"name":"a","annotations":{"kubernetes.io/config.source":"file"}},"spec":{"containers":[]}}"#;
        let raw: RawPod = serde_json::from_str(json).unwrap();
        assert!(!raw.decode().unwrap().is_static());
        assert!(raw.into_static().decode().unwrap().is_static());
    }

    /// A runtime that named the container in its error once made its pod be tried fifty times a second.
    #[test]
    fn what_the_node_reported_is_no_news_to_it() {
        let pod = |version: &str, label: &str, image: &str, message: &str, gate: &str| -> RawPod {
            let json = serde_json::json!({
                "metadata": {"name": "a", "uid": "1", "resourceVersion": version, "labels": {"l": label},
                    "managedFields": [{"time": version}]},
                "spec": {"containers": [{"name": "c", "image": image}]},
                "status": {"containerStatuses": [{"state": {"waiting": {"message": message}}}],
                    "conditions": [{"type": "Ready", "status": message}, {"type": "x.io/gate", "status": gate}]},
            });
            serde_json::from_value(json).unwrap()
        };
        let old = pod("1", "l", "i", "cannot make 4f", "False");
        assert!(!pod("2", "l", "i", "cannot make 5a", "False").is_news_after(&old));
        assert!(pod("2", "m", "i", "cannot make 4f", "False").is_news_after(&old), "a label");
        assert!(pod("2", "l", "j", "cannot make 4f", "False").is_news_after(&old), "an image");
        assert!(pod("2", "l", "i", "cannot make 4f", "True").is_news_after(&old), "a gate of somebody else");
        let failed: RawPod =
            serde_json::from_str(&old.json.replace("\"status\":{", "\"status\":{\"phase\":\"Failed\",")).unwrap();
        assert!(failed.is_news_after(&old), "somebody says that it has failed");
    }
}
