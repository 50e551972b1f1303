//! PodNodeSelector: a namespace says on which nodes its pods run, and the configuration of the cluster which of them they may choose.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use kedge_meta::Status;
use kedge_registry::value::ValueExt as _;
use kedge_registry::{Attributes, Registry};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{Plugin, creates, forbidden, read};

const ANNOTATION: &str = "scheduler.alpha.kubernetes.io/node-selector";
const DEFAULT: &str = "clusterDefaultNodeSelector";

/// By namespace, and what counts where a namespace says nothing.
#[derive(Debug, Default)]
pub(crate) struct PodNodeSelector(BTreeMap<String, Labels>);

type Labels = BTreeMap<String, String>;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Configuration {
    pod_node_selector_plugin_config: BTreeMap<String, String>,
}

/// `key=value,…`.
fn labels(text: &str) -> Result<Labels, String> {
    let all = text.split(',').filter(|one| !one.trim().is_empty()).map(|one| match one.split_once('=') {
        Some((key, value)) => Ok((key.trim().to_owned(), value.trim().to_owned())),
        None => Err(format!("invalid selector: {one}")),
    });
    all.collect()
}

impl PodNodeSelector {
    /// From `podNodeSelectorPluginConfig`.
    ///
    /// # Errors
    /// When a selector cannot be read.
    pub(crate) fn configured(config: &Value) -> Result<Self, String> {
        let read: Configuration = serde_json::from_value(config.clone()).map_err(|why| why.to_string())?;
        let all = read.pod_node_selector_plugin_config.into_iter();
        Ok(Self(all.map(|(name, text)| Ok((name, labels(&text)?))).collect::<Result<_, String>>()?))
    }

    /// What the namespace wants.
    fn wanted(&self, registry: &Registry, attributes: &Attributes<'_>) -> Result<Labels, Status> {
        let Some(namespace) = read(registry, ("", "namespaces"), "", attributes.namespace)? else {
            return Err(Status::internal(format!("namespace {} does not exist", attributes.namespace)));
        };
        match namespace.at(&["metadata", "annotations", ANNOTATION]).and_then(Value::as_str) {
            Some(text) => labels(text).map_err(Status::internal),
            None => Ok(self.0.get(DEFAULT).cloned().unwrap_or_default()),
        }
    }
}

fn conflicts(wanted: &Labels, has: Option<&Map<String, Value>>) -> bool {
    wanted.iter().any(|(key, value)| has.and_then(|has| has.get(key)).is_some_and(|other| other != value.as_str()))
}

#[async_trait]
impl Plugin for PodNodeSelector {
    fn name(&self) -> &'static str {
        "PodNodeSelector"
    }

    fn mutates(&self, attributes: &Attributes<'_>) -> bool {
        creates(attributes, "", "pods")
    }

    fn validates(&self, attributes: &Attributes<'_>) -> bool {
        creates(attributes, "", "pods")
    }

    async fn admit(&self, registry: &Arc<Registry>, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let wanted = self.wanted(registry, attributes)?;
        if conflicts(&wanted, attributes.object.map(&["spec", "nodeSelector"])) {
            return Err(forbidden(attributes, CONFLICT));
        }
        let mut all = attributes.object.map(&["spec", "nodeSelector"]).cloned().unwrap_or_default();
        all.extend(wanted.into_iter().map(|(key, value)| (key, value.into())));
        if !all.is_empty() {
            attributes.object.entry("spec").insert("nodeSelector".into(), all.into());
        }
        self.validate(registry, attributes).await
    }

    async fn validate(&self, registry: &Arc<Registry>, attributes: &Attributes<'_>) -> Result<(), Status> {
        let has = attributes.object.map(&["spec", "nodeSelector"]);
        if conflicts(&self.wanted(registry, attributes)?, has) {
            return Err(forbidden(attributes, CONFLICT));
        }
        let may = self.0.get(attributes.namespace).filter(|may| !may.is_empty());
        let fits = |may: &Labels| {
            has.into_iter().flatten().all(|(key, value)| may.get(key).is_some_and(|v| value == v.as_str()))
        };
        match may.is_none_or(fits) {
            true => Ok(()),
            false => Err(forbidden(attributes, "pod node label selector labels conflict with its namespace whitelist")),
        }
    }
}

const CONFLICT: &str = "pod node label selector conflicts with its namespace node label selector";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing;
    use kedge_registry::Operation;
    use serde_json::json;

    #[tokio::test]
    async fn pods_run_where_their_namespace_and_the_cluster_let_them() {
        let (registry, _) = testing::registry().await;
        let namespace = |name: &str, annotations: Value| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "annotations": annotations}});
        testing::put(&registry, namespace("own", json!({ANNOTATION: "zone=a, disk=fast"}))).await;
        testing::put(&registry, namespace("plain", json!({}))).await;
        let config = json!({"podNodeSelectorPluginConfig": {DEFAULT: "env=prod", "plain": "env=prod,team=x"}});
        let plugin = PodNodeSelector::configured(&config).unwrap();
        let user = testing::user();
        let given = async |namespace: &'static str, selector: Value| {
            let mut attributes = Attributes::new(Operation::Create, testing::resource("", "pods"), &user);
            (attributes.namespace, attributes.object) = (namespace, json!({"spec": {"nodeSelector": selector}}));
            plugin.admit(&registry, &mut attributes).await.map_err(|status| status.message)?;
            Ok::<_, String>(attributes.object["spec"]["nodeSelector"].clone())
        };
        assert_eq!(given("own", json!({"b": "c"})).await.unwrap(), json!({"b": "c", "disk": "fast", "zone": "a"}));
        assert!(given("own", json!({"zone": "b"})).await.unwrap_err().ends_with(CONFLICT));
        assert_eq!(given("plain", json!({"team": "x"})).await.unwrap(), json!({"env": "prod", "team": "x"}));
        assert!(given("plain", json!({"other": "y"})).await.unwrap_err().contains("namespace whitelist"));
        assert!(PodNodeSelector::configured(&json!({"podNodeSelectorPluginConfig": {"a": "b"}})).is_err());
    }
}
