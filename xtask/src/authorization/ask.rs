//! Asking a server in somebody's name, and what it says.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use kedge_client::{Body, ClusterAccess, HttpsTransport, Transport};
use serde_json::Value;

use crate::diff::side::read;

const PATIENCE: Duration = Duration::from_secs(60);
/// How often somebody asks again who is told to come later, or whose connection was closed.
const TRIES: usize = 20;

/// Somebody's way to a server.
#[derive(Clone)]
pub struct Asker {
    transport: Arc<HttpsTransport>,
    headers: HeaderMap,
}

/// What somebody was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    pub letter: u8,
    pub code: u16,
}

impl Asker {
    pub fn new(access: &ClusterAccess) -> anyhow::Result<Self> {
        Ok(Self { transport: Arc::new(HttpsTransport::new(access)?), headers: HeaderMap::new() })
    }

    /// The same in the name of somebody else.
    pub fn acting_as(&self, user: &'static str) -> Self {
        let mut headers = self.headers.clone();
        headers.insert("impersonate-user", HeaderValue::from_static(user));
        Self { transport: self.transport.clone(), headers }
    }

    async fn send(&self, mut request: Request<Bytes>) -> anyhow::Result<Response<Body>> {
        request.headers_mut().extend(self.headers.clone());
        let mut last = None;
        for _ in 0..TRIES {
            // Upstream closes connections of those who have no name.
            match tokio::time::timeout(PATIENCE, self.transport.send(request.clone())).await? {
                Ok(answer) if answer.status() != StatusCode::TOO_MANY_REQUESTS => return Ok(answer),
                Ok(_) => tokio::time::sleep(Duration::from_millis(200)).await,
                Err(err) => last = Some(err),
            }
        }
        bail!("no answer to {} {}: {last:?}", request.method(), request.uri())
    }

    /// What somebody is told who asks that.
    pub async fn ask(&self, request: Request<Bytes>) -> anyhow::Result<Told> {
        let uri = request.uri();
        let endless = uri.query().is_some_and(|query| query.contains("watch=true")) || uri.path().contains("/watch/");
        let name = format!("{} {}", request.method(), request.uri());
        let answer = self.send(request).await?;
        let status = answer.status();
        let text = match endless && status.is_success() {
            true => String::new(),
            false => {
                let body = tokio::time::timeout(PATIENCE, read(answer.into_body())).await;
                String::from_utf8_lossy(&body.with_context(|| name.clone())?.context(name)?).into_owned()
            }
        };
        Ok(Told { letter: letter(status, &text), code: status.as_u16() })
    }

    /// A request of the administrator, which must succeed unless what it makes is there already.
    pub async fn make(&self, method: &str, path: &str, body: &Value) -> anyhow::Result<Value> {
        let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let request = Request::builder().method(method).uri(path).header("content-type", kind);
        let answer = self.send(request.body(Bytes::from(body.to_string()))?).await?;
        let status = answer.status();
        let text = read(answer.into_body()).await?;
        let said = String::from_utf8_lossy(&text);
        ensure!(status.is_success() || status == StatusCode::CONFLICT, "{method} {path}: {status} {said}");
        Ok(serde_json::from_slice(&text).unwrap_or_default())
    }

    /// What the administrator is warned about who makes that; none, if it is not valid.
    pub async fn warned(&self, path: &str, body: &Value) -> anyhow::Result<Option<Vec<String>>> {
        let request = Request::post(path).header("content-type", "application/json");
        let answer = self.send(request.body(Bytes::from(body.to_string()))?).await?;
        let status = answer.status();
        // `299 - "TEXT"`, with quotes and backslashes escaped.
        let text = |value: &HeaderValue| {
            let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
            let text = text.strip_prefix("299 - \"")?.strip_suffix('"')?;
            Some(text.replace("\\\"", "\"").replace("\\\\", "\\"))
        };
        let warnings = answer.headers().get_all("warning").iter().filter_map(text).collect();
        let said = read(answer.into_body()).await?;
        match status {
            status if status.is_success() => Ok(Some(warnings)),
            StatusCode::UNPROCESSABLE_ENTITY | StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN => Ok(None),
            _ => bail!("{path}: {status} {}", String::from_utf8_lossy(&said)),
        }
    }

    /// What is at a path.
    pub async fn json(&self, path: &str) -> anyhow::Result<Value> {
        let answer = self.send(Request::get(path).body(Bytes::new())?).await?;
        let status = answer.status();
        let text = read(answer.into_body()).await?;
        ensure!(status.is_success(), "{path}: {status} {}", String::from_utf8_lossy(&text));
        serde_json::from_slice(&text).with_context(|| path.to_owned())
    }
}

/// Who was refused by who they are is told what they cannot do.
fn letter(status: StatusCode, text: &str) -> u8 {
    match status {
        StatusCode::UNAUTHORIZED => b'U',
        StatusCode::FORBIDDEN if text.contains(" cannot ") && text.contains(": User ") => b'F',
        StatusCode::FORBIDDEN => b'R',
        // A backend that is not there is none of the server's mistakes.
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => b'A',
        status if status.is_server_error() => b'X',
        _ => b'A',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_apart() {
        let by_rights = r#"pods is forbidden: User \"jane\" cannot list resource \"pods\" in API group \"\""#;
        let by_admission = r#"pods \"p\" is forbidden: error looking up service account matrix-a/default"#;
        assert_eq!(letter(StatusCode::FORBIDDEN, by_rights), b'F');
        assert_eq!(letter(StatusCode::FORBIDDEN, by_admission), b'R');
        assert_eq!(letter(StatusCode::UNAUTHORIZED, ""), b'U');
        assert_eq!(letter(StatusCode::NOT_FOUND, by_rights), b'A');
        assert_eq!(letter(StatusCode::INTERNAL_SERVER_ERROR, ""), b'X');
    }
}
