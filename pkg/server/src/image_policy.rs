//! Who is asked about images by ImagePolicyWebhook: somebody over HTTPS, whom a kubeconfig names.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use kedge_admission::{ImageReviewer, Unreviewed};

/// How long one attempt may take, as upstream.
const WITHIN: Duration = Duration::from_secs(30);

/// Asks whom others ask about users.
pub(crate) struct Reviewer(pub(crate) Arc<dyn kedge_auth::Reviewer>);

#[async_trait]
impl ImageReviewer for Reviewer {
    async fn review(&self, review: Bytes) -> Result<Bytes, Unreviewed> {
        let answered = self.0.review(review, WITHIN).await;
        answered.map_err(|why| Unreviewed { why: why.to_string(), again: why.is_transient() })
    }
}
