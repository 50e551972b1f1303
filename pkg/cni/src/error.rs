//! Errors as CNI reports them: a code, a message, and on standard output as JSON.
//!
//! Invariant: codes below 100 have the meaning that the CNI specification gives them.

use serde_json::{Value, json};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CniError {
    /// The configuration asks for a version this plug-in does not speak.
    #[error("CNI version {0:?} is not supported")]
    IncompatibleVersion(String),
    /// A needed environment variable is missing or malformed.
    #[error("environment variable {name} {problem}")]
    Environment {
        /// Which.
        name: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// Reading or writing failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done, to what.
        what: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The configuration is no JSON, or not of the right shape.
    #[error("cannot decode the network configuration: {0}")]
    Decode(String),
    /// The configuration can be read but not be meant.
    #[error("invalid network configuration: {0}")]
    Config(String),
    /// The plug-in cannot serve ADD now.
    #[error("not available: {0}")]
    NotAvailable(String),
    /// No address is left.
    #[error("no free address in {0}")]
    Exhausted(String),
    /// Another pod of this node has the host port.
    #[error("host port {port} is in use by {owner}")]
    HostPort {
        /// Protocol and port.
        port: String,
        /// The other container.
        owner: String,
    },
    /// The kernel refused a change of interfaces, addresses or routes.
    #[error("{what}: {message}")]
    Netlink {
        /// What was being done, to what.
        what: String,
        /// What the kernel said.
        message: String,
    },
    /// The packet filter refused.
    #[error("{what}: {source}")]
    Nft {
        /// What was being done.
        what: &'static str,
        /// Why it failed.
        source: kedge_nft::NftError,
    },
    /// CHECK found something other than ADD made.
    #[error("check failed: {0}")]
    Check(String),
}

impl CniError {
    /// The code in the CNI error object.
    pub fn code(&self) -> u32 {
        match self {
            Self::IncompatibleVersion(_) => 1,
            Self::Environment { .. } => 4,
            Self::Io { .. } => 5,
            Self::Decode(_) => 6,
            Self::Config(_) => 7,
            Self::NotAvailable(_) => 50,
            Self::Exhausted(_) => 100,
            Self::HostPort { .. } => 101,
            Self::Netlink { .. } => 102,
            Self::Nft { .. } => 103,
            Self::Check(_) => 104,
        }
    }

    /// The CNI error object.
    pub fn to_json(&self, cni_version: &str) -> Value {
        json!({"cniVersion": cni_version, "code": self.code(), "msg": self.to_string(), "details": self.details()})
    }

    fn details(&self) -> String {
        std::error::Error::source(self).map(ToString::to_string).unwrap_or_default()
    }

    /// Shapes an I/O error: what was being done, then what the system said.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
