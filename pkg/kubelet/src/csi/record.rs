//! `vol_data.json`: what is written down of a volume before a driver is asked about it, in upstream's form.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::files::replace;
use crate::volumes::Directories;

const FILE: &str = "vol_data.json";
/// More than the names in it can take.
const MAX_SIZE: u64 = 64 * 1024;
/// The directory of volumes of drivers within that of a pod's.
pub(crate) const VOLUMES: &str = "kubernetes.io~csi";

/// What is written down.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Record {
    /// Of the persistent volume, or of the volume in the pod.
    #[serde(rename = "specVolID")]
    pub(super) name: String,
    #[serde(rename = "volumeHandle")]
    pub(super) handle: String,
    #[serde(rename = "driverName")]
    pub(super) driver: String,
    #[serde(rename = "nodeName", skip_serializing_if = "String::is_empty")]
    pub(super) node: String,
    /// Where the volume is attached before it is mounted.
    #[serde(rename = "attachmentID", skip_serializing_if = "String::is_empty")]
    pub(super) attachment: String,
    #[serde(rename = "volumeLifecycleMode", skip_serializing_if = "String::is_empty")]
    pub(super) lifecycle: String,
}

impl Record {
    /// Writes it into `directory`, whole or not at all; whether nobody had before. Blocks.
    pub(super) fn write(&self, directory: &Path) -> io::Result<bool> {
        fs::create_dir_all(directory)?;
        let text = serde_json::to_vec(self).map_err(io::Error::other)?;
        let there = fs::read(directory.join(FILE)).ok();
        if there.as_ref() == Some(&text) {
            return Ok(false);
        }
        replace(directory, FILE, &text, true)?;
        Ok(there.is_none())
    }

    /// Reads the one in `directory`; `None` where there is none. Blocks.
    pub(super) fn read(directory: &Path) -> io::Result<Option<Record>> {
        let path = directory.join(FILE);
        match fs::metadata(&path) {
            Ok(found) if found.len() > MAX_SIZE => {
                Err(io::Error::other(format!("{} is larger than anybody writes it", path.display())))
            }
            Ok(_) => serde_json::from_slice(&fs::read(&path)?).map(Some).map_err(io::Error::other),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Strikes it out. Blocks.
    pub(super) fn remove(directory: &Path) -> io::Result<()> {
        match fs::remove_file(directory.join(FILE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// A volume that a pod has, as it is written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owned {
    pub(super) record: Record,
    /// Where the record lies.
    pub(super) directory: PathBuf,
    pub(super) block: bool,
}

/// What a pod has of drivers. Blocks.
pub(super) fn of_pod(directories: &Directories, uid: &str) -> io::Result<Vec<Owned>> {
    let mut found = Vec::new();
    for (parent, block) in
        [(directories.volumes(uid).join(VOLUMES), false), (directories.devices(uid).join(VOLUMES), true)]
    {
        for directory in children(&parent)? {
            if let Some(record) = Record::read(&directory)? {
                found.push(Owned { record, directory, block });
            }
        }
    }
    Ok(found)
}

/// What each pod has of drivers, by its uid; an error where that cannot be read, since it may be what counts. Blocks.
pub(super) fn of_all(directories: &Directories) -> io::Result<Vec<(String, io::Result<Vec<Owned>>)>> {
    let pods = children(&directories.pods())?.into_iter();
    let named = pods.filter_map(|pod| pod.file_name().and_then(|name| name.to_str()).map(str::to_owned));
    Ok(named.map(|uid| (uid.clone(), of_pod(directories, &uid))).collect())
}

fn children(directory: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(directory) {
        Ok(entries) => entries.map(|entry| entry.map(|e| e.path())).collect(),
        // What is no directory is no pod's.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_written_is_found_again_in_upstreams_form() {
        let dir = tempfile::tempdir().unwrap();
        let directories = Directories::new(dir.path());
        let record = Record { name: "pv".into(), handle: "h".into(), driver: "d".into(), ..Record::default() };
        let (plain, block) = (directories.volumes("u").join(VOLUMES), directories.devices("u").join(VOLUMES));
        assert!(record.write(&plain.join("pv")).unwrap());
        assert!(record.write(&block.join("pv")).unwrap());
        assert!(!record.write(&block.join("pv")).unwrap(), "it was there");
        let text = fs::read_to_string(plain.join("pv/vol_data.json")).unwrap();
        assert_eq!(text, r#"{"specVolID":"pv","volumeHandle":"h","driverName":"d"}"#);
        let found = of_pod(&directories, "u").unwrap();
        assert_eq!(found.len(), 2);
        assert!(found.iter().all(|owned| owned.record == record));
        Record::remove(&plain.join("pv")).unwrap();
        assert_eq!(of_pod(&directories, "u").unwrap().len(), 1);
        fs::write(block.join("pv/vol_data.json"), "{").unwrap();
        fs::write(directories.pods().join("file"), "").unwrap();
        let all = of_all(&directories).unwrap();
        let unreadable: Vec<&str> = all.iter().filter(|(_, of)| of.is_err()).map(|(uid, _)| uid.as_str()).collect();
        assert_eq!(unreadable, ["u"], "what cannot be read is never taken for nothing");
    }
}
