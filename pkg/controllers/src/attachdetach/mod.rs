//! Has volumes of drivers attached to the nodes whose pods need them, and detached again: by objects that the drivers' attachers follow.
//!
//! A volume that a pod needs gets a `VolumeAttachment`, and is listed in its node's status when that says that it is there; so the kubelet
//! knows that it may mount it. One that no pod needs any more leaves that list first; then, if the node has not mounted it meanwhile, its
//! attachment goes. A node that is not well is waited for for six minutes; one that is declared out of service is not.
//!
//! Invariants: what is to be done follows from pods, attachments and nodes alone, so that a restart loses nothing but for how long a node
//! has been waited for; what an attachment does that has not the name that it would be given here is nobody's business here. Without
//! volumes of drivers nothing is kept.

mod index;
mod meters;
mod objects;
mod plan;
mod sync;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use kedge_base::exposition;
use kedge_client::{Change, Error, EventRecorder, Informer, WorkQueue};
use kedge_meta::{ObjectKey, resources};
use parking_lot::Mutex;

use crate::context::Context;
use crate::objects::volume::{ClaimPhase, Source};
use crate::objects::{Node, Pod, Volume};
use index::Index;
use meters::Meters;
use objects::{Attachment, Driver, Place, unique_name};

/// On nodes that leave attaching to controllers.
const MANAGED: &str = "volumes.kubernetes.io/controller-managed-attach-detach";

/// What is looked at.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Place(Place),
    /// What a node is told to have attached.
    Node(String),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Place(place) => place.fmt(f),
            Self::Node(name) => write!(f, "nodes/{name}"),
        }
    }
}

/// What is remembered of a place; nothing of it has to be.
#[derive(Debug, Default)]
struct Memory {
    /// Since when it is not wanted there.
    unwanted: Option<Duration>,
    /// Pods have been told that it is there.
    attached: bool,
    /// What they have been told last.
    told: Option<String>,
}

struct Controller {
    ctx: Context,
    queue: WorkQueue<Key>,
    events: EventRecorder,
    attachments: Informer<Attachment>,
    drivers: Informer<Driver>,
    index: Index,
    memory: Mutex<HashMap<Place, Memory>>,
    /// Those whose node is no longer told that they are there, since their attachment is about to go.
    leaving: Mutex<HashSet<Place>>,
    /// Held while a node is told something.
    telling: tokio::sync::Mutex<()>,
    /// What nodes that are gone had mounted when they were last seen.
    departed: Mutex<HashMap<String, BTreeSet<String>>>,
    meters: Arc<Meters>,
}

/// Starts the controller.
pub fn start(ctx: &Context) {
    let queue = ctx.queue();
    let meters = Arc::new(Meters::default());
    exposition::list("attachdetach-controller", &meters);
    let controller = Arc::new(Controller {
        ctx: ctx.clone(),
        queue: queue.clone(),
        events: ctx.recorder("attachdetach-controller"),
        attachments: ctx.informer(&resources::VOLUME_ATTACHMENTS),
        drivers: ctx.informer(&resources::CSI_DRIVERS),
        index: Index::default(),
        memory: Mutex::default(),
        leaving: Mutex::default(),
        telling: tokio::sync::Mutex::default(),
        departed: Mutex::default(),
        meters: meters.clone(),
    });
    meters.look_at(&controller);
    controller.follow();
    let c = controller.clone();
    let synced = async move {
        c.ctx.pods.synced().await;
        c.ctx.nodes.synced().await;
        c.ctx.claims.synced().await;
        c.ctx.volumes.synced().await;
        c.drivers.synced().await;
        c.attachments.synced().await;
        // What came in another order than it is looked at in.
        c.look_at_all();
    };
    ctx.work("attachdetach", &queue, 4, synced, controller, |c, key| async move { c.reconcile(key).await });
}

impl Controller {
    fn follow(self: &Arc<Self>) {
        let c = self.clone();
        self.ctx.volumes.on_change(move |change| {
            c.index.volume_changed(change);
            let claims = change.old.iter().chain(&change.new).filter_map(|volume| volume.claim.as_ref());
            claims.for_each(|claim| c.look_at_claim(&claim.key()));
            for volume in change.old.iter().chain(&change.new) {
                c.look_at_attachments(volume);
            }
        });
        let c = self.clone();
        self.ctx.claims.on_change(move |change| {
            c.look_at_claim(&change.key());
            let volumes =
                change.old.iter().chain(&change.new).filter_map(|claim| c.ctx.volumes.get("", &claim.volume_name));
            volumes.for_each(|volume| c.look_at_attachments(&volume));
        });
        let c = self.clone();
        self.ctx.pods.on_change(move |change| {
            change.old.iter().chain(&change.new).for_each(|pod| c.look_at_pod(pod));
        });
        let c = self.clone();
        self.attachments.on_change(move |change| c.attachment_changed(change));
        let c = self.clone();
        self.ctx.nodes.on_change(move |change| c.node_changed(change));
        let c = self.clone();
        self.drivers.on_change(move |change| {
            let required = |driver: &Option<Arc<Driver>>| driver.as_ref().and_then(|d| d.spec.attach_required);
            if required(&change.old) != required(&change.new) {
                c.look_at_driver(&change.key().name);
            }
        });
    }

