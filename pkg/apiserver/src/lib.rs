//! Layer 4: the Kubernetes REST API over the registry.
//!
//! [`chain`] is the way of a request, as one function; [`verbs`] has one file a verb, [`subresources`] one file a
//! subresource with a behaviour of its own. Remote clients come in through [`serve`], components of this process
//! through [`ApiServer::handle`] with their identity.
//!
//! Invariants: every request passes the whole chain; a failure is a `metav1.Status`; GET, LIST and WATCH of stored
//! versions copy stored bytes and build no trees.

mod admit;
mod backends;
mod body;
mod chain;
mod deprecation;
mod discovery;
mod documents;
mod drain;
mod health;
mod impersonation;
mod input;
mod keep_alive;
mod limits;
mod listing;
mod metrics;
mod output;
mod presentation;
mod reviews;
pub mod serve;
mod server;
mod subresources;
mod verbs;

pub use backends::{Connection, Dialer, DirectDialer, KubeletAccess};
pub use body::{Body, BodyError, BoxError};
pub use health::Readiness;
pub use input::request_info::RequestInfo;
pub use server::{ApiServer, Config, OwnPaths, Peer};
