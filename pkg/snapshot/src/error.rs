//! What can go wrong with a snapshot.

/// A snapshot that cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read the snapshot: {0}")]
    Read(#[source] std::io::Error),
    #[error("cannot write the snapshot: {0}")]
    Write(#[source] std::io::Error),
    /// The file does not end in a checksum: it was cut off, or copied out of a data directory.
    #[error("the snapshot has no checksum at its end: it was cut off, or is no snapshot")]
    NoChecksum,
    #[error("the snapshot's checksum does not fit its content: the file is damaged")]
    Checksum,
    #[error("the snapshot is damaged: {0}")]
    Damaged(String),
}
