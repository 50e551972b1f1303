//! Errors as etcd says them.

use kedge_kv::Error;
use tonic::{Code, Status};

pub(crate) const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";
pub(crate) const KEY_NOT_FOUND: &str = "etcdserver: key not found";
pub(crate) const VALUE_PROVIDED: &str = "etcdserver: value is provided";
pub(crate) const LEASE_PROVIDED: &str = "etcdserver: lease is provided";
pub(crate) const INVALID_SORT: &str = "etcdserver: invalid sort option";

/// An error of the store as etcd's status.
pub(crate) fn of(error: &Error) -> Status {
    let (code, text) = match error {
        Error::Compacted { .. } => (Code::OutOfRange, COMPACTED),
        Error::FutureRevision { .. } => (Code::OutOfRange, "etcdserver: mvcc: required revision is a future revision"),
        Error::TooLarge { .. } => (Code::InvalidArgument, "etcdserver: request is too large"),
        Error::TooManyOps { .. } => (Code::InvalidArgument, "etcdserver: too many operations in txn request"),
        Error::DuplicateKey(_) => (Code::InvalidArgument, "etcdserver: duplicate key given in txn request"),
        Error::EmptyKey => (Code::InvalidArgument, "etcdserver: key is not provided"),
        Error::LeaseNotFound(_) => (Code::NotFound, "etcdserver: requested lease not found"),
        Error::LeaseExists(_) => (Code::FailedPrecondition, "etcdserver: lease already exists"),
        Error::LeaseTtl(_) => (Code::OutOfRange, "etcdserver: too large lease TTL"),
        Error::NoSpace(_) => (Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded"),
        Error::Closed(_) => (Code::Unavailable, "etcdserver: server stopped"),
        other => return Status::unavailable(other.to_string()),
    };
    Status::new(code, text)
}

pub(crate) fn invalid(text: &'static str) -> Status {
    Status::invalid_argument(text)
}

/// What belongs to a cluster of several members, which this is not.
pub(crate) fn unimplemented(what: &str) -> Status {
    Status::unimplemented(format!("{what} is not implemented: the store has one member"))
}