    fn look_at(&self, place: Place) {
        self.queue.add(Key::Place(place));
    }

    fn look_at_all(&self) {
        self.ctx.nodes.list().iter().for_each(|node| self.look_at_node(&node.metadata.name));
        self.ctx.pods.list().iter().for_each(|pod| self.look_at_pod(pod));
        for attachment in self.attachments.list() {
            self.look_at_node(&attachment.spec.node_name);
        }
    }

    /// The places of a pod's volumes.
    fn look_at_pod(&self, pod: &Pod) {
        if pod.spec.node_name.is_empty() {
            return;
        }
        for claim in pod.claims() {
            let claim = self.ctx.claims.get(&pod.metadata.namespace, &claim);
            let volume = claim.and_then(|claim| self.ctx.volumes.get("", &claim.volume_name));
            if let Some(unique) = volume.and_then(|volume| unique_name(&volume)) {
                self.look_at(Place::new(&unique, &pod.spec.node_name));
            }
        }
    }

    fn look_at_claim(&self, claim: &ObjectKey) {
        self.ctx.pods_by_claim.of(claim).iter().for_each(|pod| self.look_at_pod(pod));
    }

    /// Where a volume is.
    fn look_at_attachments(&self, volume: &Volume) {
        let Some(unique) = unique_name(volume) else { return };
        for name in self.index.of_volume(&volume.metadata.name) {
            if let Some(attachment) = self.attachments.get("", &name) {
                self.look_at(Place::new(&unique, &attachment.spec.node_name));
            }
        }
    }

    fn look_at_driver(&self, name: &str) {
        let of_driver = |volume: &&Arc<Volume>| matches!(&volume.source, Source::Csi { driver, .. } if driver == name);
        for volume in self.ctx.volumes.list().iter().filter(of_driver) {
            volume.claim.iter().for_each(|claim| self.look_at_claim(&claim.key()));
            self.look_at_attachments(volume);
        }
    }

    /// Everything on a node, and what it is told.
    fn look_at_node(&self, name: &str) {
        self.places_on(name).into_iter().for_each(|place| self.look_at(place));
        self.queue.add(Key::Node(name.to_owned()));
    }

    fn attachment_changed(&self, change: &Change<Attachment>) {
        self.index.attachment_changed(change);
        let Some(attachment) = change.object() else { return };
        match self.place_of(attachment) {
            Some(place) => self.look_at(place),
            // Nobody knows its volume any more.
            None if change.new.is_none() => {
                let is_other = |place: &Place| place.attachment().as_ref() != Some(&attachment.metadata.name);
                self.memory.lock().retain(|place, _| is_other(place));
                self.leaving.lock().retain(is_other);
            }
            None => {}
        }
        self.queue.add(Key::Node(attachment.spec.node_name.clone()));
        // Whoever waits for it elsewhere may have it.
        let volume = self.ctx.volumes.get("", &attachment.spec.source.persistent_volume_name);
        volume.iter().filter_map(|v| v.claim.as_ref()).for_each(|claim| self.look_at_claim(&claim.key()));
    }

    fn node_changed(&self, change: &Change<Node>) {
        let name = change.key().name;
        let Some(node) = &change.new else {
            let mounted = change.old.iter().flat_map(|node| node.status.volumes_in_use.iter().cloned());
            if !self.index.on_node(&name).is_empty() {
                self.departed.lock().insert(name.clone(), mounted.collect());
            }
            return self.look_at_node(&name);
        };
        self.departed.lock().remove(&name);
        let state = |node: &Node| {
            (
                node.metadata.uid.clone(),
                is_managed(node),
                is_ready(node),
                is_out_of_service(node),
                node.status.volumes_in_use.clone(),
                node.status.volumes_attached.clone(),
            )
        };
        match &change.old {
            Some(old) if state(old) == state(node) => {}
            Some(old) if is_managed(old) == is_managed(node) && old.metadata.uid == node.metadata.uid => {
                self.look_at_node(&name);
            }
            // Pods may have come before it.
            _ => {
                self.look_at_node(&name);
                let pods = self.ctx.pods.list();
                pods.iter().filter(|pod| pod.spec.node_name == name).for_each(|pod| self.look_at_pod(pod));
            }
        }
    }

