//! Which changes make which places be looked at.

use std::sync::Arc;

use kedge_client::Change;
use kedge_meta::ObjectKey;

use super::objects::{Attachment, Driver, Place, unique_name};
use super::{Controller, Key, is_managed, is_out_of_service, is_ready};
use crate::objects::volume::Source;
use crate::objects::{Node, Pod, Volume};

impl Controller {
    pub(super) fn follow(self: &Arc<Self>) {
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

    pub(super) fn look_at_all(&self) {
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
                self.leaving.lock().retain(|place, _| is_other(place));
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
}
