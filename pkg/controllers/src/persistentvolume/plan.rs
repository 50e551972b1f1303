//! What is to be done about a claim or a volume, by what is known. Each step leaves things so that the next pass goes on from there,
//! wherever this one was interrupted.

use std::sync::Arc;

use kedge_client::EventType;

use super::index::{Index, class_of_attributes};
use super::provisioners::{Maker, maker, migrated};
use crate::objects::volume::{
    BETA_PROVISIONER, BOUND_BY_CONTROLLER, MIGRATED_TO, PROVISIONED_BY, PROVISIONER, Reclaim, SELECTED_NODE,
    VolumePhase,
};
use crate::objects::{Claim, StorageClass, Volume};

/// Guards a volume that a plugin of the tree has made until its storage has been deleted.
pub(super) const FINALIZER: &str = "kubernetes.io/pv-controller";
/// The same, of external provisioners.
const EXTERNAL_FINALIZER: &str = "external-provisioner.volume.kubernetes.io/finalizer";

/// Something to be told about an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    pub kind: EventType,
    pub reason: &'static str,
    pub message: String,
}

impl Said {
    pub(super) fn normal(reason: &'static str, message: impl Into<String>) -> Self {
        Self { kind: EventType::Normal, reason, message: message.into() }
    }

    pub(super) fn warning(reason: &'static str, message: impl Into<String>) -> Self {
        Self { kind: EventType::Warning, reason, message: message.into() }
    }
}

/// What is to be done about a claim.
#[derive(Debug)]
pub(super) enum ClaimStep {
    /// Both are bound to each other.
    Bind(Arc<Volume>),
    /// It gets the class that is the default by now.
    AssignClass(String),
    /// The scheduler has the word.
    Wait,
    /// The provisioner of that name is asked for a volume.
    Provision(String),
    /// A plugin would be asked, and says why not.
    Off(String, Said),
    /// Nothing but this is told.
    Tell(Said),
    /// It is pending, and this is told.
    Pend(Option<Said>),
    /// It has lost its volume.
    Lose(Said),
}

/// What is to be done about a claim.
pub(super) fn claim(claim: &Claim, index: &Index, classes: &[Arc<StorageClass>]) -> ClaimStep {
    if claim.is_bound() {
        bound_claim(claim, index)
    } else if claim.volume_name.is_empty() {
        free_claim(claim, index, classes)
    } else {
        naming_claim(claim, index)
    }
}

/// One that takes any volume.
fn free_claim(claim: &Claim, index: &Index, classes: &[Arc<StorageClass>]) -> ClaimStep {
    let class = classes.iter().find(|class| class.metadata.name == claim.class());
    let waits = class.is_some_and(|class| class.waits);
    if let Some(volume) = index.best(claim, waits) {
        return ClaimStep::Bind(volume);
    }
    if claim.storage_class.is_none()
        && let Some(class) = default_class(classes)
    {
        return ClaimStep::AssignClass(class.metadata.name.clone());
    }
    if waits && claim.annotation(SELECTED_NODE).is_none() {
        return ClaimStep::Wait;
    }
    let failed = |why: String| ClaimStep::Tell(Said::warning("ProvisioningFailed", why));
    match class {
        Some(class) => match maker(&class.provisioner) {
            Maker::External(name) => ClaimStep::Provision(name.to_owned()),
            Maker::Off(name, why) => ClaimStep::Off(name.to_owned(), Said::warning("ProvisioningFailed", why)),
            Maker::Nobody(why) => failed(why),
        },
        None if !claim.class().is_empty() => {
            failed(format!("storageclass.storage.k8s.io {:?} not found", claim.class()))
        }
        None => {
            let why = "no persistent volumes available for this claim and no storage class is set";
            ClaimStep::Pend(Some(Said::normal("FailedBinding", why)))
        }
    }
}

/// The newest of those that are marked, of several of the same second the first by name.
fn default_class(classes: &[Arc<StorageClass>]) -> Option<&Arc<StorageClass>> {
    let marked = classes.iter().filter(|class| class.is_default());
    marked.min_by(|a, b| {
        let (of_a, of_b) = (&a.metadata, &b.metadata);
        of_b.creation_timestamp.cmp(&of_a.creation_timestamp).then_with(|| of_a.name.cmp(&of_b.name))
    })
}

/// One that names its volume, and is not bound to it yet.
fn naming_claim(claim: &Claim, index: &Index) -> ClaimStep {
    let Some(volume) = index.volume(&claim.volume_name) else { return ClaimStep::Pend(None) };
    let name = &volume.metadata.name;
    if volume.claim.is_none() {
        return match mismatch(volume, claim) {
            None => ClaimStep::Bind(volume.clone()),
            Some(why) => {
                let message = format!("Cannot bind to requested volume {name:?}: {why}");
                ClaimStep::Pend(Some(Said::warning("VolumeMismatch", message)))
            }
        };
    }
    if volume.is_for(claim) {
        return ClaimStep::Bind(volume.clone());
    }
    let said = Said::warning("FailedBinding", format!("volume {name:?} already bound to a different claim."));
    // Somebody took the mark off a claim that was bound: that is told, and nothing is made of it.
    if claim.annotation(BOUND_BY_CONTROLLER).is_some() { ClaimStep::Tell(said) } else { ClaimStep::Pend(Some(said)) }
}

