//! Lets go of volumes, claims and classes of their attributes that wait to be deleted, once nobody uses them; holds those that nobody
//! holds yet.
//!
//! A claim is used by every pod on a node that names it, a volume by the claim it is bound to, a class by the claims and volumes that
//! have it or are to get it. Claims of a namespace are looked at together, since the server has to be asked for its pods.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use kedge_client::{Change, Error, Informer, ListParams, Patch, WorkQueue};
use kedge_meta::{ObjectKey, ObjectMeta, Resource, resources};
use serde_json::json;

use crate::context::{Context, ignore_not_found};
use crate::objects::volume::VolumePhase;
use crate::objects::{Claim, Meta, Pod, Volume};

/// Whether a pod holds a claim. One that is on no node yet is not started with a claim that goes; a volume of the pod's own is no longer
/// needed when the kubelet is done with the pod, even where finalizers keep that.
fn holds(pod: &Pod, claim: &Claim) -> bool {
    let (meta, name) = (&pod.metadata, &claim.metadata.name);
    let is_done = meta.is_deleting() && meta.deletion_grace_period_seconds == Some(0);
    !pod.spec.node_name.is_empty()
        && pod.spec.volumes.iter().any(|volume| match &volume.claim {
            Some(claim) => claim == name,
            None => !is_done && volume.claim_name(&meta.name) == *name && claim.metadata.is_controlled_by(&meta.uid),
        })
}

/// The classes that a claim has, had, or is to get.
fn classes_of_claim(claim: &Claim) -> BTreeSet<&str> {
    let (wanted, has) = (claim.attributes_class.as_deref(), claim.has.attributes_class.as_deref());
    let all = wanted.into_iter().chain(has).chain([claim.has.coming_class.as_str()]);
    all.filter(|name| !name.is_empty()).collect()
}

fn classes_of_volume(volume: &Volume) -> BTreeSet<&str> {
    volume.attributes_class.as_deref().into_iter().filter(|name| !name.is_empty()).collect()
}

/// What an object no longer has.
fn gone<T>(change: &Change<T>, classes: fn(&T) -> BTreeSet<&str>) -> Vec<String> {
    let of = |object: &Option<Arc<T>>| -> BTreeSet<String> {
        object.iter().flat_map(|object| classes(object)).map(str::to_owned).collect()
    };
    of(&change.old).difference(&of(&change.new)).cloned().collect()
}

/// A kind that is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Claim,
    Volume,
    Class,
}

/// What is looked at: a volume, a class, or the claims of a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key(Kind, String);

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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

    /// Upstream's name of who protects it.
    fn controller(self) -> &'static str {
        match self {
            Self::Claim => "persistentvolumeclaim-protection-controller",
            Self::Volume => "persistentvolume-protection-controller",
            Self::Class => "volumeattributesclass-protection-controller",
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
    classes: Informer<Meta>,
}

/// Starts the controller.
pub fn start(ctx: &Context) {
    let queue = ctx.queue();
    let classes = ctx.informer(&resources::VOLUME_ATTRIBUTES_CLASSES);
    let controller = Arc::new(Controller { ctx: ctx.clone(), queue: queue.clone(), classes });
    let c = controller.clone();
    ctx.claims.on_change(move |change| c.claim_changed(change));
    let c = controller.clone();
    ctx.volumes.on_change(move |change| {
        c.look_at(Kind::Volume, change.new.as_ref().map(|volume| &volume.metadata));
        gone(change, classes_of_volume).into_iter().for_each(|name| c.queue.add(Key(Kind::Class, name)));
    });
    let c = controller.clone();
    controller
        .classes
        .on_change(move |change| c.look_at(Kind::Class, change.new.as_ref().map(|class| &class.metadata)));
    let c = controller.clone();
    ctx.pods.on_change(move |change| c.pod_changed(change));
    let c = controller.clone();
    let synced = async move {
        c.ctx.claims.synced().await;
        c.ctx.volumes.synced().await;
        c.ctx.pods.synced().await;
        c.classes.synced().await;
    };
    ctx.work("storage-protection", &queue, 1, synced, controller, |c, key| async move { c.reconcile(key).await });
}

