//! Addresses of pods: one file an address, under a lock.
//!
//! Invariant: a file appears whole (written aside, then renamed) and only while the lock is held, so
//! an address has at most one owner, whenever a process is killed. A file that cannot be read owns
//! nothing: it stems from a power cut, which the pod did not survive either.

use crate::conf::{Attachment, Invocation, PortMapping};
use crate::error::CniError;
use crate::net::Ipv4Net;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// The longest record that is read, in bytes.
const MAX_RECORD_BYTES: u64 = 256 << 10;

/// Who has an address, and what else hangs on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The sandbox.
    #[serde(rename = "containerID")]
    pub container_id: String,
    /// The interface in it.
    pub ifname: String,
    /// `namespace/name` of the pod, for people.
    #[serde(default)]
    pub pod: String,
    /// The pod's host ports.
    #[serde(default)]
    pub ports: Vec<PortMapping>,
}

impl Record {
    /// Whether this is the record of that interface.
    pub fn is_of(&self, invocation: &Invocation) -> bool {
        self.container_id == invocation.container_id && self.ifname == invocation.ifname
    }

    fn is_valid(&self, valid: &[Attachment]) -> bool {
        valid.iter().any(|a| a.container_id == self.container_id && a.ifname == self.ifname)
    }
}

/// The records, locked. The lock ends with this value, or with the process.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    _lock: File,
}

impl Store {
    /// Opens the directory and waits for the lock.
    ///
    /// # Errors
    /// When the directory cannot be made or locked.
    pub fn open(dir: &Path) -> Result<Self, CniError> {
        let what = |verb: &str| format!("{verb} {}", dir.display());
        fs::create_dir_all(dir).map_err(CniError::io(what("create")))?;
        let lock = File::create(dir.join("lock")).map_err(CniError::io(what("open the lock in")))?;
        // Commands hold the lock for milliseconds, and the kernel drops it when they die.
        flock(&lock, FlockOperation::LockExclusive).map_err(|error| CniError::io(what("lock"))(error.into()))?;
        Ok(Self { dir: dir.to_owned(), _lock: lock })
    }

    /// All readable records.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn records(&self) -> Result<BTreeMap<Ipv4Addr, Record>, CniError> {
        let what = || format!("read {}", self.dir.display());
        let mut out = BTreeMap::new();
        for entry in fs::read_dir(&self.dir).map_err(CniError::io(what()))? {
            let entry = entry.map_err(CniError::io(what()))?;
            let address = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if let (Some(address), Some(record)) = (address, read(&entry.path())) {
                out.insert(address, record);
            }
        }
        Ok(out)
    }

    /// The address of this interface: the one it has, or the next free one after the last given.
    ///
    /// # Errors
    /// When no address is free, or a file cannot be written.
    pub fn allocate(&self, net: Ipv4Net, invocation: &Invocation, ports: &[PortMapping]) -> Result<Ipv4Addr, CniError> {
        let records = self.records()?;
        let record = Record {
            container_id: invocation.container_id.clone(),
            ifname: invocation.ifname.clone(),
            pod: invocation.pod.clone(),
            ports: ports.to_vec(),
        };
        let mine = records.iter().find(|(ip, r)| r.is_of(invocation) && net.index(**ip).is_some());
        let address = match mine {
            Some((address, _)) => *address,
            None => self.next_free(net, &records)?,
        };
        let text = serde_json::to_vec(&record).map_err(|error| CniError::Decode(error.to_string()))?;
        self.write(&address.to_string(), &text)?;
        self.write("last", address.to_string().as_bytes())?;
        Ok(address)
    }

    /// Going round keeps an address out of use for as long as possible, so that whoever still
    /// knows it from the pod before does not reach the next one.
    fn next_free(&self, net: Ipv4Net, records: &BTreeMap<Ipv4Addr, Record>) -> Result<Ipv4Addr, CniError> {
        let last = fs::read_to_string(self.dir.join("last")).ok();
        let last = last.and_then(|text| net.index(text.trim().parse().ok()?));
        let start = last.map_or(0, |last| last + 1);
        let mut candidates = (0..net.pods()).map(|i| net.pod((start + i) % net.pods()));
        let free = candidates.find(|address| !records.contains_key(address));
        free.ok_or_else(|| CniError::Exhausted(net.to_string()))
    }

    /// Gives back the addresses of this interface; returns what was recorded for them.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub fn release(&self, invocation: &Invocation) -> Result<Vec<(Ipv4Addr, Record)>, CniError> {
        self.release_where(|record| record.is_of(invocation))
    }

    /// Gives back the addresses of all interfaces that are not in `valid`.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub fn release_others(&self, valid: &[Attachment]) -> Result<Vec<(Ipv4Addr, Record)>, CniError> {
        self.release_where(|record| !record.is_valid(valid))
    }

    fn release_where(&self, goes: impl Fn(&Record) -> bool) -> Result<Vec<(Ipv4Addr, Record)>, CniError> {
        let gone: Vec<_> = self.records()?.into_iter().filter(|(_, record)| goes(record)).collect();
        for (address, _) in &gone {
            match fs::remove_file(self.dir.join(address.to_string())) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(CniError::io(format!("release {address}"))(error));
                }
                _ => {}
            }
        }
        Ok(gone)
    }

    fn write(&self, name: &str, text: &[u8]) -> Result<(), CniError> {
        let aside = self.dir.join("new");
        let written = fs::write(&aside, text).and_then(|()| fs::rename(&aside, self.dir.join(name)));
        written.map_err(CniError::io(format!("write {name} in {}", self.dir.display())))
    }
}

