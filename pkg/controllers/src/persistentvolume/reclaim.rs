//! What becomes of a volume that nobody claims any more, as its reclaim policy says.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kedge_base::Call;
use kedge_client::{DeleteOptions, Error};
use kedge_meta::{Status, resources};
use serde_json::{Value, json};

use super::directory::{self, DirectoryError};
use super::plan::{self, FINALIZER, Said};
use super::provisioners::{Deleter, deleter, deleter_name};
use super::{AGAIN, Binder, Key, patches};
use crate::context::ignore_not_found;
use crate::objects::Volume;
use crate::objects::volume::{MIGRATED_TO, Reclaim, VolumePhase};

/// How long the removal of a directory may take before somebody else's turn comes; it goes on, and is waited for later.
const PATIENCE: Duration = Duration::from_secs(30);

impl Binder {
    /// Does what the policy of a released volume says.
    pub(super) async fn reclaim(&self, volume: &Arc<Volume>) -> Result<(), Error> {
        if volume.annotation(MIGRATED_TO).is_some_and(|driver| !driver.is_empty()) {
            return Ok(());
        }
        match volume.reclaim {
            Reclaim::Retain => Ok(()),
            Reclaim::Recycle => self.recycle(volume).await,
            Reclaim::Delete => {
                let class = self.classes.get("", &volume.storage_class);
                let by = deleter_name(volume, class.as_ref().map(|class| class.provisioner.as_str()));
                self.meters.begin(volume.metadata.name.clone(), by, "delete");
                let done = self.delete(volume).await;
                if done.is_err() {
                    self.meters.failed(&volume.metadata.name);
                }
                done
            }
            Reclaim::Unknown => {
                let why = "Volume has unrecognized PersistentVolumeReclaimPolicy";
                self.tell_phase(volume, VolumePhase::Failed, Said::warning("VolumeUnknownReclaimPolicy", why)).await
            }
        }
    }

    /// The volume as it is, if it is still to be reclaimed.
    async fn still_released(&self, volume: &Volume) -> Result<Option<Arc<Volume>>, Error> {
        let name = &volume.metadata.name;
        let now = match self.client.get::<Volume>(&resources::PERSISTENT_VOLUMES, "", name).await {
            Ok(now) => now,
            Err(err) if err.is_not_found() => return Ok(None),
            Err(err) => return Err(err),
        };
        let index = self.index.lock();
        let claim = now.claim.as_ref().and_then(|of| index.claim(&of.key()));
        let released = now.metadata.uid == volume.metadata.uid && plan::is_released(&now, claim.map(Arc::as_ref));
        Ok(released.then(|| Arc::new(now)))
    }

    /// Nothing here scrubs volumes.
    async fn recycle(&self, volume: &Volume) -> Result<(), Error> {
        let Some(volume) = self.still_released(volume).await? else { return Ok(()) };
        let Some(of) = &volume.claim else { return Ok(()) };
        let users: Vec<String> = {
            let pods = self.pods.of(&of.key());
            pods.iter().filter(|pod| !pod.has_ended()).map(|pod| pod.metadata.key().to_string()).collect()
        };
        // Where there is another claim of that name, the pods are those of its volume.
        if !users.is_empty() && self.index.lock().claim(&of.key()).is_none() {
            let message = format!("Volume is used by pods: {}", users.join(","));
            self.say(&volume.reference(), Said::normal("VolumeFailedRecycle", message));
            self.queue.add_after(Key::Volume(volume.metadata.name.clone()), AGAIN);
            return Ok(());
        }
        let said = Said::warning("VolumeFailedRecycle", "No recycler plugin found for the volume!");
        self.tell_phase(&volume, VolumePhase::Failed, said).await
    }

    async fn delete(&self, volume: &Arc<Volume>) -> Result<(), Error> {
        let path = match deleter(volume) {
            // It sees that the volume is released.
            Deleter::External => return Ok(()),
            Deleter::Nobody(why) => {
                return self.tell_phase(volume, VolumePhase::Failed, Said::warning("VolumeFailedDelete", why)).await;
            }
            Deleter::Directory(path) => path.to_owned(),
        };
        let Some(volume) = self.still_released(volume).await? else { return Ok(()) };
        let (shown, limit) = (PathBuf::from(&path), PATIENCE);
        let call = Call { operation: "delete volume", path: &shown, limit };
        let removed = self.files.run(&volume.metadata.uid, call, move || directory::delete(&path)).await;
        let (why, lasting) = match removed {
            Ok(Ok(())) => return self.delete_object(&volume).await,
            Ok(Err(err)) => (err.to_string(), matches!(err, DirectoryError::Elsewhere(_))),
            Err(err) => (err.to_string(), false),
        };
        self.tell_phase(&volume, VolumePhase::Failed, Said::warning("VolumeFailedDelete", why.clone())).await?;
        // A path elsewhere stays elsewhere.
        if lasting { Ok(()) } else { Err(Status::internal(why).into()) }
    }

    /// Its storage is gone, so may it be.
    async fn delete_object(&self, volume: &Volume) -> Result<(), Error> {
        let meta = &volume.metadata;
        if meta.finalizers.iter().any(|name| name == FINALIZER) {
            let left: Vec<&String> = meta.finalizers.iter().filter(|name| *name != FINALIZER).collect();
            let mut patch = patches::of(meta, Value::Null, Value::Null);
            patch["metadata"]["finalizers"] = json!(left);
            match self.write_volume(volume, patch, None).await {
                // It went with its last finalizer.
                Err(err) if err.is_not_found() => return Ok(()),
                done => done.map(drop)?,
            }
        }
        let options = DeleteOptions::with_uid(&meta.uid);
        ignore_not_found(self.client.delete(&resources::PERSISTENT_VOLUMES, "", &meta.name, &options).await)
    }
}
