//! Writing an answer.
//!
//! Invariant: an answer is never longer than its limit. What does not fit is left out record by
//! record and the truncation bit says so; the question, in the client's spelling, is always there.

use crate::name::Name;
use crate::query::{Query, Rcode, code};
use std::net::IpAddr;

/// The longest UDP answer that is sent, whatever the client allows: what passes without being
/// fragmented.
pub const MAX_UDP: usize = 1232;
/// The longest answer over TCP.
pub const MAX_TCP: usize = 65_535;

/// The data of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// A or AAAA.
    Address(IpAddr),
    /// Another name.
    Cname(Name),
    /// The name of an address.
    Ptr(Name),
    /// The zone's server.
    Ns(Name),
    /// A port of a service.
    Srv {
        /// Share of the load among all.
        weight: u16,
        /// The port.
        port: u16,
        /// Where.
        target: Name,
    },
    /// Text of at most 255 bytes.
    Txt(&'static str),
    /// The zone, for negative answers.
    Soa {
        /// The zone's server.
        server: Name,
        /// Who is in charge.
        contact: Name,
        /// How long a client may remember that something is not there, in seconds.
        negative_ttl: u32,
    },
}

impl Data {
    fn rtype(&self) -> u16 {
        match self {
            Self::Address(IpAddr::V4(_)) => code::A,
            Self::Address(IpAddr::V6(_)) => code::AAAA,
            Self::Cname(_) => code::CNAME,
            Self::Ptr(_) => code::PTR,
            Self::Ns(_) => code::NS,
            Self::Srv { .. } => code::SRV,
            Self::Txt(_) => code::TXT,
            Self::Soa { .. } => code::SOA,
        }
    }
}

/// A resource record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Whose it is.
    pub name: Name,
    /// Seconds.
    pub ttl: u32,
    /// What it says.
    pub data: Data,
}

/// The content of an answer.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// What was asked for.
    pub answers: Vec<Record>,
    /// The zone, in negative answers.
    pub authorities: Vec<Record>,
    /// What the client would ask for next.
    pub additionals: Vec<Record>,
}

/// How an answer is to be written.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// The result.
    pub rcode: Rcode,
    /// Whether we are in charge of the name.
    pub authoritative: bool,
    /// The longest message, in bytes.
    pub limit: usize,
}

/// The limit of an answer over UDP.
pub fn udp_limit(query: &Query) -> usize {
    query.edns.map_or(512, |edns| usize::from(edns.payload).clamp(512, MAX_UDP))
}

/// Writes the answer to a query.
pub fn write(query: &Query, answer: &Answer, shape: Shape) -> Vec<u8> {
    let mut writer = Writer::new(query, shape);
    let mut counts = [1_u16, 0, 0, 0];
    let mut truncated = false;
    let sections = [&answer.answers, &answer.authorities, &answer.additionals];
    for (count, records) in counts[1..].iter_mut().zip(sections) {
        for record in records {
            if truncated || !writer.record(record) {
                truncated = true;
                break;
            }
            *count += 1;
        }
    }
    // Additional records are a courtesy: leaving them out truncates nothing.
    let whole = usize::from(counts[1]) == answer.answers.len() && usize::from(counts[2]) == answer.authorities.len();
    if query.edns.is_some() {
        writer.opt(shape.rcode);
        counts[3] += 1;
    }
    writer.finish(counts, truncated && !whole)
}

/// The answer to a message that cannot be read: a header only.
pub fn refusal(id: u16, rcode: Rcode) -> Vec<u8> {
    let mut bytes = vec![0; 12];
    bytes[..2].copy_from_slice(&id.to_be_bytes());
    bytes[2] = 0x80;
    let extended = rcode.number() > 15;
    bytes[3] = 0x80 | (rcode.number() & 15) as u8;
    if extended {
        // A code above 15 can only be told with EDNS; the asker has just used it.
        bytes[11] = 1;
        bytes.extend_from_slice(&opt(rcode));
    }
    bytes
}

fn opt(rcode: Rcode) -> [u8; 11] {
    let [size_high, size_low] = (MAX_UDP as u16).to_be_bytes();
    [0, 0, code::OPT as u8, size_high, size_low, (rcode.number() >> 4) as u8, 0, 0, 0, 0, 0]
}

struct Writer {
    bytes: Vec<u8>,
    /// Where names that were written begin, each with its label still to read there.
    known: Vec<(Vec<u8>, u16)>,
    limit: usize,
}

