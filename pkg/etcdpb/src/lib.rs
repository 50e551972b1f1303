//! Layer 0: the gRPC bindings of etcd v3, for the client in `kv` and the server in `etcdapi`.
//!
//! Invariant: only what is on the wire; no policy, no connection. `bytes` fields are [`bytes::Bytes`], so that keys and
//! values are views of the message that brought them.

/// Keys and events.
#[allow(clippy::all, clippy::disallowed_methods, rust_2018_idioms, unused_qualifications)]
#[path = "generated/mvccpb.rs"]
pub mod mvccpb;

/// Requests, answers and services.
#[allow(clippy::all, clippy::disallowed_methods, rust_2018_idioms, unused_qualifications)]
#[path = "generated/etcdserverpb.rs"]
pub mod etcdserverpb;
