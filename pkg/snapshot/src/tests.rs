//! What is written is read again; what is damaged is not.
#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

fn kv(key: &[u8], value: &[u8], revision: u64) -> KeyValue {
    KeyValue {
        key: Bytes::copy_from_slice(key),
        value: Bytes::copy_from_slice(value),
        create_revision: revision,
        mod_revision: revision,
        version: 1,
        lease: 0,
    }
}

fn round_trip(state: &State) -> State {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.db");
    let written = write(&path, state, &mut |_| {}).unwrap();
    let (read, summary) = super::read(&path, &mut |_| {}).unwrap();
    assert_eq!(written, summary);
    read
}

#[test]
fn many_keys_and_large_values_come_back() {
    let mut kvs: Vec<KeyValue> =
        (0..5_000).map(|i| kv(format!("/registry/pods/{i:05}").as_bytes(), &[b'x'; 100], i / 3 + 2)).collect();
    kvs.push(kv(b"/zz/large", &vec![7; 1 << 20], 9_999));
    let state = State { revision: 12_345, kvs, leases: vec![(5, 60), (i64::MAX, 3_600)] };
    assert_eq!(round_trip(&state), state);
}

/// A stock etcd is to be able to serve it.
#[test]
fn packed_values_are_written_plain() {
    let plain = "much of the same, ".repeat(50);
    let with = |value: &[u8]| State { revision: 5, kvs: vec![kv(b"/e", value, 5)], leases: Vec::new() };
    let packed = kedge_packed::pack(plain.as_bytes()).unwrap();
    assert_eq!(round_trip(&with(&packed)), with(plain.as_bytes()));
}

#[test]
fn an_empty_store_keeps_its_revision() {
    let state = State { revision: 77, ..State::default() };
    assert_eq!(round_trip(&state), state);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn any_content_comes_back(content in prop::collection::btree_map(
        prop::collection::vec(any::<u8>(), 1..40), (prop::collection::vec(any::<u8>(), 0..6_000), 2_u64..1_000), 0..60,
    )) {
        let kvs = content.iter().map(|(key, (value, revision))| kv(key, value, *revision)).collect();
        let state = State { revision: 1_000, kvs, leases: Vec::new() };
        prop_assert_eq!(round_trip(&state), state);
    }
}

#[test]
fn every_flipped_bit_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.db");
    let state = State { revision: 9, kvs: vec![kv(b"/a", b"1", 2), kv(b"/b", b"2", 3)], leases: Vec::new() };
    write(&path, &state, &mut |_| {}).unwrap();
    let good = std::fs::read(&path).unwrap();
    for at in (0..good.len()).step_by(61) {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        std::fs::write(&path, bad).unwrap();
        assert!(matches!(super::read(&path, &mut |_| {}), Err(Error::Checksum)), "byte {at}");
    }
    std::fs::write(&path, &good[..good.len() - 32]).unwrap();
    assert!(matches!(super::read(&path, &mut |_| {}), Err(Error::NoChecksum)));
}

/// The checksum protects from accidents, not from malice: a file whose checksum was made to fit must not hurt.
#[test]
fn hostile_pages_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.db");
    let kvs = (0..300).map(|i| kv(format!("/k{i:04}").as_bytes(), &[b'x'; 64], i + 2)).collect();
    write(&path, &State { revision: 400, kvs, leases: Vec::new() }, &mut |_| {}).unwrap();
    let good = std::fs::read(&path).unwrap();
    let body = good.len() - CHECKSUM as usize;
    for at in (0..body).step_by(13) {
        let mut bad = good[..body].to_vec();
        bad[at] ^= 0xff;
        let sum: [u8; 32] = Sha256::digest(&bad).into();
        bad.extend_from_slice(&sum);
        std::fs::write(&path, bad).unwrap();
        // Whatever comes of it, it comes: values may differ, the reader must not panic or hang.
        if let Err(err) = super::read(&path, &mut |_| {}) {
            assert!(matches!(err, Error::Damaged(_) | Error::Read(_)), "{err}");
        }
    }
}

/// A snapshot with one record whose key in the file is changed before the checksum is made to fit.
fn at_another_revision(stored: &KeyValue, main: u64) -> Result<State, Error> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.db");
    let state = State { revision: 9, kvs: vec![stored.clone()], leases: Vec::new() };
    write(&path, &state, &mut |_| {}).unwrap();
    let mut file = std::fs::read(&path).unwrap();
    file.truncate(file.len() - CHECKSUM as usize);
    let key = [&stored.mod_revision.to_be_bytes()[..], b"_", &[0; 8]].concat();
    let at = file.windows(key.len()).position(|window| window == key).unwrap();
    file[at..at + 8].copy_from_slice(&main.to_be_bytes());
    let sum: [u8; 32] = Sha256::digest(&file).into();
    file.extend_from_slice(&sum);
    std::fs::write(&path, file).unwrap();
    super::read(&path, &mut |_| {}).map(|(state, _)| state)
}

#[test]
fn a_key_that_is_newer_than_its_revision_is_refused() {
    let stored = kv(b"/a", b"1", 7);
    assert_eq!(at_another_revision(&stored, 7).unwrap().kvs, std::slice::from_ref(&stored));
    for main in [6, 8] {
        let refused = at_another_revision(&stored, main).unwrap_err().to_string();
        assert!(refused.contains("/a is stored at revision"), "{refused}");
    }
    let unborn = KeyValue { create_revision: 8, ..stored };
    assert!(matches!(at_another_revision(&unborn, 7), Err(Error::Damaged(_))));
}

#[test]
fn a_revision_beyond_the_last_is_refused() {
    let stored = kv(b"/a", b"1", 7);
    for main in [i64::MAX as u64 + 1, u64::MAX] {
        let refused = at_another_revision(&stored, main).unwrap_err().to_string();
        assert!(refused.contains("beyond the last one"), "{refused}");
    }
    // What etcd's own tool writes to raise the revision is no key.
    let raised = at_another_revision(&kv(b"", b"", 7), 1_000_000_007).unwrap();
    assert_eq!((raised.revision, raised.kvs), (1_000_000_007, Vec::new()));
}
