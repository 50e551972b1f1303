//! What stands on a disk that may be damaged: packed values, the store's log, snapshots.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use kedge_kv::files::Files;
use kedge_kv::{Embedded, inspect};
use kedge_snapshot::State;
use sha2::{Digest as _, Sha256};

use crate::disk::Disk;

/// A value that may be packed, and one that is to be.
pub fn packed_value(data: &[u8]) {
    let value = Bytes::copy_from_slice(data);
    match kedge_packed::plain(&value) {
        Ok(plain) if kedge_packed::is_packed(data) => assert_eq!(plain.len(), kedge_packed::plain_len(data)),
        Ok(plain) => assert_eq!(plain, value),
        Err(_) => assert!(kedge_packed::is_packed(data)),
    }
    if let Some(packed) = kedge_packed::pack(data) {
        assert!(packed.len() < data.len() && kedge_packed::is_packed(&packed));
        assert_eq!(kedge_packed::plain(&packed), Ok(value));
    }
}

const SEGMENT: &str = "00000000000000000001.log";
const MAGIC: u32 = 0x4b56_f5a3;

/// A segment of the log: as it is, or where the first byte is odd as the records of its frames, around which everything fits.
pub fn log(data: &[u8]) {
    let Some((choice, rest)) = data.split_first() else { return };
    let segment = if choice & 1 == 0 { rest.to_vec() } else { framed(rest) };
    let dir = Path::new("/store");
    let disk = Disk::default();
    disk.put(&dir.join(SEGMENT), segment);
    let disk: Arc<dyn Files> = Arc::new(disk);
    let read = Embedded::read(&*disk, dir);
    let _damage = inspect(&*disk, dir, &mut |_| {});
    let Ok(contents) = read else { return };
    assert!(contents.kvs.windows(2).all(|pair| pair[0].key < pair[1].key), "keys are in order");
    assert!(contents.kvs.iter().all(|kv| kv.mod_revision <= contents.revision));
    let copy = Path::new("/copy");
    if Embedded::restore(&disk, copy, &contents, 0).is_ok() {
        let again = Embedded::read(&*disk, copy).expect("what was restored is read");
        assert_eq!((again.revision, &again.kvs, &again.leases), (contents.revision, &contents.kvs, &contents.leases));
    }
}

/// A segment whose frames have these payloads: each begins with its length in two bytes.
pub(crate) fn framed(mut rest: &[u8]) -> Vec<u8> {
    let mut out = b"KEDGELOG".to_vec();
    out.extend_from_slice(&2_u32.to_le_bytes());
    out.extend_from_slice(&0_u32.to_le_bytes());
    for number in [1_u64, 1, 7] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(&0_u32.to_le_bytes());
    let mut check = crc32fast::hash(&out);
    out.extend_from_slice(&check.to_le_bytes());
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_le_bytes(*length)).min(after.len());
        let (payload, after) = after.split_at(length);
        rest = after;
        let mut head = Vec::with_capacity(24);
        for number in [MAGIC, length as u32, check, out.len() as u32, crc32fast::hash(payload)] {
            head.extend_from_slice(&number.to_le_bytes());
        }
        check = crc32fast::hash(&head);
        out.extend_from_slice(&head);
        out.extend_from_slice(&check.to_le_bytes());
        out.extend_from_slice(payload);
    }
    out
}

/// A database file of etcd, whose checksum fits.
pub fn snapshot(data: &[u8]) {
    let Ok(dir) = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()) else { return };
    let path = dir.path().join("s.db");
    let whole = data.len() - data.len() % 512;
    let database = &data[..whole];
    let checksum = Sha256::digest(database);
    let written = std::fs::File::create(&path).and_then(|mut file| {
        file.write_all(database)?;
        file.write_all(&checksum)
    });
    if written.is_err() {
        return;
    }
    let Ok((state, summary)) = kedge_snapshot::read(&path, &mut |_| {}) else { return };
    assert_eq!(summary.keys, state.kvs.len());
    let copy = dir.path().join("copy.db");
    let sorted = state.kvs.windows(2).all(|pair| pair[0].key < pair[1].key);
    assert!(sorted, "keys are in order, and each is there once");
    if kedge_snapshot::write(&copy, &state, &mut |_| {}).is_ok() {
        let (again, _): (State, _) = kedge_snapshot::read(&copy, &mut |_| {}).expect("what was written is read");
        assert_eq!(again.revision, state.revision);
        assert_eq!(again.kvs.len(), state.kvs.len());
    }
}
