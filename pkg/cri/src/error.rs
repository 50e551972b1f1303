//! What can go wrong in a call to the runtime; the runtime's own message is kept to the letter, because it reaches users.

/// An error of a CRI call. `Display` is the runtime's message as upstream shows it in events and statuses.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The runtime answered with a gRPC error.
    #[error("rpc error: code = {} desc = {}", code_name(.0.code()), .0.message())]
    Rpc(#[from] Box<tonic::Status>),
    /// The endpoint is not a usable unix socket address.
    #[error("invalid runtime endpoint {endpoint:?}: {reason}")]
    Endpoint { endpoint: String, reason: String },
    /// The runtime answered without a field that the protocol promises.
    #[error("the runtime's answer to {call} lacks {field}")]
    Incomplete { call: &'static str, field: &'static str },
}

impl From<tonic::Status> for Error {
    fn from(status: tonic::Status) -> Error {
        Error::Rpc(Box::new(status))
    }
}

impl Error {
    /// Whether the object asked for does not exist in the runtime.
    pub fn is_not_found(&self) -> bool {
        self.code() == Some(tonic::Code::NotFound)
    }

    /// Whether the runtime does not know the call.
    pub fn is_unimplemented(&self) -> bool {
        self.code() == Some(tonic::Code::Unimplemented)
    }

    /// Whether the call ran out of time.
    pub fn is_timeout(&self) -> bool {
        match self {
            Error::Rpc(status) => {
                status.code() == tonic::Code::DeadlineExceeded
                    || (status.code() == tonic::Code::Cancelled && status.message().contains("Timeout"))
            }
            _ => false,
        }
    }

    /// The runtime's bare message, without the gRPC wording around it.
    pub fn message(&self) -> String {
        match self {
            Error::Rpc(status) => status.message().to_string(),
            other => other.to_string(),
        }
    }

    fn code(&self) -> Option<tonic::Code> {
        match self {
            Error::Rpc(status) => Some(status.code()),
            _ => None,
        }
    }
}

/// The names that Go's gRPC library prints.
fn code_name(code: tonic::Code) -> &'static str {
    match code {
        tonic::Code::Ok => "OK",
        tonic::Code::Cancelled => "Canceled",
        tonic::Code::Unknown => "Unknown",
        tonic::Code::InvalidArgument => "InvalidArgument",
        tonic::Code::DeadlineExceeded => "DeadlineExceeded",
        tonic::Code::NotFound => "NotFound",
        tonic::Code::AlreadyExists => "AlreadyExists",
        tonic::Code::PermissionDenied => "PermissionDenied",
        tonic::Code::ResourceExhausted => "ResourceExhausted",
        tonic::Code::FailedPrecondition => "FailedPrecondition",
        tonic::Code::Aborted => "Aborted",
        tonic::Code::OutOfRange => "OutOfRange",
        tonic::Code::Unimplemented => "Unimplemented",
        tonic::Code::Internal => "Internal",
        tonic::Code::Unavailable => "Unavailable",
        tonic::Code::DataLoss => "DataLoss",
        tonic::Code::Unauthenticated => "Unauthenticated",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_like_go() {
        let error = Error::from(tonic::Status::not_found("no such container"));
        assert_eq!(error.to_string(), "rpc error: code = NotFound desc = no such container");
        assert_eq!(error.message(), "no such container");
        assert!(error.is_not_found());
    }
}
