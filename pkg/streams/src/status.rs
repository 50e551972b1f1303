//! How a command ended, and telling the client.
//!
//! Invariant: the last thing a client gets is one status, in the form of its protocol: a
//! `metav1.Status` since version 4, before that the error's text or nothing.

use crate::{BoxWrite, Error};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecStatus {
    /// With exit code 0.
    Success,
    /// With another exit code.
    ExitCode(i32),
    /// It could not be run, or its streams broke.
    Failure(String),
}

impl ExecStatus {
    /// The `metav1.Status`.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Success => json!({"metadata": {}, "status": "Success"}),
            Self::ExitCode(code) => json!({
                "metadata": {},
                "status": "Failure",
                "message": self.message(),
                "reason": "NonZeroExitCode",
                "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
            }),
            Self::Failure(message) => json!({
                "metadata": {}, "status": "Failure", "message": message, "reason": "InternalError",
                "details": {"causes": [{"message": message}]}, "code": 500,
            }),
        }
    }

    fn message(&self) -> String {
        match self {
            Self::Success => String::new(),
            Self::ExitCode(code) => {
                format!("command terminated with non-zero exit code: exit status {code}")
            }
            Self::Failure(message) => message.clone(),
        }
    }
}

/// Tells the client how its command ended.
pub struct StatusWriter {
    to: BoxWrite,
    json: bool,
}

impl StatusWriter {
    pub(crate) fn new(to: BoxWrite, json: bool) -> Self {
        Self { to, json }
    }

    /// Writes the status and ends the stream.
    ///
    /// # Errors
    /// When the client is gone.
    pub async fn finish(self, status: &ExecStatus) -> Result<(), Error> {
        let text = if self.json { status.to_json().to_string() } else { status.message() };
        self.write(text.as_bytes()).await
    }

    /// Passes on a `metav1.Status` that another server has written.
    ///
    /// # Errors
    /// When the client is gone.
    pub async fn finish_raw(self, status: &[u8]) -> Result<(), Error> {
        if self.json {
            return self.write(status).await;
        }
        let parsed: Option<Value> = serde_json::from_slice(status).ok();
        let message = match &parsed {
            Some(status) if status["status"] == "Success" => "",
            Some(status) => status["message"].as_str().unwrap_or("the command failed"),
            // Not JSON: a runtime of the old kind, whose text means failure.
            None => std::str::from_utf8(status).unwrap_or("the command failed"),
        };
        self.write(message.as_bytes()).await
    }

    async fn write(mut self, bytes: &[u8]) -> Result<(), Error> {
        self.to.write_all(bytes).await?;
        self.to.shutdown().await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tokio::io::AsyncReadExt as _;

    async fn written(json: bool, status: &[u8]) -> String {
        let (a, mut b) = tokio::io::duplex(1024);
        StatusWriter::new(Box::new(a), json).finish_raw(status).await.unwrap();
        let mut text = String::new();
        b.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn old_clients_get_text() {
        let failed = ExecStatus::ExitCode(3).to_json().to_string();
        let message = "command terminated with non-zero exit code: exit status 3";
        assert_eq!(written(false, failed.as_bytes()).await, message);
        assert_eq!(written(false, ExecStatus::Success.to_json().to_string().as_bytes()).await, "");
        assert_eq!(written(true, failed.as_bytes()).await, failed);
    }

    #[test]
    fn the_exit_code_is_a_cause() {
        let status = ExecStatus::ExitCode(42).to_json();
        assert_eq!(status["reason"], "NonZeroExitCode");
        assert_eq!(status["details"]["causes"][0], json!({"reason": "ExitCode", "message": "42"}));
    }
}
