//! API priority and fairness: which flow schema a request matches, and so to which priority level it belongs.
//!
//! The stored flow schemas are compiled into an index when they or the levels have changed; to classify a request reads the
//! index only, and takes time that grows with the schemas that are about this user, not with those that there are.
//!
//! Invariant: schemas are asked in upstream's order, precedence and then name; one whose level does not exist is asked nothing.
//!
//! A level only has a name and an identity yet: how many requests it may have at a time is for [`crate::limits`] to ask it.

mod index;
mod rules;

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use kedge_meta::UserInfo;
use kedge_registry::Registry;
use kedge_storage::{Matcher, ResourceStore};
use parking_lot::RwLock;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tracing::warn;

use crate::input::request_info::RequestInfo;
use index::Index;

const GROUP: &str = "flowcontrol.apiserver.k8s.io";
const SCHEMA_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-flowschema-uid");
const LEVEL_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-prioritylevel-uid");

/// A priority level.
#[derive(Debug)]
pub(crate) struct Level {
    pub(crate) name: String,
    uid: HeaderValue,
}

/// A flow schema, and the level of what matches it.
#[derive(Debug)]
pub(crate) struct Schema {
    pub(crate) name: String,
    uid: HeaderValue,
    pub(crate) level: Arc<Level>,
}

impl Schema {
    /// Says in the head of an answer how its request was classified: by identities, since names are nobody's business.
    pub(crate) fn tell(&self, headers: &mut HeaderMap) {
        headers.insert(SCHEMA_UID, self.uid.clone());
        headers.insert(LEVEL_UID, self.level.uid.clone());
    }
}

/// Classifies requests.
pub(crate) struct Fairness {
    /// None where these kinds are not served.
    stores: Option<Stores>,
    compiled: RwLock<Arc<Compiled>>,
}

struct Stores {
    schemas: ResourceStore,
    levels: ResourceStore,
}

#[derive(Default)]
struct Compiled {
    /// Of the last changes of schemas and levels.
    version: [u64; 2],
    index: Index,
}

impl Fairness {
    pub(crate) fn new(registry: &Registry) -> Self {
        let store = |plural| registry.builtin(GROUP, "v1", plural).map(|served| served.store.clone());
        let stores = store("flowschemas").zip(store("prioritylevelconfigurations"));
        Self { stores: stores.map(|(schemas, levels)| Stores { schemas, levels }), compiled: RwLock::default() }
    }

    /// The flow schema that a request matches. As upstream, what streams has none: it takes no turn. Neither has anything
    /// before there is a schema for everybody.
    pub(crate) fn classify(&self, user: &UserInfo, info: &RequestInfo) -> Option<Arc<Schema>> {
        if info.streams() {
            return None;
        }
        let stores = self.stores.as_ref()?;
        self.current(stores).index.find(user, info).cloned()
    }

    fn current(&self, stores: &Stores) -> Arc<Compiled> {
        let version = [stores.schemas.newest(), stores.levels.newest()];
        let compiled = self.compiled.read().clone();
        if compiled.version == version {
            return compiled;
        }
        let fresh = Arc::new(Compiled { version, index: Index::new(read(&stores.schemas), read(&stores.levels)) });
        *self.compiled.write() = fresh.clone();
        fresh
    }
}

/// What is read of any object.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Meta {
    name: String,
    uid: String,
}

impl Meta {
    /// What is not fit for a header is no identity that this server has given.
    fn uid(&self) -> HeaderValue {
        HeaderValue::from_str(&self.uid).unwrap_or(HeaderValue::from_static(""))
    }
}

fn read<T: DeserializeOwned>(store: &ResourceStore) -> Vec<T> {
    let parse = |(key, object): (Arc<str>, Arc<kedge_storage::Object>)| {
        serde_json::from_slice(&object.stored())
            .inspect_err(
                |err| warn!(%key, error = %err, "a flow schema or priority level cannot be read and is nothing"),
            )
            .ok()
    };
    store.readable("", &Matcher::default()).objects.into_iter().filter_map(parse).collect()
}
