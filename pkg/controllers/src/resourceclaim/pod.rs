//! What pods need: claims that are made from templates, and to be among those who use them.

use kedge_base::exposition::written;
use kedge_client::{Error, EventType, Patch};
use kedge_meta::resources::{PODS, RESOURCE_CLAIM_TEMPLATES, RESOURCE_CLAIMS};
use kedge_meta::{ObjectKey, Status};
use serde_json::{Map, Value, json};

use super::Controller;
use super::types::{Claim, Consumer, Named, OF_POD_CLAIM, base, name};
use crate::objects::{Meta, Pod, PodClaim};
use crate::scales::reason;

/// Who writes the names of claims into the status of pods.
const MANAGER: &str = "ResourceClaimController";

/// A pod's claims by its own names for them.
type Names = Vec<(String, String)>;

impl Controller {
    pub(super) async fn pod(&self, key: &ObjectKey) -> Result<(), Error> {
        let Some(pod) = self.ctx.pods.get(&key.namespace, &key.name) else { return Ok(()) };
        if pod.metadata.is_deleting() {
            return Ok(());
        }
        let mut made = Names::new();
        for own in &pod.spec.resource_claims {
            match self.make(&pod, own).await {
                Ok(Some(name)) => made.push((own.name.clone(), name)),
                Ok(None) => {}
                Err(why) => {
                    let message = format!("PodResourceClaim {}: {why}", own.name);
                    self.events.event(
                        &pod.reference(),
                        EventType::Warning,
                        "FailedResourceClaimCreation",
                        message.as_str(),
                    );
                    return Err(Status::internal(format!("pod {key}, {message}")).into());
                }
            }
        }
        if !made.is_empty() {
            self.publish(&pod, made).await?;
        }
        if pod.spec.node_name.is_empty() {
            // Who places it reserves what it uses.
            return Ok(());
        }
        self.reserve(&pod).await
    }

    /// The name of a claim that is not in the pod's status yet, and was made if need be.
    async fn make(&self, pod: &Pod, own: &PodClaim) -> Result<Option<String>, String> {
        let namespace = &pod.metadata.namespace;
        match name(pod, own) {
            Named::Unneeded => return Ok(None),
            Named::Unsupported => {
                let of = format!("pod \"{namespace}/{}\", spec.resourceClaim {:?}", pod.metadata.name, own.name);
                return Err(format!(
                    "checking for claim before creating it: {of}: none of the supported fields are set"
                ));
            }
            Named::Given(_) => return Ok(None),
            Named::Made(name) => {
                // One that went by mistake is made again.
                let known = self.claims.get(namespace, name);
                if known.is_some_and(|claim| claim.check_owner(pod).is_ok()) {
                    return Ok(None);
                }
            }
            Named::Unknown => {}
        }
        if let Some(name) = self.find(pod, own).await.map_err(|err| reason(&err))? {
            return Ok(Some(name));
        }
        let Some(template) = &own.resource_claim_template_name else { return Ok(None) };
        let claim = self.of_template(pod, own, template).await?;
        let admin = asks_for_admin(&claim).to_string();
        let made: Result<Meta, Error> = self.ctx.client.create(&RESOURCE_CLAIMS, namespace, &claim).await;
        let status = if made.is_ok() { "success" } else { "failure" };
        self.created.add(written(&[("admin_access", &admin), ("status", status)]));
        let made = made.map_err(|err| format!("create ResourceClaim : {}", reason(&err)))?;
        let slot = (pod.metadata.uid.clone(), own.name.clone());
        self.made.lock().insert(slot, made.metadata.name.clone());
        Ok(Some(made.metadata.name))
    }

    /// A claim that was made for the pod before its status could be written.
    async fn find(&self, pod: &Pod, own: &PodClaim) -> Result<Option<String>, Error> {
        let is_it = |claim: &Claim| claim.metadata.annotations.get(OF_POD_CLAIM) == Some(own.name.as_str());
        let known = self.by_owner.managed(&pod.metadata.uid);
        let slot = (pod.metadata.uid.clone(), own.name.clone());
        if let Some(claim) = known.iter().find(|claim| is_it(claim)) {
            self.made.lock().remove(&slot);
            return Ok(Some(claim.metadata.name.clone()));
        }
        let Some(name) = self.made.lock().get(&slot).cloned() else { return Ok(None) };
        match self.ctx.client.get::<Claim>(&RESOURCE_CLAIMS, &pod.metadata.namespace, &name).await {
            Ok(claim) if claim.check_owner(pod).is_ok() => Ok(Some(name)),
            Err(err) if !err.is_not_found() => Err(err),
            _ => {
                self.made.lock().remove(&slot);
                Ok(None)
            }
        }
    }

