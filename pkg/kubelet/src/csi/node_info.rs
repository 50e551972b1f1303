//! What the API knows of the drivers of this node: the `CSINode`, and annotation and labels of the node.

use std::collections::HashMap;

use kedge_client::{Error, Patch};
use kedge_csi::v1::NodeGetInfoResponse;
use kedge_meta::resources;
use serde_json::{Map, Value, json};
use tracing::warn;

use super::Csi;

const NODE_ID: &str = "csi.volume.kubernetes.io/nodeid";
/// In-tree volumes whose work drivers do: all that upstream has moved.
const MIGRATED: &str = "storage.alpha.kubernetes.io/migrated-plugins";
const MIGRATED_PLUGINS: &str = "kubernetes.io/aws-ebs,kubernetes.io/azure-disk,kubernetes.io/azure-file,\
    kubernetes.io/cinder,kubernetes.io/gce-pd,kubernetes.io/portworx-volume,kubernetes.io/vsphere-volume";
/// How often a change is tried that somebody else's comes before.
const ATTEMPTS: u32 = 5;

impl Csi {
    /// Writes down that a driver is here.
    pub(super) async fn install(&self, driver: &str, info: &NodeGetInfoResponse) -> Result<(), String> {
        if info.node_id.is_empty() {
            return Err(format!("error adding CSI driver node info: driverNodeID must not be empty ({driver})"));
        }
        let topology = info.accessible_topology.as_ref().map(|t| t.segments.clone()).unwrap_or_default();
        self.change_node(|node| with_driver(node, driver, &info.node_id, &topology)).await?;
        let limit = info.max_volumes_per_node;
        if limit < 0 {
            warn!(driver, limit, "the driver says that this node can have less than no volumes");
        }
        self.change_csi_node(|drivers| {
            let mut keys: Vec<&String> = topology.keys().collect();
            keys.sort();
            let mut entry = json!({ "name": driver, "nodeID": info.node_id, "topologyKeys": keys });
            if keys.is_empty() {
                entry["topologyKeys"] = Value::Null;
            }
            if limit > 0 {
                entry["allocatable"] = json!({ "count": limit.min(i64::from(i32::MAX)) });
            }
            without(drivers, driver).into_iter().chain([entry]).collect()
        })
        .await
    }

    /// Writes down that a driver is gone.
    pub(super) async fn uninstall(&self, driver: &str) -> Result<(), String> {
        self.change_csi_node(|drivers| without(drivers, driver)).await?;
        self.change_node(|node| without_driver(node, driver)).await
    }

    /// Makes the `CSINode`, with which this node says that it knows about drivers.
    pub(super) async fn introduce(&self) -> Result<(), String> {
        self.change_csi_node(<[Value]>::to_vec).await
    }

