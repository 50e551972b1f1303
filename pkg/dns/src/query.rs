//! Reading a query.
//!
//! Invariant: whatever the bytes are, reading ends, allocates no more than a name, and says either
//! what is asked, how to refuse it, or that it deserves no answer.

use crate::name::Name;

/// Record types and codes, as far as they are treated by name.
pub mod code {
    /// An IPv4 address.
    pub const A: u16 = 1;
    /// The name server of a zone.
    pub const NS: u16 = 2;
    /// Another name.
    pub const CNAME: u16 = 5;
    /// The zone itself.
    pub const SOA: u16 = 6;
    /// The name of an address.
    pub const PTR: u16 = 12;
    /// Text.
    pub const TXT: u16 = 16;
    /// An IPv6 address.
    pub const AAAA: u16 = 28;
    /// A service.
    pub const SRV: u16 = 33;
    /// The pseudo record of EDNS.
    pub const OPT: u16 = 41;
    /// Asks for a zone transfer.
    pub const IXFR: u16 = 251;
    /// Asks for a zone transfer.
    pub const AXFR: u16 = 252;
    /// Asks for all types.
    pub const ANY: u16 = 255;
    /// The class of the Internet.
    pub const IN: u16 = 1;
}

/// The result of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rcode {
    /// Answered, perhaps with nothing of that type.
    NoError,
    /// The query is malformed.
    FormErr,
    /// It cannot be answered now.
    ServFail,
    /// There is no such name.
    NxDomain,
    /// Queries of this kind are not served.
    NotImp,
    /// This is not served to anybody.
    Refused,
    /// The EDNS version is not known.
    BadVers,
}

impl Rcode {
    /// The number; what is above 15 goes into the OPT record.
    pub fn number(self) -> u16 {
        match self {
            Self::NoError => 0,
            Self::FormErr => 1,
            Self::ServFail => 2,
            Self::NxDomain => 3,
            Self::NotImp => 4,
            Self::Refused => 5,
            Self::BadVers => 16,
        }
    }
}

/// What a client says with EDNS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edns {
    /// The longest UDP answer it takes, in bytes.
    pub payload: u16,
    /// Whether it wants DNSSEC records.
    pub dnssec_ok: bool,
}

/// A question with what matters of the message around it.
#[derive(Debug, Clone)]
pub struct Query {
    /// Repeated in the answer.
    pub id: u16,
    /// Whether others may be asked.
    pub recursion_desired: bool,
    /// Whether DNSSEC is checked by the client itself.
    pub checking_disabled: bool,
    /// The name, in the client's spelling.
    pub name: Name,
    /// The record type.
    pub qtype: u16,
    /// The class.
    pub qclass: u16,
    /// Absent for clients without EDNS.
    pub edns: Option<Edns>,
}

/// Why there is no [`Query`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unreadable {
    /// To be ignored: too short, or itself an answer. Answering answers makes loops.
    Ignore,
    /// To be refused with this code, and without a question.
    Refuse {
        /// Repeated in the answer.
        id: u16,
        /// Why.
        rcode: Rcode,
    },
}

impl Query {
    /// Reads a message.
    ///
    /// # Errors
    /// [`Unreadable`], which says what to do instead of answering.
    pub fn read(bytes: &[u8]) -> Result<Self, Unreadable> {
        let header = bytes.first_chunk::<12>().ok_or(Unreadable::Ignore)?;
        let field = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let (id, flags) = (field(0), field(2));
        if flags & 0x8000 != 0 {
            return Err(Unreadable::Ignore);
        }
        let refuse = |rcode| Unreadable::Refuse { id, rcode };
        if flags & 0x7800 != 0 {
            return Err(refuse(Rcode::NotImp));
        }
        let malformed = || refuse(Rcode::FormErr);
        if (field(4), field(6), field(8)) != (1, 0, 0) {
            return Err(malformed());
        }
        let (name, rest) = Name::read(&bytes[12..]).ok_or_else(malformed)?;
        let (fixed, rest) = rest.split_first_chunk::<4>().ok_or_else(malformed)?;
        let (edns, version) = read_edns(rest, field(10)).ok_or_else(malformed)?;
        if version != 0 {
            return Err(refuse(Rcode::BadVers));
        }
        Ok(Self {
            id,
            recursion_desired: flags & 0x0100 != 0,
            checking_disabled: flags & 0x0010 != 0,
            name,
            qtype: u16::from_be_bytes([fixed[0], fixed[1]]),
            qclass: u16::from_be_bytes([fixed[2], fixed[3]]),
            edns,
        })
    }
}

