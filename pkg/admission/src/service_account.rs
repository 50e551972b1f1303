//! ServiceAccount: every pod runs as one, and gets a token for it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kedge_base::random;
use kedge_meta::Status;
use kedge_registry::value::ValueExt as _;
use kedge_registry::verbs::store_failure;
use kedge_registry::{Attributes, Operation, Registry};
use serde_json::{Value, json};

use crate::{Plugin, creates, forbidden, is_sub, read};

/// Where containers find their token.
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// What names of volumes with tokens begin with.
const VOLUME: &str = "kube-api-access-";
/// The account of pods that name none.
const DEFAULT: &str = "default";
/// Pods that kubelets made from files carry this annotation and have no account.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// With this annotation on an account its pods use no other secrets than it lists.
const ENFORCE: &str = "kubernetes.io/enforce-mountable-secrets";
/// The account that every namespace gets is waited for: so often, and so long each time.
const ATTEMPTS: usize = 10;
const PAUSE_MILLIS: std::ops::Range<u64> = 100..200;

pub(crate) struct ServiceAccount;

fn is_mirror(pod: &Value) -> bool {
    pod.at(&["metadata", "annotations", MIRROR]).is_some()
}

#[async_trait]
impl Plugin for ServiceAccount {
    fn name(&self) -> &'static str {
        "ServiceAccount"
    }

    fn mutates(&self, attributes: &Attributes<'_>) -> bool {
        creates(attributes, "", "pods") && !is_mirror(&attributes.object)
    }

    fn validates(&self, attributes: &Attributes<'_>) -> bool {
        let debugs = attributes.operation == Operation::Update && is_sub(attributes, "", "pods", "ephemeralcontainers");
        creates(attributes, "", "pods") || debugs
    }

    async fn admit(&self, registry: &Arc<Registry>, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let mut name = attributes.object.text(&["spec", "serviceAccountName"]).to_owned();
        if name.is_empty() {
            name = DEFAULT.to_owned();
            attributes.object.entry("spec").insert("serviceAccountName".into(), name.clone().into());
        }
        attributes.object.entry("spec").insert("serviceAccount".into(), name.clone().into());
        let account = account(registry, attributes, &name).await?;
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

    async fn validate(&self, registry: &Arc<Registry>, attributes: &Attributes<'_>) -> Result<(), Status> {
        let pod = &attributes.object;
        let created = attributes.operation == Operation::Create;
        if created && is_mirror(pod) {
            return check_mirror(pod).map_err(|why| forbidden(attributes, why));
        }
        let name = pod.text(&["spec", "serviceAccountName"]);
        if name.is_empty() {
            let why = format!("no service account specified for pod {}/{}", attributes.namespace, pod.name());
            return Err(forbidden(attributes, &why));
        }
        let account = account(registry, attributes, name).await?;
        let enforced = account.text(&["metadata", "annotations", ENFORCE]);
        if !matches!(enforced, "1" | "t" | "T" | "true" | "TRUE" | "True") {
            return Ok(());
        }
        let checked = if created { check_secrets(pod, &account) } else { check_added(pod, &account) };
        checked.map_err(|why| if created { forbidden(attributes, &why) } else { Status::internal(why) })
    }
}

/// The account of a pod.
async fn account(registry: &Registry, attributes: &Attributes<'_>, name: &str) -> Result<Value, Status> {
    let namespace = attributes.namespace;
    let find = || read(registry, ("", "serviceaccounts"), namespace, name);
    let attempts = if name == DEFAULT { ATTEMPTS } else { 1 };
    for attempt in 0..attempts {
        if let Some(account) = find()? {
            return Ok(account);
        }
        if attempt > 0 {
            let spread = PAUSE_MILLIS.end - PAUSE_MILLIS.start;
            let pause = PAUSE_MILLIS.start + random::u64() % spread;
            registry.clock.sleep(Duration::from_millis(pause)).await;
        }
        // Another server may just have made it.
        registry.fresh().await.map_err(store_failure)?;
    }
    let why = format!("error looking up service account {namespace}/{name}: serviceaccount \"{name}\" not found");
    find()?.ok_or_else(|| forbidden(attributes, &why))
}

/// What runs from a node's files reads nothing of the API.
fn check_mirror(pod: &Value) -> Result<(), &'static str> {
    if !pod.text(&["spec", "serviceAccountName"]).is_empty() {
        return Err("a mirror pod may not reference service accounts");
    }
    if names_secret(&pod["spec"]) {
        return Err("a mirror pod may not reference secrets");
    }
    let sources = |volume: &Value| {
        let is_token = |source: &Value| source.get("serviceAccountToken").is_some_and(|token| !token.is_null());
        volume.list(&["projected", "sources"]).iter().any(is_token)
    };
    if pod.list(&["spec", "volumes"]).iter().any(sources) {
        return Err("a mirror pod may not use ServiceAccountToken volume projections");
    }
    Ok(())
}

