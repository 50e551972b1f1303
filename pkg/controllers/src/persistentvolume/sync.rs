//! One pass over a claim or a volume: what the plan says, carried out.

use std::sync::Arc;

use kedge_client::{Error, Patch};
use kedge_meta::{ObjectKey, resources};
use serde_json::{Value, json};

use super::plan::{self, ClaimStep, Said, VolumeStep};
use super::{AGAIN, Binder, Key, patches};
use crate::objects::volume::{MIGRATED_TO, PROVISIONED_BY, VolumePhase};
use crate::objects::{Claim, ClaimPhase, Volume};

impl Binder {
    pub(super) async fn sync_claim(&self, key: &ObjectKey) -> Result<(), Error> {
        let Some(mut claim) = self.index.lock().claim(key).cloned() else { return Ok(()) };
        if let Some(driver) = plan::migration_of_claim(&claim) {
            let patch = patches::of(&claim.metadata, json!({ MIGRATED_TO: driver }), Value::Null);
            claim = self.write_claim(&claim, patch, None).await?;
        }
        let classes = self.classes.list();
        let step = plan::claim(&claim, &self.index.lock(), &classes);
        let about = claim.reference();
        match step {
            ClaimStep::Bind(volume) => {
                let bound = self.bind(&volume, &claim).await;
                match &bound {
                    Ok(()) => self.meters.done(&key.to_string()),
                    Err(_) => self.meters.failed(&key.to_string()),
                }
                return bound;
            }
            ClaimStep::AssignClass(name) => {
                let patch = patches::of(&claim.metadata, Value::Null, json!({ "storageClassName": name }));
                let written = self.write_claim(&claim, patch, None).await;
                self.meters.assigned(written.is_ok());
                return written.map(|_| self.queue.add(Key::Claim(key.clone())));
            }
            ClaimStep::Wait => {
                self.say(&about, self.why_it_waits(key));
                self.set_claim_status(&claim, ClaimPhase::Pending, None).await?;
            }
            ClaimStep::Provision(name) => self.provision(&claim, &name, None).await?,
            ClaimStep::Off(name, said) => self.provision(&claim, &name, Some(said)).await?,
            ClaimStep::Tell(said) => self.say(&about, said),
            ClaimStep::Pend(said) => {
                said.into_iter().for_each(|said| self.say(&about, said));
                self.set_claim_status(&claim, ClaimPhase::Pending, None).await?;
            }
            ClaimStep::Lose(said) => {
                if claim.phase != ClaimPhase::Lost {
                    self.set_claim_status(&claim, ClaimPhase::Lost, None).await?;
                    self.say(&about, said);
                }
                return Ok(());
            }
        }
        self.queue.add_after(Key::Claim(key.clone()), AGAIN);
        Ok(())
    }

    /// For whom the scheduler is to have the word.
    fn why_it_waits(&self, claim: &ObjectKey) -> Said {
        let pods = self.pods.of(claim);
        let unscheduled = pods.iter().filter(|pod| pod.spec.node_name.is_empty() && !pod.has_ended());
        let names: Vec<&str> = unscheduled.map(|pod| pod.metadata.name.as_str()).collect();
        match names.as_slice() {
            [] => Said::normal("WaitForFirstConsumer", "waiting for first consumer to be created before binding"),
            [name] => Said::normal("WaitForPodScheduled", format!("waiting for pod {name} to be scheduled")),
            names => {
                Said::normal("WaitForPodScheduled", format!("waiting for pods {} to be scheduled", names.join(",")))
            }
        }
    }

    /// Asks for a volume. `off`: what is told of who would make it.
    async fn provision(&self, claim: &Claim, name: &str, off: Option<Said>) -> Result<(), Error> {
        let (key, about) = (claim.metadata.key().to_string(), claim.reference());
        self.meters.begin(key.clone(), name, "provision");
        if let Some(patch) = patches::provisioner(claim, name)
            && let Err(err) = self.write_claim(claim, patch, None).await
        {
            self.meters.failed(&key);
            if !err.is_conflict() && !err.is_not_found() {
                self.say(&about, Said::warning("ProvisioningFailed", format!("Error saving claim: {err}")));
            }
            return Err(err);
        }
        if let Some(said) = off {
            self.meters.failed(&key);
            self.say(&about, said);
            return Ok(());
        }
        let message = format!(
            "Waiting for a volume to be created either by the external provisioner '{name}' or manually by the system \
             administrator. If volume creation is delayed, please verify that the provisioner is running and correctly \
             registered."
        );
        self.say(&about, Said::normal("ExternalProvisioning", message));
        Ok(())
    }

    /// The four writes.
    async fn bind(&self, volume: &Arc<Volume>, claim: &Arc<Claim>) -> Result<(), Error> {
        let volume = match patches::volume_to_claim(volume, claim) {
            Some(patch) => self.write_volume(volume, patch, None).await?,
            None => volume.clone(),
        };
        let volume = self.set_volume_phase(&volume, VolumePhase::Bound, "").await?;
        let claim = match patches::claim_to_volume(claim, &volume) {
            Some(patch) => self.write_claim(claim, patch, None).await?,
            None => claim.clone(),
        };
        self.set_claim_status(&claim, ClaimPhase::Bound, Some(&volume)).await
    }

