//! What etcd's refusals mean.

use std::error::Error as _;

use tonic::{Code, Status};

use super::dial::DialError;
use crate::check::{MAX_OPS, MAX_REQUEST};
use crate::error::Error;

/// What a request was about, for the errors that name it.
#[derive(Debug, Clone, Default)]
pub(super) struct Subject {
    pub revision: u64,
    /// The newest revision that this handle has seen.
    pub current: u64,
    pub lease: i64,
    pub ttl: u64,
    pub size: usize,
    pub ops: usize,
    pub key: String,
}

/// What to do about a refusal.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It is the answer.
    Final(Error),
    /// The token is no longer good; nothing happened.
    Reauthenticate(String),
    /// This member cannot answer, another one may. `sent`: the request may have been carried out.
    Elsewhere { what: String, sent: bool },
}

/// Judges a refusal by its text, which is part of etcd's API, and else by its code.
pub(super) fn judge(status: &Status, subject: &Subject) -> Verdict {
    if let Some(dial) = dial_error(status) {
        return Verdict::Elsewhere { what: dial.to_string(), sent: false };
    }
    let text = status.message();
    match by_text(text, subject) {
        Some(verdict) => verdict,
        None => by_code(status.code(), &with_cause(status), subject),
    }
}

/// The message, and what it comes from: of a connection that was refused the library says only "transport error".
fn with_cause(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut source = status.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        source = error.source();
    }
    text
}

fn dial_error(status: &Status) -> Option<&DialError> {
    let mut source = status.source();
    while let Some(error) = source {
        if let Some(dial) = error.downcast_ref::<DialError>() {
            return Some(dial);
        }
        source = error.source();
    }
    None
}

fn by_text(text: &str, subject: &Subject) -> Option<Verdict> {
    let elsewhere = |sent| Verdict::Elsewhere { what: text.to_owned(), sent };
    let error = match text.strip_prefix("etcdserver: ")? {
        "mvcc: required revision has been compacted" => {
            // etcd does not say what is left; it is newer than what was asked for.
            Error::Compacted { requested: subject.revision, compacted: subject.revision + 1 }
        }
        "mvcc: required revision is a future revision" => {
            Error::FutureRevision { requested: subject.revision, current: subject.current }
        }
        "mvcc: database space exceeded" => Error::NoSpace(text.to_owned()),
        "requested lease not found" => Error::LeaseNotFound(subject.lease),
        "lease already exists" => Error::LeaseExists(subject.lease),
        "too large lease TTL" => Error::LeaseTtl(subject.ttl),
        "duplicate key given in txn request" => Error::DuplicateKey(subject.key.clone()),
        "too many operations in txn request" => Error::TooManyOps { count: subject.ops, limit: MAX_OPS },
        "request is too large" => Error::TooLarge { what: "a request", size: subject.size, limit: MAX_REQUEST },
        "key is not provided" => Error::EmptyKey,
        "invalid auth token" | "revision of auth store is old" | "user name is empty" => {
            return Some(Verdict::Reauthenticate(text.to_owned()));
        }
        "permission denied" | "authentication failed, invalid user ID or password" => {
            Error::Unauthenticated(text.to_owned())
        }
        // These are said before a request is proposed.
        "no leader" | "too many requests" | "rpc not supported for learner" => {
            return Some(elsewhere(false));
        }
        // These are said while its outcome is open.
        "not leader" | "leader changed" | "server stopped" => return Some(elsewhere(true)),
        timed_out if timed_out.starts_with("request timed out") => return Some(elsewhere(true)),
        _ => return None,
    };
    Some(Verdict::Final(error))
}

fn by_code(code: Code, text: &str, subject: &Subject) -> Verdict {
    let what = if text.is_empty() { code.to_string() } else { text.to_owned() };
    match code {
        Code::ResourceExhausted if text.contains("message larger than max") => {
            Verdict::Final(Error::TooLarge { what: "a request", size: subject.size, limit: MAX_REQUEST })
        }
        Code::Unauthenticated | Code::PermissionDenied => Verdict::Final(Error::Unauthenticated(what)),
        Code::Unavailable
        | Code::DeadlineExceeded
        | Code::Cancelled
        | Code::Unknown
        | Code::Internal
        | Code::Aborted
        | Code::ResourceExhausted => Verdict::Elsewhere { what, sent: true },
        _ => Verdict::Final(Error::Protocol(what)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic)]
    use super::*;

    #[test]
    fn only_what_may_have_happened_counts_as_sent() {
        let sent = |code, text: &str| match judge(&Status::new(code, text), &Subject::default()) {
            Verdict::Elsewhere { sent, .. } => sent,
            other => panic!("{text}: {other:?}"),
        };
        assert!(!sent(Code::Unavailable, "etcdserver: no leader"));
        assert!(!sent(Code::ResourceExhausted, "etcdserver: too many requests"));
        assert!(sent(Code::Unavailable, "etcdserver: leader changed"));
        assert!(sent(Code::Unavailable, "etcdserver: request timed out, possibly due to connection lost"));
        assert!(sent(Code::Unknown, "h2 protocol error: error reading a body from connection"));
    }

    #[test]
    fn refusals_become_errors_of_the_store() {
        let subject = Subject { revision: 7, lease: 3, ..Subject::default() };
        let error = |code, text: &str| match judge(&Status::new(code, text), &subject) {
            Verdict::Final(error) => error,
            other => panic!("{text}: {other:?}"),
        };
        let compacted = error(Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted");
        assert!(matches!(compacted, Error::Compacted { requested: 7, compacted: 8 }));
        let lease = error(Code::NotFound, "etcdserver: requested lease not found");
        assert!(matches!(lease, Error::LeaseNotFound(3)));
        let full = error(Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded");
        assert!(matches!(full, Error::NoSpace(_)) && full.is_retriable());
        let denied = error(Code::PermissionDenied, "etcdserver: permission denied");
        assert!(matches!(denied, Error::Unauthenticated(_)));
        assert!(matches!(error(Code::Unimplemented, "unknown method X"), Error::Protocol(_)));
    }
}
