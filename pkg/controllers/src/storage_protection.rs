//! Lets go of volumes, claims and classes of their attributes that wait to be deleted, once nobody uses them; holds those that nobody
//! holds yet.
//!
//! A claim is used by every pod on a node that names it, a volume by the claim it is bound to, a class by the claims and volumes that
//! have it or are to get it.

use std::sync::Arc;

use kedge_client::{Error, Informer, ListParams, Patch, WorkQueue};
use kedge_meta::{ObjectKey, ObjectMeta, Resource, resources};
use serde::Deserialize;
use serde_json::json;

use crate::context::{Context, ignore_not_found};
use crate::objects::{Meta, keyed};

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Claim {
    metadata: ObjectMeta,
    spec: WithClass,
    status: ClaimStatus,
}
keyed!(Claim);

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WithClass {
    volume_attributes_class_name: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ClaimStatus {
    current_volume_attributes_class_name: String,
    modify_volume_status: ModifyStatus,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ModifyStatus {
    target_volume_attributes_class_name: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Volume {
    metadata: ObjectMeta,
    spec: WithClass,
    status: VolumeStatus,
}
keyed!(Volume);

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct VolumeStatus {
    phase: String,
}

/// What is read of a pod to see which claims it names.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Pod {
    metadata: ObjectMeta,
    spec: PodSpec,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodSpec {
    node_name: String,
    volumes: Vec<PodVolume>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodVolume {
    name: String,
    persistent_volume_claim: Option<ClaimSource>,
    ephemeral: Option<serde::de::IgnoredAny>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ClaimSource {
    claim_name: String,
}

impl Pod {
    fn uses(&self, claim: &str) -> bool {
        let named = |volume: &PodVolume| match (&volume.persistent_volume_claim, &volume.ephemeral) {
            (Some(source), _) => source.claim_name == claim,
            (None, Some(_)) => format!("{}-{}", self.metadata.name, volume.name) == claim,
            (None, None) => false,
        };
        // One that is on no node yet is not started with a claim that goes.
        !self.spec.node_name.is_empty() && self.spec.volumes.iter().any(named)
    }
}

/// A kind that is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Claim,
    Volume,
    Class,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key(Kind, ObjectKey);

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.0.resource().plural, self.1)
    }
}

impl Kind {
    fn resource(self) -> &'static Resource {
        match self {
            Self::Claim => &resources::PERSISTENT_VOLUME_CLAIMS,
            Self::Volume => &resources::PERSISTENT_VOLUMES,
            Self::Class => &resources::VOLUME_ATTRIBUTES_CLASSES,
        }
    }

    fn finalizer(self) -> &'static str {
        match self {
            Self::Claim => "kubernetes.io/pvc-protection",
            Self::Volume => "kubernetes.io/pv-protection",
            Self::Class => "kubernetes.io/vac-protection",
        }
    }
}

/// What is to be done about an object.
#[derive(Debug, PartialEq, Eq)]
enum Action {
    Nothing,
    Hold,
    LetGoUnlessUsed,
}

fn plan(metadata: &ObjectMeta, finalizer: &str) -> Action {
    let held = metadata.finalizers.iter().any(|name| name == finalizer);
    match (metadata.is_deleting(), held) {
        (true, true) => Action::LetGoUnlessUsed,
        (false, false) => Action::Hold,
        _ => Action::Nothing,
    }
}

/// The finalizers after that.
fn finalizers(metadata: &ObjectMeta, finalizer: &str, hold: bool) -> Vec<String> {
    let mut all: Vec<String> = metadata.finalizers.iter().filter(|name| *name != finalizer).cloned().collect();
    if hold {
        all.push(finalizer.to_owned());
    }
    all
}

struct Controller {
    ctx: Context,
    queue: WorkQueue<Key>,
    claims: Informer<Claim>,
    volumes: Informer<Volume>,
    classes: Informer<Meta>,
}

/// Starts the controller.
pub fn start(ctx: &Context) {
    let queue = ctx.queue();
    let controller = Arc::new(Controller {
        ctx: ctx.clone(),
        queue: queue.clone(),
        claims: ctx.informer(&resources::PERSISTENT_VOLUME_CLAIMS),
        volumes: ctx.informer(&resources::PERSISTENT_VOLUMES),
        classes: ctx.informer(&resources::VOLUME_ATTRIBUTES_CLASSES),
    });
    let c = controller.clone();
    controller.claims.on_change(move |change| {
        c.queue.add(Key(Kind::Claim, change.key()));
        c.look_at_classes();
    });
    let c = controller.clone();
    controller.volumes.on_change(move |change| {
        c.queue.add(Key(Kind::Volume, change.key()));
        c.look_at_classes();
    });
    let q = queue.clone();
    controller.classes.on_change(move |change| q.add(Key(Kind::Class, change.key())));
    // A pod that is gone no longer uses the claims of its namespace that wait for that.
    let c = controller.clone();
    ctx.pods.on_change(move |change| {
        // One that came back under its name while nobody looked is another pod.
        let replaced =
            change.old.as_ref().zip(change.new.as_ref()).is_some_and(|(a, b)| a.metadata.uid != b.metadata.uid);
        if change.new.is_none() || replaced {
            let claims = c.claims.list_namespace(&change.key().namespace);
            let waiting = claims.iter().filter(|claim| claim.metadata.is_deleting());
            waiting.for_each(|claim| c.queue.add(Key(Kind::Claim, claim.metadata.key())));
        }
    });
    let c = controller.clone();
    let synced = async move {
        c.claims.synced().await;
        c.volumes.synced().await;
        c.classes.synced().await;
    };
    ctx.work("storage-protection", &queue, 1, synced, controller, |c, key| async move { c.reconcile(key).await });
}

