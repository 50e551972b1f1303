//! The cluster's certificate authority as ConfigMap `kube-root-ca.crt` in every namespace; repaired when changed.

use std::sync::Arc;

use kedge_client::{Error, Informer, ListParams, Patch};
use kedge_meta::{ObjectKey, ObjectMeta, StringMap, resources};
use serde::Deserialize;
use serde_json::json;

use crate::context::{Context, enqueue_changes};
use crate::namespace::is_active;
use crate::objects::{Meta, keyed};
use crate::serviceaccount::tolerate_races;

const NAME: &str = "kube-root-ca.crt";
const KEY: &str = "ca.crt";
const ANNOTATION: &str = "kubernetes.io/description";
const DESCRIPTION: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal \
    endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across \
    distributions of Kubernetes clusters.";

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct ConfigMap {
    metadata: ObjectMeta,
    data: StringMap,
}
keyed!(ConfigMap);

struct Controller {
    ctx: Context,
    maps: Informer<ConfigMap>,
    root_ca: String,
}

/// Starts the controller, which publishes `root_ca`.
pub fn start(ctx: &Context, root_ca: String) {
    let only_ours = ListParams::fields(format!("metadata.name={NAME}"));
    let maps: Informer<ConfigMap> = Informer::start(&ctx.client, &ctx.tasks, &resources::CONFIG_MAPS, only_ours);
    let queue = ctx.queue();
    enqueue_changes(&ctx.namespaces, &queue);
    let q = queue.clone();
    maps.on_change(move |change| q.add(ObjectKey::new("", change.key().namespace)));
    let controller = Arc::new(Controller { ctx: ctx.clone(), maps, root_ca });
    let c = controller.clone();
    let synced = async move {
        c.ctx.namespaces.synced().await;
        c.maps.synced().await;
    };
    ctx.work("root-ca", &queue, 1, synced, controller, |c, key| async move { c.reconcile(&key.name).await });
}

#[derive(Debug, PartialEq, Eq)]
enum Action {
    Nothing,
    Create,
    Repair,
}

fn plan(map: Option<&ConfigMap>, root_ca: &str) -> Action {
    match map {
        None => Action::Create,
        Some(map) => {
            let described = map.metadata.annotations.get(ANNOTATION).is_some_and(|a| !a.is_empty());
            let right = map.data.len() == 1 && map.data.get(KEY).is_some_and(|ca| ca == root_ca);
            if described && right { Action::Nothing } else { Action::Repair }
        }
    }
}

impl Controller {
    async fn reconcile(&self, namespace: &str) -> Result<(), Error> {
        if !self.ctx.namespaces.get("", namespace).is_some_and(|ns| is_active(&ns)) {
            return Ok(());
        }
        let client = &self.ctx.client;
        let annotations = json!({ ANNOTATION: DESCRIPTION });
        let data = json!({ KEY: self.root_ca });
        let map = self.maps.get(namespace, NAME);
        match plan(map.as_deref(), &self.root_ca) {
            Action::Nothing => Ok(()),
            Action::Create => {
                let metadata = json!({ "name": NAME, "namespace": namespace, "annotations": annotations });
                let map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data });
                tolerate_races(client.create(&resources::CONFIG_MAPS, namespace, &map).await)
            }
            Action::Repair => {
                let mut data = data;
                for key in map.iter().flat_map(|m| m.data.keys()).filter(|k| *k != KEY) {
                    data[key] = serde_json::Value::Null;
                }
                let patch = json!({ "metadata": { "annotations": annotations }, "data": data });
                let _: Meta = client.patch(&resources::CONFIG_MAPS, namespace, NAME, Patch::Merge(patch), None).await?;
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_map_is_repaired() {
        let mut map = ConfigMap::default();
        map.data.insert(KEY, "ca");
        assert_eq!(plan(None, "ca"), Action::Create);
        assert_eq!(plan(Some(&map), "ca"), Action::Repair, "no description");
        map.metadata.annotations.insert(ANNOTATION, "x");
        assert_eq!(plan(Some(&map), "ca"), Action::Nothing);
        assert_eq!(plan(Some(&map), "other"), Action::Repair);
    }
}
