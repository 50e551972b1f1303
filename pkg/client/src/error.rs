//! What can go wrong with a request.

use kedge_meta::{Reason, Status};

use crate::transport::BoxError;

/// A failed request.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server answered with a failure.
    #[error("{0}")]
    Api(Box<Status>),
    /// The server was not reached, or the connection broke.
    #[error("cannot reach the API server")]
    Transport(#[source] BoxError),
    /// An object could not be read or written as JSON.
    #[error("cannot decode the API server's answer")]
    Decode(#[from] serde_json::Error),
    /// The answer is larger than a client accepts.
    #[error("the API server's answer exceeds {0} bytes")]
    TooLarge(usize),
    /// A request that cannot be built from what the caller gave.
    #[error("invalid request: {0}")]
    Request(String),
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        Self::Api(Box::new(status))
    }
}

impl Error {
    /// The server's answer, if there was one.
    pub fn status(&self) -> Option<&Status> {
        match self {
            Self::Api(status) => Some(status),
            _ => None,
        }
    }

    fn code(&self) -> u16 {
        self.status().map_or(0, |s| s.code)
    }

    fn reason(&self) -> Reason {
        self.status().map_or(Reason::Unknown, |s| s.reason)
    }

    /// 404.
    pub fn is_not_found(&self) -> bool {
        self.code() == 404
    }

    /// 404 of the object of that name; not that of a path which is not served, or no more, and says nothing of any object.
    pub fn is_object_not_found(&self, name: &str) -> bool {
        self.is_not_found()
            && self.status().and_then(|s| s.details.as_ref()).is_some_and(|details| details.name == name)
    }

    /// 409 because of a stale version or a failed precondition.
    pub fn is_conflict(&self) -> bool {
        self.reason() == Reason::Conflict
    }

    /// 409 because the name is taken.
    pub fn is_already_exists(&self) -> bool {
        self.reason() == Reason::AlreadyExists
    }

    /// 410: the resourceVersion is no longer known.
    pub fn is_gone(&self) -> bool {
        self.code() == 410
    }

    /// 403.
    pub fn is_forbidden(&self) -> bool {
        self.code() == 403
    }
}