    async fn of_template(&self, pod: &Pod, own: &PodClaim, name: &str) -> Result<Value, String> {
        let namespace = &pod.metadata.namespace;
        let template: Value = self
            .ctx
            .client
            .get(&RESOURCE_CLAIM_TEMPLATES, namespace, name)
            .await
            .map_err(|err| format!("resource claim template {name:?}: {}", reason(&err)))?;
        let part = |path: &str| template.pointer(path).cloned().filter(Value::is_object);
        let mut annotations = part("/spec/metadata/annotations").unwrap_or_else(|| Map::new().into());
        annotations[OF_POD_CLAIM] = own.name.as_str().into();
        let owner = json!({"apiVersion": "v1", "kind": "Pod", "name": pod.metadata.name, "uid": pod.metadata.uid, "controller": true});
        let mut metadata = json!({
            "generateName": base(&pod.metadata.name, &own.name), "ownerReferences": [owner], "annotations": annotations,
        });
        if let Some(labels) = part("/spec/metadata/labels") {
            metadata["labels"] = labels;
        }
        let spec = part("/spec/spec").unwrap_or_else(|| Map::new().into());
        Ok(
            json!({"apiVersion": RESOURCE_CLAIMS.api_version(), "kind": "ResourceClaim", "metadata": metadata, "spec": spec}),
        )
    }

    /// Writes the names of claims into the pod's status. Those that are there already are said again: what is not said would go.
    async fn publish(&self, pod: &Pod, made: Names) -> Result<(), Error> {
        let mut all: Vec<Value> = Vec::new();
        for status in &pod.status.resource_claim_statuses {
            if !made.iter().any(|(own, _)| *own == status.name) {
                all.push(json!(status));
            }
        }
        all.extend(made.iter().map(|(own, name)| json!({"name": own, "resourceClaimName": name})));
        let (namespace, name) = (&pod.metadata.namespace, &pod.metadata.name);
        let object = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace, "uid": pod.metadata.uid},
            "status": {"resourceClaimStatuses": all},
        });
        self.ctx.client.apply_in(&PODS, namespace, name, &object, Some("status"), MANAGER).await.map(|_: Meta| ())
    }

    /// Puts a pod that somebody placed without the scheduler among the users of what it needs.
    async fn reserve(&self, pod: &Pod) -> Result<(), Error> {
        let namespace = &pod.metadata.namespace;
        for own in &pod.spec.resource_claims {
            let (name, made) = match name(pod, own) {
                Named::Given(name) => (name, false),
                Named::Made(name) => (name, true),
                // It comes with the pod's next change.
                Named::Unneeded | Named::Unknown | Named::Unsupported => continue,
            };
            let Some(claim) = self.claims.get(namespace, name) else { return Ok(()) };
            if made {
                claim.check_owner(pod).map_err(Status::internal)?;
            }
            if !claim.can_be_reserved_for(pod) {
                continue;
            }
            let mut users = claim.status.reserved_for.clone();
            users.push(Consumer::pod(pod));
            let version = &claim.metadata.resource_version;
            let patch = json!({"metadata": {"resourceVersion": version}, "status": {"reservedFor": users}});
            let client = &self.ctx.client;
            let _: Meta = client.patch(&RESOURCE_CLAIMS, namespace, name, Patch::Merge(patch), Some("status")).await?;
        }
        Ok(())
    }
}

/// Whether a claim asks for devices that others use.
fn asks_for_admin(claim: &Value) -> bool {
    let requests = claim.pointer("/spec/devices/requests").and_then(Value::as_array).into_iter().flatten();
    requests.into_iter().any(|request| request.pointer("/exactly/adminAccess") == Some(&Value::Bool(true)))
}