    /// The place that an attachment is of, if it has the name that it would be given here. Of a volume that is gone, only its node may
    /// know the name.
    fn place_of(&self, attachment: &Attachment) -> Option<Place> {
        let node = &attachment.spec.node_name;
        let volume = self.ctx.volumes.get("", &attachment.spec.source.persistent_volume_name);
        let named = volume.and_then(|volume| unique_name(&volume));
        let mut all: Vec<String> = named.into_iter().collect();
        if all.is_empty()
            && let Some(node) = self.ctx.nodes.get("", node)
        {
            all.extend(node.status.volumes_attached.iter().map(|volume| volume.name.clone()));
            all.extend(node.status.volumes_in_use.iter().cloned());
        }
        let places = all.into_iter().map(|unique| Place::new(&unique, node));
        places.into_iter().find(|place| place.attachment().as_ref() == Some(&attachment.metadata.name))
    }

    /// What is attached to a node, is said to be, or is remembered.
    fn places_on(&self, node: &str) -> BTreeSet<Place> {
        let attachments = self.index.on_node(node).into_iter().filter_map(|name| self.attachments.get("", &name));
        let mut places: BTreeSet<Place> = attachments.filter_map(|attachment| self.place_of(&attachment)).collect();
        if let Some(found) = self.ctx.nodes.get("", node) {
            places.extend(found.status.volumes_attached.iter().map(|volume| Place::new(&volume.name, node)));
        }
        places
    }

    /// The pods that need a volume on its node.
    fn users(&self, place: &Place) -> Vec<Arc<Pod>> {
        let (mut users, volumes) = (Vec::new(), self.index.volumes(&place.volume));
        for volume in volumes.iter().filter_map(|name| self.ctx.volumes.get("", name)) {
            let Some(of) = &volume.claim else { continue };
            let bound = self.ctx.claims.get(&of.namespace, &of.name).filter(|claim| {
                claim.phase == ClaimPhase::Bound
                    && claim.volume_name == volume.metadata.name
                    && claim.metadata.uid == of.uid
            });
            let Some(claim) = bound else { continue };
            let needs = |pod: &Arc<Pod>| {
                let named = |found: &crate::objects::PodVolume| {
                    found.claim_name(&pod.metadata.name) == of.name
                        && (found.claim.is_some() || claim.metadata.is_controlled_by(&pod.metadata.uid))
                };
                pod.spec.node_name == place.node && !pod.has_ended() && pod.spec.volumes.iter().any(named)
            };
            users.extend(self.ctx.pods_by_claim.of(&of.key()).into_iter().filter(needs));
        }
        users
    }

    /// Whether a driver has its volumes attached.
    fn attaches(&self, driver: &str) -> bool {
        self.drivers.get("", driver).is_none_or(|driver| driver.spec.attach_required != Some(false))
    }

    /// All places where volumes are wanted, and by how many pods.
    fn all_wanted(&self) -> BTreeMap<Place, u64> {
        let mut all = BTreeMap::new();
        for unique in self.index.uniques() {
            let attaches = objects::split(&unique).is_some_and(|(driver, _)| self.attaches(driver));
            let volumes = self.index.volumes(&unique);
            let claims =
                volumes.iter().filter(|_| attaches).filter_map(|name| self.ctx.volumes.get("", name)?.claim.clone());
            let pods = claims.flat_map(|claim| self.ctx.pods_by_claim.of(&claim.key()));
            let nodes: BTreeSet<String> = pods.map(|pod| pod.spec.node_name.clone()).collect();
            for node in nodes.iter().filter(|node| !node.is_empty()) {
                let place = Place::new(&unique, node);
                let users = self.users(&place).len() as u64;
                if users > 0 {
                    all.insert(place, users);
                }
            }
        }
        all
    }

    /// All places where volumes are, or may be.
    fn all_attached(&self) -> BTreeSet<Place> {
        self.attachments.list().iter().filter_map(|attachment| self.place_of(attachment)).collect()
    }

    async fn reconcile(&self, key: Key) -> Result<(), Error> {
        match key {
            Key::Place(place) => self.sync_place(&place).await,
            Key::Node(name) => self.tell_node(&name).await,
        }
    }
}

fn is_managed(node: &Node) -> bool {
    node.metadata.annotations.contains_key(MANAGED)
}

fn is_ready(node: &Node) -> bool {
    crate::objects::condition(&node.status.conditions, "Ready").is_some_and(crate::objects::Condition::is_true)
}

fn is_out_of_service(node: &Node) -> bool {
    node.spec.taints.iter().any(|taint| taint.key == "node.kubernetes.io/out-of-service")
}