/// Whether a secret is referred to anywhere.
fn names_secret(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.iter().filter(|(_, inner)| !inner.is_null()).any(|(field, inner)| {
            let here = match field.as_str() {
                "secret" | "secretRef" | "secretKeyRef" | "secretName" | "nodePublishSecretRef" => true,
                "imagePullSecrets" => inner.as_array().is_some_and(|list| !list.is_empty()),
                _ => false,
            };
            here || names_secret(inner)
        }),
        Value::Array(list) => list.iter().any(names_secret),
        _ => false,
    }
}

fn names<'a>(account: &'a Value, field: &str) -> Vec<&'a str> {
    account.list(&[field]).iter().map(|reference| reference.text(&["name"])).collect()
}

/// A pod uses only secrets that its account lists.
fn check_secrets(pod: &Value, account: &Value) -> Result<(), String> {
    let listed = names(account, "secrets");
    let owner = account.name();
    for volume in pod.list(&["spec", "volumes"]) {
        let secret = volume.text(&["secret", "secretName"]);
        if volume.get("secret").is_some_and(|source| !source.is_null()) && !listed.contains(&secret) {
            return Err(format!(
                "volume with secret.secretName=\"{secret}\" is not allowed because service account {owner} does not reference that secret"
            ));
        }
    }
    for (field, what) in [("initContainers", "init container"), ("containers", "container")] {
        check_env(pod.list(&["spec", field]), what, &listed, owner)?;
    }
    let pulled = names(account, "imagePullSecrets");
    for (at, reference) in pod.list(&["spec", "imagePullSecrets"]).iter().enumerate() {
        let name = reference.text(&["name"]);
        if !pulled.contains(&name) {
            return Err(format!(
                "imagePullSecrets[{at}].name=\"{name}\" is not allowed because service account {owner} does not reference that imagePullSecret"
            ));
        }
    }
    Ok(())
}

/// Nor do containers that are added to it.
fn check_added(pod: &Value, account: &Value) -> Result<(), String> {
    let listed = names(account, "secrets");
    check_env(pod.list(&["spec", "ephemeralContainers"]), "ephemeral container", &listed, account.name())
}

fn check_env(containers: &[Value], what: &str, listed: &[&str], owner: &str) -> Result<(), String> {
    let because = |secret: &str| {
        format!(
            "referencing secret.secretName=\"{secret}\" is not allowed because service account {owner} does not reference that secret"
        )
    };
    for container in containers {
        let name = container.text(&["name"]);
        for variable in container.list(&["env"]) {
            let reference = variable.at(&["valueFrom", "secretKeyRef"]).filter(|reference| !reference.is_null());
            let secret = reference.map(|reference| reference.text(&["name"]));
            if let Some(secret) = secret.filter(|secret| !listed.contains(secret)) {
                let variable = variable.text(&["name"]);
                return Err(format!("{what} {name} with envVar {variable} {}", because(secret)));
            }
        }
        for source in container.list(&["envFrom"]) {
            let reference = source.get("secretRef").filter(|reference| !reference.is_null());
            let secret = reference.map(|reference| reference.text(&["name"]));
            if let Some(secret) = secret.filter(|secret| !listed.contains(secret)) {
                return Err(format!("{what} {name} with envFrom {}", because(secret)));
            }
        }
    }
    Ok(())
}

