//! Which persistent volumes are behind a volume of a driver, and which attachments there are of a persistent volume and on a node.

use std::collections::{BTreeSet, HashMap};

use kedge_client::Change;
use parking_lot::RwLock;

use super::objects::{Attachment, unique_name};
use crate::objects::Volume;

/// Names by key.
#[derive(Default)]
struct Names(HashMap<String, BTreeSet<String>>);

impl Names {
    fn set(&mut self, name: &str, old: Option<&str>, new: Option<&str>) {
        if old == new {
            return;
        }
        if let Some(old) = old
            && let Some(names) = self.0.get_mut(old)
        {
            names.remove(name);
            if names.is_empty() {
                self.0.remove(old);
            }
        }
        if let Some(new) = new {
            self.0.entry(new.to_owned()).or_default().insert(name.to_owned());
        }
    }

    fn get(&self, key: &str) -> Vec<String> {
        self.0.get(key).into_iter().flatten().cloned().collect()
    }
}

/// The index; it takes no room where there are no drivers.
#[derive(Default)]
pub(super) struct Index {
    /// Persistent volumes by their name on nodes.
    volumes: RwLock<Names>,
    /// Attachments by persistent volume.
    by_volume: RwLock<Names>,
    /// Attachments by node.
    by_node: RwLock<Names>,
}

impl Index {
    pub(super) fn volume_changed(&self, change: &Change<Volume>) {
        let unique = |volume: &Option<std::sync::Arc<Volume>>| volume.as_ref().and_then(|volume| unique_name(volume));
        let (old, new) = (unique(&change.old), unique(&change.new));
        self.volumes.write().set(&change.key().name, old.as_deref(), new.as_deref());
    }

    pub(super) fn attachment_changed(&self, change: &Change<Attachment>) {
        let name = change.key().name;
        let (old, new) = (change.old.as_ref(), change.new.as_ref());
        let volume = |a: &&std::sync::Arc<Attachment>| a.spec.source.persistent_volume_name.clone();
        let node = |a: &&std::sync::Arc<Attachment>| a.spec.node_name.clone();
        let set = |names: &RwLock<Names>, old: Option<String>, new: Option<String>| {
            names.write().set(&name, old.as_deref(), new.as_deref());
        };
        set(&self.by_volume, old.as_ref().map(volume), new.as_ref().map(volume));
        set(&self.by_node, old.as_ref().map(node), new.as_ref().map(node));
    }

    /// The persistent volumes that are called so on nodes.
    pub(super) fn volumes(&self, unique: &str) -> Vec<String> {
        self.volumes.read().get(unique)
    }

    /// All volumes of drivers, by their names on nodes.
    pub(super) fn uniques(&self) -> Vec<String> {
        self.volumes.read().0.keys().cloned().collect()
    }

    /// The attachments of a persistent volume.
    pub(super) fn of_volume(&self, name: &str) -> Vec<String> {
        self.by_volume.read().get(name)
    }

    /// The attachments to a node.
    pub(super) fn on_node(&self, name: &str) -> Vec<String> {
        self.by_node.read().get(name)
    }
}
