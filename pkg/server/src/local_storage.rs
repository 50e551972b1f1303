//! The packaged storage class `local-path`, and where its volumes are, as k3s has them.
//!
//! Invariant: what a user has changed stays so. Only a path that nobody has changed follows `--default-local-storage-path`, and
//! only a class that this program made goes when the part is disabled.

use std::path::Path;

use kedge_client::{Client, DeleteOptions, Patch};
use kedge_controllers::local_path::{OTHER_NODES, PROVISIONER, SETTINGS_KEY, SETTINGS_MAP};
use kedge_meta::resources;
use serde_json::{Value, json};
use tracing::info;

use crate::bootstrap;
use crate::error::Error;

const NAMESPACE: &str = "kube-system";
const CLASS: &str = "local-path";
const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
const US: &str = "kedge";
/// Which path was written into the settings when nobody had changed them yet.
const WRITTEN: &str = "kedge.io/default-local-storage-path";

fn class() -> Value {
    json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
        "metadata": {
            "name": CLASS,
            "labels": { MANAGED_BY: US },
            "annotations": { "storageclass.kubernetes.io/is-default-class": "true", "defaultVolumeType": "local" },
        },
        "provisioner": PROVISIONER, "reclaimPolicy": "Delete", "volumeBindingMode": "WaitForFirstConsumer",
    })
}

fn settings_text(path: &str) -> String {
    let nodes = json!([{ "node": OTHER_NODES, "paths": [path] }]);
    format!("{:#}", json!({ "nodePathMap": nodes }))
}

fn settings(path: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {
            "name": SETTINGS_MAP, "namespace": NAMESPACE,
            "labels": { MANAGED_BY: US }, "annotations": { WRITTEN: path },
        },
        "data": { SETTINGS_KEY: settings_text(path) },
    })
}

/// Makes class and settings, or brings the path up to date; without a path takes away what was made.
///
/// # Errors
/// When the API cannot be asked.
pub(crate) async fn ensure(client: &Client, path: Option<&Path>) -> Result<(), Error> {
    let failed = |source| Error::Bootstrap { what: "local storage".into(), source };
    let Some(path) = path.and_then(Path::to_str) else { return remove(client).await.map_err(failed) };
    if let Some(found) = bootstrap::ensure(client, &settings(path)).await?
        && let Some(patch) = repair(&found, path)
    {
        let maps = &resources::CONFIG_MAPS;
        let patched = client.patch::<Value>(maps, NAMESPACE, SETTINGS_MAP, Patch::Merge(patch), None).await;
        patched.map_err(failed)?;
        info!(path, "volumes of the class local-path are kept elsewhere from now on");
    }
    bootstrap::ensure(client, &class()).await.map(drop)
}

/// The change of settings that nobody has changed, if they are about another path.
fn repair(found: &Value, path: &str) -> Option<Value> {
    let written = found["metadata"]["annotations"][WRITTEN].as_str()?;
    let untouched = found["data"][SETTINGS_KEY] == *settings_text(written);
    (untouched && written != path).then(
        || json!({ "metadata": { "annotations": { WRITTEN: path } }, "data": { SETTINGS_KEY: settings_text(path) } }),
    )
}

async fn remove(client: &Client) -> Result<(), kedge_client::Error> {
    for (of, namespace, name) in
        [(&resources::STORAGE_CLASSES, "", CLASS), (&resources::CONFIG_MAPS, NAMESPACE, SETTINGS_MAP)]
    {
        let found: Value = match client.get(of, namespace, name).await {
            Err(err) if err.is_not_found() => continue,
            found => found?,
        };
        if found["metadata"]["labels"][MANAGED_BY] != US {
            continue;
        }
        let uid = found["metadata"]["uid"].as_str().unwrap_or_default();
        match client.delete(of, namespace, name, &DeleteOptions::with_uid(uid)).await {
            Ok(()) => info!(object = name, kind = &*of.kind, "removed, since local-storage is disabled"),
            Err(err) if err.is_not_found() => {}
            Err(err) => return Err(err),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_settings_that_nobody_changed_follow_the_flag() {
        let mut map = settings("/var/lib/kedge/storage");
        assert_eq!(repair(&map, "/var/lib/kedge/storage"), None);
        let patch = repair(&map, "/mnt/disk").unwrap();
        assert_eq!(patch["metadata"]["annotations"][WRITTEN], "/mnt/disk");
        assert!(patch["data"][SETTINGS_KEY].as_str().unwrap().contains("\"/mnt/disk\""));
        map["data"][SETTINGS_KEY] = json!("{}");
        assert_eq!(repair(&map, "/mnt/disk"), None, "somebody has their own");
    }
}