impl Controller {
    fn look_at(&self, kind: Kind, object: Option<&ObjectMeta>) {
        if let Some(metadata) = object.filter(|metadata| plan(metadata, kind.finalizer()) != Action::Nothing) {
            let name = if kind == Kind::Claim { &metadata.namespace } else { &metadata.name };
            self.queue.add(Key(kind, name.clone()));
        }
    }

    fn claim_changed(&self, change: &Change<Claim>) {
        self.look_at(Kind::Claim, change.new.as_ref().map(|claim| &claim.metadata));
        gone(change, classes_of_claim).into_iter().for_each(|name| self.queue.add(Key(Kind::Class, name)));
    }

    /// A pod that is gone, or that the kubelet is done with, no longer uses claims that wait for that.
    fn pod_changed(&self, change: &Change<Pod>) {
        // One that came back under its name while nobody looked is another pod.
        let replaced = matches!((&change.old, &change.new), (Some(a), Some(b)) if a.metadata.uid != b.metadata.uid);
        let is_done = change.new.as_ref().is_none_or(|pod| pod.metadata.is_deleting());
        let pods = change.old.iter().filter(|_| replaced || is_done).chain(change.new.iter().filter(|_| is_done));
        for pod in pods {
            let namespace = &pod.metadata.namespace;
            let waits = |claim: String| {
                self.ctx.claims.get(namespace, &claim).is_some_and(|claim| claim.metadata.is_deleting())
            };
            if pod.claims().any(waits) {
                self.queue.add(Key(Kind::Claim, namespace.clone()));
            }
        }
    }

    async fn reconcile(&self, Key(kind, name): Key) -> Result<(), Error> {
        if !self.ctx.runs(kind.controller()) {
            return Ok(());
        }
        let (metadata, used): (ObjectMeta, fn(&Self, &str) -> bool) = match kind {
            Kind::Claim => return self.reconcile_claims(&name).await,
            Kind::Volume => match self.ctx.volumes.get("", &name) {
                Some(volume) => (volume.metadata.clone(), Self::is_volume_used),
                None => return Ok(()),
            },
            Kind::Class => match self.classes.get("", &name) {
                Some(class) => (class.metadata.clone(), Self::is_class_used),
                None => return Ok(()),
            },
        };
        match plan(&metadata, kind.finalizer()) {
            Action::Hold => self.hold(kind, &metadata, true).await,
            Action::LetGoUnlessUsed if !used(self, &name) => self.hold(kind, &metadata, false).await,
            Action::LetGoUnlessUsed | Action::Nothing => Ok(()),
        }
    }

    async fn reconcile_claims(&self, namespace: &str) -> Result<(), Error> {
        let mut unused = Vec::new();
        for claim in self.ctx.claims.list_namespace(namespace) {
            match plan(&claim.metadata, Kind::Claim.finalizer()) {
                Action::Nothing => {}
                Action::Hold => self.hold(Kind::Claim, &claim.metadata, true).await?,
                Action::LetGoUnlessUsed => {
                    let pods = self.ctx.pods_by_claim.of(&claim.metadata.key());
                    if !pods.iter().any(|pod| holds(pod, &claim)) {
                        unused.push(claim);
                    }
                }
            }
        }
        if unused.is_empty() {
            return Ok(());
        }
        // The server is asked as well: a pod may have come to a node a moment ago.
        let list = ListParams::default();
        let pods = self.ctx.client.list::<Pod>(&resources::PODS, namespace, &list).await?.items;
        let used: BTreeSet<ObjectKey> = {
            let held = |claim: &&Arc<Claim>| pods.iter().any(|pod| holds(pod, claim));
            unused.iter().filter(held).map(|claim| claim.metadata.key()).collect()
        };
        let mut done = Ok(());
        for claim in unused.iter().filter(|claim| !used.contains(&claim.metadata.key())) {
            // One that was changed meanwhile holds up none of the others.
            done = self.hold(Kind::Claim, &claim.metadata, false).await.and(done);
        }
        done
    }

