//! One pass over a volume on a node, or over what a node is told: what the plan says, carried out.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kedge_client::{DeleteOptions, Error, EventType, Patch};
use kedge_meta::{Status, resources};
use serde_json::json;
use tracing::info;

use super::objects::{Attachment, Place, is_exclusive, split};
use super::plan::{ATTACHER, Facts, Force, NodeState, Step, elsewhere, step};
use super::{Controller, Key, is_managed, is_out_of_service, is_ready};
use crate::context::ignore_not_found;
use crate::objects::{Meta, Node, Pod, Volume};

/// When it is looked again whether a volume has come to another node.
const COMING: Duration = Duration::from_secs(1);

/// Where a volume is about to go.
pub(super) struct Coming {
    node: String,
    /// Until when that keeps others from having it, if nothing is seen of it.
    until: Duration,
}

impl Controller {
    pub(super) async fn sync_place(&self, place: &Place) -> Result<(), Error> {
        let (Some((driver, _)), Some(name)) = (split(&place.volume), place.attachment()) else { return Ok(()) };
        let node = self.ctx.nodes.get("", &place.node);
        let managed = node.as_ref().is_some_and(|node| is_managed(node));
        let users = if managed && self.attaches(driver) { self.users(place) } else { Vec::new() };
        let attachment = self.attachments.get("", &name);
        let volumes: Vec<_> =
            self.index.volumes(&place.volume).iter().filter_map(|name| self.ctx.volumes.get("", name)).collect();
        let others = self.others(place, &volumes);
        let others: Vec<&Attachment> = others.iter().map(Arc::as_ref).collect();
        let facts = Facts {
            wanted: !users.is_empty(),
            attachment: attachment.as_deref(),
            exclusive: volumes.iter().any(|volume| is_exclusive(volume)),
            others: &others,
            node: self.node_state(place, node.as_deref()),
            unwanted: self.unwanted(place, users.is_empty() && attachment.is_some()),
            now: self.ctx.clock.now(),
        };
        if facts.attachment.is_some() || !facts.wanted {
            self.has_come(place);
        }
        let mut step = step(&facts);
        if step == Step::Attach && facts.exclusive && !self.comes(place) {
            step = Step::Queue(COMING);
        }
        let uid = attachment.as_ref().filter(|a| !a.metadata.is_deleting()).map(|a| a.metadata.uid.clone());
        {
            let mut leaving = self.leaving.lock();
            if leaving.get(place) != uid.as_ref() {
                leaving.remove(place);
            }
        }
        let volume = self.volume_of(&users, &volumes);
        self.carry_out(place, step, &users, volume, (&name, &uid.unwrap_or_default())).await
    }

    async fn carry_out(
        &self,
        place: &Place,
        step: Step,
        users: &[Arc<Pod>],
        volume: Option<&Volume>,
        (name, uid): (&str, &str),
    ) -> Result<(), Error> {
        let about = volume.map_or("nil", |volume| volume.metadata.name.as_str());
        let (driver, handle) = split(&place.volume).unwrap_or_default();
        let failed = |why: &str| format!("AttachVolume.Attach failed for volume {about:?} : {why}");
        match step {
            Step::Rest => self.forget(place),
            Step::Leaving => {}
            Step::Attached => {
                // After a restart it is no news.
                let is_news = {
                    let mut memory = self.memory.lock();
                    let memory = memory.entry(place.clone()).or_default();
                    !std::mem::replace(&mut memory.attached, true) && memory.told.is_some()
                };
                if is_news {
                    let message = format!("AttachVolume.Attach succeeded for volume {about:?} ");
                    self.tell_pods(users, EventType::Normal, "SuccessfulAttachVolume", &message);
                }
            }
            Step::Attach => {
                self.note(place, "");
                if let Err(err) = self.attach(place, driver, about, name).await {
                    let message = failed(&format!("kubernetes.io/csi: attacher.Attach failed: {err}"));
                    self.tell_pods(users, EventType::Warning, "FailedAttachVolume", &message);
                    return Err(err);
                }
            }
            Step::Await(left) => {
                self.note(place, "");
                self.queue.add_after(Key::Place(place.clone()), left);
            }
            Step::Late => {
                let why =
                    format!("timed out waiting for external-attacher of {driver} CSI driver to attach volume {handle}");
                self.tell_pods(users, EventType::Warning, "FailedAttachVolume", &failed(&why));
                self.note(place, "");
                self.queue.add_after(Key::Place(place.clone()), ATTACHER);
            }
            Step::Failed(why) => {
                let message = failed(&why);
                let error =
                    self.attachments.get("", name).and_then(|attachment| attachment.status.attach_error.clone());
                let time = error.and_then(|error| error.time).unwrap_or_default();
                // Each try of the attacher is told once.
                if self.note(place, &format!("{time} {message}")) {
                    self.tell_pods(users, EventType::Warning, "FailedAttachVolume", &message);
                }
            }
            Step::Elsewhere(nodes) => self.tell_elsewhere(place, users, about, &nodes),
            Step::Queue(left) => self.queue.add_after(Key::Place(place.clone()), left),
            Step::Mounted(left) => {
                if !left.is_zero() {
                    self.queue.add_after(Key::Place(place.clone()), left);
                }
            }
            Step::Detach(force) => return self.detach(place, (name, uid), force).await,
        }
        Ok(())
    }

