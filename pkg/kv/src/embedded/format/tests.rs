//! Tests of the byte format.
#![allow(clippy::unwrap_used)]

use bytes::{Bytes, BytesMut};

use super::*;

fn frame(records: &[Record], previous: u32, durable: u64) -> (Vec<u8>, u32) {
    let mut out = BytesMut::new();
    begin_frame(&mut out);
    records.iter().for_each(|record| put_record(&mut out, record));
    let check = end_frame(&mut out, previous, durable);
    (out.to_vec(), check)
}

fn put(value: Vec<u8>) -> Record {
    let (key, value) = (Bytes::from_static(b"/k"), Some(Bytes::from(value)));
    Record::Change(Change { key, value, revision: 7, sub: 1, create_revision: 5, version: 2, lease: -3 })
}

#[test]
fn records_are_read_as_they_were_written() {
    let records = [
        put(vec![1, 2, 3]),
        Record::Change(Change {
            key: Bytes::from_static(b"/d"),
            value: None,
            revision: 8,
            sub: 0,
            create_revision: 0,
            version: 0,
            lease: 0,
        }),
        Record::Grant { id: 9, seconds: 60 },
        Record::Revoke { id: -9 },
        Record::Compaction { revision: 5 },
        Record::Ceiling { revision: 10_000 },
        Record::Closed { revision: 8 },
        Record::Continued,
    ];
    let (data, check) = frame(&records, 17, 48);
    let Step::Whole { payload, frame } = step(&data, 0, 17) else { panic!("no frame") };
    assert_eq!((frame.check, frame.durable, payload.end), (check, 48, data.len()));
    let mut payload = &data[payload];
    for record in &records {
        assert_eq!(next_record(&mut payload).unwrap().as_ref(), Some(record));
    }
    assert_eq!(next_record(&mut payload).unwrap(), None);
    assert!(matches!(step(&data, 0, 18), Step::Damaged(_)), "the chain is checked");
}

#[test]
fn headers_name_what_they_are() {
    let path = Path::new("/x");
    let header = Header { kind: FileKind::Segment, number: 3, revision: 9, identity: 7, chain: 5 };
    let mut data = header.encode();
    assert_eq!(data.len(), HEADER);
    assert_eq!(Header::decode(path, (FileKind::Segment, 3), &data).unwrap().0, header);
    assert!(matches!(Header::decode(path, (FileKind::Segment, 4), &data), Err(Error::Corrupt { .. })));
    assert!(matches!(Header::decode(path, (FileKind::Checkpoint, 3), &data), Err(Error::Corrupt { .. })));
    assert!(matches!(Header::decode(path, (FileKind::Segment, 3), &data[..40]), Err(Error::Corrupt { .. })));
    for (version, found) in [(1, 1), (3, 3)] {
        data[8] = version;
        let refused = Header::decode(path, (FileKind::Segment, 3), &data);
        assert!(matches!(refused, Err(Error::Version { found: f, supported: 2, .. }) if f == found));
    }
    assert_eq!(FileKind::of_name("00000000000000000012.ckpt"), Some((FileKind::Checkpoint, 12)));
    assert_eq!(FileKind::of_name("12.log"), None);
    assert_eq!(FileKind::of_name("00000000000000000012.ckpt.tmp"), None);
}

#[test]
fn a_torn_frame_is_told_from_a_damaged_one() {
    let (data, _) = frame(&[put(vec![0xee; 2_000])], 1, 0);
    let mut file = vec![0xaa; 300];
    file.extend_from_slice(&data);
    file.resize(8_192, 0);
    assert!(matches!(step(&file, 300, 1), Step::Whole { .. }));
    for lost in [300..512, 512..1_024, 2_048..300 + data.len()] {
        let mut torn = file.clone();
        torn[lost].fill(0);
        judge_end(&torn, 300).unwrap();
    }
    for bit in [300, 310, 323, 324, 1_000, 299 + data.len()] {
        let mut flipped = file.clone();
        flipped[bit] ^= 4;
        assert!(matches!(step(&flipped, 300, 1), Step::Damaged(_)));
        assert!(judge_end(&flipped, 300).is_err(), "bit {bit}");
    }
    // Cut off by the end of the file.
    judge_end(&file[..301], 300).unwrap();
}

#[test]
fn a_later_frame_knows_what_was_durable() {
    for (durable, fine) in [(100, false), (0, true)] {
        let (first, check) = frame(&[put(vec![1; 100])], 1, 0);
        let (second, _) = frame(&[put(vec![2; 100])], check, durable);
        let mut file = vec![0; first.len()];
        file.extend_from_slice(&second);
        assert!(matches!(step(&file, 0, 1), Step::End));
        assert_eq!(judge_end(&file, 0).is_ok(), fine);
    }
}
