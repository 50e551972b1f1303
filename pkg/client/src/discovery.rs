//! Which resources the server has, in their preferred versions, built-in ones and others alike. They come and go.
//!
//! One [`Discovery`] serves all who need to know. It asks again when the server says that something has changed, where the server can say
//! that (in this process), and from time to time otherwise; what has not changed is not sent again.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use kedge_base::{TaskGroup, system_clock};
use kedge_meta::{Resource, Text};
use serde::Deserialize;
use tokio::sync::{Mutex, Notify, watch};
use tracing::warn;

use crate::client::Client;
use crate::error::Error;

/// A server that does not say when something changes is asked after this time.
const POLL: Duration = Duration::from_secs(30);
/// What could not be asked is asked again after this time.
const RETRY: Duration = Duration::from_secs(5);
const ACCEPT: HeaderValue =
    HeaderValue::from_static("application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList");
/// The core group, and all others.
const PATHS: [&str; 2] = ["/api", "/apis"];

/// A resource and what can be done with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovered {
    pub resource: Arc<Resource>,
    pub verbs: Vec<Text>,
}

impl Discovered {
    /// Whether the server offers that verb.
    pub fn can(&self, verb: &str) -> bool {
        self.verbs.iter().any(|v| v == verb)
    }
}

/// What was found, and what could not be asked.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    pub resources: Vec<Discovered>,
    /// `group/version: why`, for those of which the server does not know what they are now.
    pub failures: Vec<String>,
}

/// Knows the resources of a server.
pub struct Discovery {
    client: Client,
    known: Mutex<[Known; 2]>,
    found: watch::Sender<Option<Arc<Found>>>,
    asked: Notify,
}

/// A document as it was last seen.
#[derive(Default)]
struct Known {
    /// That of what was published.
    tag: Option<HeaderValue>,
    /// That of what was read last.
    read: Option<HeaderValue>,
    found: Found,
}

impl Discovery {
    /// Finds out, and keeps up until `tasks` end.
    pub fn start(client: &Client, tasks: &TaskGroup) -> Arc<Self> {
        let found = watch::Sender::new(None);
        let discovery = Arc::new(Self { client: client.clone(), known: Mutex::default(), found, asked: Notify::new() });
        let kept = discovery.clone();
        tasks.spawn_worker("discovery", move || kept.clone().keep_up());
        discovery
    }

    async fn keep_up(self: Arc<Self>) {
        let mut changes = self.client.changes();
        loop {
            let wait = match self.refresh().await {
                Ok(found) if found.failures.is_empty() && changes.is_some() => None,
                Ok(found) if found.failures.is_empty() => Some(POLL),
                Ok(_) => Some(RETRY),
                Err(err) => {
                    warn!(error = %err, "resources cannot be discovered, trying again");
                    Some(RETRY)
                }
            };
            let later = async {
                match wait {
                    Some(wait) => system_clock().sleep(wait).await,
                    None => std::future::pending().await,
                }
            };
            let changed = async {
                let ended = match &mut changes {
                    Some(changes) => changes.changed().await.is_err(),
                    None => true,
                };
                if ended {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                () = later => {}
                () = changed => {}
                () = self.asked.notified() => {}
            }
        }
    }

    /// What is known; none before the first answer.
    pub fn current(&self) -> Option<Arc<Found>> {
        self.found.borrow().clone()
    }

    /// What is known, as it changes.
    pub fn changes(&self) -> watch::Receiver<Option<Arc<Found>>> {
        self.found.subscribe()
    }

    /// Says that something may have changed.
    pub fn ask_again(&self) {
        self.asked.notify_one();
    }

    /// What there is now: the server is asked.
    ///
    /// # Errors
    /// When it cannot be.
    pub async fn refresh(&self) -> Result<Arc<Found>, Error> {
        let mut known = self.known.lock().await;
        let mut changed = false;
        for (known, path) in known.iter_mut().zip(PATHS) {
            changed |= self.ask(known, path).await?;
        }
        // Up to here a document that was read and not published would be taken for known the next time.
        known.iter_mut().for_each(|known| known.tag = known.read.clone());
        if let Some(found) = self.current().filter(|_| !changed) {
            return Ok(found);
        }
        let all = |of: fn(&Found) -> usize| known.iter().map(|known| of(&known.found)).sum();
        let mut found = Found {
            resources: Vec::with_capacity(all(|found| found.resources.len())),
            failures: Vec::with_capacity(all(|found| found.failures.len())),
        };
        for Known { found: part, .. } in known.iter() {
            found.resources.extend_from_slice(&part.resources);
            found.failures.extend_from_slice(&part.failures);
        }
        let found = Arc::new(found);
        self.found.send_if_modified(|known| {
            let differs = known.as_ref() != Some(&found);
            *known = Some(found.clone());
            differs
        });
        Ok(found)
    }

    /// Asks for one document. Whether it has changed.
    async fn ask(&self, known: &mut Known, path: &str) -> Result<bool, Error> {
        let mut request = Request::get(path).header(header::ACCEPT, ACCEPT);
        if let Some(tag) = &known.tag {
            request = request.header(header::IF_NONE_MATCH, tag);
        }
        let request = request.body(Bytes::new()).map_err(|e| Error::Request(e.to_string()))?;
        let (head, bytes) = self.client.ask(request).await?;
        if head.status == StatusCode::NOT_MODIFIED {
            return Ok(false);
        }
        let document: Document = serde_json::from_slice(&bytes)?;
        if document.kind != "APIGroupDiscoveryList" {
            return Err(Error::Request(format!("{path} answers with {:?} and not with what it has", document.kind)));
        }
        known.read = head.headers.get(header::ETAG).cloned();
        known.found = document.found();
        Ok(true)
    }
}

/// `APIGroupDiscoveryList`.
#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    items: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    #[serde(default)]
    metadata: Named,
    /// The preferred one first.
    #[serde(default)]
    versions: Vec<Version>,
}

#[derive(Deserialize, Default)]
struct Named {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct Version {
    version: String,
    #[serde(default)]
    freshness: String,
    #[serde(default)]
    resources: Vec<ApiResource>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ApiResource {
    resource: String,
    response_kind: Option<Kind>,
    #[serde(default)]
    scope: String,
    #[serde(default)]
    verbs: Vec<String>,
}

#[derive(Deserialize)]
struct Kind {
    kind: String,
}

impl Document {
    fn found(self) -> Found {
        let mut found = Found::default();
        for group in self.items {
            let name = Text::from(group.metadata.name);
            // A resource that the preferred version lacks is taken from the next version that has it.
            let mut seen = HashSet::new();
            for version in group.versions {
                if version.freshness == "Stale" {
                    found.failures.push(format!("{name}/{}: stale GroupVersion discovery", version.version));
                }
                let text = Text::from(version.version);
                for api in version.resources {
                    // What has no kind has nothing but subresources.
                    let Some(kind) = api.response_kind else { continue };
                    if !seen.insert(api.resource.clone()) {
                        continue;
                    }
                    let resource = Resource {
                        group: name.clone(),
                        version: text.clone(),
                        plural: api.resource.into(),
                        kind: kind.kind.into(),
                        namespaced: api.scope == "Namespaced",
                    };
                    let verbs = api.verbs.into_iter().map(Text::from).collect();
                    found.resources.push(Discovered { resource: Arc::new(resource), verbs });
                }
            }
        }
        found
    }
}

#[cfg(test)]
#[path = "discovery_tests.rs"]
mod tests;