fn read(path: &Path) -> Option<Record> {
    use std::io::Read as _;
    let mut text = Vec::new();
    File::open(path).ok()?.take(MAX_RECORD_BYTES).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn pod(id: &str) -> Invocation {
        Invocation { container_id: id.into(), ifname: "eth0".into(), netns: None, pod: String::new() }
    }

    fn net() -> Ipv4Net {
        "10.42.0.0/29".parse().unwrap()
    }

    fn allocate(dir: &Path, id: &str) -> Result<Ipv4Addr, CniError> {
        Store::open(dir)?.allocate(net(), &pod(id), &[])
    }

    #[test]
    fn addresses_go_round_and_run_out() {
        let dir = tempfile::tempdir().unwrap();
        for (i, id) in ["a", "b", "c", "d", "e"].iter().enumerate() {
            assert_eq!(allocate(dir.path(), id).unwrap(), net().pod(i as u32));
        }
        assert_eq!(allocate(dir.path(), "f").unwrap_err().code(), 100);
        Store::open(dir.path()).unwrap().release(&pod("b")).unwrap();
        Store::open(dir.path()).unwrap().release(&pod("d")).unwrap();
        assert_eq!(allocate(dir.path(), "f").unwrap(), net().pod(1));
        Store::open(dir.path()).unwrap().release(&pod("f")).unwrap();
        assert_eq!(allocate(dir.path(), "g").unwrap(), net().pod(3), "not the one just given back");
    }

    #[test]
    fn a_repeated_add_gets_its_address_again_and_a_repeated_release_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(allocate(dir.path(), "a").unwrap(), allocate(dir.path(), "a").unwrap());
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(store.release(&pod("a")).unwrap().len(), 1);
        assert!(store.release(&pod("a")).unwrap().is_empty());
    }

    #[test]
    fn a_torn_record_owns_nothing() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("10.42.0.2"), b"").unwrap();
        fs::write(dir.path().join("new"), b"{half").unwrap();
        fs::write(dir.path().join("last"), b"").unwrap();
        assert_eq!(allocate(dir.path(), "a").unwrap(), net().pod(0));
    }

    #[test]
    fn gc_keeps_what_is_valid() {
        let dir = tempfile::tempdir().unwrap();
        allocate(dir.path(), "a").unwrap();
        allocate(dir.path(), "b").unwrap();
        let valid = [Attachment { container_id: "b".into(), ifname: "eth0".into() }];
        let store = Store::open(dir.path()).unwrap();
        let gone = store.release_others(&valid).unwrap();
        assert_eq!(gone[0].1.container_id, "a");
        assert_eq!(store.records().unwrap().len(), 1);
    }

    #[test]
    fn many_at_once_never_share_an_address() {
        let dir = tempfile::tempdir().unwrap();
        let net: Ipv4Net = "10.42.0.0/24".parse().unwrap();
        let got = std::thread::scope(|scope| {
            let path = dir.path();
            let work = |i: u32| move || Store::open(path)?.allocate(net, &pod(&format!("c{i}")), &[]);
            let threads: Vec<_> = (0..32).map(|i| scope.spawn(work(i))).collect();
            let got: Vec<_> = threads.into_iter().map(|t| t.join().unwrap().unwrap()).collect();
            got
        });
        let unique: std::collections::BTreeSet<_> = got.iter().collect();
        assert_eq!(unique.len(), 32);
    }
}