fn mount_token(pod: &mut Value) {
    let mounted =
        |container: &Value| container.list(&["volumeMounts"]).iter().any(|m| m.text(&["mountPath"]) == MOUNT_PATH);
    let own = pod.list(&["spec", "volumes"]).iter().map(|volume| volume.text(&["name"]));
    let own = own.filter(|name| name.starts_with(VOLUME)).map(str::to_owned).next();
    let volume = own.clone().unwrap_or_else(|| format!("{VOLUME}{}", random::name_suffix(5)));
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
    if !needed || own.is_some() {
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
    #![allow(clippy::unwrap_used)]
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

    #[test]
    fn a_volume_for_the_token_that_is_there_is_used() {
        let mut pod = json!({"spec": {"volumes": [{"name": "kube-api-access-x"}], "containers": [{"name": "a"}]}});
        mount_token(&mut pod);
        assert_eq!(pod.list(&["spec", "volumes"]).len(), 1);
        assert_eq!(pod["spec"]["containers"][0]["volumeMounts"][0]["name"], "kube-api-access-x");
    }

    #[test]
    fn mirror_pods_read_nothing() {
        let said = |spec: Value| check_mirror(&json!({ "spec": spec })).err().unwrap_or_default();
        assert_eq!(said(json!({"serviceAccountName": "a"})), "a mirror pod may not reference service accounts");
        let env = json!([{"valueFrom": {"secretKeyRef": {"name": "s"}}}]);
        assert_eq!(said(json!({"containers": [{"env": env}]})), "a mirror pod may not reference secrets");
        let token = json!([{"projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]);
        assert_eq!(said(json!({"volumes": token})), "a mirror pod may not use ServiceAccountToken volume projections");
        assert_eq!(said(json!({"containers": [{"name": "c"}], "volumes": [{"hostPath": {}}]})), "");
    }

    #[test]
    fn an_account_can_limit_secrets() {
        let account =
            json!({"metadata": {"name": "a"}, "secrets": [{"name": "mine"}], "imagePullSecrets": [{"name": "pull"}]});
        let said = |spec: Value| check_secrets(&json!({ "spec": spec }), &account).err().unwrap_or_default();
        let because = "is not allowed because service account a does not reference that secret";
        let volume = |name: &str| json!({"volumes": [{"secret": {"secretName": name}}]});
        assert_eq!(said(volume("x")), format!("volume with secret.secretName=\"x\" {because}"));
        assert_eq!(said(volume("mine")), "");
        let env = json!([{"name": "V", "valueFrom": {"secretKeyRef": {"name": "x"}}}]);
        let containers = json!([{"name": "c", "env": env}]);
        let wanted = format!("container c with envVar V referencing secret.secretName=\"x\" {because}");
        assert_eq!(said(json!({ "containers": containers })), wanted);
        let pulls = json!({"imagePullSecrets": [{"name": "pull"}, {"name": "x"}]});
        let wanted = "imagePullSecrets[1].name=\"x\" is not allowed because service account a does not reference that imagePullSecret";
        assert_eq!(said(pulls), wanted);
        let added =
            json!({"spec": {"ephemeralContainers": [{"name": "e", "envFrom": [{"secretRef": {"name": "x"}}]}]}});
        let wanted = format!("ephemeral container e with envFrom referencing secret.secretName=\"x\" {because}");
        assert_eq!(check_added(&added, &account), Err(wanted));
    }

    #[tokio::test]
    async fn the_account_that_every_namespace_gets_is_waited_for() {
        let (registry, _) = crate::testing::registry().await;
        let user = crate::testing::user();
        let mut attributes = Attributes::new(Operation::Create, crate::testing::resource("", "pods"), &user);
        (attributes.namespace, attributes.object) =
            ("a", json!({"metadata": {"name": "p"}, "spec": {"containers": []}}));
        let made = async {
            kedge_base::system_clock().sleep(Duration::from_millis(50)).await;
            let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": "a"}});
            crate::testing::put(&registry, account).await;
        };
        let (admitted, ()) = futures::join!(ServiceAccount.admit(&registry, &mut attributes), made);
        assert_eq!(admitted, Ok(()));
        attributes.object["spec"]["serviceAccountName"] = "other".into();
        let refused = ServiceAccount.admit(&registry, &mut attributes).await.unwrap_err().message;
        let wanted = "error looking up service account a/other: serviceaccount \"other\" not found";
        assert!(refused.ends_with(wanted), "{refused}");
    }

    /// CVE-2023-2728: containers that were added to a pod that ran used secrets that its account does not list.
    #[tokio::test]
    async fn containers_that_are_added_use_no_other_secrets_either() {
        let (registry, _) = crate::testing::registry().await;
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "secrets": [{"name": "mine"}],
            "metadata": {"name": "a", "namespace": "ns", "annotations": {ENFORCE: "true"}}});
        crate::testing::put(&registry, account).await;
        let user = crate::testing::user();
        let said = async |secret: &str| {
            let mut attributes = Attributes::new(Operation::Update, crate::testing::resource("", "pods"), &user);
            (attributes.namespace, attributes.subresource) = ("ns", "ephemeralcontainers");
            let env = json!([{"name": "V", "valueFrom": {"secretKeyRef": {"name": secret, "key": "k"}}}]);
            attributes.object = json!({"metadata": {"name": "p"},
                "spec": {"serviceAccountName": "a", "ephemeralContainers": [{"name": "e", "env": env}]}});
            assert!(ServiceAccount.validates(&attributes));
            ServiceAccount.validate(&registry, &attributes).await.map_err(|refused| refused.message)
        };
        assert_eq!(said("mine").await, Ok(()));
        let refused = said("others").await.unwrap_err();
        assert!(
            refused.contains("ephemeral container e with envVar V referencing secret.secretName=\"others\""),
            "{refused}"
        );
    }
}
