//! The audit as the settings want it: policy, file, and who is sent the events.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use kedge_apiserver::Auditing;
pub use kedge_audit::Batching;
use kedge_audit::{LogFile, Policy, Receiver, Sink};
use kedge_base::{SharedClock, TaskGroup};
use kedge_client::{Client, ClusterAccess};
use tracing::warn;

use crate::error::Error;

/// How long one batch may take, as upstream.
const WITHIN: Duration = Duration::from_secs(30);
/// What of an answer is read.
const ANSWER: usize = 64 << 10;

/// Settings of the audit.
#[derive(Debug, Clone, Default)]
pub struct AuditConfig {
    pub policy: Option<PathBuf>,
    /// Where the log is; `-` is the standard output.
    pub log: Option<String>,
    /// MiB of a file, files that are kept, and days that they are kept; zero is what is usual, all, and for ever.
    pub size: u64,
    pub backups: usize,
    pub days: u64,
    pub compress: bool,
    /// Whether events are one short line instead of JSON.
    pub legacy: bool,
    /// A kubeconfig of who is sent events.
    pub webhook: Option<PathBuf>,
    pub batching: Batching,
}

/// The audit; none when there is nothing to do.
pub(crate) fn auditing(
    config: &AuditConfig,
    tasks: &TaskGroup,
    clock: &SharedClock,
) -> Result<Option<Arc<Auditing>>, Error> {
    let AuditConfig { policy, log, webhook, .. } = config;
    let Some(policy) = policy else {
        if log.is_some() || webhook.is_some() {
            warn!("there is no audit-policy-file; no audit events will be recorded");
        }
        return Ok(None);
    };
    if log.is_none() && webhook.is_none() {
        warn!("there is neither an audit-log-path nor an audit-webhook-config-file; no audit events will be recorded");
        return Ok(None);
    }
    let bad = |what: &str, path: &dyn std::fmt::Display, why: &dyn std::fmt::Display| {
        Error::Setting(format!("{what} {path}: {why}"))
    };
    let text = std::fs::read_to_string(policy).map_err(|why| bad("audit-policy-file", &policy.display(), &why))?;
    let read = Policy::read(&text).map_err(|why| bad("audit-policy-file", &policy.display(), &why))?;
    if !read.unknown.is_empty() {
        let fields = read.unknown.join(", ");
        warn!(file = %policy.display(), fields, "the audit policy has fields that nobody knows; they are left out");
    }
    let tasks = tasks.child("audit");
    let mut sink = Sink::default();
    if let Some(path) = log {
        let file = LogFile::new(path, config.size, config.backups, config.days, config.compress);
        let with = sink.with_file(file, config.legacy, &tasks, clock);
        sink = with.map_err(|why| bad("audit-log-path", path, &why))?;
    }
    if let Some(path) = webhook {
        let receiver = Webhook::new(path).map_err(|why| bad("audit-webhook-config-file", &path.display(), &why))?;
        sink = sink.with_receiver(Arc::new(receiver), config.batching, &tasks, clock);
    }
    Ok(Some(Arc::new(Auditing::new(read, sink))))
}

/// Somebody who is sent events over HTTPS.
struct Webhook {
    client: Client,
    path: String,
}

impl Webhook {
    fn new(kubeconfig: &Path) -> Result<Self, String> {
        let access = ClusterAccess::from_file(kubeconfig).map_err(|why| why.to_string())?;
        let server: http::Uri = access.server.parse().map_err(|why: http::uri::InvalidUri| why.to_string())?;
        let path = server.path_and_query().map_or("/", http::uri::PathAndQuery::as_str).to_owned();
        let client = Client::from_kubeconfig(kubeconfig).map_err(|why| why.to_string())?;
        Ok(Self { client, path })
    }
}

#[async_trait]
impl Receiver for Webhook {
    async fn post(&self, list: Bytes) -> Result<(), (String, bool)> {
        let posted = async {
            let sent = self.client.send(Method::POST, &self.path, "application/json", list).await;
            let answer = sent.map_err(|why| (why.to_string(), true))?;
            let status = answer.status();
            // It is of no interest what it says, but that the connection can be used again.
            let (mut body, mut left) = (answer.into_body(), ANSWER);
            while let Some(Ok(frame)) = body.frame().await {
                left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
                if left == 0 {
                    break;
                }
            }
            match status {
                status if status.is_success() => Ok(()),
                StatusCode::TOO_MANY_REQUESTS => Err((status.to_string(), true)),
                status => Err((status.to_string(), status.is_server_error())),
            }
        };
        let late = |_| Err((format!("no answer within {} s", WITHIN.as_secs()), true));
        kedge_base::time::timeout(WITHIN, posted).await.unwrap_or_else(late)
    }
}
