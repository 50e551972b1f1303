//! Questions that this server itself has for another one.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use kedge_webhook::Failure;

use super::Aggregation;
use super::service::ApiService;

/// Who asks: whoever may see everything there.
pub(super) const ASKER: &str = "system:kube-aggregator";
const GROUP: &str = "system:masters";

/// A question.
pub(super) struct Question<'a> {
    pub user: &'static str,
    pub path: &'a str,
    pub accept: &'static str,
    /// The tag of what is known.
    pub known: Option<&'a str>,
    /// So many bytes of the answer are read at most; none when only its head matters.
    pub limit: Option<usize>,
    /// How long head and body may take together.
    pub within: Duration,
}

/// What the other server answered.
pub(super) struct Answer {
    pub code: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    /// Its media type, with parameters.
    pub(super) fn media_type(&self) -> &str {
        self.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    pub(super) fn tag(&self) -> Option<String> {
        self.headers.get(header::ETAG).and_then(|value| value.to_str().ok()).map(str::to_owned)
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unanswered {
    /// Nobody is there to be asked.
    #[error("{0}")]
    Unresolved(String),
    #[error("Get {url:?}: {why}")]
    Failed {
        url: String,
        #[source]
        why: Failure,
    },
    #[error("Get {url:?}: context deadline exceeded (Client.Timeout exceeded while awaiting headers)")]
    Late { url: String },
    #[error("Get {url:?}: the answer has more than {limit} bytes, or breaks off")]
    Body { url: String, limit: usize },
}

impl Aggregation {
    /// The URL of a path at one of those who serve an API service.
    pub(super) fn url(&self, service: &ApiService, path: &str) -> Result<String, Unanswered> {
        let unresolved = |why: &dyn std::fmt::Display| Unanswered::Unresolved(why.to_string());
        let at = service.service().ok_or_else(|| unresolved(&"it has no service"))?;
        let address = self.caller.resolve(&at.namespace, &at.name, at.port).map_err(|err| unresolved(&err))?;
        Ok(format!("https://{address}{path}"))
    }

    /// Asks a server for a document.
    pub(super) async fn ask(&self, service: &ApiService, question: Question<'_>) -> Result<Answer, Unanswered> {
        let url = self.url(service, question.path)?;
        self.ask_at(service, &url, question).await
    }

    /// The same of one that has been found already.
    pub(super) async fn ask_at(
        &self,
        service: &ApiService,
        url: &str,
        question: Question<'_>,
    ) -> Result<Answer, Unanswered> {
        let url = url.to_owned();
        let limit = question.limit;
        let mut request = Request::get(&url)
            .header(header::ACCEPT, HeaderValue::from_static(question.accept))
            .header(header::USER_AGENT, HeaderValue::from_static("Go-http-client/1.1"))
            .header("x-remote-user", HeaderValue::from_static(question.user))
            .header("x-remote-group", HeaderValue::from_static(GROUP));
        if let Some(tag) = question.known {
            request = request.header(header::IF_NONE_MATCH, tag);
        }
        let request = request.body(Empty::new().map_err(|never| match never {}).boxed_unsync());
        let request =
            request.map_err(|err| Unanswered::Failed { url: url.clone(), why: Failure::Http(err.to_string()) })?;
        let trust = service.trust();
        let work = async {
            let sent = self.caller.send(&trust, request).await;
            let (head, body) = sent.map_err(|why| Unanswered::Failed { url: url.clone(), why })?.into_parts();
            let body = match limit {
                Some(limit) => {
                    let body = Limited::new(body, limit).collect().await;
                    body.map_err(|_| Unanswered::Body { url: url.clone(), limit })?.to_bytes()
                }
                None => Bytes::new(),
            };
            Ok(Answer { code: head.status, headers: head.headers, body })
        };
        kedge_base::time::timeout(question.within, work)
            .await
            .unwrap_or_else(|_| Err(Unanswered::Late { url: url.clone() }))
    }
}
