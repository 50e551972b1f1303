//! What a plug-in answers when it cannot.

use tonic::Code;

/// A call that failed. The text is as Go programs write it, since it is shown in events.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("rpc error: code = {} desc = {message}", name(*code))]
pub struct Error {
    pub code: Code,
    pub message: String,
}

impl From<tonic::Status> for Error {
    fn from(status: tonic::Status) -> Self {
        // A status with a cause was made on this side: the connection broke, and what the driver does is not known.
        let lost = std::error::Error::source(&status).is_some()
            && !matches!(status.code(), Code::Cancelled | Code::DeadlineExceeded);
        let code = if lost { Code::Unavailable } else { status.code() };
        Self { code, message: status.message().to_owned() }
    }
}

impl Error {
    /// Whether the driver has surely not done what it was asked; else it may still be at it.
    pub fn is_final(&self) -> bool {
        let at_it =
            [Code::Cancelled, Code::DeadlineExceeded, Code::Unavailable, Code::ResourceExhausted, Code::Aborted];
        !at_it.contains(&self.code)
    }

    /// Whether it cannot be done as things are.
    pub fn is_precondition(&self) -> bool {
        self.code == Code::FailedPrecondition
    }

    /// Whether what was asked about is not there.
    pub fn is_not_found(&self) -> bool {
        self.code == Code::NotFound
    }
}

/// Go's names of the codes.
fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_read_as_those_of_go() {
        let error = Error::from(tonic::Status::cancelled("gone"));
        assert_eq!(error.to_string(), "rpc error: code = Canceled desc = gone");
        let broken = tonic::Status::from_error(Box::new(std::io::Error::from(std::io::ErrorKind::BrokenPipe)));
        assert!(!Error::from(broken).is_final(), "a connection that breaks says nothing about the driver");
        assert!(!error.is_final() && Error::from(tonic::Status::invalid_argument("x")).is_final());
    }
}
