//! Mirror pods: the images of static pods in the API, by which its clients see them.
//!
//! An image is made when it is missing and removed when its pod is: it neither starts nor ends anything here. One that somebody deletes
//! comes back, since the file is still there.

use std::sync::Arc;

use kedge_base::TaskGroup;
use kedge_client::{DeleteOptions, Error, run_workers};
use kedge_meta::{ObjectKey, ObjectMeta, OwnerReference, resources};
use serde::Deserialize;
use serde_json::{Value, json};
use tracing::{debug, info};

use crate::kubelet::Kubelet;
use crate::pod::{CONFIG_MIRROR, RawPod};
use crate::worker::Workers;

#[derive(Deserialize)]
struct SlimNode {
    metadata: ObjectMeta,
}

/// What there is to do about one image.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Nothing,
    Create,
    /// By its uid.
    Delete(String),
}

/// Starts to keep them, once the API has told which there are, and the files which there are to be.
pub(super) fn start(kubelet: Arc<Kubelet>, workers: Arc<Workers>, tasks: &TaskGroup) {
    let group = tasks.clone();
    // The API may stay away for as long as it likes.
    tasks.spawn_until_shutdown("mirror-pods", async move {
        kubelet.pods.synced().await;
        let queue = kubelet.mirrors.clone();
        run_workers("mirror-pods", &queue, &group, 1, move |key: ObjectKey| {
            let (kubelet, workers) = (kubelet.clone(), workers.clone());
            async move { reconcile(&kubelet, &workers, &key).await }
        });
    });
}

async fn reconcile(kubelet: &Kubelet, workers: &Workers, key: &ObjectKey) -> Result<(), Error> {
    let (pod, mirror) = (kubelet.pods.of_file(key), kubelet.pods.mirror(key));
    match plan(pod.as_deref(), mirror.as_deref(), |uid| workers.has(uid)) {
        Step::Nothing => Ok(()),
        Step::Create => match pod {
            Some(pod) => create(kubelet, &pod).await,
            None => Ok(()),
        },
        Step::Delete(uid) => {
            info!(pod = %key, uid, "removing a mirror pod");
            let options = DeleteOptions::now(&uid);
            match kubelet.config.client.delete(&resources::PODS, &key.namespace, &key.name, &options).await {
                // That it is gone is told by the watch, and then another one is made, if there is to be one.
                Err(error) if !(error.is_not_found() || error.is_conflict()) => Err(error),
                _ => Ok(()),
            }
        }
    }
}

/// `runs`: whether something of the pod of that uid may still run, so that its image still says something.
fn plan(pod: Option<&RawPod>, mirror: Option<&RawPod>, runs: impl Fn(&str) -> bool) -> Step {
    let Some(mirror) = mirror else {
        return if pod.is_some() { Step::Create } else { Step::Nothing };
    };
    let of = mirror.mirror_of().unwrap_or_default();
    let current = pod.is_some_and(|pod| pod.metadata.uid == of);
    if current && !mirror.metadata.is_deleting() {
        return Step::Nothing;
    }
    if !current && runs(of) {
        return Step::Nothing;
    }
    Step::Delete(mirror.metadata.uid.clone())
}

async fn create(kubelet: &Kubelet, pod: &RawPod) -> Result<(), Error> {
    let (client, name) = (&kubelet.config.client, &kubelet.config.node_name);
    let node: SlimNode = client.get(&resources::NODES, "", name).await?;
    let image = image(pod, name, &node.metadata.uid)?;
    match client.create::<Value>(&resources::PODS, &pod.metadata.namespace, &image).await {
        Ok(_) => {
            info!(pod = %pod.metadata.key(), uid = pod.metadata.uid, "made a mirror pod");
            Ok(())
        }
        // The watch has not told of it yet, or it is somebody else's: then it is tried again.
        Err(error) if error.is_already_exists() && kubelet.pods.is_named_in_api(&pod.metadata.key()) => {
            debug!(pod = %pod.metadata.key(), "a pod of the API has the name of a static pod");
            if kubelet.pods.in_api(&pod.metadata.key(), &pod.metadata.uid).is_some() { Ok(()) } else { Err(error) }
        }
        Err(error) => Err(error),
    }
}

/// The object to create: the pod, with what says that it is an image, and that it goes with the node.
fn image(pod: &RawPod, node: &str, node_uid: &str) -> Result<Value, serde_json::Error> {
    let mut image: Value = serde_json::from_str(pod.json())?;
    let owner = OwnerReference {
        api_version: "v1".into(),
        kind: "Node".into(),
        name: node.into(),
        uid: node_uid.into(),
        controller: Some(true),
        block_owner_deletion: None,
    };
    image["apiVersion"] = json!("v1");
    image["kind"] = json!("Pod");
    image["metadata"]["ownerReferences"] = json!([owner]);
    image["metadata"]["annotations"][CONFIG_MIRROR] = json!(pod.metadata.uid);
    if let Some(metadata) = image["metadata"].as_object_mut() {
        // The API gives one of its own.
        metadata.remove("uid");
    }
    Ok(image)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn pod(uid: &str, annotations: &Value, deleted: bool) -> RawPod {
        let mut metadata = json!({"name": "a-n", "namespace": "ns", "uid": uid, "annotations": annotations});
        if deleted {
            metadata["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        serde_json::from_value(json!({"metadata": metadata, "spec": {}})).unwrap()
    }

    #[test]
    fn an_image_follows_its_pod() {
        let of_file = pod("h", &json!({}), false);
        let mirror = |hash: &str, deleted| pod("m", &json!({CONFIG_MIRROR: hash}), deleted);
        let plan = |pod, mirror: Option<RawPod>, runs| plan(pod, mirror.as_ref(), |_| runs);
        let remove = || Step::Delete("m".into());
        assert_eq!(plan(None, None, false), Step::Nothing);
        assert_eq!(plan(Some(&of_file), None, true), Step::Create);
        assert_eq!(plan(Some(&of_file), Some(mirror("h", false)), true), Step::Nothing);
        assert_eq!(plan(Some(&of_file), Some(mirror("h", true)), true), remove(), "somebody deletes it");
        assert_eq!(plan(Some(&of_file), Some(mirror("old", false)), true), Step::Nothing, "the old pod still ends");
        assert_eq!(plan(Some(&of_file), Some(mirror("old", false)), false), remove());
        assert_eq!(plan(None, Some(mirror("h", false)), true), Step::Nothing);
        assert_eq!(plan(None, Some(mirror("h", false)), false), remove());
    }

    #[test]
    fn an_image_says_whose_it_is() {
        let image = image(&pod("h", &json!({"a": "b"}), false), "n", "nu").unwrap();
        let metadata = &image["metadata"];
        assert_eq!(metadata["annotations"], json!({"a": "b", CONFIG_MIRROR: "h"}));
        let owner = json!([{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "nu", "controller": true}]);
        assert_eq!(metadata["ownerReferences"], owner);
        assert!(metadata.get("uid").is_none());
    }
}
