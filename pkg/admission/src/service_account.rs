//! ServiceAccount: every pod runs as one, and gets a token for it.

use std::sync::Arc;

use async_trait::async_trait;
use kedge_base::random;
use kedge_meta::Status;
use kedge_registry::value::ValueExt as _;
use kedge_registry::verbs::store_failure;
use kedge_registry::{Attributes, Operation, Registry};
use serde_json::{Value, json};

use crate::{Plugin, forbidden, is};

/// Where containers find their token.
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Pods that kubelets made from files carry this annotation and have no account.
const MIRROR: &str = "kubernetes.io/config.mirror";

pub(crate) struct ServiceAccount;

#[async_trait]
impl Plugin for ServiceAccount {
    fn name(&self) -> &'static str {
        "ServiceAccount"
    }

    fn mutates(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation == Operation::Create && is(attributes, "", "pods")
    }

    async fn admit(&self, registry: &Arc<Registry>, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        if attributes.object.at(&["metadata", "annotations", MIRROR]).is_some() {
            return Ok(());
        }
        let mut name = attributes.object.text(&["spec", "serviceAccountName"]).to_owned();
        if name.is_empty() {
            name = "default".to_owned();
            attributes.object.entry("spec").insert("serviceAccountName".into(), name.clone().into());
        }
        attributes.object.entry("spec").insert("serviceAccount".into(), name.clone().into());
        let accounts =
            registry.builtin("", "v1", "serviceaccounts").ok_or_else(|| Status::internal("no service accounts"))?;
        let account = accounts.store.get(&format!("{}/{name}", attributes.namespace)).map_err(store_failure)?;
        let Some(account) = account else {
            let why = format!(
                "error looking up service account {}/{name}: serviceaccount \"{name}\" not found",
                attributes.namespace
            );
            return Err(forbidden(attributes, &why));
        };
        let account = account.to_value().map_err(Status::internal)?;
        let wanted = attributes
            .object
            .flag(&["spec", "automountServiceAccountToken"])
            .or(account.flag(&["automountServiceAccountToken"]))
            .unwrap_or(true);
        if wanted {
            mount_token(&mut attributes.object);
        }
        let secrets = account.list(&["imagePullSecrets"]);
        if attributes.object.list(&["spec", "imagePullSecrets"]).is_empty() && !secrets.is_empty() {
            attributes.object.entry("spec").insert("imagePullSecrets".into(), secrets.to_vec().into());
        }
        Ok(())
    }
}

fn mount_token(pod: &mut Value) {
    let mounted =
        |container: &Value| container.list(&["volumeMounts"]).iter().any(|m| m.text(&["mountPath"]) == MOUNT_PATH);
    let volume = format!("kube-api-access-{}", random::name_suffix(5));
    let mut needed = false;
    for field in ["initContainers", "containers"] {
        let Some(Value::Array(containers)) = pod.entry("spec").get_mut(field) else { continue };
        for container in containers.iter_mut().filter(|c| !mounted(c)) {
            needed = true;
            let mount = json!({ "name": volume, "readOnly": true, "mountPath": MOUNT_PATH });
            match container.get_mut("volumeMounts") {
                Some(Value::Array(mounts)) => mounts.push(mount),
                _ => container.set("volumeMounts", json!([mount])),
            }
        }
    }
    if !needed {
        return;
    }
    let volume = json!({ "name": volume, "projected": { "defaultMode": 420, "sources": [
        { "serviceAccountToken": { "expirationSeconds": 3607, "path": "token" } },
        { "configMap": { "name": "kube-root-ca.crt", "items": [{ "key": "ca.crt", "path": "ca.crt" }] } },
        { "downwardAPI": { "items": [{
            "path": "namespace",
            "fieldRef": { "apiVersion": "v1", "fieldPath": "metadata.namespace" },
        }] } },
    ] } });
    match pod.entry("spec").entry("volumes").or_insert_with(|| json!([])) {
        Value::Array(volumes) => volumes.push(volume),
        other => *other = json!([volume]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_mounted_once_and_not_over_the_users_own() {
        let mut pod = json!({"spec": {"containers": [
            {"name": "a"},
            {"name": "b", "volumeMounts": [{"name": "mine", "mountPath": MOUNT_PATH}]},
        ]}});
        mount_token(&mut pod);
        assert_eq!(pod.list(&["spec", "volumes"]).len(), 1);
        let containers = pod.list(&["spec", "containers"]);
        assert_eq!(containers[0].list(&["volumeMounts"])[0]["mountPath"], MOUNT_PATH);
        assert_eq!(containers[1].list(&["volumeMounts"]).len(), 1);
    }
}