impl Writer {
    fn new(query: &Query, shape: Shape) -> Self {
        let mut bytes = Vec::with_capacity(512);
        bytes.extend_from_slice(&query.id.to_be_bytes());
        let mut flags = 0x8080 | (shape.rcode.number() & 15);
        flags |= u16::from(shape.authoritative) << 10;
        flags |= u16::from(query.recursion_desired) << 8;
        flags |= u16::from(query.checking_disabled) << 4;
        bytes.extend_from_slice(&flags.to_be_bytes());
        bytes.extend_from_slice(&[0; 8]);
        let room_for_opt = if query.edns.is_some() { 11 } else { 0 };
        let limit = shape.limit.saturating_sub(room_for_opt);
        let mut writer = Self { bytes, known: Vec::new(), limit };
        writer.name(&query.name);
        writer.u16(query.qtype);
        writer.u16(query.qclass);
        writer
    }

    /// Writes a record, or nothing when it does not fit.
    fn record(&mut self, record: &Record) -> bool {
        let (length, known) = (self.bytes.len(), self.known.len());
        self.name(&record.name);
        self.u16(record.data.rtype());
        self.u16(code::IN);
        self.bytes.extend_from_slice(&record.ttl.to_be_bytes());
        let at = self.bytes.len();
        self.u16(0);
        self.data(&record.data);
        let size = self.bytes.len() - at - 2;
        self.bytes[at..at + 2].copy_from_slice(&(size as u16).to_be_bytes());
        let fits = self.bytes.len() <= self.limit;
        if !fits {
            self.bytes.truncate(length);
            self.known.truncate(known);
        }
        fits
    }

    fn data(&mut self, data: &Data) {
        match data {
            Data::Address(IpAddr::V4(ip)) => self.bytes.extend_from_slice(&ip.octets()),
            Data::Address(IpAddr::V6(ip)) => self.bytes.extend_from_slice(&ip.octets()),
            Data::Cname(name) | Data::Ptr(name) | Data::Ns(name) => self.name(name),
            Data::Srv { weight, port, target } => {
                [0, *weight, *port].into_iter().for_each(|number| self.u16(number));
                // Names in newer types are not compressed.
                self.bytes.extend_from_slice(target.wire());
            }
            Data::Txt(text) => {
                let text = &text.as_bytes()[..text.len().min(255)];
                self.bytes.push(text.len() as u8);
                self.bytes.extend_from_slice(text);
            }
            Data::Soa { server, contact, negative_ttl } => {
                self.name(server);
                self.name(contact);
                // Nobody transfers this zone, so serial and times are only for form.
                for number in [1, 7200, 1800, 86_400, *negative_ttl] {
                    self.bytes.extend_from_slice(&number.to_be_bytes());
                }
            }
        }
    }

    /// Writes a name, as far as possible as a pointer to one that was written.
    fn name(&mut self, name: &Name) {
        let lower = name.to_lower();
        let mut rest = lower.wire();
        let mut at = 0;
        while rest.len() > 1 {
            if let Some((_, offset)) = self.known.iter().find(|(suffix, _)| suffix == rest) {
                let pointer = 0xc000 | offset;
                self.u16(pointer);
                return;
            }
            let offset = self.bytes.len();
            if offset < 0x4000 && self.known.len() < 64 {
                self.known.push((rest.to_vec(), offset as u16));
            }
            let step = 1 + usize::from(rest[0]);
            self.bytes.extend_from_slice(&name.wire()[at..at + step]);
            at += step;
            rest = &rest[step..];
        }
        self.bytes.push(0);
    }

    fn u16(&mut self, number: u16) {
        self.bytes.extend_from_slice(&number.to_be_bytes());
    }

    fn opt(&mut self, rcode: Rcode) {
        self.bytes.extend_from_slice(&opt(rcode));
    }