/// Why the volume that a claim names cannot be its.
fn mismatch(volume: &Volume, claim: &Claim) -> Option<String> {
    let value = |amount: &Option<kedge_meta::quantity::Quantity>| amount.map_or(0, |amount| amount.value());
    let why = if volume.metadata.is_deleting() {
        return Some(format!("the volume is marked for deletion {:?}", volume.metadata.name));
    } else if value(&volume.storage) < value(&claim.storage) {
        "requested PV is too small"
    } else if volume.storage_class != claim.class() {
        "storageClassName does not match"
    } else if class_of_attributes(&volume.attributes_class) != class_of_attributes(&claim.attributes_class) {
        "volumeAttributesClassName does not match"
    } else if volume.block != claim.block {
        "incompatible volumeMode"
    } else if !volume.modes().contains(claim.access_modes.iter().copied().collect()) {
        "incompatible accessMode"
    } else {
        return None;
    };
    Some(why.to_owned())
}

/// One that has been bound.
fn bound_claim(claim: &Claim, index: &Index) -> ClaimStep {
    let lost = |message: &str| ClaimStep::Lose(Said::warning("ClaimLost", message));
    if claim.volume_name.is_empty() {
        return lost("Bound claim has lost reference to PersistentVolume. Data on the volume is lost!");
    }
    match index.volume(&claim.volume_name) {
        None => lost("Bound claim has lost its PersistentVolume. Data on the volume is lost!"),
        // It may also be that what was written to the volume has not been seen yet.
        Some(volume) if volume.claim.as_ref().is_none_or(|of| of.uid == claim.metadata.uid) => {
            ClaimStep::Bind(volume.clone())
        }
        Some(_) => {
            let why = "Two claims are bound to the same volume, this one is bound incorrectly";
            ClaimStep::Lose(Said::warning("ClaimMisbound", why))
        }
    }
}

/// What is to be done about a volume.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum VolumeStep {
    /// It has that phase.
    Phase(VolumePhase),
    /// Nobody claims it any more.
    Reclaim,
    /// What is said is told of the volume and of the claim.
    Mismatch(Said, Said),
    /// Its claim is to be looked at.
    WakeClaim,
    /// Its claim has another one.
    Unbind,
}

/// What is to be done about a volume whose claim is the one that has its name and its uid now, if there is such a one.
pub(super) fn volume(volume: &Volume, claim: Option<&Claim>) -> VolumeStep {
    match &volume.claim {
        None => return VolumeStep::Phase(VolumePhase::Available),
        // It is reserved; what becomes of it is the claim's matter.
        Some(of) if of.uid.is_empty() => return VolumeStep::Phase(VolumePhase::Available),
        Some(_) => {}
    }
    let Some(claim) = claim else { return VolumeStep::Reclaim };
    let name = &volume.metadata.name;
    if claim.volume_name == *name {
        VolumeStep::Phase(VolumePhase::Bound)
    } else if !claim.volume_name.is_empty() {
        let made = volume.annotation(PROVISIONED_BY).is_some();
        if made && volume.reclaim == Reclaim::Delete { VolumeStep::Reclaim } else { VolumeStep::Unbind }
    } else if volume.block != claim.block {
        let claim = &claim.metadata.name;
        let why = "due to incompatible volumeMode.";
        let of_volume = format!("Cannot bind PersistentVolume to requested PersistentVolumeClaim {claim:?} {why}");
        let of_claim = format!("Cannot bind PersistentVolume {name:?} to requested PersistentVolumeClaim {why}");
        VolumeStep::Mismatch(Said::warning("VolumeMismatch", of_volume), Said::warning("VolumeMismatch", of_claim))
    } else {
        VolumeStep::WakeClaim
    }
}

/// Whether a volume had a claim, and that is gone or has another volume. `claim` is the one of its name.
pub(super) fn is_released(volume: &Volume, claim: Option<&Claim>) -> bool {
    let Some(of) = volume.claim.as_ref().filter(|of| !of.uid.is_empty()) else { return false };
    match claim.filter(|claim| claim.metadata.uid == of.uid) {
        Some(claim) => !claim.volume_name.is_empty() && claim.volume_name != volume.metadata.name,
        None => true,
    }
}

/// The annotation about migration as it ought to be, if it is another.
pub(super) fn migration<'a>(provisioner: Option<&str>, now: Option<&'a str>) -> Option<Option<&'a str>> {
    let driver = migrated(provisioner?);
    let now = now.filter(|now| !now.is_empty());
    (driver != now).then_some(driver)
}

/// That of a claim.
pub(super) fn migration_of_claim(claim: &Claim) -> Option<Option<&str>> {
    migration(claim.annotation(PROVISIONER).or(claim.annotation(BETA_PROVISIONER)), claim.annotation(MIGRATED_TO))
}

/// The finalizers of a volume as they ought to be, if they are others: those that plugins of the tree have made are kept until their
/// storage is deleted, where it is to be.
pub(super) fn finalizers(volume: &Volume) -> Option<Vec<String>> {
    let provisioner = volume.annotation(PROVISIONED_BY)?;
    let now = &volume.metadata.finalizers;
    let without =
        |gone: &[&str]| -> Vec<String> { now.iter().filter(|name| !gone.contains(&name.as_str())).cloned().collect() };
    let wanted = if migrated(provisioner).is_some() {
        without(&[FINALIZER])
    } else if !provisioner.starts_with("kubernetes.io/") {
        return None;
    } else {
        let mut wanted = without(match volume.reclaim {
            Reclaim::Retain | Reclaim::Recycle => &[FINALIZER, EXTERNAL_FINALIZER],
            Reclaim::Delete | Reclaim::Unknown => &[EXTERNAL_FINALIZER],
        });
        if volume.reclaim == Reclaim::Delete && !wanted.iter().any(|name| name == FINALIZER) {
            wanted.push(FINALIZER.to_owned());
        }
        wanted
    };
    (wanted != *now).then_some(wanted)
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
