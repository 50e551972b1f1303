//! [`NftCommand`]: the packet filter reached through the `nft` program.
//!
//! Invariant: every run has an end. It is killed at the timeout or when its future is dropped, and
//! what it writes is read only up to a limit.

use crate::{MAX_OUTPUT_BYTES, MAX_SCRIPT_BYTES, Nft, NftError};
use async_trait::async_trait;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

/// How much of nft's complaint is kept. A refused script is quoted line by line, so it can be long.
const MAX_MESSAGE_BYTES: usize = 4096;

/// Runs `nft`, optionally behind a prefix such as `ip netns exec NAME`.
#[derive(Debug, Clone)]
pub struct NftCommand {
    argv: Vec<String>,
    timeout: Duration,
}

impl Default for NftCommand {
    fn default() -> Self {
        Self::new()
    }
}

impl NftCommand {
    /// The packet filter of the namespace this process is in.
    pub fn new() -> Self {
        Self { argv: vec!["nft".to_owned()], timeout: Duration::from_secs(30) }
    }

    /// Runs nft behind `prefix`, for instance in another network namespace.
    pub fn with_prefix<S: Into<String>>(prefix: impl IntoIterator<Item = S>) -> Self {
        let mut this = Self::new();
        this.argv = prefix.into_iter().map(Into::into).chain(this.argv).collect();
        this
    }

    /// Uses another program in place of `nft` from the search path.
    pub fn with_program(mut self, program: impl Into<String>) -> Self {
        if let Some(last) = self.argv.last_mut() {
            *last = program.into();
        }
        self
    }

    /// Limits one run to `timeout` instead of 30 s.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    fn program(&self) -> String {
        self.argv.first().cloned().unwrap_or_default()
    }

    fn io_error(&self, source: std::io::Error) -> NftError {
        if source.kind() == std::io::ErrorKind::NotFound {
            NftError::NotInstalled { program: self.program() }
        } else {
            NftError::Io { program: self.program(), source }
        }
    }

    fn spawn(&self, args: &[&str]) -> Result<Child, NftError> {
        let (program, prefix) = match self.argv.split_first() {
            Some((program, rest)) => (program, rest),
            None => {
                return Err(NftError::NotInstalled { program: "nft".to_owned() });
            }
        };
        Command::new(program)
            .args(prefix)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| self.io_error(source))
    }

    async fn run(&self, args: &[&str], input: &str) -> Result<String, NftError> {
        let child = self.spawn(args)?;
        match tokio::time::timeout(self.timeout, self.converse(child, input)).await {
            Ok(result) => result,
            Err(_) => Err(NftError::Timeout { seconds: self.timeout.as_secs() }),
        }
    }

    /// Feeds the script and drains both outputs at once: nft may write while it still reads.
    async fn converse(&self, mut child: Child, input: &str) -> Result<String, NftError> {
        let stdin = child.stdin.take();
        let feed = async move {
            if let Some(mut stdin) = stdin {
                match stdin.write_all(input.as_bytes()).await {
                    // nft ends early at a fault; its message says more than the broken pipe.
                    Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                        return Err(error);
                    }
                    _ => {}
                }
            }
            Ok(())
        };
        let output = read_limited(child.stdout.take(), MAX_OUTPUT_BYTES);
        let message = read_limited(child.stderr.take(), MAX_OUTPUT_BYTES);
        let (fed, output, message) = tokio::join!(feed, output, message);
        fed.map_err(|source| self.io_error(source))?;
        let output = output.map_err(|source| self.io_error(source))?;
        let message = message.map_err(|source| self.io_error(source))?;
        let output = output.ok_or(NftError::TooLarge { what: "output", limit: MAX_OUTPUT_BYTES })?;
        let status = child.wait().await.map_err(|source| self.io_error(source))?;
        self.judge(status, output, &message.unwrap_or_default())
    }

    fn judge(&self, status: ExitStatus, output: Vec<u8>, message: &[u8]) -> Result<String, NftError> {
        if status.success() {
            return Ok(String::from_utf8_lossy(&output).into_owned());
        }
        let message = String::from_utf8_lossy(&message[..message.len().min(MAX_MESSAGE_BYTES)]);
        Err(NftError::Rejected { status: status.to_string(), message: message.trim().to_owned() })
    }

    async fn list(&self, args: &[&str]) -> Result<Option<String>, NftError> {
        match self.run(args, "").await {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Reads to the end, or to one byte past `limit`, which is reported as `None`.
async fn read_limited(from: Option<impl AsyncRead + Unpin>, limit: usize) -> std::io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        from.take(limit as u64 + 1).read_to_end(&mut bytes).await?;
    }
    Ok((bytes.len() <= limit).then_some(bytes))
}

#[async_trait]
impl Nft for NftCommand {
    async fn apply(&self, script: &str) -> Result<(), NftError> {
        if script.len() > MAX_SCRIPT_BYTES {
            return Err(NftError::TooLarge { what: "script", limit: MAX_SCRIPT_BYTES });
        }
        tracing::trace!(bytes = script.len(), "applying an nftables transaction");
        self.run(&["-f", "-"], script).await.map(drop)
    }

    async fn list_table(&self, family: &str, table: &str) -> Result<Option<String>, NftError> {
        self.list(&["list", "table", family, table]).await
    }

    async fn list_json(&self, family: &str, table: &str) -> Result<Option<String>, NftError> {
        self.list(&["-j", "list", "table", family, table]).await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn a_missing_program_names_the_package() {
        let nft = NftCommand::new().with_program("/nonexistent/nft");
        let error = nft.apply("list ruleset").await.unwrap_err();
        assert!(error.to_string().contains("`nftables`"), "{error}");
    }

    #[tokio::test]
    async fn a_refusal_carries_what_was_said() {
        let nft = NftCommand::with_prefix(["sh", "-c", "echo 'line 1: no' >&2; exit 3", "sh"]);
        let error = nft.apply("x").await.unwrap_err();
        assert!(matches!(&error, NftError::Rejected { message, .. } if message == "line 1: no"), "{error}");
    }

    #[tokio::test]
    async fn a_run_without_end_is_killed() {
        let nft =
            NftCommand::with_prefix(["sh", "-c", "exec sleep 1000", "sh"]).with_timeout(Duration::from_millis(50));
        assert!(matches!(nft.apply("").await, Err(NftError::Timeout { .. })));
    }

    #[tokio::test]
    async fn an_oversized_script_is_not_sent() {
        let script = " ".repeat(MAX_SCRIPT_BYTES + 1);
        let error = NftCommand::new().apply(&script).await.unwrap_err();
        assert!(matches!(error, NftError::TooLarge { what: "script", .. }), "{error}");
    }

    #[tokio::test]
    async fn a_missing_table_is_none() {
        let nft = NftCommand::with_prefix(["sh", "-c", "echo 'Error: No such file or directory' >&2; exit 1", "sh"]);
        assert_eq!(nft.list_table("ip", "absent").await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_long_script_reaches_the_program_whole() {
        let nft = NftCommand::with_prefix(["sh", "-c", "test $(wc -c) -eq 3000000", "sh"]);
        nft.apply(&"x".repeat(3_000_000)).await.unwrap();
    }
}
