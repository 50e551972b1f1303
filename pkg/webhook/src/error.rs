//! Why a call failed, in upstream's words.

use std::io;

use kedge_base::net::go_text;
use kedge_meta::{Reason, Status};

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

    /// Whether the same call may go well a little later, as upstream sees it when it asks about users: who is broken, busy or late is
    /// asked again, who is not there is not.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Config(_) | Self::Empty { .. } => false,
            Self::Unanswered { why, .. } => why.to_string().ends_with(RESET),
            Self::Refused(status) => {
                let passing = [Reason::InternalError, Reason::Timeout, Reason::TooManyRequests, Reason::ServerTimeout];
                let later = status.details.as_ref().is_some_and(|details| details.retry_after_seconds > 0);
                passing.contains(&status.reason) || status.code == 429 || later
            }
        }
    }

    /// Whether time ran out.
    pub fn is_timeout(&self) -> bool {
        match self {
            Self::Unanswered { why: Failure::Deadline, .. } => true,
            Self::Refused(status) => status.reason == Reason::Timeout || status.code == 504,
            _ => false,
        }
    }
}

/// How Go calls it when the other side drops a connection.
const RESET: &str = "connection reset by peer";

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_broken_or_busy_is_asked_again_and_who_is_not_there_is_not() {
        let refused = |code, reason| CallError::Refused(Box::new(Status::failure(code, reason, "")));
        let silent = |why| CallError::Unanswered { url: String::new(), why };
        assert!(
            refused(500, Reason::InternalError).is_transient() && refused(429, Reason::TooManyRequests).is_transient()
        );
        assert!(refused(504, Reason::Timeout).is_transient() && refused(504, Reason::Timeout).is_timeout());
        assert!(silent(Failure::Handshake("read: connection reset by peer".into())).is_transient());
        assert!(!refused(403, Reason::Forbidden).is_transient() && !silent(Failure::Eof).is_transient());
        assert!(!silent(Failure::Deadline).is_transient() && silent(Failure::Deadline).is_timeout());
    }
}
