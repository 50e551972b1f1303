//! Group versions that other servers serve: what API services with a service say, and what is known of those behind them.

use std::sync::Arc;

use kedge_meta::Text;
use kedge_schema::Elsewhere;
use kedge_webhook::ClientConfig;
use serde_json::Value;

use crate::priorities::{self, Priority};
use crate::registry::Registry;

/// A group version that another server serves.
#[derive(Debug, Clone, PartialEq)]
pub struct Remote {
    pub group: Text,
    pub version: Text,
    pub priority: Priority,
    pub service: ServiceReference,
    /// Whom to trust.
    pub trust: Arc<ClientConfig>,
    /// Whether requests are passed on.
    pub available: bool,
    pub known: Arc<Known>,
}

/// The service that a server is behind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServiceReference {
    pub namespace: String,
    pub name: String,
    pub port: u16,
}

/// What a server has said of itself.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Known {
    /// The resources, as aggregated discovery lists them; none before it has been asked, or when it did not answer.
    pub resources: Option<Value>,
    /// Its description in the OpenAPI v2 document: paths and definitions, as JSON.
    pub open_api_v2: Option<Arc<OpenApiV2>>,
    /// Where its OpenAPI v3 document is, as its index says.
    pub open_api_v3: Option<String>,
    /// Whether what is known may not be true any more.
    pub stale: bool,
}

/// The part of an OpenAPI v2 document that is about one group version.
#[derive(Debug, PartialEq, Eq)]
pub struct OpenApiV2 {
    /// The document, of that alone.
    pub json: String,
}

impl Remote {
    pub(crate) fn elsewhere(&self) -> Elsewhere<'_> {
        Elsewhere {
            resources: self.known.resources.as_ref(),
            stale: self.known.stale,
            open_api_v2: self.known.open_api_v2.as_deref().map(|document| document.json.as_str()),
            open_api_v3: self.known.open_api_v3.as_deref(),
        }
    }

    fn key(&self) -> (&str, &str) {
        (&self.group, &self.version)
    }
}

/// What is above the kinds of this server.
#[derive(Clone, Default)]
pub(crate) struct Above {
    /// By group and version.
    remotes: Arc<Vec<Arc<Remote>>>,
    /// The priorities of this server's own group versions that are not what they usually are, by group and version.
    priorities: Arc<Vec<(Text, Text, Priority)>>,
}

impl Above {
    fn new(mut remotes: Vec<Arc<Remote>>, mut priorities: Vec<(Text, Text, Priority)>) -> Self {
        remotes.sort_by(|a, b| a.key().cmp(&b.key()));
        priorities.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        Self { remotes: Arc::new(remotes), priorities: Arc::new(priorities) }
    }

    pub(crate) fn remotes(&self) -> &[Arc<Remote>] {
        &self.remotes
    }

    pub(crate) fn remote(&self, group: &str, version: &str) -> Option<&Arc<Remote>> {
        if self.remotes.is_empty() {
            return None;
        }
        let at = self.remotes.binary_search_by(|remote| remote.key().cmp(&(group, version))).ok()?;
        self.remotes.get(at)
    }

    pub(crate) fn priority(&self, group: &str, version: &str) -> Option<Priority> {
        let at = self.priorities.binary_search_by(|(g, v, _)| (&**g, &**v).cmp(&(group, version))).ok()?;
        self.priorities.get(at).map(|(_, _, priority)| *priority)
    }
}

impl Registry {
    /// The priority that a group version of this server has by itself.
    pub fn usual_priority(&self, group: &str, version: &str) -> Priority {
        match self.base.group(group) {
            Some(_) => priorities::built_in(group, version),
            None => priorities::CUSTOM,
        }
    }

    /// Puts what API services say above the kinds of this server. Nothing is published when that is as it was.
    pub async fn aggregate(&self, remotes: Vec<Arc<Remote>>, priorities: Vec<(Text, Text, Priority)>) {
        let _one_at_a_time = self.changing.lock().await;
        let catalogue = self.catalogue();
        let above = Above::new(remotes, priorities);
        if *catalogue.above.remotes != *above.remotes || *catalogue.above.priorities != *above.priorities {
            self.publish(catalogue.below(above));
        }
    }
}
