//! What can go wrong with certificates.

use std::path::PathBuf;

/// A failed operation on certificates or keys.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot {action} {path}")]
    Io { action: &'static str, path: PathBuf, source: std::io::Error },
    #[error("{path} is not usable: {what}")]
    Parse { path: PathBuf, what: String },
    #[error(
        "{path} is not the cluster's: the store that this server shares with others holds another one; use a data directory of its own, or move {path} and the files beside it away"
    )]
    Differs { path: PathBuf },
    #[error("cannot make a certificate: {0}")]
    Generate(#[from] rcgen::Error),
}