/// Looks for the OPT record among `count` additional ones; `None` when they are malformed.
fn read_edns(mut rest: &[u8], count: u16) -> Option<(Option<Edns>, u8)> {
    let mut found = None;
    for _ in 0..count {
        let (name, after) = Name::read(rest)?;
        let (fixed, after) = after.split_first_chunk::<10>()?;
        let length = usize::from(u16::from_be_bytes([fixed[8], fixed[9]]));
        rest = after.split_at_checked(length)?.1;
        if u16::from_be_bytes([fixed[0], fixed[1]]) != code::OPT {
            continue;
        }
        if found.is_some() || name != Name::root() {
            return None;
        }
        let payload = u16::from_be_bytes([fixed[2], fixed[3]]).max(512);
        let edns = Edns { payload, dnssec_ok: fixed[6] & 0x80 != 0 };
        found = Some((Some(edns), fixed[5]));
    }
    Some(found.unwrap_or((None, 0)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use hickory_proto::op::{Edns as HEdns, Message, MessageType, OpCode, Query as HQuery};
    use hickory_proto::rr::{Name as HName, RecordType};
    use proptest::prelude::*;

    fn message(name: &str) -> Message {
        let mut message = Message::new(7, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(HQuery::query(HName::from_ascii(name).unwrap(), RecordType::AAAA));
        message
    }

    #[test]
    fn a_query_of_another_implementation_is_understood() {
        let mut message = message("Web.Default.svc.cluster.local.");
        let query = Query::read(&message.to_vec().unwrap()).unwrap();
        assert_eq!(query.name.to_string(), "Web.Default.svc.cluster.local.");
        assert_eq!((query.id, query.qtype, query.qclass), (7, code::AAAA, code::IN));
        assert!(query.recursion_desired && query.edns.is_none());
        let mut edns = HEdns::new();
        edns.set_max_payload(1232).set_dnssec_ok(true);
        message.set_edns(edns);
        let query = Query::read(&message.to_vec().unwrap()).unwrap();
        assert_eq!(query.edns, Some(Edns { payload: 1232, dnssec_ok: true }));
    }

    #[test]
    fn answers_are_ignored_and_other_faults_refused() {
        let good = message("a.").to_vec().unwrap();
        let with = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            Query::read(&bytes).unwrap_err()
        };
        assert_eq!(with(2, 0x80), Unreadable::Ignore);
        assert_eq!(with(2, 0x28), Unreadable::Refuse { id: 7, rcode: Rcode::NotImp });
        assert_eq!(with(5, 2), Unreadable::Refuse { id: 7, rcode: Rcode::FormErr });
        assert_eq!(with(12, 0xc0), Unreadable::Refuse { id: 7, rcode: Rcode::FormErr });
        assert_eq!(with(11, 1), Unreadable::Refuse { id: 7, rcode: Rcode::FormErr });
        let mut newer = message("a.");
        let mut edns = HEdns::new();
        edns.set_version(1);
        newer.set_edns(edns);
        let refused = Query::read(&newer.to_vec().unwrap()).unwrap_err();
        assert_eq!(refused, Unreadable::Refuse { id: 7, rcode: Rcode::BadVers });
        assert_eq!(Query::read(b"short").unwrap_err(), Unreadable::Ignore);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = Query::read(&bytes);
        }

        #[test]
        fn no_mutation_of_a_query_makes_it_panic(at in 0_usize..60, byte in any::<u8>(), cut in 0_usize..60) {
            let mut message = message("web.default.svc.cluster.local.");
            message.set_edns(HEdns::new());
            let mut bytes = message.to_vec().unwrap();
            let length = bytes.len();
            bytes[at % length] = byte;
            bytes.truncate(length - cut % length);
            let _ = Query::read(&bytes);
        }
    }
}
