//! Has volumes of drivers attached to the nodes whose pods need them, and detached again: by objects that the drivers' attachers follow.
//!
//! A volume that a pod needs gets a `VolumeAttachment`, and is listed in its node's status when that says that it is there; so the kubelet
//! knows that it may mount it. One that no pod needs any more leaves that list first; then, if the node has not mounted it meanwhile, its
//! attachment goes. A node that is not well is waited for for six minutes; one that is declared out of service is not.
//!
//! Invariants: what is to be done follows from pods, attachments and nodes alone, so that a restart loses nothing but for how long a node
//! has been waited for; what an attachment does that has not the name that it would be given here is nobody's business here. Without
//! volumes of drivers nothing is kept.

mod follow;
mod index;
mod meters;
mod objects;
mod plan;
mod sync;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use kedge_base::exposition;
use kedge_client::{Error, EventRecorder, Informer, WorkQueue};
use kedge_meta::resources;
use parking_lot::Mutex;

use crate::context::Context;
use crate::objects::{ClaimPhase, Node, Pod};
use index::Index;
use meters::Meters;
use objects::{Attachment, Driver, Place, unique_name};
use sync::Coming;

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
    /// Those whose node is no longer told that they are there, since their attachment goes, by the uid of that. It may have been deleted
    /// although that is not seen yet.
    leaving: Mutex<HashMap<Place, String>>,
    /// Where a volume that only one node can have is about to go: its attachment has been asked for, and is yet to be seen.
    coming: Mutex<HashMap<String, Coming>>,
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
        coming: Mutex::default(),
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
