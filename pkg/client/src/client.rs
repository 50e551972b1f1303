//! REST verbs on resources.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{Method, Request, Response, header};
use http_body_util::BodyExt;
use kedge_base::BoxFuture;
use kedge_meta::{Resource, Status};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Error;
use crate::kubeconfig::{ClusterAccess, KubeconfigError};
use crate::transport::{Body, HttpsTransport, Transport};
use crate::watch::WatchStream;

/// Largest answer that a client takes into memory; lists are paged, so that pages stay far below.
const MAX_BODY: usize = 256 << 20;
/// What stays as it is in a path segment or query value.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A handle on an API server; cheap to clone.
#[derive(Clone)]
pub struct Client {
    transport: Arc<dyn Transport>,
}

/// What to list or watch.
#[derive(Debug, Clone, Default)]
pub struct ListParams {
    pub label_selector: String,
    pub field_selector: String,
    /// Objects in one answer; 0 for all.
    pub limit: u64,
    pub continue_: String,
}

/// A page of a list.
#[derive(Debug, Clone)]
pub struct List<T> {
    pub resource_version: String,
    /// Empty on the last page.
    pub continue_: String,
    pub items: Vec<T>,
}

/// A patch by its kind.
#[derive(Debug, Clone)]
pub enum Patch {
    Json(Value),
    Merge(Value),
    Strategic(Value),
}

/// `metav1.DeleteOptions`.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteOptions {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace_period_seconds: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preconditions: Option<Preconditions>,
    /// `Orphan`, `Background` or `Foreground`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub propagation_policy: Option<&'static str>,
}

/// What must be true of the object for a delete to happen.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Preconditions {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
}

impl DeleteOptions {
    /// At once and only if it is still the same object.
    pub fn now(uid: &str) -> Self {
        Self { grace_period_seconds: Some(0), ..Self::with_uid(uid) }
    }

    /// Only if it is still the same object.
    pub fn with_uid(uid: &str) -> Self {
        let preconditions = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
        Self { preconditions: Some(preconditions), ..Self::default() }
    }
}

#[derive(Deserialize)]
#[serde(bound = "T: Deserialize<'de>")]
struct RawList<T> {
    #[serde(default)]
    metadata: RawListMeta,
    #[serde(default = "Vec::new", deserialize_with = "items")]
    items: Vec<T>,
}

/// Servers written in Go have `null` for an empty list.
fn items<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawListMeta {
    resource_version: String,
    #[serde(rename = "continue")]
    continue_: String,
}

impl Client {
    /// On any transport.
    pub fn new(transport: Arc<dyn Transport>) -> Self {
        Self { transport }
    }

    /// Over HTTPS, as a kubeconfig file says.
    ///
    /// # Errors
    /// When the file cannot be read or used.
    pub fn from_kubeconfig(path: &std::path::Path) -> Result<Self, KubeconfigError> {
        let access = ClusterAccess::from_file(path)?;
        Ok(Self::new(Arc::new(HttpsTransport::new(&access)?)))
    }

    /// Reads an object. `namespace` is empty for cluster-scoped resources here and in all other calls.
    ///
    /// # Errors
    /// [`Error`], as for all verbs.
    pub async fn get<T: DeserializeOwned>(&self, r: &Resource, namespace: &str, name: &str) -> Result<T, Error> {
        decode(self.call(Method::GET, &path(r, namespace, name, ""), "", Bytes::new()).await?)
    }