    pub(super) async fn sync_volume(&self, name: &str) -> Result<(), Error> {
        let Some(volume) = self.index.lock().volume(name).cloned() else { return Ok(()) };
        let volume = self.settle_metadata(volume).await?;
        let claim = self.claim_of(&volume).await?;
        match plan::volume(&volume, claim.as_deref()) {
            VolumeStep::Phase(phase) => self.set_volume_phase(&volume, phase, "").await.map(drop),
            VolumeStep::Reclaim => {
                // That it failed is to be seen until it does not.
                let shown = matches!(volume.phase, VolumePhase::Released | VolumePhase::Failed);
                let volume =
                    if shown { volume } else { self.set_volume_phase(&volume, VolumePhase::Released, "").await? };
                self.reclaim(&volume).await
            }
            VolumeStep::Mismatch(of_volume, of_claim) => {
                self.say(&volume.reference(), of_volume);
                claim.iter().for_each(|claim| self.say(&claim.reference(), of_claim.clone()));
                self.queue.add_after(Key::Volume(name.to_owned()), AGAIN);
                Ok(())
            }
            VolumeStep::WakeClaim => {
                claim.iter().for_each(|claim| self.queue.add(Key::Claim(claim.metadata.key())));
                Ok(())
            }
            VolumeStep::Unbind => self.unbind(&volume).await,
        }
    }

    /// Sets the annotation about migration and the finalizers right.
    async fn settle_metadata(&self, volume: Arc<Volume>) -> Result<Arc<Volume>, Error> {
        let driver = plan::migration(volume.annotation(PROVISIONED_BY), volume.annotation(MIGRATED_TO));
        let finalizers = plan::finalizers(&volume);
        if driver.is_none() && finalizers.is_none() {
            return Ok(volume);
        }
        let annotations = driver.map_or(Value::Null, |driver| json!({ MIGRATED_TO: driver }));
        let mut patch = patches::of(&volume.metadata, annotations, Value::Null);
        if let Some(finalizers) = finalizers {
            patch["metadata"]["finalizers"] = json!(finalizers);
        }
        self.write_volume(&volume, patch, None).await
    }

    /// The claim that a volume is bound to. A provisioner or the scheduler may know of one that is not known here yet; so before a volume
    /// is taken for released, the server is asked.
    async fn claim_of(&self, volume: &Volume) -> Result<Option<Arc<Claim>>, Error> {
        let Some(of) = volume.claim.as_ref().filter(|of| !of.uid.is_empty()) else { return Ok(None) };
        let known = self.index.lock().claim(&of.key()).cloned();
        let settled = matches!(volume.phase, VolumePhase::Released | VolumePhase::Failed);
        match known {
            Some(claim) if claim.metadata.uid == of.uid => return Ok(Some(claim)),
            None if settled => return Ok(None),
            _ => {}
        }
        let claims = &resources::PERSISTENT_VOLUME_CLAIMS;
        match self.client.get::<Claim>(claims, &of.namespace, &of.name).await {
            Ok(claim) => Ok(Some(Arc::new(claim)).filter(|claim| claim.metadata.uid == of.uid)),
            Err(err) if err.is_not_found() => Ok(None),
            Err(err) => Err(err),
        }
    }

    pub(super) async fn unbind(&self, volume: &Volume) -> Result<(), Error> {
        let volume = self.write_volume(volume, patches::unbound(volume), None).await?;
        self.set_volume_phase(&volume, VolumePhase::Available, "").await.map(drop)
    }

    pub(super) async fn set_volume_phase(
        &self,
        volume: &Arc<Volume>,
        phase: VolumePhase,
        message: &str,
    ) -> Result<Arc<Volume>, Error> {
        match patches::volume_phase(volume, phase, message) {
            Some(patch) => self.write_volume(volume, patch, Some("status")).await,
            None => Ok(volume.clone()),
        }
    }

    /// Gives a volume a phase; what is said is told only when it had another.
    pub(super) async fn tell_phase(&self, volume: &Arc<Volume>, phase: VolumePhase, said: Said) -> Result<(), Error> {
        if volume.phase == phase {
            return Ok(());
        }
        self.set_volume_phase(volume, phase, &said.message).await?;
        self.say(&volume.reference(), said);
        Ok(())
    }

    async fn set_claim_status(&self, claim: &Claim, phase: ClaimPhase, volume: Option<&Volume>) -> Result<(), Error> {
        if let Some(patch) = patches::claim_status(claim, phase, volume) {
            self.write_claim(claim, patch, Some("status")).await?;
        }
        Ok(())
    }

    pub(super) async fn write_volume(
        &self,
        volume: &Volume,
        patch: Value,
        subresource: Option<&str>,
    ) -> Result<Arc<Volume>, Error> {
        let (kind, name) = (&resources::PERSISTENT_VOLUMES, &volume.metadata.name);
        let written: Volume = self.client.patch(kind, "", name, Patch::Merge(patch), subresource).await?;
        let written = Arc::new(written);
        let mut index = self.index.lock();
        // If it went meanwhile, nobody would take it out again.
        if self.volumes.get("", name).is_some() && index.set_volume(written.clone()) {
            self.queue.add_after(Key::Free(written.storage_class.clone()), super::TOGETHER);
        }
        Ok(written)
    }

    async fn write_claim(&self, claim: &Claim, patch: Value, subresource: Option<&str>) -> Result<Arc<Claim>, Error> {
        let (kind, meta) = (&resources::PERSISTENT_VOLUME_CLAIMS, &claim.metadata);
        let written: Claim =
            self.client.patch(kind, &meta.namespace, &meta.name, Patch::Merge(patch), subresource).await?;
        let written = Arc::new(written);
        let mut index = self.index.lock();
        if self.claims.get(&meta.namespace, &meta.name).is_some() {
            index.set_claim(written.clone());
        }
        Ok(written)
    }
}
