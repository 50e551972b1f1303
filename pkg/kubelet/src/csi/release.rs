//! A pod's volumes of drivers, given back: unpublished for the pod, and unstaged when it was the last that had them.

use std::fs;
use std::io;
use std::path::Path;

use tracing::{debug, warn};

use super::drivers::Abilities;
use super::publish::Places;
use super::record::{self, Owned, Record};
use super::source::unique_name;
use super::{Csi, PLUGIN};

impl Csi {
    /// Reads what pods have since before this process began, so that the node goes on to say so; to be called before it says anything. What
    /// cannot be read is tried again, and until then nothing is said.
    pub(crate) async fn recall(&self) {
        let directories = self.directories.clone();
        // All of it lies on the disk of the node, beside what is mounted.
        let read = move || record::of_all(&directories);
        let found = match kedge_base::blocking::unbounded("read records of volumes", read).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => return warn!(%error, "it is not known which attached volumes pods have"),
            Err(error) => return warn!(%error, "it is not known which attached volumes pods have"),
        };
        let mut whole = true;
        for (uid, volumes) in found {
            match volumes {
                Ok(volumes) => {
                    for Owned { record, .. } in volumes.iter().filter(|owned| !owned.record.attachment.is_empty()) {
                        self.in_use.add(&unique_name(&record.driver, &record.handle), &uid);
                    }
                }
                Err(error) => {
                    whole = false;
                    warn!(uid, %error, "it is not known which attached volumes the pod has");
                }
            }
        }
        if !whole {
            return;
        }
        self.in_use.is_known();
    }

    /// Gives back all that a pod has. What is given back already need not be again.
    ///
    /// # Errors
    /// Why something stays; it is tried again.
    pub(crate) async fn release(&self, uid: &str) -> Result<(), String> {
        let (directories, of) = (self.directories.clone(), uid.to_owned());
        let pod = directories.pod(uid);
        let read = move || record::of_pod(&directories, &of);
        let owned = self.files.of_pod(uid, "read", &pod, read).await.map_err(|error| error.to_string())?;
        let owned = owned.map_err(|error| format!("cannot read what volumes the pod has: {error}"))?;
        let mut errors = Vec::new();
        for volume in owned {
            if let Err(error) = self.give_back(uid, &volume).await {
                errors.push(format!("volume {:?}: {error}", volume.record.name));
            }
        }
        if !errors.is_empty() {
            return Err(errors.join("; "));
        }
        // Also what was waited for and never came.
        self.in_use.forget(uid);
        self.published.lock().retain(|(of, _)| of != uid);
        Ok(())
    }

    async fn give_back(&self, uid: &str, owned: &Owned) -> Result<(), String> {
        let Record { name, handle, driver: driver_name, lifecycle, .. } = &owned.record;
        let places = self.places(uid, name, driver_name, handle, owned.block);
        let driver = self.drivers.get(driver_name).map_err(|error| format!("{PLUGIN}: {error}"))?;
        let call = self.call(driver_name, handle);
        let _held = call.lock().await;
        // Whatever comes of it: what is asked for again is to be asked of the driver.
        self.published.lock().remove(&(uid.to_owned(), name.clone()));
        match driver.unpublish(handle, &places.target.display().to_string()).await {
            Err(error) if !error.is_not_found() => return Err(error.to_string()),
            _ => {}
        }
        let target = places.target.clone();
        let clear = move || remove_place(&target);
        self.blocking(uid, "remove", &places.target, clear).await?;
        if lifecycle != "Ephemeral" && !self.is_had_by_others(uid, owned).await? {
            let abilities = Abilities::of(&driver).await.map_err(|error| error.to_string())?;
            self.staged.lock().remove(&(driver_name.clone(), handle.clone()));
            if abilities.stage {
                match driver.unstage(handle, &places.staged.display().to_string()).await {
                    Err(error) if !error.is_not_found() => return Err(error.to_string()),
                    _ => {}
                }
            }
            let Places { shared, staged, .. } = &places;
            let (shared_data, stage) = (shared.clone(), staged.clone());
            let clear = move || -> io::Result<()> {
                remove_place(&stage)?;
                Record::remove(&shared_data)?;
                remove_empty(&shared_data)
            };
            self.blocking(uid, "remove", shared, clear).await?;
        }
        let own = owned.directory.clone();
        let strike = move || -> io::Result<()> {
            Record::remove(&own)?;
            remove_empty(&own)
        };
        self.blocking(uid, "remove", &owned.directory, strike).await?;
        self.in_use.remove(&unique_name(driver_name, handle), uid);
        debug!(uid, volume = name, driver = driver_name, "a volume is given back");
        Ok(())
    }

    /// Whether another pod of this node has the volume. What cannot be read counts as one.
    async fn is_had_by_others(&self, uid: &str, owned: &Owned) -> Result<bool, String> {
        let directories = self.directories.clone();
        let pods = directories.pods();
        let found = self.blocking(uid, "read", &pods, move || record::of_all(&directories)).await?;
        let same =
            |volume: &Owned| volume.record.driver == owned.record.driver && volume.record.handle == owned.record.handle;
        let mut others = found.iter().filter(|(other, _)| other != uid);
        Ok(others.any(|(_, volumes)| volumes.as_ref().map_or(true, |volumes| volumes.iter().any(same))))
    }

    async fn blocking<T: Send + 'static>(
        &self,
        uid: &str,
        operation: &'static str,
        path: &Path,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T, String> {
        let done = self.files.of_pod(uid, operation, path, work).await.map_err(|error| error.to_string())?;
        done.map_err(|error| format!("{operation} {}: {error}", path.display()))
    }
}

/// Removes where a volume was: an empty directory, or the file that a device was shown at. What is still in it is left alone, since it
/// may be the volume.
fn remove_place(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn remove_empty(directory: &Path) -> io::Result<()> {
    match fs::remove_dir(directory) {
        Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => Err(error),
        _ => Ok(()),
    }
}
