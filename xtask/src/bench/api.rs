//! The API as a load sees it: over HTTPS, on connections that are kept.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, ensure};
use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt as _;
use kedge_client::{Body, Client};
use serde_json::Value;
use tokio::task::JoinSet;

/// How long a state may take to come about under load.
const PATIENCE: Duration = Duration::from_secs(900);
const POLL: Duration = Duration::from_millis(100);

/// One client with a connection of its own; cheap to clone.
#[derive(Clone)]
pub struct Api(Client);

impl Api {
    pub fn connect(kubeconfig: &Path) -> anyhow::Result<Self> {
        Ok(Self(Client::from_kubeconfig(kubeconfig)?))
    }

    /// Sends a request. Its answer is read as a client reads it, and dropped; how many bytes it had.
    pub async fn send(&self, method: Method, uri: &str, body: &Value) -> anyhow::Result<u64> {
        let mut answer = self.open(method, uri, body).await?;
        let mut length = 0;
        while let Some(frame) = answer.frame().await {
            let frame = frame.map_err(|err| anyhow!("{uri}: {err}"))?;
            length += frame.data_ref().map_or(0, |data| data.len() as u64);
        }
        Ok(length)
    }

    /// Sends a request and hands over the body of its answer, which may never end. Dropping it ends it.
    pub async fn open(&self, method: Method, uri: &str, body: &Value) -> anyhow::Result<Body> {
        let body = if body.is_null() { Bytes::new() } else { serde_json::to_vec(body)?.into() };
        let shown = || format!("{method} {uri}");
        let answer = self.0.open(method.clone(), uri, body).await.with_context(shown)?;
        Ok(answer.into_body())
    }

    /// Sends a request in the name of somebody, and hands over the answer, whatever it is.
    pub async fn ask_as(
        &self,
        method: Method,
        uri: &str,
        body: &Value,
        (user, groups): (&str, &[&str]),
    ) -> anyhow::Result<http::Response<Body>> {
        let bytes = if body.is_null() { Bytes::new() } else { serde_json::to_vec(body)?.into() };
        let mut request = http::Request::builder().method(method).uri(uri).header("impersonate-user", user);
        for group in groups {
            request = request.header("impersonate-group", *group);
        }
        let request = request.header(http::header::CONTENT_TYPE, "application/json").body(bytes)?;
        Ok(self.0.send_as_it_is(request).await?)
    }

    /// GETs something in a form, reads it as it comes and drops it; how many bytes it had.
    pub async fn read_as(&self, uri: &str, accept: &str) -> anyhow::Result<u64> {
        let request = http::Request::get(uri).header(http::header::ACCEPT, accept).body(Bytes::new())?;
        let mut answer = self.0.send_as_it_is(request).await?;
        ensure!(answer.status().is_success(), "GET {uri}: {}", answer.status());
        let mut length = 0;
        while let Some(frame) = answer.body_mut().frame().await {
            let frame = frame.map_err(|err| anyhow!("{uri}: {err}"))?;
            length += frame.data_ref().map_or(0, |data| data.len() as u64);
        }
        Ok(length)
    }

    /// Applies an object, and takes over what others have of it.
    pub async fn apply(&self, uri: &str, object: &Value) -> anyhow::Result<()> {
        let uri = format!("{uri}?fieldManager=bench&force=true");
        let body = serde_json::to_vec(object)?.into();
        let answer = self.0.send(Method::PATCH, &uri, "application/apply-patch+yaml", body).await?;
        let status = answer.status();
        let text = answer.into_body().collect().await.map_err(|err| anyhow!("{uri}: {err}"))?.to_bytes();
        ensure!(status.is_success(), "apply {uri}: {status}: {}", String::from_utf8_lossy(&text));
        Ok(())
    }

    pub async fn create(&self, uri: &str, object: &Value) -> anyhow::Result<u64> {
        self.send(Method::POST, uri, object).await
    }

    pub async fn delete(&self, uri: &str) -> anyhow::Result<u64> {
        self.send(Method::DELETE, uri, &Value::Null).await
    }

    /// Merges into an object.
    pub async fn merge(&self, uri: &str, patch: &Value) -> anyhow::Result<()> {
        let body = serde_json::to_vec(patch)?.into();
        let answer = self.0.send(Method::PATCH, uri, "application/merge-patch+json", body).await?;
        let status = answer.status();
        let text = answer.into_body().collect().await.map_err(|err| anyhow!("{uri}: {err}"))?.to_bytes();
        ensure!(status.is_success(), "PATCH {uri}: {status}: {}", String::from_utf8_lossy(&text));
        Ok(())
    }

    /// An object, or nothing when it is not there.
    pub async fn get(&self, uri: &str) -> anyhow::Result<Option<Value>> {
        Ok(self.text(uri).await?.map(|text| serde_json::from_slice(&text)).transpose()?)
    }

    /// The answer to a GET, or nothing when there is no such path.
    pub async fn text(&self, uri: &str) -> anyhow::Result<Option<Bytes>> {
        match self.0.get_raw(uri).await {
            Ok(text) => Ok(Some(text)),
            Err(err) if err.is_not_found() => Ok(None),
            Err(err) => Err(err).with_context(|| format!("GET {uri}")),
        }
    }

    /// Waits until an object is as it should be; `None` is one that is not there.
    pub async fn wait(&self, uri: &str, state: impl Fn(Option<&Value>) -> bool) -> anyhow::Result<()> {
        let start = Instant::now();
        loop {
            let object = self.get(uri).await?;
            if state(object.as_ref()) {
                return Ok(());
            }
            ensure!(start.elapsed() < PATIENCE, "{uri} stays as {object:?}");
            tokio::time::sleep(POLL).await;
        }
    }

    /// Deletes a namespace, and waits until it and its content are gone.
    pub async fn delete_namespace(&self, name: &str) -> anyhow::Result<()> {
        let uri = format!("/api/v1/namespaces/{name}");
        self.delete(&uri).await?;
        self.wait(&uri, |namespace| namespace.is_none()).await
    }

    /// Creates a namespace, and waits until pods can be created in it.
    pub async fn create_namespace(&self, name: &str) -> anyhow::Result<()> {
        self.create("/api/v1/namespaces", &serde_json::json!({"metadata": {"name": name}})).await?;
        let account = format!("/api/v1/namespaces/{name}/serviceaccounts/default");
        self.wait(&account, |account| account.is_some()).await
    }
}

/// Clients, each with a connection of its own.
pub fn connect(kubeconfig: &Path, clients: usize) -> anyhow::Result<Vec<Api>> {
    (0..clients).map(|_| Api::connect(kubeconfig)).collect()
}

/// Does something `count` times, every client one after the other; the first failure ends it.
pub async fn each<F, W>(clients: &[Api], count: usize, work: W) -> anyhow::Result<()>
where
    W: Fn(Api, usize) -> F + Clone + Send + 'static,
    F: Future<Output = anyhow::Result<()>> + Send,
{
    let next = Arc::new(AtomicUsize::new(0));
    // Dropped with this future, so that nothing goes on in the background.
    let mut running = JoinSet::new();
    for api in clients {
        let (api, next, work) = (api.clone(), next.clone(), work.clone());
        running.spawn(async move {
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                if i >= count {
                    return anyhow::Ok(());
                }
                work(api.clone(), i).await?;
            }
        });
    }
    while let Some(ended) = running.join_next().await {
        ended??;
    }
    Ok(())
}