    /// Reads a subresource of an object, or the object with an empty one. What is empty in the query is left out.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn get_with<T: DeserializeOwned>(
        &self,
        r: &Resource,
        namespace: &str,
        name: &str,
        subresource: &str,
        query: &[(&str, &str)],
    ) -> Result<T, Error> {
        let given: Vec<_> = query.iter().copied().filter(|(_, value)| !value.is_empty()).collect();
        let uri = with_query(path(r, namespace, name, subresource), &given);
        decode(self.call(Method::GET, &uri, "", Bytes::new()).await?)
    }

    /// Reads one page of a list, or all of it without a limit.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn list<T: DeserializeOwned>(
        &self,
        r: &Resource,
        namespace: &str,
        params: &ListParams,
    ) -> Result<List<T>, Error> {
        let limit = params.limit.to_string();
        let uri = with_query(path(r, namespace, "", ""), &params.query_with(&limit));
        let raw: RawList<T> = decode(self.call(Method::GET, &uri, "", Bytes::new()).await?)?;
        Ok(List {
            resource_version: raw.metadata.resource_version,
            continue_: raw.metadata.continue_,
            items: raw.items,
        })
    }

    /// Creates an object.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn create<T: DeserializeOwned>(
        &self,
        r: &Resource,
        namespace: &str,
        object: &impl Serialize,
    ) -> Result<T, Error> {
        let uri = path(r, namespace, "", "");
        decode(self.call(Method::POST, &uri, JSON, encode(object)?).await?)
    }

    /// Creates an object whose fields are owned by `manager`.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn create_as<T: DeserializeOwned>(
        &self,
        r: &Resource,
        namespace: &str,
        object: &impl Serialize,
        manager: &str,
    ) -> Result<T, Error> {
        let uri = with_query(path(r, namespace, "", ""), &[("fieldManager", manager)]);
        decode(self.call(Method::POST, &uri, JSON, encode(object)?).await?)
    }

    /// Posts to a subresource of an object: a binding, an eviction, a token request.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn create_subresource<T: DeserializeOwned>(
        &self,
        r: &Resource,
        namespace: &str,
        name: &str,
        subresource: &str,
        object: &impl Serialize,
    ) -> Result<T, Error> {
        let uri = path(r, namespace, name, subresource);
        decode(self.call(Method::POST, &uri, JSON, encode(object)?).await?)
    }

    /// Replaces an object; with a resourceVersion in it, only if that is current.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn update<T: DeserializeOwned>(
        &self,
        r: &Resource,
        namespace: &str,
        name: &str,
        object: &impl Serialize,
    ) -> Result<T, Error> {
        decode(self.call(Method::PUT, &path(r, namespace, name, ""), JSON, encode(object)?).await?)
    }

    /// Replaces the status of an object.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn update_status<T: DeserializeOwned>(
        &self,
        r: &Resource,
        namespace: &str,
        name: &str,
        object: &impl Serialize,
    ) -> Result<T, Error> {
        self.update_subresource(r, namespace, name, "status", object).await
    }

    /// Replaces a subresource of an object; with a resourceVersion in it, only if that is current.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn update_subresource<T: DeserializeOwned>(
        &self,
        r: &Resource,
        namespace: &str,
        name: &str,
        subresource: &str,
        object: &impl Serialize,
    ) -> Result<T, Error> {
        decode(self.call(Method::PUT, &path(r, namespace, name, subresource), JSON, encode(object)?).await?)
    }

    /// Patches an object or one of its subresources.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn patch<T: DeserializeOwned>(
        &self,
        r: &Resource,
        namespace: &str,
        name: &str,
        patch: Patch,
        subresource: Option<&str>,
    ) -> Result<T, Error> {
        let (content_type, value) = match patch {
            Patch::Json(v) => ("application/json-patch+json", v),
            Patch::Merge(v) => ("application/merge-patch+json", v),
            Patch::Strategic(v) => ("application/strategic-merge-patch+json", v),
        };
        let uri = path(r, namespace, name, subresource.unwrap_or_default());
        decode(self.call(Method::PATCH, &uri, content_type, encode(&value)?).await?)
    }

    /// Has `manager` own what `object` says of a cluster-scoped object or one of its subresources, whoever owned it before.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn apply<T: DeserializeOwned>(
        &self,
        r: &Resource,
        name: &str,
        object: &impl Serialize,
        subresource: Option<&str>,
        manager: &str,
    ) -> Result<T, Error> {
        self.apply_in(r, "", name, object, subresource, manager).await
    }

    /// The same of an object of a namespace.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn apply_in<T: DeserializeOwned>(
        &self,
        r: &Resource,
        namespace: &str,
        name: &str,
        object: &impl Serialize,
        subresource: Option<&str>,
        manager: &str,
    ) -> Result<T, Error> {
        let query = [("fieldManager", manager), ("force", "true")];
        let uri = with_query(path(r, namespace, name, subresource.unwrap_or_default()), &query);
        decode(self.call(Method::PATCH, &uri, "application/apply-patch+yaml", encode(object)?).await?)
    }

    /// Deletes an object.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn delete(
        &self,
        r: &Resource,
        namespace: &str,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<(), Error> {
        self.call(Method::DELETE, &path(r, namespace, name, ""), JSON, encode(options)?).await?;
        Ok(())
    }

    /// Deletes one page of the objects that match, or all of them without a limit. Returns where the next page begins, which is
    /// empty after the last one.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn delete_collection(
        &self,
        r: &Resource,
        namespace: &str,
        params: &ListParams,
        options: &DeleteOptions,
    ) -> Result<String, Error> {
        let limit = params.limit.to_string();
        let uri = with_query(path(r, namespace, "", ""), &params.query_with(&limit));
        let raw: RawList<IgnoredAny> = decode(self.call(Method::DELETE, &uri, JSON, encode(options)?).await?)?;
        Ok(raw.metadata.continue_)
    }

    /// Watches from `resource_version` on.
    ///
    /// # Errors
    /// As [`Client::get`]; 410 when the version is too old.
    pub async fn watch(
        &self,
        r: &Resource,
        namespace: &str,
        params: &ListParams,
        resource_version: &str,
    ) -> Result<WatchStream, Error> {
        let mut query = params.query();
        query.push(("watch", "true"));
        query.push(("allowWatchBookmarks", "true"));
        query.push(("resourceVersion", resource_version));
        let uri = with_query(path(r, namespace, "", ""), &query);
        let response = self.send(Method::GET, &uri, "", Bytes::new()).await?;
        if response.status().is_success() {
            Ok(WatchStream::new(response.into_body()))
        } else {
            Err(failure(response).await)
        }
    }

    /// Any GET by path and query, as bytes: discovery, health, aggregated APIs.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn get_raw(&self, path_and_query: &str) -> Result<Bytes, Error> {
        self.call(Method::GET, path_and_query, "", Bytes::new()).await
    }

    /// Sends a request and leaves the answer, a failure too, to the caller.
    ///
    /// # Errors
    /// Only when no answer came.
    pub fn send(
        &self,
        method: Method,
        uri: &str,
        content_type: &str,
        body: Bytes,
    ) -> BoxFuture<'static, Result<Response<Body>, Error>> {
        let mut request = Request::builder().method(method).uri(uri).header(header::ACCEPT, JSON);
        if !content_type.is_empty() {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        let this = self.clone();
        Box::pin(async move {
            let request = request.body(body).map_err(|e| Error::Request(e.to_string()))?;
            this.send_as_it_is(request).await
        })
    }

    /// Sends a request with no headers but its own, and leaves the answer, a failure too, to the caller.
    ///
    /// # Errors
    /// Only when no answer came.
    pub async fn send_as_it_is(&self, request: Request<Bytes>) -> Result<Response<Body>, Error> {
        self.transport.send(request).await.map_err(Error::Transport)
    }

    /// Sends a request, and reads an answer that is no failure.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub(crate) async fn ask(&self, request: Request<Bytes>) -> Result<(http::response::Parts, Bytes), Error> {
        let response = self.transport.send(request).await.map_err(Error::Transport)?;
        if response.status().as_u16() >= 400 {
            return Err(failure(response).await);
        }
        let (head, body) = response.into_parts();
        Ok((head, collect(body).await?))
    }

    /// Tells when kinds have come or gone, where the transport can.
    pub(crate) fn changes(&self) -> Option<tokio::sync::watch::Receiver<u64>> {
        self.transport.changes()
    }

    /// Sends JSON (nothing, if empty) and leaves the body of a successful answer to the caller, who may read it as it comes.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn open(&self, method: Method, uri: &str, json: Bytes) -> Result<Response<Body>, Error> {
        let response = self.send(method, uri, if json.is_empty() { "" } else { JSON }, json).await?;
        if response.status().is_success() { Ok(response) } else { Err(failure(response).await) }
    }

    fn call(
        &self,
        method: Method,
        uri: &str,
        content_type: &str,
        body: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, Error>> {
        let response = self.send(method, uri, content_type, body);
        Box::pin(async move {
            let response = response.await?;
            if response.status().is_success() {
                collect(response.into_body()).await
            } else {
                Err(failure(response).await)
            }
        })
    }
}

