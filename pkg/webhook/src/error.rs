//! Why a call failed, in upstream's words.

use std::io;

use kedge_base::net::go_text;
use kedge_meta::Status;

use crate::config::ConfigError;

/// Why nobody can be found who serves a service, in the words that the client is to see.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unresolved(pub String);

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nobody can be called with such a configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// No answer came.
    #[error("Post {url:?}: {why}")]
    Unanswered {
        url: String,
        #[source]
        why: Failure,
    },
    /// It answered that it failed.
    #[error("{0}")]
    Refused(#[source] Box<Status>),
    /// It answered nothing.
    #[error("0-length response with status code: {code} and content type: {content_type}")]
    Empty { code: u16, content_type: String },
}

impl CallError {
    /// The code of the answer; that of a service that is not there if none came.
    pub fn code(&self) -> u16 {
        match self {
            Self::Refused(status) => status.code,
            Self::Config(_) => 500,
            Self::Unanswered { .. } | Self::Empty { .. } => 503,
        }
    }
}

/// Why no answer came.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("{0}")]
    Unresolved(#[source] Unresolved),
    #[error("{}", go_text(.0, .1))]
    Dial(String, #[source] io::Error),
    /// As Go says it.
    #[error("{0}")]
    Handshake(String),
    #[error("context deadline exceeded")]
    Deadline,
    #[error("EOF")]
    Eof,
    #[error("http: request body too large")]
    TooLarge,
    #[error("all connections to servers of that kind are in use")]
    Full,
    #[error("{0}")]
    Http(String),
}