    /// Whether a volume that one node can have may come to this one: it is not about to go to another. What was asked for is not seen at once.
    fn comes(&self, place: &Place) -> bool {
        let (now, mut coming) = (self.ctx.clock.monotonic(), self.coming.lock());
        let elsewhere = coming.get(&place.volume).filter(|to| to.node != place.node && now < to.until);
        if elsewhere.is_some() {
            return false;
        }
        coming.insert(place.volume.clone(), Coming { node: place.node.clone(), until: now + ATTACHER });
        true
    }

    /// It has come, or is not to.
    fn has_come(&self, place: &Place) {
        let mut coming = self.coming.lock();
        if coming.get(&place.volume).is_some_and(|to| to.node == place.node) {
            coming.remove(&place.volume);
        }
    }

    /// Attachments of the volume to other nodes.
    fn others(&self, place: &Place, volumes: &[Arc<Volume>]) -> Vec<Arc<Attachment>> {
        let names: BTreeSet<String> =
            volumes.iter().flat_map(|volume| self.index.of_volume(&volume.metadata.name)).collect();
        let all = names.iter().filter_map(|name| self.attachments.get("", name));
        all.filter(|attachment| attachment.spec.node_name != place.node).collect()
    }

    fn node_state(&self, place: &Place, node: Option<&Node>) -> NodeState {
        match node {
            Some(node) => NodeState {
                ready: is_ready(node),
                out_of_service: is_out_of_service(node),
                mounted: node.status.volumes_in_use.contains(&place.volume),
            },
            // Of one that nobody has seen it is not known.
            None => {
                let departed = self.departed.lock();
                let mounted = departed.get(&place.node).is_none_or(|mounted| mounted.contains(&place.volume));
                NodeState { mounted, ..NodeState::default() }
            }
        }
    }

    /// How long it has not been wanted, which is remembered from now on.
    fn unwanted(&self, place: &Place, is_unwanted: bool) -> Duration {
        let (now, mut memory) = (self.ctx.clock.monotonic(), self.memory.lock());
        if !is_unwanted {
            memory.get_mut(place).into_iter().for_each(|memory| memory.unwanted = None);
            return Duration::ZERO;
        }
        now.saturating_sub(*memory.entry(place.clone()).or_default().unwanted.get_or_insert(now))
    }