impl Controller {
    /// Whoever used a class that waits to be deleted may use it no more.
    fn look_at_classes(&self) {
        let classes = self.classes.list();
        let waiting = classes.iter().filter(|class| class.metadata.is_deleting());
        waiting.for_each(|class| self.queue.add(Key(Kind::Class, class.metadata.key())));
    }

    fn metadata(&self, Key(kind, key): &Key) -> Option<ObjectMeta> {
        match kind {
            Kind::Claim => self.claims.get(&key.namespace, &key.name).map(|claim| claim.metadata.clone()),
            Kind::Volume => self.volumes.get("", &key.name).map(|volume| volume.metadata.clone()),
            Kind::Class => self.classes.get("", &key.name).map(|class| class.metadata.clone()),
        }
    }

    async fn reconcile(&self, key: Key) -> Result<(), Error> {
        let kind = key.0;
        let Some(metadata) = self.metadata(&key) else { return Ok(()) };
        let hold = match plan(&metadata, kind.finalizer()) {
            Action::Nothing => return Ok(()),
            Action::Hold => true,
            Action::LetGoUnlessUsed if self.is_used(&key).await? => return Ok(()),
            Action::LetGoUnlessUsed => false,
        };
        let finalizers = finalizers(&metadata, kind.finalizer(), hold);
        // Only as long as it is what was looked at.
        let patch = json!({"metadata": {"finalizers": finalizers, "resourceVersion": metadata.resource_version}});
        let (namespace, name) = (&metadata.namespace, &metadata.name);
        let patched = self.ctx.client.patch(kind.resource(), namespace, name, Patch::Merge(patch), None).await;
        ignore_not_found(patched.map(|_: Meta| ()))
    }

    async fn is_used(&self, Key(kind, key): &Key) -> Result<bool, Error> {
        Ok(match kind {
            Kind::Claim => {
                // Asked of the server: a pod may have come to a node a moment ago.
                let list = ListParams::default();
                let pods = self.ctx.client.list::<Pod>(&resources::PODS, &key.namespace, &list).await?;
                pods.items.iter().any(|pod| pod.uses(&key.name))
            }
            Kind::Volume => self.volumes.get("", &key.name).is_some_and(|volume| volume.status.phase == "Bound"),
            Kind::Class => {
                let of_claim = |claim: &Claim| {
                    claim.spec.volume_attributes_class_name == key.name
                        || claim.status.current_volume_attributes_class_name == key.name
                        || claim.status.modify_volume_status.target_volume_attributes_class_name == key.name
                };
                self.claims.list().iter().any(|claim| of_claim(claim))
                    || self.volumes.list().iter().any(|volume| volume.spec.volume_attributes_class_name == key.name)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_goes_is_let_go_and_what_stays_is_held() {
        let of = |deleting: bool, names: &[&str]| ObjectMeta {
            deletion_timestamp: deleting.then(|| "2026-01-01T00:00:00Z".to_owned()),
            finalizers: names.iter().map(|name| (*name).to_owned()).collect(),
            ..ObjectMeta::default()
        };
        let finalizer = Kind::Claim.finalizer();
        assert_eq!(plan(&of(false, &[]), finalizer), Action::Hold);
        assert_eq!(plan(&of(false, &[finalizer]), finalizer), Action::Nothing);
        assert_eq!(plan(&of(true, &[]), finalizer), Action::Nothing, "it is too late to hold it");
        assert_eq!(plan(&of(true, &[finalizer]), finalizer), Action::LetGoUnlessUsed);
        assert_eq!(finalizers(&of(true, &["a/b", finalizer]), finalizer, false), ["a/b"]);
        assert_eq!(finalizers(&of(false, &["a/b"]), finalizer, true), ["a/b", finalizer]);
    }

    #[test]
    fn pods_on_nodes_use_claims() {
        let pod = |node: &str| -> Pod {
            serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": {"nodeName": node, "volumes": [
                {"name": "a", "persistentVolumeClaim": {"claimName": "mine"}},
                {"name": "b", "ephemeral": {"volumeClaimTemplate": {}}},
                {"name": "c", "emptyDir": {}}]}}))
            .unwrap()
        };
        assert!(pod("n").uses("mine") && pod("n").uses("p-b"));
        assert!(!pod("n").uses("b") && !pod("n").uses("other"));
        assert!(!pod("").uses("mine"), "it runs nowhere");
    }
}
