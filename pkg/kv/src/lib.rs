//! Layer 1: a revisioned key-value store with the contract of etcd.
//!
//! One counter, the revision, numbers all transactions and never goes back. Reads see a state at one revision; a
//! transaction judges conditions and then reads and writes; observers get every committed event once and in order, *before*
//! the writer gets its answer. Nothing is answered before it is durable, unless it was asked for so.
//!
//! The crate carries bytes and knows nothing of Kubernetes.

mod api;
mod check;
mod embedded;
mod error;
mod etcd;
pub mod files;
mod lease_reuse;
mod lock;

pub use api::{
    Compare, Durability, Event, KeyRange, KeyValue, Kv, Lease, LeaseId, LeaseStatus, Observer, Op, OpResult, Order,
    Range, RangeResult, Snapshot, Target, Txn, TxnResult,
};
pub use check::MAX_OPS;
pub use embedded::{Contents, Embedded, Found, History, LOW_SPACE, Options, Summary, inspect};
pub use error::Error;
pub use etcd::{Etcd, EtcdOptions};
pub use lease_reuse::LeaseReuse;
