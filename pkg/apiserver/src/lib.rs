//! Layer 4: the Kubernetes REST API over the registry.
//!
//! [`chain`] is the way of a request, as one function; [`verbs`] has one file a verb, [`subresources`] one file a
//! subresource with a behaviour of its own. Remote clients come in through [`serve`], components of this process
//! through [`ApiServer::handle`] with their identity.
//!
//! # Layers
//!
//! A module knows those on the lines below its own, and none beside or above it (`cargo xtask tidy` looks).
//!
//! 1. `serve`: connections
//! 2. `chain`: the way of a request
//! 3. `routing`, `impersonation`, `presentation`: its stations
//! 4. `verbs`, `subresources`, `reviews`, `resource_metrics`, `discovery`, `aggregation`: handlers
//! 5. `kubelets`: where they are
//! 6. `admit`, `objects`, `listing`, `documents`, `health`, `metrics`, `zpages`: what handlers share
//! 7. `output`, `authorization`, `deprecation`: what is said to a client
//! 8. `admitted`, `server`: what a handler gets
//! 9. `limits`: how much at a time
//! 10. `access_meters`, `auditing`, `backends`, `drain`, `failures`, `fairness`, `indicators`, `meters`, `readiness`: what the server is made of
//! 11. `input`: what a request says
//! 12. `body`: bytes
//!
//! Invariants: every request passes the whole chain; a failure is a `metav1.Status`; GET, LIST and WATCH of stored
//! versions copy stored bytes and build no trees.

mod access_meters;
mod admit;
mod admitted;
mod aggregation;
mod auditing;
mod authorization;
mod backends;
mod body;
mod chain;
mod deprecation;
mod discovery;
mod documents;
mod drain;
mod failures;
mod fairness;
mod health;
mod impersonation;
mod indicators;
mod input;
mod kubelets;
mod limits;
mod listing;
mod meters;
mod metrics;
mod objects;
mod output;
mod presentation;
mod readiness;
mod resource_metrics;
mod reviews;
mod routing;
pub mod serve;
mod server;
mod subresources;
mod verbs;
mod zpages;

pub use auditing::Auditing;
pub use backends::KubeletAccess;
pub use body::{Body, BodyError, BoxError};
pub use input::request_info::RequestInfo;
pub use limits::InFlight;
pub use readiness::Readiness;
pub use server::{ApiServer, Config, OwnPaths, Peer, UsedTokens};
