//! Upstream's record of the node ports that are given out: one object for all, with a bit for each port.
//!
//! Upstream's servers read and replace it with each port that they give out, and give out none that it says is taken. Those that
//! are given out here are entered in the transaction that stores the service, so that neither gives out the other's. A server
//! on a store of its own keeps the record only when there is one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use kedge_schema::protobuf;
use kedge_storage::{Amend, Taken};
use serde_json::{Value, json};
use tracing::warn;

/// Where it is.
pub(super) const KEY: &str = "/registry/ranges/servicenodeports";
/// Ports that there are.
const PORTS: usize = 1 << 16;

/// What the record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RangeAllocation {
    first: u16,
    last: u16,
    /// A number whose bits say which ports are taken, counted from the first, its highest byte first.
    bits: Vec<u8>,
}

/// A record that cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreadable {
    #[error(transparent)]
    Protobuf(#[from] protobuf::ProtobufError),
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error("{0:?} is no range of ports")]
    Range(String),
    #[error("its bits cannot be read")]
    Bits,
}

impl RangeAllocation {
    /// With these ports taken.
    pub(super) fn new((first, last): (u16, u16), taken: impl IntoIterator<Item = u32>) -> Self {
        let mut record = Self { first, last, bits: Vec::new() };
        taken.into_iter().for_each(|port| record.set(port, true));
        record
    }

    /// As our servers store it, or upstream's.
    pub(super) fn decode(stored: &[u8]) -> Result<Self, Unreadable> {
        let (range, bits) = if stored.starts_with(protobuf::MAGIC) {
            let fields = protobuf::byte_fields(protobuf::envelope(stored)?.raw)?;
            let of =
                |wanted: u32| fields.iter().find(|(number, _)| *number == wanted).map_or(&[][..], |(_, bytes)| bytes);
            (String::from_utf8_lossy(of(2)).into_owned(), of(3).to_vec())
        } else {
            let value: Value = serde_json::from_slice(stored)?;
            let bits = STANDARD.decode(value["data"].as_str().unwrap_or_default()).map_err(|_| Unreadable::Bits)?;
            (value["range"].as_str().unwrap_or_default().to_owned(), bits)
        };
        let port = |text: &str| text.parse::<u16>().ok();
        let ends = range.split_once('-').and_then(|(first, last)| Some((port(first)?, port(last)?)));
        let Some((first, last)) = ends.filter(|(first, last)| first <= last) else {
            return Err(Unreadable::Range(range));
        };
        if bits.len() > PORTS / 8 {
            return Err(Unreadable::Bits);
        }
        Ok(Self { first, last, bits })
    }

    pub(super) fn encode(&self) -> Bytes {
        let value = json!({"kind": "RangeAllocation", "apiVersion": "v1", "metadata": {},
            "range": format!("{}-{}", self.first, self.last), "data": STANDARD.encode(&self.bits)});
        value.to_string().into()
    }

    fn place(&self, port: u32) -> Option<(usize, u8)> {
        let port = u16::try_from(port).ok().filter(|port| (self.first..=self.last).contains(port))?;
        let offset = usize::from(port - self.first);
        Some((offset / 8, 1 << (offset % 8)))
    }

    /// Whether it says that a port is taken. Of ports outside its range it says nothing.
    pub(super) fn has(&self, port: u32) -> bool {
        let Some((byte, bit)) = self.place(port) else { return false };
        self.bits.iter().rev().nth(byte).is_some_and(|bits| bits & bit != 0)
    }

    fn set(&mut self, port: u32, taken: bool) {
        let Some((byte, bit)) = self.place(port) else { return };
        if self.bits.len() <= byte {
            if !taken {
                return;
            }
            let missing = byte + 1 - self.bits.len();
            self.bits.splice(0..0, std::iter::repeat_n(0, missing));
        }
        let index = self.bits.len() - 1 - byte;
        if taken {
            self.bits[index] |= bit
        } else {
            self.bits[index] &= !bit
        }
        // As upstream writes numbers: without zeros before them.
        let zeros = self.bits.iter().take_while(|bits| **bits == 0).count();
        self.bits.drain(..zeros);
    }

    /// The ports that are taken.
    pub(super) fn ports(&self) -> impl Iterator<Item = u32> + '_ {
        (self.first..=self.last).map(u32::from).filter(|port| self.has(*port))
    }
}

/// What a write of a service makes of the record.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) taken: Vec<u32>,
    pub(super) returned: Vec<u32>,
    /// The record that is begun when there is none.
    pub(super) beginning: Option<RangeAllocation>,
}

impl Amend for Entry {
    fn key(&self) -> &str {
        KEY
    }

