//! Reading an upstream server's answer.
//!
//! Invariant: an answer that is not well-formed to its end is no answer. Pointers in names may only
//! lead backwards, so reading ends whatever the bytes are.

use crate::answer::{Data, Record};
use crate::name::Name;
use crate::query::code;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The most labels of a name; 255 bytes hold no more.
const MAX_LABELS: usize = 128;

/// What matters of an answer that is passed on as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The code in the header.
    pub rcode: u16,
    /// Whether the rest can be had over TCP.
    pub truncated: bool,
    /// Where the question ends.
    pub question_end: usize,
    /// Where the lifetimes of records are.
    pub ttls: Vec<usize>,
    /// How long the answer may be kept, in seconds: the shortest lifetime, or for negative answers
    /// what the zone says. `None` when nothing says.
    pub lifetime: Option<u32>,
}

/// One record in a message.
struct Raw<'a> {
    name: Name,
    rtype: u16,
    ttl_at: usize,
    ttl: u32,
    data_at: usize,
    data: &'a [u8],
}

/// Reads a message as the answer to the question `name`/`qtype`; `None` when it is none.
pub fn summarize(bytes: &[u8], id: u16, name: &Name, qtype: u16) -> Option<Summary> {
    let header = bytes.first_chunk::<12>()?;
    let flags = u16::from_be_bytes([header[2], header[3]]);
    let is_answer = flags & 0xf800 == 0x8000 && header[..2] == id.to_be_bytes() && header[4..6] == [0, 1];
    let (asked, after) = read_name(bytes, 12)?;
    let fixed = bytes.get(after..after + 4)?;
    let same = asked == *name && fixed[..2] == qtype.to_be_bytes() && fixed[2..] == code::IN.to_be_bytes();
    if !is_answer || !same {
        return None;
    }
    let mut summary = Summary {
        rcode: flags & 15,
        truncated: flags & 0x0200 != 0,
        question_end: after + 4,
        ttls: Vec::new(),
        lifetime: None,
    };
    let (answers, authorities) = (count(header, 6), count(header, 8));
    let mut at = after + 4;
    for index in 0..answers + authorities + count(header, 10) {
        let (record, next) = read_record(bytes, at)?;
        at = next;
        if record.rtype == code::OPT {
            continue;
        }
        summary.ttls.push(record.ttl_at);
        let mut lifetime = record.ttl;
        if record.rtype == code::SOA && index >= answers {
            lifetime = lifetime.min(u32::from_be_bytes(*record.data.last_chunk::<4>()?));
        }
        summary.lifetime = Some(summary.lifetime.map_or(lifetime, |shortest| shortest.min(lifetime)));
    }
    Some(summary)
}

/// The addresses and aliases in the answer section of a message that [`summarize`] accepted.
pub fn addresses(bytes: &[u8]) -> Option<Vec<Record>> {
    let header = bytes.first_chunk::<12>()?;
    let mut at = read_name(bytes, 12)?.1 + 4;
    let mut records = Vec::new();
    for _ in 0..count(header, 6) {
        let (raw, next) = read_record(bytes, at)?;
        at = next;
        let data = match raw.rtype {
            code::A => Data::Address(Ipv4Addr::from(<[u8; 4]>::try_from(raw.data).ok()?).into()),
            code::AAAA => Data::Address(Ipv6Addr::from(<[u8; 16]>::try_from(raw.data).ok()?).into()),
            code::CNAME => Data::Cname(read_name(bytes, raw.data_at)?.0),
            _ => continue,
        };
        records.push(Record { name: raw.name, ttl: raw.ttl, data });
    }
    Some(records)
}

fn count(header: &[u8; 12], at: usize) -> usize {
    usize::from(u16::from_be_bytes([header[at], header[at + 1]]))
}

fn read_record(bytes: &[u8], at: usize) -> Option<(Raw<'_>, usize)> {
    let (name, after) = read_name(bytes, at)?;
    let fixed = bytes.get(after..)?.first_chunk::<10>()?;
    let length = usize::from(u16::from_be_bytes([fixed[8], fixed[9]]));
    let data_at = after + 10;
    let data = bytes.get(data_at..data_at + length)?;
    let ttl = u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]);
    let rtype = u16::from_be_bytes([fixed[0], fixed[1]]);
    Some((Raw { name, rtype, ttl_at: after + 4, ttl, data_at, data }, data_at + length))
}

