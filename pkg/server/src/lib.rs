//! Layer 6: the control plane, put together: store, API server, controllers, scheduler.
//!
//! Invariants: the store is open before anything serves; the port answers before controllers start; everything stops in
//! the reverse order, the store last, so that no acknowledged write is lost.

mod api;
mod auditing;
mod authority_rotation;
mod authorization;
mod bootstrap;
mod claims;
pub mod commands;
mod config;
mod default_service_cidr;
mod encryption;
mod endpoints;
mod error;
mod etcd_api;
mod hooks;
mod identity;
mod image_policy;
mod inprocess;
mod issuers;
mod kubeconfig;
mod local_storage;
mod own_paths;
mod policy;
mod reloading;
mod renewal;
mod reviewers;
mod roles;
mod secret_tokens;
mod snapshots;
mod start;
mod token;
mod token_rotation;

pub use auditing::{AuditConfig, Batching};
pub use authorization::AuthorizationConfig;
pub use config::{
    AdmissionPlugins, ControllerSettings, ControllerSettingsError, InFlight, ServerConfig, SnapshotSettings,
    TokenSettings,
};
pub use encryption::{Action, EncryptionStatus};
pub use error::Error;
pub use issuers::{AuthenticationConfig, OidcConfig, TokenWebhookConfig};
pub use kedge_datastore::{Endpoint, Tls};
pub use start::Server;