    async fn change_csi_node(&self, change: impl Fn(&[Value]) -> Vec<Value>) -> Result<(), String> {
        let failed = |error: Error| format!("error updating CSINode: {error}");
        for _ in 0..ATTEMPTS {
            let mut object: Value = match self.client.get(&resources::CSI_NODES, "", &self.node).await {
                Ok(object) => object,
                Err(error) if error.is_not_found() => {
                    let object = self.new_csi_node(&change(&[])).await?;
                    match self.client.create::<Value>(&resources::CSI_NODES, "", &object).await {
                        Ok(_) => return Ok(()),
                        Err(error) if error.is_already_exists() => continue,
                        Err(error) => return Err(failed(error)),
                    }
                }
                Err(error) => return Err(failed(error)),
            };
            let have = object["spec"]["drivers"].as_array().cloned().unwrap_or_default();
            let want = change(&have);
            if same(&have, &want) && object["metadata"]["annotations"][MIGRATED] == MIGRATED_PLUGINS {
                return Ok(());
            }
            object["spec"]["drivers"] = json!(want);
            object["metadata"]["annotations"][MIGRATED] = json!(MIGRATED_PLUGINS);
            match self.client.update::<Value>(&resources::CSI_NODES, "", &self.node, &object).await {
                Ok(_) => return Ok(()),
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Err("error updating CSINode: it changes again and again".into())
    }

    async fn new_csi_node(&self, drivers: &[Value]) -> Result<Value, String> {
        let node: Value =
            self.client.get(&resources::NODES, "", &self.node).await.map_err(|error| error.to_string())?;
        let owner = json!({
            "apiVersion": "v1", "kind": "Node", "name": self.node, "uid": node["metadata"]["uid"],
        });
        Ok(json!({
            "apiVersion": "storage.k8s.io/v1", "kind": "CSINode",
            "metadata": {
                "name": self.node, "ownerReferences": [owner], "annotations": { MIGRATED: MIGRATED_PLUGINS },
            },
            "spec": { "drivers": drivers },
        }))
    }

    async fn change_node(&self, change: impl Fn(&Value) -> Result<Option<Value>, String>) -> Result<(), String> {
        let failed = |error: Error| format!("error updating Node object with CSI driver node info: {error}");
        for _ in 0..ATTEMPTS {
            let node: Value = self.client.get(&resources::NODES, "", &self.node).await.map_err(failed)?;
            let Some(mut metadata) = change(&node)? else { return Ok(()) };
            metadata["resourceVersion"] = node["metadata"]["resourceVersion"].clone();
            let patch = Patch::Merge(json!({ "metadata": metadata }));
            match self.client.patch::<Value>(&resources::NODES, "", &self.node, patch, None).await {
                Ok(_) => return Ok(()),
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Err("error updating Node object with CSI driver node info: it changes again and again".into())
    }
}

/// Whether they say the same; a field that is not there is one that is null.
fn same(have: &[Value], want: &[Value]) -> bool {
    let plain = |list: &[Value]| -> Vec<Value> {
        let mut list: Vec<Value> = list
            .iter()
            .map(|entry| {
                let fields = entry.as_object().cloned().unwrap_or_default();
                fields.into_iter().filter(|(_, value)| !value.is_null()).collect::<Map<_, _>>().into()
            })
            .collect();
        list.sort_by_key(|entry| entry["name"].as_str().unwrap_or_default().to_owned());
        list
    };
    plain(have) == plain(want)
}

fn without(drivers: &[Value], name: &str) -> Vec<Value> {
    drivers.iter().filter(|driver| driver["name"] != name).cloned().collect()
}

fn ids(node: &Value) -> Result<Map<String, Value>, String> {
    match node["metadata"]["annotations"][NODE_ID].as_str() {
        None | Some("") => Ok(Map::new()),
        Some(text) => serde_json::from_str(text)
            .map_err(|error| format!("failed to parse node's {NODE_ID:?} annotation value ({text:?}) err={error}")),
    }
}

/// The change of a node's metadata with which a driver is on it; `None` if it is.
fn with_driver(
    node: &Value,
    driver: &str,
    id: &str,
    topology: &HashMap<String, String>,
) -> Result<Option<Value>, String> {
    let labels = &node["metadata"]["labels"];
    for (key, value) in topology {
        if let Some(current) = labels[key].as_str().filter(|current| current != value) {
            return Err(format!(
                "detected topology value collision: driver reported {key:?}:{value:?} but existing label is {key:?}:{current:?}"
            ));
        }
    }
    let mut ids = ids(node)?;
    let missing: Map<String, Value> = topology
        .iter()
        .filter(|(key, _)| labels[key.as_str()].is_null())
        .map(|(key, value)| (key.clone(), json!(value)))
        .collect();
    if ids.get(driver).is_some_and(|known| known == id) && missing.is_empty() {
        return Ok(None);
    }
    ids.insert(driver.to_owned(), json!(id));
    Ok(Some(json!({ "annotations": { NODE_ID: Value::Object(ids).to_string() }, "labels": missing })))
}

fn without_driver(node: &Value, driver: &str) -> Result<Option<Value>, String> {
    let mut ids = ids(node)?;
    if ids.remove(driver).is_none() {
        return Ok(None);
    }
    let value = if ids.is_empty() { Value::Null } else { json!(Value::Object(ids).to_string()) };
    Ok(Some(json!({ "annotations": { NODE_ID: value } })))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_driver_is_noted_on_the_node_and_struck_out_again() {
        let zone = HashMap::from([("topology.d.io/zone".to_owned(), "z1".to_owned())]);
        let node = json!({"metadata": {"annotations": {NODE_ID: r#"{"other":"1"}"#}, "labels": {"a": "b"}}});
        let change = with_driver(&node, "d.io", "id-1", &zone).unwrap().unwrap();
        assert_eq!(change["annotations"][NODE_ID], r#"{"d.io":"id-1","other":"1"}"#);
        assert_eq!(change["labels"], json!({"topology.d.io/zone": "z1"}));
        let noted = json!({"metadata": {"annotations": change["annotations"], "labels": change["labels"]}});
        assert_eq!(with_driver(&noted, "d.io", "id-1", &zone).unwrap(), None);
        let gone = without_driver(&noted, "d.io").unwrap().unwrap();
        assert_eq!(gone["annotations"][NODE_ID], r#"{"other":"1"}"#);
        assert_eq!(without_driver(&json!({}), "d.io").unwrap(), None);
        let elsewhere = json!({"metadata": {"labels": {"topology.d.io/zone": "z2"}}});
        assert!(with_driver(&elsewhere, "d.io", "x", &zone).unwrap_err().contains("topology value collision"));
    }

    #[test]
    fn a_null_field_is_no_change() {
        let have = [json!({"name": "d", "nodeID": "n"})];
        assert!(same(&have, &[json!({"name": "d", "nodeID": "n", "topologyKeys": null})]));
        assert!(!same(&have, &[json!({"name": "d", "nodeID": "n", "topologyKeys": ["k"]})]));
        assert!(without(&have, "d").is_empty());
    }
}
