//! Layer 4: the only way in which components reach the API.
//!
//! A [`Client`] speaks plain Kubernetes REST over a [`Transport`]: in-process into the API server's handler chain, or
//! HTTPS to any API server. On it stand shared slim informers, work queues and event recording.
//! Invariant: nothing here knows whose API server it is; whatever works in-process works against upstream.

mod client;
mod discovery;
mod error;
mod events;
mod informer;
mod kubeconfig;
mod leader;
mod objects;
mod transport;
mod watch;
mod workqueue;
mod workqueue_meters;

pub use client::{Client, DeleteOptions, List, ListParams, Patch, Preconditions};
pub use discovery::{Discovered, Discovery, Found};
pub use error::Error;
pub use events::{EventRecorder, EventType};
pub use informer::{Change, Informer, Keyed};
pub use kubeconfig::{ClusterAccess, KubeconfigError};
pub use leader::Candidate;
pub use transport::{Body, BoxError, HttpsTransport, Transport};
pub use watch::{WatchEvent, WatchStream};
pub use workqueue::{WorkQueue, run_workers};
