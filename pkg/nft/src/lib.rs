//! The nftables transaction: everything Kedge does to the packet filter goes through [`Nft`].
//!
//! Invariant: one call of [`Nft::apply`] is one kernel transaction. Either the whole script is in
//! force afterwards or nothing of it is, so no packet ever sees half a ruleset.
//!
//! Deliberately absent: a model of rules. Callers render nft text themselves, because the text is
//! what people read in `nft list ruleset` when they look for a fault.

mod command;
mod recording;

pub use command::NftCommand;
pub use recording::RecordingNft;

use async_trait::async_trait;

/// The longest script that is handed to the kernel at once, in bytes.
///
/// Ten thousand services with three endpoints each render to about 5 MiB.
pub const MAX_SCRIPT_BYTES: usize = 64 << 20;

/// The longest listing that is read back, in bytes.
pub const MAX_OUTPUT_BYTES: usize = 64 << 20;

/// The packet filter of one network namespace.
#[async_trait]
pub trait Nft: Send + Sync + 'static {
    /// Runs `script` (nft syntax, as `nft -f -` takes it) as one atomic transaction.
    async fn apply(&self, script: &str) -> Result<(), NftError>;

    /// The table as nft text, or `None` when there is no such table.
    ///
    /// `family` is nft's word for it: `ip`, `ip6` or `inet`.
    async fn list_table(&self, family: &str, table: &str) -> Result<Option<String>, NftError>;

    /// The table as libnftables JSON text, or `None` when there is no such table.
    async fn list_json(&self, family: &str, table: &str) -> Result<Option<String>, NftError>;

    /// Removes the table and everything in it; a table that is not there is no error.
    async fn delete_table(&self, family: &str, table: &str) -> Result<(), NftError> {
        // Adding first makes the deletion succeed whether or not the table exists.
        self.apply(&format!("add table {family} {table}\ndelete table {family} {table}\n")).await
    }
}

/// Why the packet filter could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// The `nft` program is not installed.
    #[error("{program} was not found: install the package `nftables`")]
    NotInstalled {
        /// The program that was looked for.
        program: String,
    },
    /// The program could not be started or talked to.
    #[error("cannot run {program}: {source}")]
    Io {
        /// The program that was run.
        program: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The kernel or nft refused the script; nothing of it is in force.
    #[error("nft refused the transaction ({status}): {message}")]
    Rejected {
        /// The exit status, as text.
        status: String,
        /// The beginning of what nft wrote to standard error.
        message: String,
    },
    /// The program did not end in time and was killed.
    #[error("nft did not finish within {seconds} s")]
    Timeout {
        /// The limit that was exceeded.
        seconds: u64,
    },
    /// A script or a listing is longer than the limit.
    #[error("nft {what} is longer than {limit} bytes")]
    TooLarge {
        /// Which text was too long: "script" or "output".
        what: &'static str,
        /// The limit in bytes.
        limit: usize,
    },
}

impl NftError {
    /// Whether the kernel says that something the script names is missing.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Rejected { message, .. } if message.contains("No such file or directory"))
    }
}
