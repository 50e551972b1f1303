//! Layer 2: calls to webhooks, whoever makes them: admission, conversion of custom resources, authentication, authorization; and requests to
//! servers behind services.
//!
//! A [`ClientConfig`] says where a webhook is and whom to trust; a [`Caller`] posts JSON there and hands back the answer. What the
//! JSON says is the business of whoever calls.
//!
//! Invariants: a call ends within its time, which covers name, connection, handshake and the whole answer; connections, clients and
//! the size of an answer are bounded; nobody's certificate is taken on trust; why a call failed is said in upstream's words.

mod answer;
mod caller;
mod config;
mod connect;
mod error;
mod tls;
mod trust;

pub use caller::{Caller, Outgoing, Settings};
pub use config::{ClientConfig, ConfigError, Target};
pub use error::{CallError, Failure, Unresolved};
pub use tls::Identity;
pub use trust::AnyCertificate;

/// Finds out where a service is.
pub trait Services: Send + Sync {
    /// `host:port` of one of those who serve a port of a service.
    ///
    /// # Errors
    /// When there is no such service or port, or nobody serves it.
    fn resolve(&self, namespace: &str, name: &str, port: u16) -> Result<String, Unresolved>;
}
