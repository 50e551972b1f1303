//! [`RecordingNft`]: the test double. It keeps the scripts and can be told to fail.
//!
//! Invariant: scripts are kept in the order in which they were applied, and a script that was made
//! to fail is not kept.

use crate::{Nft, NftError};
use async_trait::async_trait;
use parking_lot::Mutex;

/// Records what it is asked to apply; for tests.
#[derive(Debug, Default)]
pub struct RecordingNft {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    scripts: Vec<String>,
    failures: usize,
}

impl RecordingNft {
    /// A double that accepts everything.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the scripts applied since the last call.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().scripts)
    }

    /// Refuses the next `count` transactions.
    pub fn fail_next(&self, count: usize) {
        self.state.lock().failures = count;
    }
}

#[async_trait]
impl Nft for RecordingNft {
    async fn apply(&self, script: &str) -> Result<(), NftError> {
        let mut state = self.state.lock();
        if state.failures > 0 {
            state.failures -= 1;
            return Err(NftError::Rejected {
                status: "exit status: 1".to_owned(),
                message: "refused as the test asked".to_owned(),
            });
        }
        state.scripts.push(script.to_owned());
        Ok(())
    }

    async fn list_table(&self, _family: &str, _table: &str) -> Result<Option<String>, NftError> {
        Ok(None)
    }

    async fn list_json(&self, _family: &str, _table: &str) -> Result<Option<String>, NftError> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn it_records_and_fails_on_request() {
        let nft = RecordingNft::new();
        nft.fail_next(1);
        assert!(nft.apply("a").await.is_err());
        nft.apply("b").await.unwrap();
        assert_eq!(nft.take(), ["b"]);
        assert!(nft.take().is_empty());
    }
}
