//! What can go wrong with certificates.

use std::path::PathBuf;

/// A failed operation on certificates or keys.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot {action} {path}")]
    Io { action: &'static str, path: PathBuf, source: std::io::Error },
    #[error("{path} is not usable: {what}")]
    Parse { path: PathBuf, what: String },
    #[error("cannot make a certificate: {0}")]
    Generate(#[from] rcgen::Error),
}