const JSON: &str = "application/json";

fn encode(object: &impl Serialize) -> Result<Bytes, Error> {
    Ok(serde_json::to_vec(object)?.into())
}

fn decode<T: DeserializeOwned>(bytes: Bytes) -> Result<T, Error> {
    Ok(serde_json::from_slice(&bytes)?)
}

async fn collect(mut body: Body) -> Result<Bytes, Error> {
    let mut out = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(Error::Transport)?.into_data() {
            if out.len() + data.len() > MAX_BODY {
                return Err(Error::TooLarge(MAX_BODY));
            }
            out.extend_from_slice(&data);
        }
    }
    Ok(out.freeze())
}

async fn failure(response: Response<Body>) -> Error {
    let code = response.status().as_u16();
    match collect(response.into_body()).await {
        Err(err) => err,
        Ok(bytes) => match serde_json::from_slice::<Status>(&bytes) {
            Ok(status) if status.code != 0 => status.into(),
            _ => {
                let text = String::from_utf8_lossy(&bytes[..bytes.len().min(512)]).into_owned();
                Status::failure(code, kedge_meta::Reason::Unknown, text).into()
            }
        },
    }
}

impl ListParams {
    /// Only objects with these labels.
    pub fn labels(selector: impl Into<String>) -> Self {
        Self { label_selector: selector.into(), ..Self::default() }
    }

