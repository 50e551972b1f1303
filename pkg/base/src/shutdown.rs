//! The request to stop, shared by everything that runs.

use tokio_util::sync::CancellationToken;

/// A flag that is raised once; cheap to clone. Children stop with their parent, not the other way round.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    token: CancellationToken,
}

impl Shutdown {
    /// A flag that is not raised.
    pub fn new() -> Self {
        Self::default()
    }

    /// Raises the flag.
    pub fn trigger(&self) {
        self.token.cancel();
    }

    /// Whether the flag is raised.
    pub fn is_requested(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Completes when the flag is raised.
    pub async fn requested(&self) {
        self.token.cancelled().await;
    }

    /// A flag that is raised with this one, and can be raised alone.
    pub fn child(&self) -> Self {
        Self { token: self.token.child_token() }
    }

    /// The token below, for code that selects on it.
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }
}