    fn amend(&self, current: Option<&[u8]>) -> Result<Option<Bytes>, Taken> {
        let was = match current.map(RangeAllocation::decode) {
            Some(Ok(record)) => Some(record),
            Some(Err(err)) => {
                // The claims are ours all the same; the repair writes it anew.
                warn!(key = KEY, error = %err, "the record of node ports cannot be read");
                return Ok(None);
            }
            None => None,
        };
        let Some(mut record) = was.clone().or_else(|| self.beginning.clone()) else { return Ok(None) };
        if was.as_ref().is_some_and(|was| self.taken.iter().any(|port| was.has(*port))) {
            return Err(Taken);
        }
        self.taken.iter().for_each(|port| record.set(*port, true));
        self.returned.iter().for_each(|port| record.set(*port, false));
        Ok((was.as_ref() != Some(&record)).then(|| record.encode()))
    }
}

/// The record is written anew, as long as it is what it was.
#[derive(Debug)]
pub(super) struct Rewrite {
    pub(super) was: Option<Bytes>,
    pub(super) record: RangeAllocation,
}

impl Amend for Rewrite {
    fn key(&self) -> &str {
        KEY
    }

    fn amend(&self, current: Option<&[u8]>) -> Result<Option<Bytes>, Taken> {
        if current != self.was.as_deref() {
            return Err(Taken);
        }
        Ok(Some(self.record.encode()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const RANGE: (u16, u16) = (30_000, 30_100);

    /// As a kube-apiserver 1.36 stored it after it gave out 30000, 30009 and 30100.
    fn upstreams() -> Vec<u8> {
        let mut bits = vec![0_u8; 13];
        (bits[12], bits[11], bits[0]) = (1, 2, 0x10);
        let mut raw = vec![0x0a, 0x02, 0x0a, 0x00, 0x12, 0x0b];
        raw.extend_from_slice(b"30000-30100");
        raw.extend_from_slice(&[0x1a, 13]);
        raw.extend(bits);
        let mut stored = protobuf::MAGIC.to_vec();
        stored.extend_from_slice(&[0x0a, 0x15, 0x0a, 0x02]);
        stored.extend_from_slice(b"v1");
        stored.extend_from_slice(&[0x12, 0x0f]);
        stored.extend_from_slice(b"RangeAllocation");
        stored.extend_from_slice(&[0x12, u8::try_from(raw.len()).unwrap()]);
        stored.extend(raw);
        stored
    }

    #[test]
    fn upstreams_record_is_read() {
        let record = RangeAllocation::decode(&upstreams()).unwrap();
        assert_eq!(
            ((record.first, record.last), record.ports().collect::<Vec<_>>()),
            (RANGE, vec![30_000, 30_009, 30_100])
        );
        assert_eq!(record, RangeAllocation::new(RANGE, [30_100, 30_000, 30_009]));
        assert!(matches!(RangeAllocation::decode(b"{\"range\": \"5-3\"}"), Err(Unreadable::Range(_))));
        assert!(RangeAllocation::decode(b"k8s\0\x12\xff").is_err());
    }

    #[test]
    fn an_entry_takes_what_is_free_and_gives_back_what_was_taken() {
        let entry = |taken: &[u32], returned: &[u32]| Entry {
            taken: taken.to_vec(),
            returned: returned.to_vec(),
            beginning: None,
        };
        let stored = upstreams();
        assert_eq!(entry(&[30_009], &[]).amend(Some(&stored)), Err(Taken));
        assert_eq!(entry(&[30_010], &[]).amend(None), Ok(None), "nobody keeps one");
        assert_eq!(entry(&[], &[30_050]).amend(Some(&stored)), Ok(None), "nothing changes");
        let after = entry(&[30_010], &[30_009]).amend(Some(&stored)).unwrap().unwrap();
        let ports: Vec<u32> = RangeAllocation::decode(&after).unwrap().ports().collect();
        assert_eq!(ports, [30_000, 30_010, 30_100]);
        let beginning = Entry { beginning: Some(RangeAllocation::new(RANGE, [30_001])), ..entry(&[30_002], &[]) };
        let begun = RangeAllocation::decode(&beginning.amend(None).unwrap().unwrap()).unwrap();
        assert_eq!(begun.ports().collect::<Vec<_>>(), [30_001, 30_002]);
        assert_eq!(entry(&[30_010], &[]).amend(Some(b"?")), Ok(None));
        let record = RangeAllocation::new(RANGE, []);
        assert_eq!(Rewrite { was: None, record }.amend(Some(&stored)), Err(Taken));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            ports in proptest::collection::btree_set(30_000_u32..=30_100, 0..40),
            gone in proptest::collection::btree_set(30_000_u32..=30_100, 0..40),
        ) {
            let mut record = RangeAllocation::new(RANGE, ports.iter().copied());
            gone.iter().for_each(|port| record.set(*port, false));
            let read = RangeAllocation::decode(&record.encode()).unwrap();
            prop_assert_eq!(&read, &record);
            prop_assert!(read.ports().eq(ports.difference(&gone).copied()));
            prop_assert!(read.bits.first() != Some(&0));
        }
    }
}
