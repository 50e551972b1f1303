//! The command line and the configuration file: flags with the names, units and defaults of k3s.
//!
//! Invariants: a key of the configuration file is the name of a flag and means the same; the command line wins; what is
//! unknown or out of range is an error that names it and the right form. Nothing is started here.

mod api_args;
mod certificate_flags;
mod config_file;
mod flags;
mod place;
mod store_flags;
mod token_command;
mod token_settings;
mod values;

pub use api_args::{ApiServerArgs, AuditArgs, AuthenticationArgs, AuthorizationArgs, OidcArgs, TokenWebhookArgs};
pub use certificate_flags::{CertificateCommand, CertificateFlags, ServiceFlags};
pub use config_file::{ConfigFileError, expand};
pub use flags::{Command, Kedge, ServerFlags, default_data_dir};
pub use place::PlaceError;
pub use store_flags::{
    DataDirFlag, DatastoreFlags, EtcdSnapshotCommand, EtcdSnapshotFlags, SecretsEncryptCommand, SecretsEncryptFlags,
    ServerAccessFlags, StoreCommand, StoreFlags, TokenFlags,
};
pub use token_command::{TokenCommand, TokenCommandFlags};
pub use token_settings::TokenArgs;
pub use values::{FileMode, PodCidr, PortRange, ServiceCidrs};
