//! Layer 1: a revisioned key-value store with the contract of etcd.
//!
//! One counter, the revision, numbers all transactions and never goes back. Reads see a state at one revision; a
//! transaction compares a key's modification revision and then writes; observers get every committed event once and in
//! order, *before* the writer gets its answer. Nothing is answered before it is durable.
//!
//! The crate carries bytes and knows nothing of Kubernetes.

mod api;
mod embedded;
mod error;
mod etcd;
pub mod files;

pub use api::{
    Compare, Durability, Event, KeyRange, KeyValue, Kv, Lease, LeaseId, LeaseStatus, Observer, Op, OpResult, Order,
    Range, RangeResult, Snapshot, Target, Txn, TxnResult,
};
pub use embedded::{Embedded, Options};
pub use error::Error;
pub use etcd::{Etcd, EtcdOptions};
