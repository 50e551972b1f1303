//! Makes the claims of pods' own volumes. They go with their pods, by the owner that they name.
//!
//! Invariant: a claim of that name that belongs to somebody else is never taken for the pod's.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kedge_base::exposition::{self, Exposition, Shown};
use kedge_client::{Error, EventRecorder, EventType, WorkQueue};
use kedge_meta::{ObjectKey, ObjectMeta, Status, StringMap, resources};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::context::Context;
use crate::objects::{Meta, Pod};
use crate::workload::controller_ref;

/// What claims are made of; read when one is missing.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Detailed {
    metadata: ObjectMeta,
    spec: DetailedSpec,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct DetailedSpec {
    volumes: Vec<DetailedVolume>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct DetailedVolume {
    name: String,
    ephemeral: Ephemeral,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Ephemeral {
    volume_claim_template: Template,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Template {
    metadata: TemplateMeta,
    spec: Value,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TemplateMeta {
    labels: StringMap,
    annotations: StringMap,
}

/// A claim for a volume of the pod.
fn claim(pod: &ObjectMeta, name: &str, template: &Template) -> Value {
    let mut metadata = json!({"name": name, "ownerReferences": [controller_ref(&resources::PODS, pod)]});
    for (field, map) in [("labels", &template.metadata.labels), ("annotations", &template.metadata.annotations)] {
        if !map.is_empty() {
            metadata[field] = json!(map);
        }
    }
    json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": template.spec})
}

#[derive(Default)]
struct Meters {
    attempts: AtomicU64,
    failures: AtomicU64,
}

impl Shown for Meters {
    fn show(&self, out: &mut Exposition) {
        let help = "[ALPHA] Number of PersistentVolumeClaim creation requests";
        for (name, count) in [
            ("ephemeral_volume_controller_create_total", &self.attempts),
            ("ephemeral_volume_controller_create_failures_total", &self.failures),
        ] {
            out.single(name, "counter", help, count.load(Ordering::Relaxed) as f64);
        }
    }
}

struct Controller {
    ctx: Context,
    events: EventRecorder,
    meters: Arc<Meters>,
}

/// Why a pod has no claim for a volume.
#[derive(Debug, thiserror::Error)]
enum ClaimError {
    #[error("PVC {namespace}/{claim} was not created for pod {namespace}/{pod} (pod is not owner)")]
    NotOurs { namespace: String, claim: String, pod: String },
    #[error("create PVC {claim}: {source}")]
    Create { claim: String, source: Error },
}

/// Starts the controller.
pub fn start(ctx: &Context) {
    let queue: WorkQueue<ObjectKey> = ctx.queue();
    let meters = Arc::new(Meters::default());
    exposition::list("ephemeral-volume-controller", &meters);
    let controller = Arc::new(Controller { ctx: ctx.clone(), events: ctx.recorder("ephemeral_volume"), meters });
    let q = queue.clone();
    ctx.pods.on_change(move |change| {
        // What a pod is made of does not change, but it may be another one of that name.
        let is_new =
            change.old.as_ref().zip(change.new.as_ref()).is_none_or(|(old, new)| old.metadata.uid != new.metadata.uid);
        if is_new && change.new.as_ref().is_some_and(|pod| has_own(pod)) {
            q.add(change.key());
        }
    });
    // One that somebody has deleted is made again.
    let (q, pods) = (queue.clone(), ctx.pods_by_claim.clone());
    ctx.claims.on_change(move |change| {
        if change.new.is_none() {
            let pods = pods.of(&change.key());
            pods.iter().filter(|pod| has_own(pod)).for_each(|pod| q.add(pod.metadata.key()));
        }
    });
    let c = controller.clone();
    let synced = async move {
        c.ctx.pods.synced().await;
        c.ctx.claims.synced().await;
    };
    ctx.work("ephemeral-volume", &queue, 5, synced, controller, |c, key| async move { c.reconcile(key).await });
}

fn has_own(pod: &Pod) -> bool {
    !pod.metadata.is_deleting() && pod.spec.volumes.iter().any(|volume| volume.claim.is_none())
}

impl Controller {
    async fn reconcile(&self, key: ObjectKey) -> Result<(), Error> {
        let Some(pod) = self.ctx.pods.get(&key.namespace, &key.name).filter(|pod| has_own(pod)) else { return Ok(()) };
        let own = pod.spec.volumes.iter().filter(|volume| volume.claim.is_none());
        for volume in own {
            if let Err(err) = self.provide(&pod, &volume.name).await {
                let message = format!("ephemeral volume {}: {err}", volume.name);
                self.events.event(&pod.reference(), EventType::Warning, "FailedBinding", message.clone());
                return Err(Status::internal(message).into());
            }
        }
        Ok(())
    }

    async fn provide(&self, pod: &Pod, volume: &str) -> Result<(), ClaimError> {
        let meta = &pod.metadata;
        let name = format!("{}-{volume}", meta.name);
        if let Some(claim) = self.ctx.claims.get(&meta.namespace, &name) {
            if claim.metadata.is_controlled_by(&meta.uid) {
                return Ok(());
            }
            let (namespace, pod) = (meta.namespace.clone(), meta.name.clone());
            return Err(ClaimError::NotOurs { namespace, claim: name, pod });
        }
        let failed = |source| ClaimError::Create { claim: name.clone(), source };
        let pods = &resources::PODS;
        let detailed = match self.ctx.client.get::<Detailed>(pods, &meta.namespace, &meta.name).await {
            Ok(detailed) if detailed.metadata.uid == meta.uid && !detailed.metadata.is_deleting() => detailed,
            Ok(_) => return Ok(()),
            Err(err) if err.is_not_found() => return Ok(()),
            Err(err) => return Err(failed(err)),
        };
        let Some(volume) = detailed.spec.volumes.iter().find(|found| found.name == volume) else { return Ok(()) };
        let body = claim(meta, &name, &volume.ephemeral.volume_claim_template);
        self.meters.attempts.fetch_add(1, Ordering::Relaxed);
        let claims = &resources::PERSISTENT_VOLUME_CLAIMS;
        let created: Result<Meta, Error> = self.ctx.client.create(claims, &meta.namespace, &body).await;
        if created.is_err() {
            self.meters.failures.fetch_add(1, Ordering::Relaxed);
        }
        created.map(drop).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_claim_is_what_the_template_says_and_belongs_to_its_pod() {
        let spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
        let template = json!({"metadata": {"labels": {"a": "b"}, "name": "ignored"}, "spec": spec});
        let volumes =
            json!([{"name": "x", "emptyDir": {}}, {"name": "v", "ephemeral": {"volumeClaimTemplate": template}}]);
        let pod: Detailed =
            serde_json::from_value(json!({"metadata": {"name": "p", "uid": "u"}, "spec": {"volumes": volumes}}))
                .unwrap();
        let body = claim(&pod.metadata, "p-v", &pod.spec.volumes[1].ephemeral.volume_claim_template);
        let owner = json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u", "controller": true,
            "blockOwnerDeletion": true});
        let metadata = json!({"name": "p-v", "ownerReferences": [owner], "labels": {"a": "b"}});
        let wanted = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec});
        assert_eq!(body, wanted);
    }
}
