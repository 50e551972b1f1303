//! Making the node's object, or taking over the one that is there.

use kedge_client::{Error, Patch};
use kedge_meta::resources;
use serde_json::{Map, Value, json};
use tracing::info;

use super::object::{self, Inputs};
use crate::kubelet::Kubelet;

/// Creates the node; one that exists keeps what others gave it, and gets the labels that every node has.
///
/// # Errors
/// The API's.
pub(super) async fn ensure(kubelet: &Kubelet, inputs: &Inputs) -> Result<(), Error> {
    let client = &kubelet.config.client;
    let name = &kubelet.config.node_name;
    match client.create::<Value>(&resources::NODES, "", &object::node(inputs)).await {
        Ok(_) => return Ok(()),
        Err(error) if error.is_already_exists() => {}
        // A node may be allowed to see itself and not to make itself.
        Err(error) if error.is_forbidden() => {}
        Err(error) => return Err(error),
    }
    let node: Value = client.get(&resources::NODES, "", name).await?;
    let labels = missing(&node["metadata"]["labels"], &object::lasting_labels(inputs));
    let annotations = Map::from_iter([(object::ATTACH.to_owned(), "true".into())]);
    let unsaid = missing(&node["metadata"]["annotations"], &annotations);
    if !labels.is_empty() || !unsaid.is_empty() {
        info!(node = name, "the node's own labels and annotations are brought up to date");
        let patch = Patch::Merge(json!({"metadata": {"labels": labels, "annotations": unsaid}}));
        let _: Value = client.patch(&resources::NODES, "", name, patch, None).await?;
    }
    Ok(())
}

/// What of `wanted` is missing or another.
fn missing(have: &Value, wanted: &Map<String, Value>) -> Map<String, Value> {
    let wrong = wanted.iter().filter(|(key, value)| have.get(key.as_str()) != Some(value));
    wrong.map(|(key, value)| (key.clone(), value.clone())).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_wrong_labels_are_written() {
        let want = json!({"a": "1", "b": "2", "c": "3"});
        let missing = missing(&json!({"a": "1", "b": "x"}), want.as_object().unwrap());
        assert_eq!(Value::Object(missing), json!({"b": "2", "c": "3"}));
    }
}