    /// Only objects with these fields.
    pub fn fields(selector: impl Into<String>) -> Self {
        Self { field_selector: selector.into(), ..Self::default() }
    }

    /// As [`ListParams::query`], with the limit, which comes as text.
    fn query_with<'a>(&'a self, limit: &'a str) -> Vec<(&'static str, &'a str)> {
        let mut query = self.query();
        if self.limit > 0 {
            query.push(("limit", limit));
        }
        query
    }

    fn query(&self) -> Vec<(&'static str, &str)> {
        let mut query = Vec::new();
        for (name, value) in [
            ("labelSelector", &self.label_selector),
            ("fieldSelector", &self.field_selector),
            ("continue", &self.continue_),
        ] {
            if !value.is_empty() {
                query.push((name, value.as_str()));
            }
        }
        query
    }
}

fn path(r: &Resource, namespace: &str, name: &str, subresource: &str) -> String {
    let mut path =
        if r.group.is_empty() { format!("/api/{}", r.version) } else { format!("/apis/{}/{}", r.group, r.version) };
    let mut push = |segment: &str| {
        path.push('/');
        path.extend(utf8_percent_encode(segment, PLAIN));
    };
    if r.namespaced && !namespace.is_empty() {
        push("namespaces");
        push(namespace);
    }
    push(&r.plural);
    for segment in [name, subresource] {
        if !segment.is_empty() {
            push(segment);
        }
    }
    path
}

fn with_query(mut path: String, query: &[(&str, &str)]) -> String {
    for (i, (name, value)) in query.iter().enumerate() {
        path.push(if i == 0 { '?' } else { '&' });
        path.push_str(name);
        path.push('=');
        path.extend(utf8_percent_encode(value, PLAIN));
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use kedge_meta::resources;

    #[test]
    fn paths_are_those_of_the_api() {
        assert_eq!(path(&resources::PODS, "a", "b", "status"), "/api/v1/namespaces/a/pods/b/status");
        assert_eq!(path(&resources::DEPLOYMENTS, "", "", ""), "/apis/apps/v1/deployments");
        assert_eq!(path(&resources::NODES, "", "n/1", ""), "/api/v1/nodes/n%2F1");
        let params = ListParams::labels("a=b,c");
        assert_eq!(with_query("/x".into(), &params.query()), "/x?labelSelector=a%3Db%2Cc");
    }
}
