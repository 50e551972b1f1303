//! Messages of DNS: those that anybody sends to us, and those that a server answers with.

use kedge_dns::answer::{Answer, Shape, refusal, udp_limit, write};
use kedge_dns::query::{Query, Rcode, Unreadable};
use kedge_dns::response::{addresses, summarize};

/// A query and its answer, whose question is the one that was asked.
pub fn query(data: &[u8]) {
    match Query::read(data) {
        Ok(query) => {
            for rcode in [Rcode::NoError, Rcode::NxDomain, Rcode::Refused] {
                let limit = udp_limit(&query);
                let shape = Shape { rcode, authoritative: true, limit };
                let answer = write(&query, &Answer::default(), shape);
                assert!(answer.len() <= limit && answer[..2] == query.id.to_be_bytes());
                // An answer is never taken for a query, which would make a loop of two servers.
                assert_eq!(Query::read(&answer).err(), Some(Unreadable::Ignore));
                if query.qclass == 1 {
                    let summary = summarize(&answer, query.id, &query.name, query.qtype);
                    assert_eq!(summary.map(|summary| summary.rcode), Some(rcode.number()));
                }
            }
        }
        Err(Unreadable::Refuse { id, rcode }) => {
            assert_eq!(Query::read(&refusal(id, rcode)).err(), Some(Unreadable::Ignore));
        }
        Err(Unreadable::Ignore) => {}
    }
}

/// An answer of another server to the question that it repeats.
pub fn answer(data: &[u8]) {
    let Some(id) = data.first_chunk().map(|id| u16::from_be_bytes(*id)) else { return };
    // The question is where a query has it.
    let mut asked = data.to_vec();
    for byte in asked.iter_mut().take(12).skip(2) {
        *byte = 0;
    }
    if let Some(count) = asked.get_mut(5) {
        *count = 1;
    }
    let Ok(query) = Query::read(&asked) else { return };
    let Some(summary) = summarize(data, id, &query.name, query.qtype) else { return };
    assert!(summary.question_end <= data.len());
    assert!(
        summary.ttls.iter().all(|at| at + 4 <= data.len() && *at >= summary.question_end),
        "lifetimes are in the message"
    );
    let lifetimes = summary.ttls.iter().map(|at| u32::from_be_bytes(data[*at..at + 4].try_into().expect("four bytes")));
    assert!(lifetimes.min() >= summary.lifetime, "an answer is kept no longer than any of its records");
    if let Some(records) = addresses(data) {
        assert!(records.len() <= summary.ttls.len());
    }
}
