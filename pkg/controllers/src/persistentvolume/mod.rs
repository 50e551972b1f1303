//! Binds claims and persistent volumes to each other, asks provisioners for volumes, and reclaims volumes that nobody claims any more.
//!
//! # The four writes
//! A volume gets the reference of its claim, then its phase; the claim gets the name of its volume, then its status. Each write is of one
//! object at the version that was looked at, and none is made where the object says so already. So wherever a pass ends, by a conflict,
//! a restart or another controller that is at work, the next one goes on.
//!
//! Invariants: one worker binds, so that no two claims are given one volume; what it has written counts at once, although the informers
//! have not told of it ([`index`]). Nothing is done about objects that rest; claims that wait are looked at when a volume or a class that
//! may be theirs changes, and told every [`AGAIN`] why they wait.

mod directory;
mod index;
mod meters;
mod patches;
mod plan;
mod provisioners;
mod reclaim;
mod sync;
#[cfg(test)]
mod sync_tests;
#[cfg(test)]
mod testing;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use kedge_base::{Blocking, exposition};
use kedge_client::{Change, Client, Error, EventType, Informer, WorkQueue};
use kedge_meta::{ObjectKey, ObjectReference, resources};
use parking_lot::Mutex;

use crate::context::Context;
use crate::objects::{Claim, StorageClass, Volume};
use crate::workload::by_claim::PodsByClaim;
use index::Index;
use meters::Meters;
use plan::Said;
pub(crate) use provisioners::migrated;

/// How often it is told why a claim waits, and looked at what may have been missed.
const AGAIN: Duration = Duration::from_secs(15);
/// Volumes that come within this time are offered together to the claims that wait.
const TOGETHER: Duration = Duration::from_millis(50);

/// What is to be looked at.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Claim(ObjectKey),
    Volume(String),
    /// Claims of a class that wait, because the class has changed.
    Class(String),
    /// The same, because of volumes that are free now.
    Free(String),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Claim(key) => write!(f, "persistentvolumeclaims/{key}"),
            Self::Volume(name) => write!(f, "persistentvolumes/{name}"),
            Self::Class(name) | Self::Free(name) => write!(f, "storageclasses/{name}"),
        }
    }
}

/// Tells something about an object.
type Tell = Box<dyn Fn(&ObjectReference, EventType, &str, String) + Send + Sync>;

struct Binder {
    client: Client,
    queue: WorkQueue<Key>,
    claims: Informer<Claim>,
    volumes: Informer<Volume>,
    classes: Informer<StorageClass>,
    pods: PodsByClaim,
    index: Mutex<Index>,
    meters: Arc<Meters>,
    /// For directories that are deleted.
    files: Blocking,
    tell: Tell,
}

/// Starts the controller.
pub fn start(ctx: &Context) {
    let queue = ctx.queue();
    let recorder = ctx.recorder("persistentvolume-controller");
    let meters = Arc::new(Meters::new(&ctx.clock, &ctx.claims, &ctx.volumes));
    exposition::list("persistentvolume-controller", &meters);
    let binder = Arc::new(Binder {
        client: ctx.client.clone(),
        queue: queue.clone(),
        claims: ctx.claims.clone(),
        volumes: ctx.volumes.clone(),
        classes: ctx.informer(&resources::STORAGE_CLASSES),
        pods: ctx.pods_by_claim.clone(),
        index: Mutex::default(),
        meters,
        files: Blocking::new("persistentvolume-controller", ctx.clock.clone(), ctx.tasks.ledger(), 1, 4),
        tell: Box::new(move |object, kind, reason, message| recorder.event(object, kind, reason, message)),
    });
    binder.follow();
    let (b, pods) = (binder.clone(), ctx.pods.clone());
    let synced = async move {
        b.claims.synced().await;
        b.volumes.synced().await;
        b.classes.synced().await;
        pods.synced().await;
    };
    ctx.work("persistentvolume-binder", &queue, 1, synced, binder, |b, key| async move { b.reconcile(key).await });
}

impl Binder {
    fn follow(self: &Arc<Self>) {
        let b = self.clone();
        self.volumes.on_change(move |change| b.volume_changed(change));
        let b = self.clone();
        self.claims.on_change(move |change| b.claim_changed(change));
        let b = self.clone();
        self.classes.on_change(move |change| {
            b.queue.add(Key::Class(change.key().name));
            if change.new.as_ref().is_some_and(|class| class.is_default()) {
                b.queue.add(Key::Class(String::new()));
            }
        });
    }

    fn volume_changed(&self, change: &Change<Volume>) {
        let name = change.key().name;
        let mut index = self.index.lock();
        let came_or_went = change.old.is_none() || change.new.is_none();
        match (&change.old, &change.new) {
            (_, Some(volume)) if index.set_volume(volume.clone()) => {
                self.queue.add_after(Key::Free(volume.storage_class.clone()), TOGETHER);
            }
            (Some(volume), None) => {
                index.remove_volume(volume);
                self.meters.done(&name);
                // It has lost its volume.
                volume.claim.iter().for_each(|of| self.queue.add(Key::Claim(of.key())));
            }
            _ => {}
        }
        let naming = index.claims_naming(&name);
        let touched = naming.iter().filter(|claim| came_or_went || !claim.is_bound());
        touched.for_each(|claim| self.queue.add(Key::Claim(claim.metadata.key())));
        self.queue.add(Key::Volume(name));
    }

    fn claim_changed(&self, change: &Change<Claim>) {
        let key = change.key();
        let mut index = self.index.lock();
        match (&change.old, &change.new) {
            (_, Some(claim)) => index.set_claim(claim.clone()),
            (Some(claim), None) => {
                index.remove_claim(claim);
                self.meters.forget(&key.to_string());
                let mut volumes = index.reserved_for(&key);
                volumes.push(claim.volume_name.clone());
                volumes.into_iter().filter(|name| !name.is_empty()).for_each(|name| self.queue.add(Key::Volume(name)));
            }
            (None, None) => {}
        }
        self.queue.add(Key::Claim(key));
    }

    async fn reconcile(&self, key: Key) -> Result<(), Error> {
        match &key {
            Key::Claim(claim) => self.sync_claim(claim).await?,
            Key::Volume(name) => self.sync_volume(name).await?,
            Key::Class(name) => {
                let index = self.index.lock();
                index.waiting(name).iter().for_each(|claim| self.queue.add(Key::Claim(claim.metadata.key())));
            }
            Key::Free(name) => {
                // Those for whom there is nothing are not told so once more.
                let waits = self.classes.get("", name).is_some_and(|class| class.waits);
                let index = self.index.lock();
                let waiting = index.waiting(name);
                let served = waiting.iter().filter(|claim| index.best(claim, waits).is_some());
                served.for_each(|claim| self.queue.add(Key::Claim(claim.metadata.key())));
            }
        }
        Ok(())
    }

    fn say(&self, object: &ObjectReference, said: Said) {
        (self.tell)(object, said.kind, said.reason, said.message);
    }
}
