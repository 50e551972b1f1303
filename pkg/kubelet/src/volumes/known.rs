//! What is known of the volumes that a pod has had: kept beside them, so that a container is started again without asking anybody.
//!
//! Invariant: what is mounted stays mounted. A pod whose volumes were all there once gets them again, also after a restart of this
//! process and while the API, a driver or an object behind a volume is gone. After a reboot nothing is known.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::manager::MountedVolume;
use crate::files::replace;

const FILE: &str = "volumes.json";
/// A pod with more volumes than that is asked about each time.
const MAX_SIZE: u64 = 1024 * 1024;

/// What the file holds.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    /// Mounts do not survive it.
    boot: String,
    volumes: BTreeMap<String, MountedVolume>,
}

/// The volumes of a pod, by name.
pub(super) type Places = HashMap<String, MountedVolume>;

/// The volumes of pods, by uid.
#[derive(Default)]
pub(super) struct Known(Mutex<HashMap<String, Arc<Places>>>);

impl Known {
    pub(super) fn get(&self, uid: &str) -> Option<Arc<Places>> {
        self.0.lock().get(uid).cloned()
    }

    pub(super) fn learn(&self, uid: &str, volumes: Arc<Places>) {
        self.0.lock().insert(uid.to_owned(), volumes);
    }

    pub(super) fn forget(&self, uid: &str) {
        self.0.lock().remove(uid);
    }
}

/// Writes them down in the pod's directory. Blocks.
pub(super) fn write(boot: String, directory: &Path, volumes: Places) -> io::Result<()> {
    let record = Record { boot, volumes: volumes.into_iter().collect() };
    let text = serde_json::to_vec(&record).map_err(io::Error::other)?;
    // Not worth a write that is waited for: after a power cut nothing is mounted any more.
    replace(directory, FILE, &text, false)
}

/// Removes what was written down. Blocks.
pub(super) fn remove(directory: &Path) -> io::Result<()> {
    match fs::remove_file(directory.join(FILE)) {
        Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Err(error),
        _ => Ok(()),
    }
}

/// Reads what was written down by whoever ran before, in this boot. What cannot be read is not known. Blocks.
pub(super) fn read(boot: &str, directory: &Path) -> Option<Arc<Places>> {
    let path = directory.join(FILE);
    if fs::metadata(&path).ok()?.len() > MAX_SIZE {
        return None;
    }
    let record: Record = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
    let of_this_boot = !boot.is_empty() && record.boot == boot;
    of_this_boot.then(|| Arc::new(record.volumes.into_iter().collect()))
}

/// This boot, by the kernel's name of it.
pub(crate) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_next_process_knows_it_but_not_after_a_reboot() {
        let dir = tempfile::tempdir().unwrap();
        let place = MountedVolume { path: "/v".into(), read_only: true, ..MountedVolume::default() };
        let volumes = HashMap::from([("v".to_owned(), place)]);
        assert!(read("boot-1", dir.path()).is_none());
        write("boot-1".into(), dir.path(), volumes.clone()).unwrap();
        assert_eq!(*read("boot-1", dir.path()).unwrap(), volumes);
        assert!(read("boot-2", dir.path()).is_none() && read("", dir.path()).is_none());
        remove(dir.path()).unwrap();
        remove(dir.path()).unwrap();
        assert!(read("boot-1", dir.path()).is_none(), "they are being taken down");
        fs::write(dir.path().join(FILE), "{\"boot\":").unwrap();
        assert!(read("boot-1", dir.path()).is_none());
    }
}