    fn finish(mut self, counts: [u16; 4], truncated: bool) -> Vec<u8> {
        for (place, count) in self.bytes[4..12].chunks_exact_mut(2).zip(counts) {
            place.copy_from_slice(&count.to_be_bytes());
        }
        if truncated {
            self.bytes[2] |= 0x02;
        }
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::query::Edns;
    use hickory_proto::op::{Message, ResponseCode};
    use hickory_proto::rr::RecordType;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    fn query(name: &str, edns: Option<u16>) -> Query {
        Query {
            id: 9,
            recursion_desired: true,
            checking_disabled: false,
            name: Name::parse(name).unwrap(),
            qtype: code::A,
            qclass: code::IN,
            edns: edns.map(|payload| Edns { payload, dnssec_ok: false }),
        }
    }

    fn shape(limit: usize) -> Shape {
        Shape { rcode: Rcode::NoError, authoritative: true, limit }
    }

    fn record(name: &str, data: Data) -> Record {
        Record { name: Name::parse(name).unwrap(), ttl: 5, data }
    }

    fn address(last: u32) -> Data {
        Data::Address(Ipv4Addr::from_bits(0x0a2a_0000 + last).into())
    }

    #[test]
    fn another_implementation_understands_every_type() {
        let zone = || Name::parse("cluster.local").unwrap();
        let answer = Answer {
            answers: vec![
                record("web.default.svc.cluster.local", address(5)),
                record("v6.cluster.local", Data::Address("fd00::5".parse().unwrap())),
                record("x.cluster.local", Data::Cname(Name::parse("example.com").unwrap())),
                record("5.0.42.10.in-addr.arpa", Data::Ptr(zone())),
                record("cluster.local", Data::Ns(zone())),
                record("s.cluster.local", Data::Srv { weight: 50, port: 80, target: zone() }),
                record("dns-version.cluster.local", Data::Txt("1.1.0")),
            ],
            authorities: vec![record("cluster.local", Data::Soa { server: zone(), contact: zone(), negative_ttl: 5 })],
            additionals: vec![record("s.cluster.local", address(6))],
        };
        let bytes = write(&query("WEB.default.svc.cluster.local", Some(4096)), &answer, shape(1232));
        let message = Message::from_vec(&bytes).unwrap();
        assert_eq!(message.answers.len(), 7);
        assert_eq!(message.authorities[0].record_type(), RecordType::SOA);
        assert_eq!(message.additionals.len(), 1);
        assert_eq!(message.queries[0].name().to_ascii(), "WEB.default.svc.cluster.local.");
        assert!(message.metadata.authoritative && message.metadata.recursion_available);
        assert_eq!(message.answers[5].data.to_string(), "0 50 80 cluster.local.");
        assert_eq!(message.edns.unwrap().max_payload(), 1232);
        assert_eq!(bytes.windows(7).filter(|w| *w == b"default").count(), 1, "compressed");
    }

    #[test]
    fn what_does_not_fit_is_left_out_and_said() {
        let answers = (0..200).map(|i| record("web.default.svc.cluster.local", address(i))).collect();
        let answer = Answer { answers, ..Answer::default() };
        let query = query("web.default.svc.cluster.local", None);
        let bytes = write(&query, &answer, shape(udp_limit(&query)));
        assert!(bytes.len() <= 512);
        let message = Message::from_vec(&bytes).unwrap();
        assert!(message.metadata.truncation && !message.answers.is_empty());
        let bytes = write(&query, &answer, shape(MAX_TCP));
        let message = Message::from_vec(&bytes).unwrap();
        assert!(!message.metadata.truncation);
        assert_eq!(message.answers.len(), 200);
    }

    #[test]
    fn additional_records_go_without_truncation() {
        let additionals = (0..200).map(|i| record("web.default.svc.cluster.local", address(i))).collect();
        let answer = Answer { additionals, ..Answer::default() };
        let bytes = write(&query("a", None), &answer, shape(512));
        assert!(!Message::from_vec(&bytes).unwrap().metadata.truncation);
    }

    #[test]
    fn refusals_are_messages() {
        let message = Message::from_vec(&refusal(3, Rcode::FormErr)).unwrap();
        assert_eq!((message.metadata.id, message.metadata.response_code), (3, ResponseCode::FormErr));
        let message = Message::from_vec(&refusal(3, Rcode::BadVers)).unwrap();
        assert_eq!(u16::from(message.metadata.response_code), 16);
    }

    proptest! {
        #[test]
        fn every_answer_is_readable_and_within_its_limit(
            labels in proptest::collection::vec("[a-z0-9]{1,20}", 1..8),
            count in 0_u32..80, edns in proptest::option::of(0_u16..5000),
        ) {
            let name = labels.join(".");
            let query = query(&name, edns);
            let answers = (0..count).map(|i| record(&name, address(i))).collect();
            let limit = udp_limit(&query);
            let bytes = write(&query, &Answer { answers, ..Answer::default() }, shape(limit));
            prop_assert!(bytes.len() <= limit);
            let message = Message::from_vec(&bytes).unwrap();
            prop_assert_eq!(message.metadata.truncation, message.answers.len() < count as usize);
        }
    }
}
