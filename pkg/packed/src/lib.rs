//! Layer 0: values in fewer bytes, for what is written often and seldom read.
//!
//! A packed value is what [`pack`] made of a plain one: [`MAGIC`], with which no value of an API server begins, the plain length, and an
//! LZ4 block made with a dictionary of what such values are full of. It takes less memory and wears a card less; to read it costs a
//! microsecond. The embedded store holds packed values for who can read them. Everybody else (etcd clients, snapshots, migrations)
//! is given the plain ones, and an etcd never gets any others.

use bytes::Bytes;

/// What packed values begin with; the last byte says which dictionary they were made with.
const MAGIC: &[u8] = b"\0kz\x01";
const HEADER: usize = MAGIC.len() + size_of::<u32>();
/// Shorter values are not packed: what is saved is less than what it costs to know of it.
const WORTH: usize = 256;
/// A plain value is at most so long: what a store takes in one transaction.
const MAX_PLAIN: usize = 16 << 20;
/// Never to be changed: stored values need it. Another one gets another last byte of [`MAGIC`].
const DICTIONARY: &[u8] = include_bytes!("dictionary-1.txt");

/// A packed value that is not what [`pack`] makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a packed value is damaged")]
pub struct Damaged;

/// The value in fewer bytes; none when it would not save an eighth, or could be taken for a packed one.
pub fn pack(plain: &[u8]) -> Option<Bytes> {
    if plain.len() < WORTH || plain.len() > MAX_PLAIN || is_packed(plain) {
        return None;
    }
    let block = lz4_flex::block::compress_with_dict(plain, DICTIONARY);
    if HEADER + block.len() > plain.len() - plain.len() / 8 {
        return None;
    }
    let mut packed = Vec::with_capacity(HEADER + block.len());
    packed.extend_from_slice(MAGIC);
    packed.extend_from_slice(&u32::try_from(plain.len()).ok()?.to_le_bytes());
    packed.extend_from_slice(&block);
    // It is kept as long as the object lives: room that was taken ahead for it would be, too.
    Some(packed.into_boxed_slice().into())
}

/// Whether a value is packed.
pub fn is_packed(value: &[u8]) -> bool {
    value.starts_with(MAGIC)
}

/// The plain value, of one that may be packed.
///
/// # Errors
/// [`Damaged`] when it is packed and cannot be read.
pub fn plain(value: &Bytes) -> Result<Bytes, Damaged> {
    if !is_packed(value) {
        return Ok(value.clone());
    }
    let block = value.get(HEADER..).ok_or(Damaged)?;
    let length = plain_len(value);
    if length > MAX_PLAIN {
        return Err(Damaged);
    }
    let mut plain = vec![0; length];
    match lz4_flex::block::decompress_into_with_dict(block, &mut plain, DICTIONARY) {
        Ok(written) if written == length => Ok(plain.into()),
        _ => Err(Damaged),
    }
}

/// The length of the plain value.
pub fn plain_len(value: &[u8]) -> usize {
    let length = || value.strip_prefix(MAGIC)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes) as usize);
    length().unwrap_or(value.len())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn event(i: usize) -> String {
        format!(
            r#"{{"kind":"Event","apiVersion":"v1","metadata":{{"name":"web-{i}.18a{i:x}","namespace":"shop","uid":"5c0b9a5e-0f8e-4a55-9d5a-{i:012x}","creationTimestamp":"2026-03-01T10:20:30Z","managedFields":[{{"manager":"kedge","operation":"Update","apiVersion":"v1","time":"2026-03-01T10:20:30Z","fieldsType":"FieldsV1","fieldsV1":{{"f:count":{{}},"f:firstTimestamp":{{}},"f:involvedObject":{{}},"f:lastTimestamp":{{}},"f:message":{{}},"f:reason":{{}},"f:reportingComponent":{{}},"f:source":{{"f:component":{{}}}},"f:type":{{}}}}}}]}},"involvedObject":{{"kind":"Pod","namespace":"shop","name":"web-{i}","uid":"1f1f8a02-77a4-4ad1-8d21-{i:012x}","apiVersion":"v1"}},"reason":"Scheduled","message":"Successfully assigned shop/web-{i} to board-7","source":{{"component":"default-scheduler"}},"firstTimestamp":"2026-03-01T10:20:30Z","lastTimestamp":"2026-03-01T10:20:30Z","count":1,"type":"Normal","eventTime":null,"reportingComponent":"default-scheduler","reportingInstance":""}}"#
        )
    }

    #[test]
    fn what_was_packed_comes_back() {
        for plain_value in [event(7).into_bytes(), vec![b'x'; WORTH], vec![0; 100_000]] {
            let packed = pack(&plain_value).unwrap();
            assert!(is_packed(&packed) && packed.len() < plain_value.len());
            assert_eq!((plain_len(&packed), plain(&packed).unwrap()), (plain_value.len(), plain_value.into()));
        }
    }

    #[test]
    fn an_ordinary_event_takes_less_than_half() {
        let (plain, packed) = (event(7), pack(event(7).as_bytes()).unwrap());
        assert!(packed.len() * 2 < plain.len(), "{} of {}", packed.len(), plain.len());
    }

    #[test]
    fn what_is_short_or_noise_or_looks_packed_stays_as_it_is() {
        let mut state = 1_u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        let noise: Vec<u8> = (0..1_000).map(|_| random()).collect();
        let looks_packed = [MAGIC, &[7; 1_000]].concat();
        for value in [&noise[..], b"{}", &looks_packed] {
            assert_eq!(pack(value), None);
        }
        assert_eq!(plain(&Bytes::from(noise.clone())).unwrap(), noise);
    }

    /// A damaged card must give an error, not other contents or a panic, nor take memory for a length that is nobody's.
    #[test]
    fn damage_is_noticed() {
        let packed = pack(event(1).as_bytes()).unwrap();
        for end in MAGIC.len()..packed.len() {
            assert!(plain(&packed.slice(..end)).is_err(), "cut at {end}");
        }
        let mut huge = packed.to_vec();
        huge[MAGIC.len()..HEADER].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(plain(&huge.into()).is_err());
    }
}
