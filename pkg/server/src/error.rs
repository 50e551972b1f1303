//! Why a server could not start.

use std::net::SocketAddr;
use std::path::PathBuf;

/// A failed start. The text says what to do where that is known.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot use the data directory {path}: {source}; choose another one with --data-dir")]
    DataDir { path: PathBuf, source: std::io::Error },
    #[error(
        "cannot listen on {address}: {source}; stop what uses the port or choose another one with --https-listen-port"
    )]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error(transparent)]
    Store(#[from] kedge_kv::Error),
    #[error(transparent)]
    Storage(#[from] kedge_storage::Error),
    #[error(transparent)]
    Certificates(#[from] kedge_certs::Error),
    #[error("cannot set up authentication: {0}")]
    Authentication(String),
    #[error("cannot set up TLS: {0}")]
    Tls(String),
    #[error("cannot create what a new cluster starts with ({what}): {source}")]
    Bootstrap { what: String, source: kedge_client::Error },
    #[error("a built-in manifest is damaged ({name}): {what}")]
    Manifest { name: String, what: String },
}