    /// Adds the finalizer or takes it away, as long as the object is what was looked at.
    async fn hold(&self, kind: Kind, metadata: &ObjectMeta, hold: bool) -> Result<(), Error> {
        let finalizers = finalizers(metadata, kind.finalizer(), hold);
        let patch = json!({"metadata": {"finalizers": finalizers, "resourceVersion": metadata.resource_version}});
        let (namespace, name) = (&metadata.namespace, &metadata.name);
        let patched = self.ctx.client.patch(kind.resource(), namespace, name, Patch::Merge(patch), None).await;
        ignore_not_found(patched.map(|_: Meta| ()))
    }

    fn is_volume_used(&self, name: &str) -> bool {
        self.ctx.volumes.get("", name).is_some_and(|volume| volume.phase == VolumePhase::Bound)
    }

    fn is_class_used(&self, name: &str) -> bool {
        self.ctx.claims.list().iter().any(|claim| classes_of_claim(claim).contains(name))
            || self.ctx.volumes.list().iter().any(|volume| classes_of_volume(volume).contains(name))
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
        let pod = |node: &str, more: serde_json::Value| -> Pod {
            let mut metadata = json!({"name": "p", "uid": "u"});
            more.as_object().unwrap().iter().for_each(|(key, value)| metadata[key] = value.clone());
            serde_json::from_value(json!({"metadata": metadata, "spec": {"nodeName": node, "volumes": [
                {"name": "a", "persistentVolumeClaim": {"claimName": "mine"}},
                {"name": "b", "ephemeral": {"volumeClaimTemplate": {}}},
                {"name": "c", "emptyDir": {}}]}}))
            .unwrap()
        };
        let claim = |name: &str, owner: &str| -> Claim {
            let owners = json!([{"uid": owner, "controller": true}]);
            serde_json::from_value(json!({"metadata": {"name": name, "ownerReferences": owners}})).unwrap()
        };
        let running = pod("n", json!({}));
        assert!(holds(&running, &claim("mine", "x")) && holds(&running, &claim("p-b", "u")));
        assert!(!holds(&running, &claim("p-b", "x")), "somebody else's claim, which has the name by chance");
        assert!(!holds(&running, &claim("b", "u")) && !holds(&running, &claim("other", "u")));
        assert!(!holds(&pod("", json!({})), &claim("mine", "x")), "it runs nowhere");
        let over = pod("n", json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 0}));
        assert!(holds(&over, &claim("mine", "x")) && !holds(&over, &claim("p-b", "u")));
    }

    #[test]
    fn classes_that_are_no_longer_had_are_looked_at() {
        let claim = |wanted: &str, has: &str, coming: &str| -> Option<Arc<Claim>> {
            let status = json!({"currentVolumeAttributesClassName": has,
                "modifyVolumeStatus": {"targetVolumeAttributesClassName": coming}});
            let object = json!({"spec": {"volumeAttributesClassName": wanted}, "status": status});
            Some(Arc::new(serde_json::from_value(object).unwrap()))
        };
        let gone = |old, new| gone(&Change { old, new }, classes_of_claim);
        assert!(gone(None, claim("a", "", "")).is_empty());
        assert!(gone(claim("a", "", ""), claim("b", "a", "b")).is_empty());
        assert_eq!(gone(claim("b", "a", "b"), claim("b", "b", "")), ["a"]);
        assert_eq!(gone(claim("c", "a", "b"), None), ["a", "b", "c"]);
    }
}
