//! Who is asked about images by ImagePolicyWebhook: somebody over HTTPS, whom a kubeconfig names.

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode, header};
use http_body_util::BodyExt as _;
use kedge_admission::{ImageReviewer, Unreviewed};
use kedge_client::{Client, ClusterAccess, Error as ClientError};
use kedge_meta::Status;

/// How long one attempt may take, as upstream.
const WITHIN: Duration = Duration::from_secs(30);
/// A review is a few annotations and a reason.
const MAX_ANSWER: usize = 1 << 20;

/// Asks over HTTPS.
pub(crate) struct Reviewer {
    client: Client,
    /// Where, for who is told that there is no answer.
    url: String,
    path: String,
}

impl Reviewer {
    /// Reads the kubeconfig of who is asked.
    ///
    /// # Errors
    /// When it cannot be read, or names nobody.
    pub(crate) fn new(kubeconfig: &Path) -> Result<Self, String> {
        let bad = |why: &dyn std::fmt::Display| format!("kubeConfigFile {}: {why}", kubeconfig.display());
        let access = ClusterAccess::from_file(kubeconfig).map_err(|why| bad(&why))?;
        let server: http::Uri = access.server.parse().map_err(|why: http::uri::InvalidUri| bad(&why))?;
        let path = server.path_and_query().map_or("/", http::uri::PathAndQuery::as_str).to_owned();
        let client = Client::from_kubeconfig(kubeconfig).map_err(|why| bad(&why))?;
        Ok(Self { client, url: access.server, path })
    }

    async fn ask(&self, review: Bytes) -> Result<Bytes, Unreviewed> {
        let sent = self.client.send(Method::POST, &self.path, "application/json", review).await;
        let answer = sent.map_err(|why| self.unreached(&why))?;
        let (head, mut body) = answer.into_parts();
        let mut read = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|why| Unreviewed { why: format!("Post {:?}: {why}", self.url), again: true })?;
            read.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
            if read.len() > MAX_ANSWER {
                let why = format!("the answer of {} exceeds {MAX_ANSWER} bytes", self.url);
                return Err(Unreviewed { why, again: false });
            }
        }
        if head.status.is_success() {
            return Ok(read.freeze());
        }
        let again = head.headers.contains_key(header::RETRY_AFTER)
            || matches!(
                head.status,
                StatusCode::INTERNAL_SERVER_ERROR | StatusCode::GATEWAY_TIMEOUT | StatusCode::TOO_MANY_REQUESTS
            );
        let said = serde_json::from_slice::<Status>(&read).ok().map(|status| status.message);
        let why = said.filter(|said| !said.is_empty());
        let why = why.unwrap_or_else(|| format!("Error contacting webhook: {}", head.status.as_u16()));
        Err(Unreviewed { why, again })
    }

    /// Nobody was reached, or the connection broke, after which it is tried again.
    fn unreached(&self, error: &ClientError) -> Unreviewed {
        let mut cause: &dyn std::error::Error = error;
        let mut again = false;
        while let Some(inner) = cause.source() {
            cause = inner;
            let reset = |io: &std::io::Error| io.kind() == std::io::ErrorKind::ConnectionReset;
            again = again || cause.downcast_ref::<std::io::Error>().is_some_and(reset);
        }
        Unreviewed { why: format!("Post {:?}: {cause}", self.url), again }
    }
}

#[async_trait]
impl ImageReviewer for Reviewer {
    async fn review(&self, review: Bytes) -> Result<Bytes, Unreviewed> {
        let late = |_| {
            let why = format!("Post {:?}: context deadline exceeded", self.url);
            Err(Unreviewed { why, again: false })
        };
        kedge_base::time::timeout(WITHIN, self.ask(review)).await.unwrap_or_else(late)
    }
}