/// Reads a name that may be compressed; returns what follows it in the message.
fn read_name(bytes: &[u8], start: usize) -> Option<(Name, usize)> {
    let mut labels: Vec<&[u8]> = Vec::new();
    let (mut at, mut end, mut lowest) = (start, None, start);
    loop {
        let length = usize::from(*bytes.get(at)?);
        match length {
            0 => break,
            1..=63 => {
                labels.push(bytes.get(at + 1..at + 1 + length)?);
                at += 1 + length;
            }
            0xc0.. => {
                let target = (length & 0x3f) << 8 | usize::from(*bytes.get(at + 1)?);
                end.get_or_insert(at + 2);
                if target >= lowest {
                    return None;
                }
                (at, lowest) = (target, target);
            }
            _ => return None,
        }
        if labels.len() > MAX_LABELS {
            return None;
        }
    }
    Some((Name::from_labels(labels)?, end.unwrap_or(at + 1)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use hickory_proto::op::{Message, MessageType, OpCode, Query as HQuery};
    use hickory_proto::rr::rdata::{A, CNAME, SOA};
    use hickory_proto::rr::{Name as HName, RData, Record as HRecord, RecordType};
    use proptest::prelude::*;

    fn name(text: &str) -> HName {
        HName::from_ascii(text).unwrap()
    }

    fn message() -> Message {
        let mut message = Message::new(7, MessageType::Response, OpCode::Query);
        message.add_query(HQuery::query(name("www.example.com."), RecordType::A));
        message
    }

    fn positive() -> Vec<u8> {
        let mut message = message();
        let alias = RData::CNAME(CNAME(name("web.example.com.")));
        message.add_answer(HRecord::from_rdata(name("www.example.com."), 300, alias));
        let address = RData::A(A(Ipv4Addr::new(192, 0, 2, 1)));
        message.add_answer(HRecord::from_rdata(name("web.example.com."), 20, address));
        message.to_vec().unwrap()
    }

    fn asked() -> Name {
        Name::parse("WWW.example.com").unwrap()
    }

    #[test]
    fn an_answer_of_another_implementation_is_understood() {
        let bytes = positive();
        let summary = summarize(&bytes, 7, &asked(), code::A).unwrap();
        assert_eq!((summary.rcode, summary.truncated, summary.lifetime), (0, false, Some(20)));
        assert_eq!(summary.ttls.len(), 2);
        assert_eq!(bytes[summary.ttls[1]..][..4], 20_u32.to_be_bytes());
        let records = addresses(&bytes).unwrap();
        assert_eq!(records[0].data, Data::Cname(Name::parse("web.example.com").unwrap()));
        assert_eq!(records[1].data, Data::Address("192.0.2.1".parse().unwrap()));
    }

    #[test]
    fn a_negative_answer_lives_as_long_as_the_zone_says() {
        let mut message = message();
        let soa = SOA::new(name("ns.example.com."), name("x.example.com."), 1, 2, 3, 4, 15);
        message.add_authority(HRecord::from_rdata(name("example.com."), 900, RData::SOA(soa)));
        let summary = summarize(&message.to_vec().unwrap(), 7, &asked(), code::A).unwrap();
        assert_eq!(summary.lifetime, Some(15));
    }

    #[test]
    fn the_answer_to_another_question_is_none() {
        let bytes = positive();
        assert!(summarize(&bytes, 8, &asked(), code::A).is_none());
        assert!(summarize(&bytes, 7, &Name::parse("example.com").unwrap(), code::A).is_none());
        assert!(summarize(&bytes, 7, &asked(), code::AAAA).is_none());
        assert!(summarize(&bytes[..bytes.len() - 1], 7, &asked(), code::A).is_none());
    }

    #[test]
    fn pointers_that_go_round_end() {
        let mut bytes = positive();
        let length = bytes.len();
        // The first answer's name points at itself.
        let at = summarize(&bytes, 7, &asked(), code::A).unwrap().question_end;
        bytes[at..at + 2].copy_from_slice(&(0xc000 | at as u16).to_be_bytes());
        assert!(summarize(&bytes, 7, &asked(), code::A).is_none());
        assert_eq!(bytes.len(), length);
    }

    proptest! {
        #[test]
        fn no_mutation_makes_it_panic(at in 0_usize..200, byte in any::<u8>(), cut in 0_usize..200) {
            let mut bytes = positive();
            let length = bytes.len();
            bytes[at % length] = byte;
            bytes.truncate(length - cut % length);
            let _ = (summarize(&bytes, 7, &asked(), code::A), addresses(&bytes));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = (summarize(&bytes, 7, &asked(), code::A), addresses(&bytes));
        }
    }
}
