//! PodTolerationRestriction: a namespace says what its pods tolerate, and what they may; the configuration of the cluster, where it does not.

use std::sync::Arc;

use async_trait::async_trait;
use kedge_meta::Status;
use kedge_registry::value::ValueExt as _;
use kedge_registry::{Attributes, Operation, Registry};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::tolerations::{covers, merge};
use crate::{Plugin, read, writes};

const DEFAULTS: &str = "scheduler.alpha.kubernetes.io/defaultTolerations";
const ALLOWED: &str = "scheduler.alpha.kubernetes.io/tolerationsWhitelist";

#[derive(Debug, Default)]
pub(crate) struct PodTolerationRestriction {
    defaults: Vec<Value>,
    allowed: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Configuration {
    #[serde(rename = "apiVersion", default)]
    _api_version: String,
    #[serde(rename = "kind", default)]
    _kind: String,
    #[serde(default)]
    default: Vec<Value>,
    #[serde(default)]
    whitelist: Vec<Value>,
}

impl PodTolerationRestriction {
    /// From its configuration.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn configured(config: &Value) -> Result<Self, String> {
        let read: Configuration = serde_json::from_value(config.clone()).map_err(|why| why.to_string())?;
        Ok(Self { defaults: read.default, allowed: read.whitelist })
    }
}

/// What a namespace says; none if it says nothing.
fn said(registry: &Registry, attributes: &Attributes<'_>, key: &str) -> Result<Option<Vec<Value>>, Status> {
    let namespace = read(registry, ("", "namespaces"), "", attributes.namespace)?;
    let text = namespace.as_ref().and_then(|it| it.at(&["metadata", "annotations", key])).and_then(Value::as_str);
    match text {
        None => Ok(None),
        Some("") => Ok(Some(Vec::new())),
        Some(text) => serde_json::from_str(text).map(Some).map_err(|why| Status::internal(why.to_string())),
    }
}

/// Whether a pod asks for anything, so that it is not the first to go.
fn has_resources(pod: &Value) -> bool {
    ["containers", "initContainers"].iter().flat_map(|field| pod.list(&["spec", field])).any(|container| {
        ["requests", "limits"].iter().any(|side| {
            let of = container.map(&["resources", side]);
            of.is_some_and(|of| ["cpu", "memory"].iter().any(|name| of.get(*name).is_some_and(|v| v != "0")))
        })
    })
}

#[async_trait]
impl Plugin for PodTolerationRestriction {
    fn name(&self) -> &'static str {
        "PodTolerationRestriction"
    }

    fn mutates(&self, attributes: &Attributes<'_>) -> bool {
        writes(attributes, "", "pods")
    }

    fn validates(&self, attributes: &Attributes<'_>) -> bool {
        writes(attributes, "", "pods")
    }

    async fn admit(&self, registry: &Arc<Registry>, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let mut further = Vec::new();
        if attributes.operation == Operation::Create {
            further = said(registry, attributes, DEFAULTS)?.unwrap_or_else(|| self.defaults.clone());
        }
        if has_resources(&attributes.object) {
            let (key, effect) = ("node.kubernetes.io/memory-pressure", "NoSchedule");
            further.push(json!({"key": key, "operator": "Exists", "effect": effect}));
        }
        if !further.is_empty() {
            let all = merge(attributes.object.list(&["spec", "tolerations"]), &further);
            attributes.object.entry("spec").insert("tolerations".into(), all.into());
        }
        self.validate(registry, attributes).await
    }

    async fn validate(&self, registry: &Arc<Registry>, attributes: &Attributes<'_>) -> Result<(), Status> {
        let has = attributes.object.list(&["spec", "tolerations"]);
        let (allowed, whose) = match said(registry, attributes, ALLOWED)? {
            Some(allowed) => (allowed, "namespace"),
            None => (self.allowed.clone(), "cluster"),
        };
        if allowed.is_empty() || has.iter().all(|one| allowed.iter().any(|wide| covers(wide, one))) {
            return Ok(());
        }
        Err(Status::internal(format!(
            "pod tolerations (possibly merged with namespace default tolerations) conflict with its {whose} whitelist"
        )))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing;

    #[tokio::test]
    async fn pods_tolerate_what_their_namespace_says() {
        let (registry, _) = testing::registry().await;
        let toleration = |key: &str| json!({"key": key, "operator": "Exists", "effect": "NoSchedule"});
        let annotations = json!({DEFAULTS: json!([toleration("own")]).to_string(), ALLOWED: json!([toleration("own"), toleration("also")]).to_string()});
        testing::put(
            &registry,
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "own", "annotations": annotations}}),
        )
        .await;
        testing::put(&registry, json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "plain"}})).await;
        let plugin = PodTolerationRestriction::configured(&json!({"default": [toleration("cluster")]})).unwrap();
        let user = testing::user();
        let given = async |namespace: &'static str, spec: Value| {
            let mut attributes = Attributes::new(Operation::Create, testing::resource("", "pods"), &user);
            (attributes.namespace, attributes.object) = (namespace, json!({ "spec": spec }));
            plugin.admit(&registry, &mut attributes).await.map_err(|status| status.message)?;
            Ok::<_, String>(attributes.object["spec"]["tolerations"].clone())
        };
        assert_eq!(given("own", json!({})).await.unwrap(), json!([toleration("own")]));
        assert_eq!(
            given("own", json!({"tolerations": [toleration("also")]})).await.unwrap(),
            json!([toleration("also"), toleration("own")])
        );
        assert!(
            given("own", json!({"tolerations": [toleration("other")]}))
                .await
                .unwrap_err()
                .contains("its namespace whitelist")
        );
        assert_eq!(given("plain", json!({})).await.unwrap(), json!([toleration("cluster")]));
        let asks = json!({"containers": [{"resources": {"requests": {"cpu": "1"}}}]});
        assert_eq!(
            given("plain", asks).await.unwrap(),
            json!([toleration("cluster"), toleration("node.kubernetes.io/memory-pressure")])
        );
    }
}