    /// The persistent volume by which the pods know it.
    fn volume_of<'a>(&self, users: &[Arc<Pod>], volumes: &'a [Arc<Volume>]) -> Option<&'a Volume> {
        let used = |volume: &&Arc<Volume>| {
            volume.claim.as_ref().is_some_and(|of| {
                users
                    .iter()
                    .any(|pod| pod.metadata.namespace == of.namespace && pod.claims().any(|name| name == of.name))
            })
        };
        volumes.iter().find(used).or(volumes.first()).map(Arc::as_ref)
    }

    /// Remembers what pods are told, and that it is not there yet. Returns whether they have been told something else.
    fn note(&self, place: &Place, told: &str) -> bool {
        let mut memory = self.memory.lock();
        let memory = memory.entry(place.clone()).or_default();
        memory.attached = false;
        let is_new = memory.told.as_deref() != Some(told);
        memory.told = Some(told.to_owned());
        is_new
    }

    fn forget(&self, place: &Place) {
        self.memory.lock().remove(place);
        if self.index.on_node(&place.node).is_empty() {
            self.departed.lock().remove(&place.node);
        }
    }

    fn tell_pods(&self, pods: &[Arc<Pod>], kind: EventType, reason: &str, message: &str) {
        pods.iter().for_each(|pod| self.events.event(&pod.reference(), kind, reason, message));
    }

    /// Says once that the volume is elsewhere, and by whom it is used there.
    fn tell_elsewhere(&self, place: &Place, users: &[Arc<Pod>], about: &str, nodes: &BTreeSet<String>) {
        let there: Vec<Arc<Pod>> = nodes.iter().flat_map(|node| self.users(&Place::new(&place.volume, node))).collect();
        let there: Vec<(&str, &str)> =
            there.iter().map(|pod| (pod.metadata.namespace.as_str(), pod.metadata.name.as_str())).collect();
        let on = nodes.iter().map(String::as_str).collect::<Vec<_>>().join(",");
        if !self.note(place, &on) {
            return;
        }
        for pod in users {
            let why = elsewhere(&there, &pod.metadata.namespace);
            let message = format!("Multi-Attach error for volume {about:?} {why}");
            self.events.event(&pod.reference(), EventType::Warning, "FailedAttachVolume", message);
        }
    }

    async fn attach(&self, place: &Place, driver: &str, volume: &str, name: &str) -> Result<(), Error> {
        let body = json!({
            "apiVersion": "storage.k8s.io/v1",
            "kind": "VolumeAttachment",
            "metadata": { "name": name },
            "spec": { "attacher": driver, "nodeName": place.node, "source": { "persistentVolumeName": volume } },
        });
        info!(volume = place.volume, node = place.node, "attaching a volume");
        match self.ctx.client.create::<Meta>(&resources::VOLUME_ATTACHMENTS, "", &body).await {
            Err(err) if err.is_already_exists() => Ok(()),
            done => done.map(drop),
        }
    }

    async fn detach(&self, place: &Place, (name, uid): (&str, &str), force: Option<Force>) -> Result<(), Error> {
        // The kubelet mounts nothing that its node is not told of; so what is not mounted after that is not mounted at all.
        if self.leaving.lock().insert(place.clone(), uid.to_owned()).is_some() {
            // It has been deleted, which is yet to be seen.
            return Ok(());
        }
        let done = match self.let_go(place, force.is_some()).await {
            Ok(()) => {
                info!(volume = place.volume, node = place.node, forced = force.map(Force::name), "detaching a volume");
                let options = DeleteOptions::with_uid(uid);
                ignore_not_found(self.ctx.client.delete(&resources::VOLUME_ATTACHMENTS, "", name, &options).await)
            }
            failed => failed,
        };
        match &done {
            Ok(()) => force.into_iter().for_each(|why| self.meters.forced(why)),
            Err(_) => {
                self.leaving.lock().remove(place);
                self.queue.add(Key::Node(place.node.clone()));
            }
        }
        done
    }

    /// Takes a volume off what its node is told, and sees that the node has not mounted it by now. The server is asked, since what has just
    /// been written may not have been seen here.
    async fn let_go(&self, place: &Place, forced: bool) -> Result<(), Error> {
        let node = match self.ctx.client.get::<Node>(&resources::NODES, "", &place.node).await {
            Ok(node) => node,
            Err(err) if err.is_not_found() => return Ok(()),
            Err(err) => return Err(err),
        };
        let node = self.tell(node).await?;
        if !forced && node.is_some_and(|node| node.status.volumes_in_use.contains(&place.volume)) {
            return Err(Status::internal("volume is still in use by node, according to Node status").into());
        }
        Ok(())
    }

    /// Tells a node what is attached to it.
    pub(super) async fn tell_node(&self, name: &str) -> Result<(), Error> {
        match self.ctx.nodes.get("", name) {
            Some(node) => self.tell((*node).clone()).await.map(drop),
            None => Ok(()),
        }
    }

    /// Tells a node what is attached to it, if that is not what it has been told. Returns the node as it is then; none if it is gone.
    async fn tell(&self, node: Node) -> Result<Option<Node>, Error> {
        // One at a time, so that nobody tells what has been taken back meanwhile.
        let _turn = self.telling.lock().await;
        let name = &node.metadata.name;
        let attachments = self.index.on_node(name).into_iter().filter_map(|name| self.attachments.get("", &name));
        let there = attachments.filter(|a| a.status.attached && !a.metadata.is_deleting());
        let leaving = self.leaving.lock().clone();
        let places = there.filter_map(|attachment| {
            let place = self.place_of(&attachment)?;
            (leaving.get(&place) != Some(&attachment.metadata.uid)).then_some(place)
        });
        let wanted: BTreeSet<String> = places.map(|place| place.volume).collect();
        let told: BTreeSet<String> = node.status.volumes_attached.iter().map(|volume| volume.name.clone()).collect();
        if wanted == told {
            return Ok(Some(node));
        }
        let all: Vec<_> = wanted.iter().map(|volume| json!({"name": volume, "devicePath": ""})).collect();
        let patch = Patch::Strategic(json!({"status": {"volumesAttached": all}}));
        match self.ctx.client.patch::<Node>(&resources::NODES, "", name, patch, Some("status")).await {
            Ok(node) => Ok(Some(node)),
            Err(err) if err.is_not_found() => Ok(None),
            Err(err) => Err(err),
        }
    }
}
